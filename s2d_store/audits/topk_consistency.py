"""Audit of stored top-k, by the very checks that every engine's output passed before it was stored.

Not SQL: a mass at every token needs 20 to 128 list entries grouped by token, which DuckDB does four
times slower than NumPy does on the Arrow buffers.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from functools import reduce
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

import queries
from queries import Param, Query
from s2d_store.audits.base import Found, Scope
from s2d_store.datasets.prefetch import prefetch
from s2d_store.encoding import topk_codec
from s2d_store.encoding.topk import TopK
from s2d_store.engines.output_checks import check_topk_flat
from s2d_store.errors import EngineError
from s2d_store.sql import connection
from s2d_store.storage.backend import parquet_source
from s2d_store.tables import rank_choice, rank_tables
from s2d_store.tables.rank_tables import RankTables

# Response tokens of the audited rollouts held in memory at a time.
BATCH_TOKENS = 64 << 20

CONSISTENCY = Query(
    "topk_consistency",
    "audits",
    "is every stored top-k a distribution: in range, descending, at most 1, right at the sampled "
    "token?",
    "one row per scored rollout with a fault, the first of its faults",
    (
        Param(
            "datasets",
            "VARCHAR",
            queries.NULL,
            "look only at these datasets' rollouts; NULL: at all",
        ),
    ),
    ("rollout_id", "scorer", "support", "k", "fault"),
    "",
)
TEXT = queries.internal("chosen_rollouts")
_KIND = ["k", "support"]  # of rows that are checked at once
COLUMNS = ["rollout_id", "support", "k", "token_ids", "logprobs", "sampled_logprobs"]
# Of these a row has one, with an entry for each token.
_PER_TOKEN = ("sampled_logprobs.", "sampled_steps.")
_SCORER = re.compile(r"scorer_policy_id=([^/]+)/")
_PLACE = re.compile(r"^rollout [^ ,:]+(?:, |: )")


def consistency(scope: Scope) -> Found:
    """Check each stored top-k; one row per rollout, scorer and support with a fault.

    Rollouts that are not stored, or have another number of tokens, are topk_alignment's.
    """
    chosen = _chosen(scope)
    policies = {
        row[0]: row[1:]
        for row in scope.con.execute(queries.internal("policy_vocabularies")).fetchall()
    }
    rows: list[dict[str, Any]] = []
    offending, examined = 0, 0
    ranks = rank_choice.of_files(scope.snap.files[rank_tables.NAME])
    for files in _batches(scope.snap.files["topk"]):
        responses = _responses(scope, files)
        for file in files:
            scorer = _scorer(file)
            name, vocab_size = policies.get(scorer, (scorer, None))
            # Of a served or outside policy it may be unknown.
            vocab_size = vocab_size or np.iinfo(np.int32).max
            for table in prefetch(_tables(file, chosen, ranks), "read-ahead-group"):
                examined += table.num_rows
                for row in _faults(table, responses, vocab_size):
                    offending += 1
                    if len(rows) < scope.sample:
                        rows.append({"rollout_id": row.pop("rollout_id"), "scorer": name, **row})
    return Found(offending, rows, [{"examined": examined}], examined)


def _chosen(scope: Scope) -> pa.Array | None:
    wanted = scope.values["datasets"]
    if wanted is None:
        return None
    with connection.errors():
        return scope.con.sql(TEXT, params={"datasets": wanted}).to_arrow_table().column(0)


def _batches(files: Sequence[str]) -> Iterator[list[str]]:
    """Files whose rollouts have at most BATCH_TOKENS tokens together, or one larger file."""
    batch: list[str] = []
    tokens = 0
    for file in files:
        metadata = pq.read_metadata(parquet_source(file))
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        columns = [group.column(i) for group in groups for i in range(group.num_columns)]
        sampled = [c for c in columns if c.path_in_schema.startswith(_PER_TOKEN)]
        size = sum(c.num_values for c in sampled)
        if batch and tokens + size > BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(file)
        tokens += size
    if batch:
        yield batch


def _responses(scope: Scope, files: Sequence[str]) -> pa.Table:
    """rollout_id and response_token_ids of the rollouts that the files hold scores of."""
    paths = ", ".join(connection.file_literal(file) for file in files)
    text = (
        "SELECT rollout_id, response_token_ids FROM rollouts "
        f"WHERE rollout_id IN (SELECT rollout_id FROM read_parquet([{paths}]))"
    )
    with connection.errors():
        return scope.con.sql(text).to_arrow_table()


def _scorer(file: str) -> str:
    match = _SCORER.search(file)
    assert match is not None, "topk is partitioned by scorer"
    return unquote(match[1])


def _tables(
    file: str, chosen: pa.Array | None, ranks: RankTables
) -> Generator[pa.Table, None, None]:
    with pq.ParquetFile(parquet_source(file)) as parquet:
        columns = topk_codec.stored_columns(COLUMNS, parquet.schema_arrow.names)
        for group in range(parquet.num_row_groups):
            table = topk_codec.decode(parquet.read_row_group(group, columns=columns), ranks)
            if chosen is not None:
                table = table.filter(pc.is_in(table.column("rollout_id"), value_set=chosen))
            if table.num_rows:
                yield table


def _faults(table: pa.Table, responses: pa.Table, vocab_size: int) -> Iterator[dict[str, Any]]:
    index = pc.index_in(table.column("rollout_id"), value_set=responses.column("rollout_id"))
    known = _keep(table, pc.is_valid(index))
    tokens = responses.column("response_token_ids").take(pc.drop_null(index))
    known = known.append_column("response", tokens)
    n_tokens = pc.list_value_length(known.column("sampled_logprobs"))
    known = _keep(known, pc.equal(n_tokens, pc.list_value_length(known.column("response"))))
    if "counts" in known.column_names and known.column("counts").null_count < known.num_rows:
        ragged = pc.is_valid(known.column("counts"))
        for row in range(known.num_rows):
            if ragged[row].as_py():
                yield from _ragged_fault(known.slice(row, 1), vocab_size)
        known = known.filter(pc.invert(ragged))
    kinds = dict.fromkeys(zip(*(known.column(name).to_pylist() for name in _KIND), strict=True))
    for kind in kinds:
        masks = map(pc.equal, (known.column(name) for name in _KIND), kind)
        same = _keep(known, reduce(pc.and_, masks)) if len(kinds) > 1 else known
        k, support = kind
        for rollout, fault in _check(same, k, support, vocab_size):
            yield {"rollout_id": rollout, "support": support, "k": k, "fault": fault}


def _ragged_fault(row: pa.Table, vocab_size: int) -> Iterator[dict[str, Any]]:
    """The first fault of one row whose tokens have different numbers of entries.

    Tokens with one number of entries are checked together: positions in a fault count these alone.
    """
    about = row.select(["rollout_id", *_KIND]).to_pylist()[0]
    ids_E, logprobs_E, counts_T = (_flat(row, n) for n in ("token_ids", "logprobs", "counts"))
    sampled_T, response_T = _flat(row, "sampled_logprobs"), _flat(row, "response")
    entries = {len(ids_E), len(logprobs_E), int(counts_T.sum())}
    if len(counts_T) != len(sampled_T) or len(entries) > 1:
        said = f"{len(ids_E)} ids and {len(logprobs_E)} logprobs"
        yield about | {"fault": f"{said} for {len(sampled_T)} tokens, not those of its counts"}
        return
    of_entry = np.repeat(counts_T, counts_T)
    for count in np.unique(counts_T).tolist():
        here = counts_T == count
        topk = TopK(
            token_ids=ids_E[of_entry == count].reshape(-1, count),
            logprobs=logprobs_E[of_entry == count].reshape(-1, count),
            sampled_logprobs=sampled_T[here],
        )
        try:
            check_topk_flat(
                [about["rollout_id"]],
                [int(here.sum())],
                topk,
                support=about["support"],
                vocab_size=vocab_size,
                response_token_ids=response_T[here],
            )
        except EngineError as error:
            what = _PLACE.sub("", error.what)
            yield about | {"fault": f"of its tokens with {count} entries, {what}"}
            return


def _keep(table: pa.Table, mask: pa.ChunkedArray) -> pa.Table:
    """Rows where the mask is true; the table itself where all are, since filtering copies lists."""
    return table if pc.all(mask).as_py() else table.filter(mask)


def _check(table: pa.Table, k: int, support: Any, vocab_size: int) -> Iterator[tuple[str, str]]:
    """Yield `(rollout_id, fault)`: all rows at once, and one by one only where that fails."""
    lengths = pc.list_value_length(table.column("sampled_logprobs")).to_numpy()
    entries = [
        pc.list_value_length(table.column(name)).to_numpy() for name in ("token_ids", "logprobs")
    ]
    right = (entries[0] == lengths * k) & (entries[1] == lengths * k)
    for i in np.flatnonzero(~right).tolist():
        counts = f"{entries[0][i]} ids and {entries[1][i]} logprobs"
        fault = f"{counts} for {lengths[i]} tokens and k = {k}"
        yield table.column("rollout_id")[i].as_py(), fault
    table = _keep(table, pa.chunked_array([right]))
    pending = [table] if table.num_rows else []
    while pending:
        part = pending.pop()
        try:
            _check_all(part, k, support, vocab_size)
        except EngineError as error:
            if part.num_rows == 1:
                yield part.column("rollout_id")[0].as_py(), _PLACE.sub("", error.what)
            else:
                half = part.num_rows // 2
                pending += [part.slice(half), part.slice(0, half)]


def _check_all(table: pa.Table, k: int, support: Any, vocab_size: int) -> None:
    topk = TopK(
        token_ids=_flat(table, "token_ids").reshape(-1, k),
        logprobs=_flat(table, "logprobs").reshape(-1, k),
        sampled_logprobs=_flat(table, "sampled_logprobs"),
    )
    check_topk_flat(
        table.column("rollout_id").to_pylist(),
        pc.list_value_length(table.column("response")).to_pylist(),
        topk,
        support=support,
        vocab_size=vocab_size,
        response_token_ids=_flat(table, "response"),
    )


def _flat(table: pa.Table, name: str) -> NDArray[Any]:
    """A list column's values, end to end."""
    column = table.column(name)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    values: NDArray[Any] = array.flatten().to_numpy(zero_copy_only=False)
    return values
