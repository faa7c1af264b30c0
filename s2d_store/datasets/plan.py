"""Run a dataset query: bind its parameters, check its rows, and settle what they will hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from queries import Query
from s2d_store.datasets import control_match
from s2d_store.datasets.locate import locate, source, without_logprobs
from s2d_store.datasets.query_contract import LEAD, check_names, validate_rows
from s2d_store.datasets.token_columns import Origin, origins
from s2d_store.errors import DatasetError
from s2d_store.sql import connection, read_only
from s2d_store.sql import parameters as query_params
from s2d_store.tables import rank_choice, rank_tables
from s2d_store.tables.fetch_rows import Source
from s2d_store.tables.snapshot import Snapshot


@dataclass(frozen=True)
class Plan:
    """A dataset before its tokens are fetched; light columns alone.

    Attributes:
        has_logprobs: whether the sampling policy's logprobs go into the rows.
        rows: the query's rows by `row`, with prompt_id, prompt_tokens and response_tokens joined
            on, and where the heavy columns lie: of each origin PREFIX_file (index into `files`),
            PREFIX_position and PREFIX_created_at.
        columns: the query's own columns, in its order.
        origins: the heavy columns, by the table that they come from.
        tokenizer_fingerprint: that of every row's policy; null where it is not registered.
        files: Parquet files of the tables, which the indices refer to.
    """

    has_logprobs: bool
    rows: pa.Table
    columns: tuple[str, ...]
    origins: tuple[Origin, ...]
    tokenizer_fingerprint: str | None
    files: Mapping[str, Sequence[str]]

    @property
    def has_topk(self) -> bool:
        """Whether rows name a top-k."""
        return any(origin.prefix == "topk" for origin in self.origins)

    @property
    def light_columns(self) -> list[str]:
        """The dataset's columns that are not heavy, in order."""
        return [*LEAD, *(c for c in self.columns if c not in LEAD)]

    @property
    def heavy_columns(self) -> list[str]:
        """The dataset's heavy columns, in order."""
        return [name for origin in self.origins for name in origin.columns.values()]


def plan_dataset(
    con: duckdb.DuckDBPyConnection,
    snap: Snapshot,
    query: Query,
    values: Mapping[str, Any],
    *,
    may_be_empty: bool = False,
) -> Plan:
    """Run the query and locate its rows.

    Where `may_be_empty`, a query that selects nothing makes a dataset without rows, in the tokens
    of its parameter `policy`.

    Raises:
        QueryError: the SQL fails, or would write.
        DatasetError: columns lack or clash, rows are not 0..n-1, updates fall, rollouts or scores
            that are not stored or lack what the kind needs, or no rows at all; of a control, the
            treatment is not matched.
        NotFoundError: of a control, there is no such treatment.
    """
    read_only.only_reads(query.sql)
    with connection.errors():
        connection.prepare(con, query.sql)
        selected = con.sql(query.sql, params=query_params.bind(query, values)).to_arrow_table()
    if query.traits.control and control_match.SLOT in selected.column_names:
        selected = control_match.match(con, values, selected)
    check_names(query, tuple(selected.column_names))
    if query.traits.control:
        control_match.check(con, query, values, selected)
    selected = _without_no_reference(selected)
    selected = validate_rows(query, values, selected, may_be_empty=may_be_empty)
    columns = tuple(selected.column_names)
    has_topk, has_ref = "k" in columns, "ref_policy_id" in columns
    located = locate(con, snap, selected, has_topk, has_ref)
    _check_located(query, selected, located, has_ref)
    _check_tokens(query, selected, located)
    held = origins(
        logprobs=_has_logprobs(con, snap, query, selected, located),
        mask=_has_mask(located),
        topk=has_topk,
        ref=has_ref,
    )
    fingerprint = _one_tokenizer(con, query, located, values.get("policy"))
    rows = {name: selected.column(name) for name in columns}
    kept = ["prompt_id", "prompt_tokens", "response_tokens"]
    kept += [f"{o.prefix}_{what}" for o in held for what in ("file", "position", "created_at")]
    rows |= {name: located.column(name) for name in kept}
    return Plan(query.traits.has_logprobs, pa.table(rows), columns, held, fingerprint, snap.files)


def _without_no_reference(selected: pa.Table) -> pa.Table:
    """The rows without a column ref_policy_id that names no policy."""
    if "ref_policy_id" in selected.column_names:
        column = selected.column("ref_policy_id")
        if column.null_count == len(column):
            return selected.drop_columns("ref_policy_id")
    return selected


def _check_located(query: Query, selected: pa.Table, located: pa.Table, has_ref: bool) -> None:
    if located.num_rows < selected.num_rows:
        found = pc.is_in(selected.column("row"), located.column("row"))
        example = selected.filter(pc.invert(found)).column("rollout_id")[0].as_py()
        what = "rollouts, top-k or logprobs of ref_policy_id" if has_ref else "rollouts or top-k"
        raise DatasetError(
            f"{selected.num_rows - located.num_rows} rows of query {query.name} name {what} that "
            f"are not stored, e.g. rollout {example}",
            fix="s2d score --help, to score them first",
        )


def _check_tokens(query: Query, selected: pa.Table, located: pa.Table) -> None:
    """Refuse rollouts of which only text is known."""
    bare = pc.or_(
        pc.equal(located.column("tokens_from"), "none"),
        pc.or_(
            located.column("prompt_tokens").is_null(), located.column("response_tokens").is_null()
        ),
    )
    lacking = selected.column("rollout_id").filter(bare).unique().to_pylist()
    if lacking:
        raise DatasetError(
            f"{len(lacking)} rollouts that query {query.name} selects have no token ids, e.g. "
            f"{lacking[0]}",
            "they were imported as text alone, and trainers read tokens",
            "leave them out (WHERE tokens_from <> 'none'), or import them again with a tokenizer",
        )


def _has_logprobs(
    con: duckdb.DuckDBPyConnection,
    snap: Snapshot,
    query: Query,
    selected: pa.Table,
    located: pa.Table,
) -> bool:
    if not query.traits.has_logprobs:
        return False
    lacking = without_logprobs(con, snap, located, selected.column("rollout_id"))
    if lacking and (query.traits.policy == "on" or query.traits.control):
        raise DatasetError(
            f"{len(lacking)} rollouts that query {query.name} selects lack logprobs of tokens that "
            f"their policy sampled, e.g. {lacking[0][0]}",
            f"the loss of kind {query.kind} is weighed by the sampling policy's probabilities; "
            + _why_lacking(why for _, why in lacking),
            "leave them out, or train on them with a query of kind warmup or sft",
        )
    return not lacking


_LACKING = {
    "retokenised": "were re-tokenised from imported text",
    "processed": "have the sampler's logprobs alone, after temperature, truncation and penalties "
    "(s2d import --logprobs raw, where there were none)",
    "unknown": "have none at all",
}


def _why_lacking(reasons: Iterable[str]) -> str:
    counts = Counter(reasons)
    return "; ".join(f"{counts[why]} {text}" for why, text in _LACKING.items() if counts[why])


def _has_mask(located: pa.Table) -> bool:
    """Whether a rollout holds tokens that its policy did not sample, as a tool's output."""
    response, sampled = located.column("response_tokens"), located.column("sampled_tokens")
    return bool(pc.any(pc.fill_null(pc.less(sampled, response), False)).as_py())


def _one_tokenizer(
    con: duckdb.DuckDBPyConnection, query: Query, located: pa.Table, policy: str | None
) -> str | None:
    with connection.errors():
        stored = con.sql("SELECT tokenizer_fingerprint FROM policies ORDER BY policy_id").fetchall()
        if not located.num_rows:
            text = "SELECT tokenizer_fingerprint FROM policies WHERE policy_id = $policy"
            found = con.execute(text, {"policy": policy}).fetchall()
            return found[0][0] if found else None
    used = located.column("policy").unique().to_pylist()
    fingerprints = {None if i is None else str(stored[i][0]) for i in used}
    if len(fingerprints) > 1:
        raise DatasetError(
            f"query {query.name} mixes rollouts of {len(fingerprints)} tokenizers",
            f"fingerprints {', '.join(sorted(map(str, fingerprints)))}",
            "select rollouts of policies that share one tokenizer",
        )
    return fingerprints.pop()


def sources(plan: Plan) -> list[Source]:
    """Where the heavy columns of each training row lie."""
    ranks = rank_choice.of_files(plan.files[rank_tables.NAME])
    return [
        source(plan.rows, o.prefix, plan.files[o.table], list(o.columns), o.columns, ranks)
        for o in plan.origins
    ]


def row_bytes(plan: Plan) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Estimated bytes of each row's heavy columns in memory, int64 (N,)."""

    def numbers(name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        column: np.ndarray[Any, np.dtype[np.int64]] = plan.rows.column(name).to_numpy()
        return column.astype(np.int64)

    prompt, response = numbers("prompt_tokens"), numbers("response_tokens")
    total = prompt * 4 + response * 8
    for origin in plan.origins:
        if origin.prefix != "rollout":
            total += response * 4
        if origin.prefix == "topk":
            total += response * numbers("k") * 8
    return total
