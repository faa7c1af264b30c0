"""The card of what is published: README.md, as the Hub reads it and as a person does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import queries
from s2d_store.audits import audit
from s2d_store.datasets.exports.card import UNKNOWN, Config, body, header
from s2d_store.datasets.exports.sampled_with import SampledWith
from s2d_store.datasets.open import open_dataset
from s2d_store.publishing.manifest import Published
from s2d_store.publishing.masks import mask
from s2d_store.runs.record import code_version
from s2d_store.sql import connection
from s2d_store.sql.parameters import bind, resolve
from s2d_store.store import Store

# Tables that the Hub's viewer shows, those of most interest first.
_SHOWN = ("rollouts", "prompts", "rewards", "topk", "policies", "runs", "updates")


def write(store: Store, made: Published, license: str, audits: bool) -> str:
    """The card of a published dataset or store.

    Args:
        store: where it comes from.
        made: what was published.
        license: by the Hub's name for it; empty: unknown.
        audits: whether to run the audits and say what they find.
    """
    tables = {name for epoch in made.epochs for name in epoch}
    configs = [Config(n, f"tables/{n}/*.parquet") for n in _SHOWN if n in tables]
    names = [made.name] if made.of == "dataset" else sorted(made.locks)
    if made.of == "dataset":
        configs.insert(0, Config("default", "data/train-*.parquet"))
    parts = [header(configs, license)]
    if made.of == "store":
        parts.append(f"# {made.name}\n\nA store of rollouts: {len(names)} locked datasets.\n")
    parts += [body(open_dataset(store, name)) for name in names]
    parts += [_costs(store, made, names), _locks(made)]
    if audits:
        parts.append(_audits(store, made))
    parts.append(_use(license))
    return mask("\n".join(parts))


def _costs(store: Store, made: Published, names: Sequence[str]) -> str:
    """What was spent, and what each policy that sampled the datasets' rollouts cost in all."""
    con = store.connect(text=queries.texts("spent_by_stage", "lineage", "policy_names"))
    parts = ["## Budgets\n\nSpent by stage, all of it counted from stored facts:\n"]
    parts.append(_query(con, "spent_by_stage", {}))
    parts.append("## Lineage\n\nWhat each sampling policy cost in all, from the first label on:\n")
    policies: dict[str, str] = {}
    for name in names:
        for row in SampledWith.of(store, open_dataset(store, name)).runs:
            policies[row["policy_id"]] = row["policy"] or row["policy_id"]
    for policy_id, policy in policies.items():
        rows = _query(con, "lineage", {"policy": policy_id}, level="stage")
        parts.append(f"`{policy}` ({policy_id}):\n\n{rows}")
    return "\n".join(parts)


def _query(con: Any, name: str, given: dict[str, str], level: str = "") -> str:
    """A named query's rows as a table; of `lineage`, those of one level."""
    query = queries.catalog()[name]
    with connection.errors():
        found = con.sql(query.sql, params=bind(query, resolve(query, given, con)))
        columns, rows = found.columns, found.fetchall()
    if level:
        rows = [row[1:] for row in rows if row[0] == level]
        columns = columns[1:]
    return _table(columns, rows)


def _locks(made: Published) -> str:
    rows = [(name, f"locks/{name}/lock.json", epoch) for name, epoch in made.locks.items()]
    return "## Locks\n\n" + _table(("dataset", "lock", "epoch"), rows)


def _audits(store: Store, made: Published) -> str:
    datasets = [made.name] if made.of == "dataset" else []
    results = audit(store, datasets=datasets, sample=0)
    rows = [(r.name, r.question, r.status, r.offending) for r in results]
    return "## Audits\n\n" + _table(("audit", "question", "status", "offending rows"), rows)


def _use(license: str) -> str:
    return (
        "## Use\n\n"
        "    s2d clone SOURCE STORE        # a store whose locks verify\n\n"
        f"Published by s2d {code_version()}, licence {license or UNKNOWN}. Paths, addresses and "
        "secrets of the machines that made it are masked; what prompts and responses say is not.\n"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return "Nothing.\n"
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value).replace("|", "\\|")
