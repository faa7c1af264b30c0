"""Which labels a dataset spends: derived from what its query reads, never from a column of its own.

A prompt's label (its gold answer) is spent when a reward decided over the prompt's rows, be it by
leaving them out. A query that reads a reward, an outcome or an answer spends the labels of every
prompt that it could choose from: those of its candidates that have a verdict, or, where it reads
answers themselves, a gold answer. What it reads, DuckDB's plan says (`s2d_store.sql.columns_read`):
columns that nothing uses, and conditions that a parameter switches off, do not count.

The candidates are the parts of the query that its header names (`-- candidates:`), which must not
depend on a reward; else the query without its conditions on rewards (`s2d_store.sql.relaxed`);
where neither gives a set that is free of rewards, every graded prompt of the store's train
rollouts, which is an upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

import queries
from queries import Query
from s2d_store.datasets.plan import Plan
from s2d_store.errors import DatasetError
from s2d_store.schema import TABLES
from s2d_store.sql import connection, parameters, relaxed
from s2d_store.sql.columns_read import columns_read

_VERDICT = ("reward", "outcome", "extracted", "detail", "metrics")
_GOLD = ("answer", "answers", "task")
_READS = {
    "rewards": _VERDICT,
    "verdicts": _VERDICT,
    "current_rewards": _VERDICT,
    "prompts": _GOLD,
}
# With what macros compute of them.
_COLUMNS = frozenset((*_VERDICT, *_GOLD, "pass_rate"))
# The key of a lock.
RULE = "label_rule"
UPPER_BOUND = "every graded prompt"


@dataclass(frozen=True)
class Spent:
    """The labels that a dataset spends.

    Attributes:
        reads: columns of rewards and answers that decide, as table.column; empty for none.
        candidates: what the prompts were taken from, for the lock.
        prompts: those whose label is spent.
    """

    reads: tuple[str, ...]
    candidates: str
    prompts: frozenset[str]

    def as_locked(self) -> dict[str, Any]:
        """What a lock says of it: nothing where no reward is read."""
        if not self.reads:
            return {}
        said = {"reads": list(self.reads), "candidates": self.candidates}
        return {RULE: said | {"prompts": sorted(self.prompts)}}


def find(
    con: duckdb.DuckDBPyConnection,
    query: Query,
    values: Mapping[str, Any],
    definitions: Mapping[str, str],
    plan: Plan,
) -> Spent:
    """Derive the labels that a planned dataset spends.

    Args:
        con: a connection to the snapshot that the query ran on, with its views and macros.
        query: the dataset query.
        values: its parameters, and the seed.
        definitions: the views and macros that it reaches, in an order that works.
        plan: the dataset.

    Raises:
        DatasetError: its header names candidates that are no part of it, or depend on rewards.
    """
    rows, names = plan.rows, ("rollout_id", "prompt_id")
    reads = _reads(query.sql, values, definitions)
    found, candidates = list[set[str]](), ""
    con.register("_rows", rows.select(names))
    if reads:
        candidates, texts = _candidates(query, values, definitions)
        by_gold = any(name.startswith("prompts.") for name in reads)
        found += [_judged(con, text, values, by_gold) for text in (*texts, "FROM _rows")]
    elif "labelled" not in plan.columns and _reads_rows(query.sql, values, definitions):
        found, candidates = [_chosen_before(con)], "rows of other datasets"
        reads = ("dataset_rows.labelled",) if found[0] else ()
    con.unregister("_rows")
    if "labelled" in plan.columns:
        found.append(set(rows.column("prompt_id").filter(rows.column("labelled")).to_pylist()))
    return Spent(reads, candidates, frozenset().union(*found))


def labelled_rows(lock: Mapping[str, Any], rows: pa.Table) -> pa.ChunkedArray:
    """Whether a reward chose or weighs each row of a locked dataset, bool (N,)."""
    spent = lock.get(RULE, {}).get("prompts", ())
    derived = pc.is_in(rows.column("prompt_id"), pa.array(spent, pa.string()))
    return pc.or_(derived, rows.column("labelled")) if "labelled" in rows.column_names else derived


def _reads(text: str, values: Mapping[str, Any], definitions: Mapping[str, str]) -> tuple[str, ...]:
    """Columns of rewards and answers that SQL reads; `unknown` where DuckDB cannot say."""
    try:
        return _bound_reads(text, values, definitions)
    except duckdb.Error:
        # It reaches for files, or for what only a store's own connection has.
        return ("unknown",)


def _bound_reads(
    text: str, values: Mapping[str, Any], definitions: Mapping[str, str]
) -> tuple[str, ...]:
    opaque = {
        "current_rewards": _sql_columns("rewards"),
        "verdicts": (*_sql_columns("rewards"), ("withdrawn", "BOOLEAN"), ("counts", "BOOLEAN")),
    }
    found = columns_read(text, parameters.bind_text(text, values), definitions, opaque)
    return tuple(
        sorted(f"{t}.{c}" for t, names in _READS.items() for c in names if c in found.get(t, ()))
    )


def _reads_rows(text: str, values: Mapping[str, Any], definitions: Mapping[str, str]) -> bool:
    bound = parameters.bind_text(text, values)
    return "dataset_rows" in columns_read(text, bound, definitions, {})


def _sql_columns(table: str) -> tuple[tuple[str, str], ...]:
    kinds = {"int32": "INTEGER", "float": "FLOAT", "double": "DOUBLE", "string": "VARCHAR"}
    return tuple((c.name, kinds.get(str(c.type), "TIMESTAMP")) for c in TABLES[table].columns)


def _candidates(
    query: Query, values: Mapping[str, Any], definitions: Mapping[str, str]
) -> tuple[str, list[str]]:
    """What the query chooses from, in words, and SQL of rollout_id for each part of it."""
    if query.candidates:
        texts = []
        for part in query.candidates:
            try:
                texts.append(relaxed.rollouts_of(query.sql, part))
                decided = _bound_reads(texts[-1], values, definitions)
            except duckdb.Error as error:
                raise _no_candidates(query, part, str(error)) from error
            if decided:
                raise _no_candidates(query, part, f"it reads {', '.join(decided)}")
        return ", ".join(query.candidates), texts
    found = relaxed.without_conditions(query.sql, _COLUMNS)
    if found is None or _reads(found, values, definitions):
        return UPPER_BOUND, ["SELECT rollout_id FROM rollouts WHERE purpose = 'train'"]
    return "the query without its conditions on rewards", [found]


def _no_candidates(query: Query, part: str, why: str) -> DatasetError:
    return DatasetError(
        f"the candidates {part!r} of query {query.name} are not what it chooses from",
        why,
        "name a part of the query (WITH NAME AS ...) with a column rollout_id and no condition on "
        "rewards or answers, as queries/datasets/sft.sql does; or leave the line out",
    )


def _judged(
    con: duckdb.DuckDBPyConnection, text: str, values: Mapping[str, Any], by_gold: bool
) -> set[str]:
    """Labelled prompts of the rollouts that SQL gives: with a verdict, or, by_gold, all."""
    bound = parameters.bind_text(text, values)
    with connection.errors():
        connection.prepare(con, text)
        con.register("_candidates", con.sql(text, params=bound).to_arrow_table())
        found = con.execute(queries.internal("labels_of"), {"by_gold": by_gold}).fetchall()
        con.unregister("_candidates")
    return {prompt for (prompt,) in found}


def _chosen_before(con: duckdb.DuckDBPyConnection) -> set[str]:
    """Prompts of rows whose rollout a reward had chosen for an earlier dataset."""
    with connection.errors():
        found = con.execute(queries.internal("labels_chosen_before")).fetchall()
    return {prompt for (prompt,) in found}
