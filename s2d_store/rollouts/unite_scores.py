"""`s2d score --support union`: a scorer's own top k and its logprobs at the policy's, as one row.

Both are stored already, so no model is asked and nothing is charged. What is united is a row of
table topk like any other: datasets refer to it, audits check it, and its counts say how many
entries each token has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

import queries
from s2d_store import ids
from s2d_store.config_identity import defaults, non_default
from s2d_store.encoding.list_columns import list_array
from s2d_store.encoding.topk import FloatArray
from s2d_store.encoding.topk_ragged import keep_mass
from s2d_store.encoding.topk_union import Union, unite
from s2d_store.engines.output_checks import MASS_ABOVE_ONE
from s2d_store.errors import InputError, NotFoundError
from s2d_store.policies import registry
from s2d_store.rollouts.chunk_writer import ChunkWriter
from s2d_store.rollouts.progress import OnProgress, Progress
from s2d_store.rollouts.scored import Scored, choose, one_process
from s2d_store.rollouts.selection import check_counts, check_mass
from s2d_store.rollouts.settings import ScoreConfig
from s2d_store.runs import record
from s2d_store.shards import parse_shard
from s2d_store.sql import connection, parameters
from s2d_store.store import Store
from s2d_store.tables import rank_choice
from s2d_store.tables.fetch_rows import Source, fetch_rows
from s2d_store.tables.rank_tables import RankTables
from s2d_store.tables.snapshot import Snapshot

_READS = "graded_rollouts topk policies rollouts"
# The first one's logprob is taken of an id that both have.
_SUPPORTS = ("own", "policy")
_COLUMNS = ("token_ids", "logprobs", "sampled_logprobs")


class _Row(NamedTuple):
    """A united row of table topk; sampled_logprobs: float32 (T,)."""

    rollout_id: str
    k: int
    entries: Union
    sampled_logprobs: FloatArray


def unite_scores(store: Store, config: ScoreConfig, on_progress: OnProgress) -> Scored:
    """Unite what is not united yet and store it in chunks.

    Of several k on one support the largest is taken, of `own` the one that `config.k` names. A row
    has the sum of both as its k, and at most that many entries at each token.

    Raises:
        InputError: nothing to unite, a rollout without one of the two, or two that together hold
            more than all probability.
        NotFoundError: no such policy.
    """
    check_counts(
        ("--top-logprobs", config.k, 0),
        ("--limit", config.limit, 0),
        ("--chunk", config.chunk_rows, 1),
    )
    check_mass(config.mass)
    shard = parse_shard(config.shard)
    scorer_id, scorer = _scorer(store, config)
    identity = {
        "scorer_policy_id": scorer_id,
        "support": "union",
        "k": config.k,
        "mass": config.mass,
    }
    unless = defaults(ScoreConfig)
    run_id = f"unite-{scorer}-{ids.content_id(non_default(identity, unless))[:8]}"
    asked = {name: getattr(config, name) for name in ("where", "limit", "chunk_rows")}
    alone = one_process(store, scorer_id, scorer, "union", shard)
    recorded = record.record_run(
        store, run_id, "score", identity, defaults=unless, asked=asked, shard=shard
    )
    with alone, recorded as run:
        snap, wanted, pending = _plan(store, config, scorer_id, scorer)
        present = wanted - pending.num_rows
        if shard is not None:
            keys = pending.column("rollout_id").to_pylist()
            pending = pending.filter(pa.array([shard.holds(key) for key in keys], pa.bool_()))
        progress = Progress(total=pending.num_rows)

        def write(rows: list[_Row]) -> None:
            made = _table(rows, scorer_id, run_id)
            made = made if config.mass == 1 else keep_mass(made, config.mass)
            progress.committed += store.commit({"topk": made}, fresh=True)["topk"]

        with ChunkWriter(write, config.chunk_rows) as writer:
            for row in _united(snap, pending, rank_choice.of_store(store.root)):
                writer.add(row, row.entries.token_ids.nbytes * 2)
                progress.done += 1
                progress.tokens += len(row.sampled_logprobs)
                on_progress(progress)
        on_progress(progress)
        if shard is not None:
            run.complete = _plan(store, config, scorer_id, scorer)[2].num_rows == 0
    return Scored(run_id, scorer, progress.committed, present, progress.tokens)


def _scorer(store: Store, config: ScoreConfig) -> tuple[str, str]:
    """Id and name of the scorer, whose weights may be gone."""
    try:
        return parameters.policy(store.connect(text="policies"), config.scorer)
    except NotFoundError:
        found = registry.find(store, config.scorer, config.revision, served=True)
        return found.policy_id, found.name


def _plan(
    store: Store, config: ScoreConfig, scorer_id: str, scorer: str
) -> tuple[Snapshot, int, pa.Table]:
    """A snapshot, how many rollouts were asked for, and the rows still to unite."""
    snap = store.snapshot()
    con = store.connect(snap, text=f"{_READS} {config.where}")
    chosen = choose(con, config)
    with connection.errors():
        con.execute(
            f"CREATE TEMP TABLE _supports AS {queries.internal('score_supports')}",
            {"scorer": scorer_id, "k": config.k},
        )
        _require_both(con, chosen, config, scorer)
        con.execute(
            f"CREATE TEMP TABLE _done AS {queries.internal('score_done')}",
            {"scorer": scorer_id, "support": "union"},
        )
        scan = connection.scan(snap.files["topk"], "rollout_id, scorer_policy_id, support, k")
        con.execute(f"CREATE TEMP VIEW _scores AS {scan}")
        found = con.sql(queries.internal("unions_pending"), params={"scorer": scorer_id})
        return snap, chosen, found.to_arrow_table()


def _require_both(
    con: duckdb.DuckDBPyConnection, chosen: int, config: ScoreConfig, scorer: str
) -> None:
    for support in _SUPPORTS:
        lacking = con.sql(
            f"SELECT rollout_id FROM _supports WHERE {support}_k IS NULL ORDER BY rollout_id"
        ).fetchall()
        if lacking:
            k = f" with k={config.k}" if support == "own" and config.k else ""
            top = f" --top-logprobs {config.k or 'K'}" if support == "own" else ""
            raise InputError(
                f"{len(lacking)} of {chosen} rollouts have no top-k of {scorer} on support "
                f"{support}{k}, e.g. {lacking[0][0]}",
                "--support union unites the scorer's scores on own and on policy support",
                f"s2d score --scorer {scorer} --support {support}{top}, or leave them out with "
                "--where",
            )


def _united(snap: Snapshot, pending: pa.Table, ranks: RankTables) -> Iterator[_Row]:
    if not pending.num_rows:
        return
    k, j, tokens = (
        pending.column(name).to_numpy().astype(np.int64)
        for name in ("own_k", "policy_k", "response_tokens")
    )
    sources = [_source(pending, name, ranks) for name in _SUPPORTS]
    for start, heavy in fetch_rows(sources, tokens * (8 + (k + j) * 8)):
        columns = {name: heavy.column(name).combine_chunks() for name in heavy.column_names}
        rollouts = pending.column("rollout_id").slice(start, heavy.num_rows).to_pylist()
        for i, rollout_id in enumerate(rollouts):
            own, policy = (
                [columns[f"{name}_{what}"][i].values.to_numpy() for what in _COLUMNS]
                for name in _SUPPORTS
            )
            first, second = (
                [values.reshape(len(side[2]), -1) for values in side[:2]] for side in (own, policy)
            )
            entries = unite(*first, *second)
            _check_mass(rollout_id, entries)
            yield _Row(rollout_id, int(k[start + i] + j[start + i]), entries, own[2])


def _source(pending: pa.Table, name: str, ranks: RankTables) -> Source:
    files = pending.column(f"{name}_file").combine_chunks().dictionary_encode()
    return Source(
        files.dictionary.to_pylist(),
        files.indices.to_numpy().astype(np.int64),
        pending.column(f"{name}_position").to_numpy(),
        _COLUMNS,
        {column: f"{name}_{column}" for column in _COLUMNS},
        ranks,
    )


def _check_mass(rollout_id: str, entries: Union) -> None:
    ends_T = np.cumsum(entries.counts, dtype=np.int64)
    masses_T = np.add.reduceat(np.exp(entries.logprobs, dtype=np.float64), ends_T - entries.counts)
    if masses_T.max() > 1 + MASS_ABOVE_ONE:
        t = int(masses_T.argmax())
        raise InputError(
            f"the scores of rollout {rollout_id} on own and policy support do not fit each other",
            f"at token {t} their {entries.counts[t]} entries sum to a probability of "
            f"{masses_T[t]:.4f}: they were scored with different arithmetic, or one is wrong",
            "score it on both supports with one engine and dtype, or leave it out with --where",
        )


def _table(rows: Sequence[_Row], scorer_id: str, run_id: str) -> pa.Table:
    n = len(rows)
    return pa.table(
        {
            "rollout_id": [row.rollout_id for row in rows],
            "scorer_policy_id": [scorer_id] * n,
            "support": ["union"] * n,
            "k": pa.array([row.k for row in rows], pa.int32()),
            "counts": list_array([row.entries.counts for row in rows], pa.int16()),
            "token_ids": list_array([row.entries.token_ids for row in rows], pa.int32()),
            "logprobs": list_array([row.entries.logprobs for row in rows], pa.float32()),
            "sampled_logprobs": list_array([row.sampled_logprobs for row in rows], pa.float32()),
            "run_id": [run_id] * n,
            "created_at": pa.array([datetime.now(UTC)] * n, pa.timestamp("us", tz="UTC")),
        }
    )
