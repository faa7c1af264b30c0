"""`s2d score`: a policy's top-k logprobs on stored rollouts, from their stored token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import get_args

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import queries
from s2d_store import ids
from s2d_store.accounting import charges
from s2d_store.accounting.guard import Guard
from s2d_store.config_identity import defaults, non_default
from s2d_store.encoding.topk import IntArray, TopK
from s2d_store.encoding.topk_ragged import PAD_ID
from s2d_store.engines.base import Engine, ScoreRequest
from s2d_store.engines.cache import OpenEngine, open_once
from s2d_store.engines.output_checks import check_k, check_topk
from s2d_store.engines.registry import find as find_engine
from s2d_store.engines.registry import require_capable
from s2d_store.errors import InputError
from s2d_store.policies import registry
from s2d_store.policies.registry import Registered
from s2d_store.rollouts import endpoint_facts, records
from s2d_store.rollouts.chunk_writer import ChunkWriter
from s2d_store.rollouts.progress import (
    OnNotice,
    OnProgress,
    Progress,
    ignore,
    loading,
    say_nothing,
)
from s2d_store.rollouts.scored import Scored as Scored
from s2d_store.rollouts.scored import choose, one_process
from s2d_store.rollouts.selection import check_counts, check_mass
from s2d_store.rollouts.settings import ScoreConfig as ScoreConfig
from s2d_store.rollouts.settings import Support
from s2d_store.rollouts.unite_scores import unite_scores
from s2d_store.runs import record
from s2d_store.shards import parse_shard
from s2d_store.sql import connection
from s2d_store.store import Store
from s2d_store.tables import rank_choice
from s2d_store.tables.fetch_rows import Source, fetch_rows
from s2d_store.tables.rank_tables import RankTables
from s2d_store.tables.snapshot import Snapshot

# What planning reads, and charging for it.
_READS = "graded_rollouts policy_topk topk policies rollouts runs"


def score(
    store: Store,
    config: ScoreConfig,
    on_progress: OnProgress = ignore,
    engines: OpenEngine = open_once,
    on_notice: OnNotice = say_nothing,
) -> Scored:
    """Score what is missing and store it in chunks; every row is checked before its commit.

    Raises:
        InputError: another tokenizer, nothing to score, no stored top-k to take the ids from, or an
            engine that cannot score given ids.
        EngineError: k is too large, or logprobs that fail their checks.
        BudgetError: it would go over the budget; nothing started.
    """
    if config.support not in get_args(Support):
        raise InputError(
            f"--support {config.support} is unknown", f"it is one of {', '.join(get_args(Support))}"
        )
    if config.support == "union":
        return unite_scores(store, config, on_progress)
    check_counts(
        ("--top-logprobs", config.k, 1 if config.support == "own" else 0),
        ("--limit", config.limit, 0),
        ("--batch-size", config.batch_size, 1),
        ("--chunk", config.chunk_rows, 1),
    )
    check_mass(config.mass)
    shard = parse_shard(config.shard)
    require_capable(config.engine, k=config.k, given_ids=config.support == "policy")
    guard = Guard.open(store, config.budget)
    served = find_engine(config.engine).capabilities.served
    scorer = registry.find(store, config.scorer, config.revision, served=served)
    identity = {
        "scorer_policy_id": scorer.policy_id,
        "support": config.support,
        "k": config.k,
        "mass": config.mass,
        "engine": config.engine,
        "dtype": config.dtype,
    }
    unless = defaults(ScoreConfig)
    run_id = f"score-{scorer.name}-{ids.content_id(non_default(identity, unless))[:8]}"
    if not guard.is_open:
        con, _, pending = _plan(store, config, scorer)
        charges.before_scoring(guard, con, run_id, scorer, pending)
    names = ("where", "limit", "batch_size", "chunk_rows", "max_model_len")
    asked = {name: getattr(config, name) for name in names}
    asked["engine_args"] = dict(config.engine_args)
    alone = one_process(store, scorer.policy_id, scorer.name, config.support, shard)
    recorded = record.record_run(
        store, run_id, "score", identity, defaults=unless, asked=asked, shard=shard
    )
    with alone, recorded as run:
        _, wanted, pending = _plan(store, config, scorer)
        present = wanted - pending.num_rows
        if shard is not None:
            keys = pending.column("rollout_id").to_pylist()
            pending = pending.filter(pa.array([shard.holds(key) for key in keys], pa.bool_()))
        progress, rejected = Progress(total=pending.num_rows), dict[str, str]()
        if pending.num_rows:
            progress.doing = loading(scorer, config)
            on_progress(progress)
            with _open(engines, config, scorer) as engine:
                progress.doing = ""
                on_progress(progress)
                about = endpoint_facts.recorded(store, scorer, run_id, engine, None, on_notice)
                with about as rejected:
                    _run(store, config, scorer, run_id, engine, pending, progress, on_progress)
        if shard is not None:
            run.complete = _plan(store, config, scorer)[2].num_rows == 0
    why = next(reversed(rejected.values()), "")
    scored = (progress.committed, present, progress.tokens, len(rejected), why)
    return Scored(run_id, scorer.name, *scored)


def _plan(
    store: Store, config: ScoreConfig, scorer: Registered
) -> tuple[duckdb.DuckDBPyConnection, int, pa.Table]:
    """A connection, how many rollouts were asked for, and the rows still to score."""
    snap = store.snapshot()
    con = store.connect(snap, text=f"{_READS} {config.where}")
    wanted, fingerprints = _wanted(con, config, scorer)
    registry.require_same_tokenizer(store, scorer, fingerprints)
    return con, wanted, _pending(con, snap, config)


def _wanted(
    con: duckdb.DuckDBPyConnection, config: ScoreConfig, scorer: Registered
) -> tuple[int, set[str | None]]:
    """Make table _wanted (rollout_id, k) and give its size and tokenizers."""
    chosen = choose(con, config)
    with connection.errors():
        every = "SELECT rollout_id, $k::INT AS k FROM _chosen"
        wanted_sql = every if config.support == "own" else queries.internal("score_wanted")
        con.execute(f"CREATE TEMP TABLE _wanted AS {wanted_sql}", {"k": config.k})
        con.execute(
            f"CREATE TEMP TABLE _done AS {queries.internal('score_done')}",
            {"scorer": scorer.policy_id, "support": config.support},
        )
        ((wanted,),) = con.execute("SELECT count(*) FROM _wanted").fetchall()
        fingerprints = {
            row[0]
            for row in con.execute(
                "SELECT DISTINCT tokenizer_fingerprint FROM _chosen JOIN policies USING (policy_id)"
            ).fetchall()
        }
    if wanted < chosen:
        raise InputError(
            f"{chosen - wanted} of {chosen} rollouts have no top-k of their own policy"
            + (f" with k={config.k}" if config.k else ""),
            "--support policy takes its ids from there",
            "generate them with --top-logprobs K, or score them first by their own policy",
        )
    return chosen, fingerprints


def _pending(con: duckdb.DuckDBPyConnection, snap: Snapshot, config: ScoreConfig) -> pa.Table:
    """Rows still to score, longest first, with where their tokens and support ids lie."""

    def scan(name: str, columns: str, extra: str = "") -> str:
        rows = connection.scan(snap.files[name], columns)
        return (
            f"(SELECT * RENAME (filename AS {name}_file, file_row_number AS {name}_position) "
            f"FROM ({rows}{extra}))"
        )

    text = (
        "SELECT w.k, r.* FROM (FROM _wanted ANTI JOIN _done USING (rollout_id, k)) AS w JOIN "
        + scan("rollouts", "rollout_id, policy_id, prompt_tokens, response_tokens")
        + " AS r USING (rollout_id)"
    )
    if config.support == "policy":
        own = scan("topk", "rollout_id, scorer_policy_id, k", " WHERE support = 'own'")
        text = text.replace("SELECT w.k, r.*", "SELECT w.k, r.*, t.topk_file, t.topk_position")
        text += (
            f" JOIN {own} AS t ON t.rollout_id = r.rollout_id AND t.k = w.k "
            "AND t.scorer_policy_id = r.policy_id"
        )
    with connection.errors():
        table = con.sql(text + " ORDER BY r.prompt_tokens + r.response_tokens DESC, r.rollout_id")
        return table.to_arrow_table()


def _open(
    engines: OpenEngine, config: ScoreConfig, scorer: Registered
) -> AbstractContextManager[Engine]:
    return engines(
        config.engine,
        scorer.location,
        top_logprobs=config.k,
        max_model_len=config.max_model_len or None,
        device=config.device,
        dtype=config.dtype,
        batch_size=config.batch_size,
        engine_args=dict(config.engine_args),
        url=config.url,
        workers=config.engine_workers,
    )


def _run(
    store: Store,
    config: ScoreConfig,
    scorer: Registered,
    run_id: str,
    engine: Engine,
    pending: pa.Table,
    progress: Progress,
    on_progress: OnProgress,
) -> None:
    check_k(config.k, engine.vocab_size)
    _check_fit(pending, engine)

    def write(scored: list[tuple[str, TopK]]) -> None:
        table = records.topk_table(scored, scorer.policy_id, config.support, run_id, config.mass)
        scored.clear()  # the table has copies, and encoding them takes as much again
        progress.committed += store.commit({"topk": table}, fresh=True)["topk"]

    with ChunkWriter(write, config.chunk_rows) as writer:
        sources = _sources(pending, config.support, rank_choice.of_store(store.root))
        for start, heavy in fetch_rows(sources, _row_bytes(pending)):
            light = pending.slice(start, heavy.num_rows)
            requests = {r.rollout_id: r for r in _requests(light, heavy)}
            for rollout_id, entry in engine.score(list(requests.values()), config.k):
                _check(engine, requests[rollout_id], entry, config.support)
                writer.add((rollout_id, entry), entry.logprobs.nbytes * 2)
                progress.done += 1
                progress.tokens += len(entry.sampled_logprobs)
                on_progress(progress)
            del heavy, requests  # not held while the next rows are fetched
    on_progress(progress)


def _check(engine: Engine, request: ScoreRequest, entry: TopK, support: Support) -> None:
    check_topk(
        request.rollout_id,
        entry,
        len(request.response_token_ids),
        support=support,
        vocab_size=engine.vocab_size,
        response_token_ids=request.response_token_ids,
    )


def _check_fit(pending: pa.Table, engine: Engine) -> None:
    longest = pending.slice(0, 1).to_pylist()[0]
    tokens = longest["prompt_tokens"] + longest["response_tokens"]
    if tokens > engine.max_model_len:
        raise InputError(
            f"rollout {longest['rollout_id']} has {tokens} tokens, too long for the scorer",
            f"it holds {engine.max_model_len}",
            "raise --max-model-len, or leave such rollouts out with --where",
        )


def _row_bytes(pending: pa.Table) -> NDArray[np.int64]:
    prompt, response, k = (
        pending.column(name).to_numpy().astype(np.int64)
        for name in ("prompt_tokens", "response_tokens", "k")
    )
    row_bytes: NDArray[np.int64] = prompt * 4 + response * (8 + k * 8)
    return row_bytes


def _sources(pending: pa.Table, support: Support, ranks: RankTables) -> list[Source]:
    def source(table: str, columns: Sequence[str]) -> Source:
        encoded = pending.column(f"{table}_file").combine_chunks().dictionary_encode()
        return Source(
            encoded.dictionary.to_pylist(),
            encoded.indices.to_numpy().astype(np.int64),
            pending.column(f"{table}_position").to_numpy(),
            columns,
            {},
            ranks,
        )

    result = [source("rollouts", ("prompt_token_ids", "response_token_ids"))]
    if support == "policy":
        result.append(source("topk", ("token_ids",)))
    return result


def _requests(light: pa.Table, heavy: pa.Table) -> Iterator[ScoreRequest]:
    columns = {name: heavy.column(name).combine_chunks() for name in heavy.column_names}
    ks = light.column("k").to_pylist()
    for i, rollout_id in enumerate(light.column("rollout_id").to_pylist()):
        support: IntArray | None = None
        if "token_ids" in columns:
            support = columns["token_ids"][i].values.to_numpy().reshape(-1, ks[i])
            if (support == PAD_ID).any():
                raise InputError(
                    f"the top-k of rollout {rollout_id} has fewer than {ks[i]} ids at some tokens",
                    "it was kept with --mass, and a scorer is given k ids at each token",
                    "s2d score --support own, or leave it out with --where",
                )
        yield ScoreRequest(
            rollout_id,
            columns["prompt_token_ids"][i].values.to_pylist(),
            columns["response_token_ids"][i].values.to_numpy(),
            support,
        )
