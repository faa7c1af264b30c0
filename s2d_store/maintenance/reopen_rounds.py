"""A recipe's rounds that have lost rows are no longer done, so that the recipe makes them again."""

from __future__ import annotations

import json
from collections.abc import Iterable

from s2d_store.config_identity import INVOCATION
from s2d_store.maintenance.file_health import DataFile, read_decodable_columns
from s2d_store.runs import record
from s2d_store.store import Store

# Tables whose rows a round's own steps write and a repeated step writes again.
_OF_RUNS = ("rollouts", "updates", "policies")


def runs_of(files: Iterable[DataFile]) -> set[str]:
    """Runs whose rows stand in damaged files, as far as that can still be read."""
    runs: set[str] = set()
    for file in files:
        if "run_id" in file.partition:
            runs.add(file.partition["run_id"])
        elif file.table in _OF_RUNS:
            held = read_decodable_columns(file.path, ("run_id",))
            if held.num_columns:
                runs |= {run for run in held.column("run_id").unique().to_pylist() if run}
    return runs


def reopen_rounds(store: Store, runs: Iterable[str]) -> None:
    """Take back that the rounds which these generate and training runs belong to are done."""
    text = "SELECT run_id, kind, recipe, config FROM runs WHERE recipe IS NOT NULL"
    known = {run_id: rest for run_id, *rest in store.sql(text).fetchall()}
    for run_id in sorted(set(runs) & known.keys()):
        kind, recipe, config = known[run_id]
        if kind == "train":
            name = json.loads(config).get(INVOCATION, {}).get("name", "")
            # Before policies were named by recipe, the round alone was.
            of = {name, f"{recipe}.{name}"}
        else:
            of = {run_id.removesuffix(".generate")}
        for round_run in sorted(of & known.keys()):
            if known[round_run][0] == "round":
                record.reopen(store, round_run)
