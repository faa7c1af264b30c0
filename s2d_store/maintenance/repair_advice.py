"""What a damaged file held, as far as that is still known, and the commands that make it again.

A command resumes by what is missing, so repeating the one that wrote the rows (runs record it)
writes exactly the missing ones: the same ids, and on the same engine and hardware the same tokens.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

import queries
from s2d_store.config_identity import INVOCATION
from s2d_store.datasets import lock_file
from s2d_store.maintenance.file_health import DataFile, read_decodable_columns
from s2d_store.policies import locations
from s2d_store.runs import invocation
from s2d_store.store import Store

# Columns that say what the rows of a file belong to, beside its partition.
_IDENTIFYING_COLUMNS = {
    "prompts": ("source", "split"),
    "policies": ("name", "kind", "location", "run_id", "policy_id"),
    "relocations": ("policy_id", "location"),
    "endpoints": ("endpoint", "model_name"),
    "withdrawals": ("verifier", "verifier_version"),
    "vocabularies": ("tokenizer_fingerprint",),
    "runs": ("run_id", "argv"),
    "rollouts": ("prompt_id", "policy_id"),
    "rewards": ("run_id", "verifier_version", "rollout_id"),
    "topk": ("run_id", "support", "k", "rollout_id"),
    "token_ranks": ("tokenizer_fingerprint",),
    "datasets": ("name",),
    "dataset_rows": (),
    "updates": ("run_id", "dataset_id"),
}
_SHOWN = 3
_AS_GIVEN = "the command of run {}, as it was given: it records itself again"


@dataclass(frozen=True)
class Command:
    """A command that worked on a run, as recorded; argv is None where a program called s2d."""

    kind: str
    config: dict[str, Any]
    recipe: str | None
    argv: list[str] | None


class Advisor:
    """Answers from the rows that are left: `con` must read none of the damaged files."""

    def __init__(self, store: Store, con: duckdb.DuckDBPyConnection) -> None:
        self._store, self._con = store, con

    def describe(self, file: DataFile, held: pa.Table) -> str:
        """Whose rows they were, in words: values of the partition and of the telling columns."""
        parts = [f"{name} {value}" for name, value in file.partition.items()]
        for name in held.column_names:
            if name == "argv":
                continue
            values = sorted(map(str, pc.drop_null(held.column(name).unique()).to_pylist()))
            few = len(values) <= _SHOWN
            parts.append(f"{name} {', '.join(values)}" if few else f"{len(values)} of {name}")
        return "; ".join(parts)

    def held(self, file: DataFile) -> pa.Table:
        """The telling columns of a damaged file that can still be read; row aligned."""
        return read_decodable_columns(file.path, _IDENTIFYING_COLUMNS[file.table])

    def commands(self, file: DataFile, held: pa.Table) -> list[str]:
        """The commands that write a table's lost rows again, each once."""
        by_table = {
            "prompts": self._prompts,
            "policies": self._policies,
            "relocations": self._relocations,
            "endpoints": self._as_given,
            "withdrawals": self._as_given,
            "vocabularies": self._vocabularies,
            "runs": self._runs_again,
            "rollouts": self._rollouts,
            "rewards": self._rewards,
            "topk": self._topk,
            "token_ranks": self._token_ranks,
            "datasets": self._datasets,
            "dataset_rows": self._datasets,
            "updates": self._updates,
        }
        return list(dict.fromkeys(by_table[file.table](file, held)))

    def hanging(self) -> list[tuple[str, int]]:
        """Rewards and scores of rollouts that are lost: a command each, and the rows it writes.

        Those that the lost rollouts' own run made come back with it.
        """
        result = []
        for table, by in (("rewards", "verifier"), ("topk", "scorer_policy_id")):
            more = ", support, k" if table == "topk" else ""
            rows = self._con.execute(
                f"SELECT {by}, run_id{more}, count(*) FROM raw.{table} "
                "ANTI JOIN raw.rollouts USING (rollout_id) GROUP BY ALL ORDER BY ALL"
            ).fetchall()
            for name, run_id, *key, count in rows:
                kinds = {command.kind for command in self._runs.get(run_id, ())}
                again: Iterable[str] = ()
                if kinds != {"generate"}:
                    again = (
                        self._verify_again(name, [run_id])
                        if table == "rewards"
                        else self._score_again(name, [run_id], [tuple(key)])
                    )
                result += [(command, count) for command in again] or [("", count)]
        return result

    @cached_property
    def _runs(self) -> dict[str, list[Command]]:
        """What is recorded of every run: an entry for each command that worked on it, in order."""
        found: dict[str, list[Command]] = {}
        for run_id, *command in self._con.execute(queries.internal("run_commands")).fetchall():
            kind, config, recipe, argv = command
            found.setdefault(run_id, []).append(Command(kind, json.loads(config), recipe, argv))
        return found

    @cached_property
    def _names(self) -> dict[str, str]:
        rows = self._con.execute("SELECT policy_id, name FROM raw.policies").fetchall()
        return dict(rows)

    def _prompts(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        sources = (
            held.column("source").unique().to_pylist()
            if "source" in held.schema.names
            else ["SOURCE"]
        )
        for source in sources:
            yield command_line("prompts add FILE_THAT_WAS_ADDED", source=source)

    def _policies(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        if {"name", "kind", "location", "run_id"} <= set(held.schema.names):
            for row in held.to_pylist():
                if row["run_id"]:
                    yield from self._repeat(row["run_id"])
                else:
                    yield self._add_policy(row["name"], row["location"])
            return
        made = self._con.execute(
            "SELECT DISTINCT run_id FROM raw.policies WHERE run_id IS NOT NULL"
        ).fetchall()
        lost = self._runs.keys() - {run for (run,) in made}
        yield from self._train_again(sorted(lost))
        for (policy_id,) in self._con.execute(
            "SELECT DISTINCT policy_id FROM raw.rollouts ANTI JOIN raw.policies USING (policy_id)"
        ).fetchall():
            yield f"s2d policies add NAME FOLDER_OF_POLICY_{policy_id}"

    def _vocabularies(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        rows = self._con.execute(
            "SELECT name, location, tokenizer_fingerprint FROM raw.policies ORDER BY created_at"
        ).fetchall()
        named = held.column(0).unique().to_pylist() if held.num_columns else []
        known = [row for row in rows if row[2] in named]
        for name, location, _ in known or rows:
            yield self._add_policy(name, location)

    def _add_policy(self, name: str, location: str | None) -> str:
        if not location:
            return command_line(f"policies add {name}", outside=True)
        place = locations.from_stored(self._store.root, location)
        return command_line(f"policies add {name} {shlex.quote(place)}")

    def _relocations(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        if set(held.schema.names) != {"policy_id", "location"}:
            yield "s2d policies move NAME FOLDER, for each policy whose files have moved"
            return
        for row in held.to_pylist():
            place = locations.from_stored(self._store.root, row["location"])
            yield command_line(f"policies move {self._name(row['policy_id'])} {shlex.quote(place)}")

    def _as_given(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        yield f"the commands that wrote table {file.table}, as they were given"

    def _runs_again(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        if "run_id" not in held.schema.names:
            yield "the commands of the runs that are lost, as they were given"
            return
        for row in held.to_pylist():
            yield _shown_command(row["run_id"], row.get("argv"))

    def _rollouts(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        return self._repeat(file.partition["run_id"])

    def _rewards(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        runs = self._known_runs(held)
        return self._verify_again(file.partition["verifier"], runs)

    def _topk(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        runs = self._known_runs(held)
        keys = None
        if {"support", "k"} <= set(held.schema.names):
            distinct = held.select(["support", "k"]).group_by(["support", "k"]).aggregate([])
            keys = [(row["support"], row["k"]) for row in distinct.to_pylist()]
        return self._score_again(file.partition["scorer_policy_id"], runs, keys)

    def _token_ranks(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        """A rank table cannot be made again: scores that were written with it are."""
        named = held.column(0).unique().to_pylist() if held.num_columns else None
        rows = self._con.execute(
            queries.internal("scores_of_tokenizers"), {"fingerprints": named}
        ).fetchall()
        for scorer, run_id, *key in rows:
            yield from self._score_again(scorer, [run_id], [tuple(key)])

    def _datasets(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        if file.table == "dataset_rows":
            wanted = {file.partition["dataset_id"]}
            names = [
                name
                for name in lock_file.list_built(self._store)
                if lock_file.read_lock(self._store, name)["dataset_id"] in wanted
            ]
        elif "name" in held.schema.names:
            names = held.column("name").unique().to_pylist()
        else:
            names = lock_file.list_built(self._store)
        return [f"s2d dataset restore {name}" for name in names]

    def _updates(self, file: DataFile, held: pa.Table) -> Iterable[str]:
        runs = self._known_runs(held)
        return self._train_again(runs or sorted(self._runs))

    def _known_runs(self, held: pa.Table) -> list[str]:
        """Runs that a damaged file's rows name and the store knows."""
        named = held.column("run_id").unique().to_pylist() if "run_id" in held.schema.names else []
        return [run_id for run_id in named if run_id in self._runs]

    def _verify_again(self, verifier: str, runs: Iterable[str]) -> Iterable[str]:
        """Grade again what these runs graded; without any, what every run of the verifier did."""
        for run_id in list(runs) or sorted(self._runs):
            for command in self._runs.get(run_id, ()):
                asked = command.config.get(INVOCATION, {})
                if command.kind == "verify" and command.config.get("verifier") == verifier:
                    yield _shown_command(run_id, command.argv)
                elif command.kind == "generate" and asked.get("verifier") == verifier:
                    yield command_line("verify", verifier=verifier, where=f"run_id = '{run_id}'")

    def _score_again(
        self, scorer: str, runs: Iterable[str], keys: list[tuple[Any, ...]] | None
    ) -> Iterable[str]:
        for run_id in list(runs) or sorted(self._runs):
            for command in self._runs.get(run_id, ()):
                config = command.config
                if command.kind == "score" and config.get("scorer_policy_id") == scorer:
                    yield self._score_command(run_id, command)
                elif command.kind == "generate" and config.get("policy_id") == scorer:
                    k = config["top_logprobs"]
                    if k and (keys is None or ("own", k) in keys):
                        name, where = self._name(scorer), f"run_id = '{run_id}'"
                        yield command_line("score", scorer=name, top_logprobs=k, where=where)

    def _score_command(self, run_id: str, command: Command) -> str:
        """A recipe passes over the rounds that it has done, so its scores are asked for apart."""
        if not command.recipe:
            return _shown_command(run_id, command.argv)
        config = command.config
        return command_line(
            "score",
            scorer=self._name(config["scorer_policy_id"]),
            top_logprobs=config["k"],
            support=config["support"],
            where=config.get(INVOCATION, {}).get("where", ""),
            engine=config.get("engine", ""),
            dtype=config.get("dtype", ""),
        )

    def _train_again(self, runs: Iterable[str]) -> Iterable[str]:
        for run_id in runs:
            if any(command.kind == "train" for command in self._runs.get(run_id, ())):
                yield from self._repeat(run_id)

    def _name(self, policy_id: str) -> str:
        return self._names.get(policy_id, policy_id)

    def _repeat(self, run_id: str) -> Iterable[str]:
        """Every command that worked on a run."""
        for command in self._runs.get(run_id, [Command("", {}, None, None)]):
            yield _shown_command(run_id, command.argv)


def _shown_command(run_id: str, argv: list[str] | None) -> str:
    return invocation.command_line(argv) if argv else _AS_GIVEN.format(run_id)


def command_line(head: str, **options: Any) -> str:
    """A command line; options that are empty, zero or false are left out."""
    words = ["s2d", head]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value:
            words += [flag, shlex.quote(str(value))]
    return " ".join(words)
