"""Where the tokens of rows lie: which file of a snapshot holds them, and in which row of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import numpy as np
import pyarrow as pa

import queries
from s2d_store.datasets.query_contract import TOPK_COLUMNS, in_order
from s2d_store.encoding.topk_codec import RankTables
from s2d_store.encoding.topk_ranks import IDENTITY
from s2d_store.sql import connection
from s2d_store.tables.fetch_rows import Source
from s2d_store.tables.snapshot import Snapshot

_LIGHT = (
    "rollout_id, prompt_id, policy_id, prompt_tokens, response_tokens, sampled_tokens, origin, "
    "tokens_from, created_at"
)
_MADE = "epoch_us({}.created_at::TIMESTAMP)"


def locate(
    con: duckdb.DuckDBPyConnection,
    snap: Snapshot,
    selected: pa.Table,
    has_topk: bool,
    has_ref: bool = False,
) -> pa.Table:
    """Where the rows' rollouts (and scores) lie, by `row`; rows that are not stored are left out.

    Args:
        con: a connection to the snapshot.
        snap: the snapshot.
        selected: row and rollout_id, with top-k also scorer_policy_id, support and k, with a
            reference policy also ref_policy_id.
        has_topk: whether to find top-k too.
        has_ref: whether to find a reference policy's logprobs too.

    Returns:
        row, prompt_id, policy (place among the policies by id), prompt_tokens, response_tokens,
        sampled_tokens, origin, tokens_from, and rollout_file, rollout_position, rollout_created_at
        (microseconds since 1970); with top-k and a reference policy also topk_.. and ref_...
    """
    keys = ["row", "rollout_id", *(TOPK_COLUMNS if has_topk else ())]
    keys += ["ref_policy_id"] if has_ref else []
    con.register("_selected", selected.select(keys))
    for name in ("rollouts", "topk"):
        paths = pa.array(snap.files[name], pa.string())
        con.register(f"_{name}_files", pa.table({"path": paths, "i": pa.array(range(len(paths)))}))
    with connection.errors():
        rows = con.sql(_locate_sql(snap, has_topk, has_ref)).to_arrow_table()
    for name in ("_selected", "_rollouts_files", "_topk_files"):
        con.unregister(name)
    return in_order(rows)


def _scan(snap: Snapshot, name: str, columns: str) -> str:
    """SQL over a table's files that gives columns, filename and file_row_number."""
    if not snap.files[name]:
        return f"SELECT {columns}, '' AS filename, 0 AS file_row_number FROM raw.{name}"
    return connection.scan(snap.files[name], columns)


def _view_file_rows(con: duckdb.DuckDBPyConnection, scan: str) -> None:
    con.execute(f"CREATE OR REPLACE TEMP VIEW _file_rows AS {scan}")


def _locate_sql(snap: Snapshot, has_topk: bool, has_ref: bool) -> str:
    select = (
        "SELECT s.row, r.prompt_id, o.i AS policy, r.prompt_tokens, r.response_tokens, "
        "r.sampled_tokens, r.origin, r.tokens_from, "
        "f.i AS rollout_file, r.file_row_number AS rollout_position, "
        f"{_MADE.format('r')} AS rollout_created_at"
    )
    join = (
        f" FROM _selected AS s JOIN ({_scan(snap, 'rollouts', _LIGHT)}) AS r USING (rollout_id) "
        "JOIN _rollouts_files AS f ON r.filename = f.path "
        "LEFT JOIN (SELECT policy_id, row_number() OVER (ORDER BY policy_id) - 1 AS i "
        "FROM policies) AS o USING (policy_id)"
    )
    topk = f"({_scan(snap, 'topk', 'rollout_id, created_at, ' + ', '.join(TOPK_COLUMNS))})"
    if has_topk:
        select += (
            ", g.i AS topk_file, t.file_row_number AS topk_position, "
            f"{_MADE.format('t')} AS topk_created_at"
        )
        join += (
            f" JOIN {topk} AS t USING (rollout_id, {', '.join(TOPK_COLUMNS)}) "
            "JOIN _topk_files AS g ON t.filename = g.path"
        )
    if has_ref:
        # A scorer's logprob of the sampled token is the same whatever k it was stored with.
        select += (
            ", h.i AS ref_file, e.file_row_number AS ref_position, "
            f"{_MADE.format('e')} AS ref_created_at"
        )
        join += (
            f" JOIN (SELECT * FROM {topk} QUALIFY row_number() OVER "
            "(PARTITION BY rollout_id, scorer_policy_id ORDER BY k, support) = 1) AS e "
            "ON e.rollout_id = s.rollout_id AND e.scorer_policy_id = s.ref_policy_id "
            "JOIN _topk_files AS h ON e.filename = h.path"
        )
    return select + join


def locate_prompts(con: duckdb.DuckDBPyConnection, snap: Snapshot, selected: pa.Table) -> pa.Table:
    """Where the prompts of rows lie: row, prompt_file, prompt_position, by `row`.

    Args:
        con: a connection to the snapshot.
        snap: the snapshot.
        selected: row and prompt_id.
    """
    con.register("_selected", selected)
    paths = pa.array(snap.files["prompts"], pa.string())
    con.register("_prompts_files", pa.table({"path": paths, "i": pa.array(range(len(paths)))}))
    with connection.errors():
        _view_file_rows(con, _scan(snap, "prompts", "prompt_id"))
        rows = con.sql(queries.internal("prompts_located")).to_arrow_table()
    con.unregister("_selected")
    con.unregister("_prompts_files")
    return in_order(rows)


def without_logprobs(
    con: duckdb.DuckDBPyConnection, snap: Snapshot, located: pa.Table, rollout_ids: pa.ChunkedArray
) -> list[tuple[str, str]]:
    """Ids of chosen rollouts that lack the logprob of a token that their policy sampled, and why:
    `retokenised`, `processed` (the sampler's alone are known) or `unknown`.

    What s2d sampled has all of them, so only files with other rollouts are read.

    Args:
        con: a connection to the snapshot.
        snap: the snapshot.
        located: rows as `locate` gives them, at least origin and rollout_file.
        rollout_ids: the rows' rollouts, by row.
    """
    others = np.flatnonzero(located.column("origin").to_numpy(zero_copy_only=False) != "sampled")
    if not len(others):
        return []
    used = np.unique(located.column("rollout_file").to_numpy()[others]).tolist()
    files = [snap.files["rollouts"][i] for i in used]
    columns = "rollout_id, tokens_from, response_logprobs, sampler_logprobs, response_mask"
    con.register("_others", pa.table({"rollout_id": rollout_ids.take(pa.array(others)).unique()}))
    with connection.errors():
        _view_file_rows(con, connection.scan(files, columns))
        found = con.sql(queries.internal("without_logprobs")).fetchall()
    con.unregister("_others")
    return [(str(rollout), str(why)) for rollout, why in found]


def source(
    rows: pa.Table,
    prefix: str,
    files: Sequence[str],
    columns: Sequence[str],
    rename: Mapping[str, str] | None = None,
    ranks: RankTables | None = None,
) -> Source:
    """Where heavy columns of located rows lie.

    Args:
        rows: with PREFIX_file and PREFIX_position.
        prefix: of those two.
        files: what PREFIX_file indexes.
        columns: heavy columns to fetch.
        rename: new names by column, where they differ.
        ranks: of table topk, rank tables by name.
    """
    return Source(
        files,
        rows.column(f"{prefix}_file").to_numpy().astype(np.int64, copy=False),
        rows.column(f"{prefix}_position").to_numpy().astype(np.int64, copy=False),
        columns,
        dict(rename or {}),
        {None: IDENTITY} if ranks is None else ranks,
    )
