"""`s2d verify`: grade stored rollouts that this verifier version has not graded yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

import queries
from s2d_store import ids
from s2d_store.accounting import charges
from s2d_store.accounting.guard import Guard
from s2d_store.errors import InputError, StoreError
from s2d_store.rollouts import records
from s2d_store.rollouts.chunk_writer import ChunkWriter
from s2d_store.rollouts.first_verdicts import Graded, checked_start
from s2d_store.rollouts.grade_items import pending_items
from s2d_store.rollouts.progress import OnProgress, Progress, ignore
from s2d_store.rollouts.selection import check_counts, condition, where_errors
from s2d_store.rollouts.settings import VerifyConfig as VerifyConfig
from s2d_store.rollouts.withdraw import require_standing
from s2d_store.runs import record
from s2d_store.shards import Shard, parse_shard
from s2d_store.sql import connection
from s2d_store.store import Store
from s2d_store.verifiers.base import Item, Verdict
from s2d_store.verifiers.gold import UNREADABLE
from s2d_store.verifiers.pool import VerifierPool
from s2d_store.verifiers.settings import with_answer_from

# What planning reads, and charging for it.
_READS = "graded_rollouts prompts rewards rollouts runs withdrawals"


@dataclass
class Verified:
    """What a verify command did.

    Attributes:
        run_id: its run.
        graded: rollouts that have a verdict now.
        judged: of those, the ones that were judged: neither timeout nor error.
        reward: sum of their rewards.
        outcomes: verdicts by outcome.
        error_example: the first verdict of outcome `error`, with its reason.
        unlabelled: rollouts asked for that have no gold answer, where the verifier needs one.
        without_text: rollouts asked for that have no text to grade.
        unreadable: rollouts by the reason why their gold answer cannot be read; one per answer.
    """

    run_id: str
    graded: int = 0
    judged: int = 0
    reward: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    error_example: str = ""
    unlabelled: int = 0
    without_text: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)


def verify(store: Store, config: VerifyConfig, on_progress: OnProgress = ignore) -> Verified:
    """Grade what is missing and store it in chunks.

    Raises:
        NotFoundError: no such verifier.
        InputError: a setting out of range, nothing matches that could be graded, the verifier's
            version was withdrawn, or it judges none of the first rollouts; nothing is stored then.
        QueryError: `where` is not SQL over graded_rollouts.
        BudgetError: it would grade more labels than are left; nothing started.
    """
    check_counts(("--limit", config.limit, 0), ("--chunk", config.chunk_rows, 1))
    shard = parse_shard(config.shard)
    if shard is not None and config.limit:
        raise InputError(
            "--limit is given beside --shard",
            "it counts what is not graded yet, which is different for each shard",
            "choose rollouts with --where",
        )
    verifier = with_answer_from(config.verifier, config.answer_from)
    with VerifierPool(verifier, config.workers, config.deadline_s) as pool:
        require_standing(store, pool.name, pool.version)
        identity = {"verifier": pool.name, "version": pool.version, "deadline_s": config.deadline_s}
        if pool.description:
            identity["description"] = pool.description
        run_id = f"verify-{pool.name}-{ids.content_id(identity)[:8]}"
        result = Verified(run_id)
        guard = Guard.open(store, config.budget)
        if not guard.is_open:
            planned = store.connect(text=f"{_READS} {config.where}")
            _plan(planned, config, pool, result)
            charges.before_verifying(guard, planned, run_id)
        asked: dict[str, object] = {"where": config.where, "limit": config.limit}
        asked |= {"verifier": verifier} | ({"retry": True} if config.retry else {})
        if config.rollouts is not None:
            asked["rollouts"] = len(config.rollouts)
        # Another deadline is another run, but its verdicts have the same keys.
        busy = StoreError(
            f"verifier {pool.name} {pool.version} is grading in another process",
            "one process does at a time, or n with --shard i/n: others would store verdicts twice",
            "wait for it to end",
        )
        name = f".verify-{ids.content_id(pool.name, pool.version)}"
        alone = store.exclusive(name, busy, shard)
        recorded = record.record_run(store, run_id, "verify", identity, asked=asked, shard=shard)
        with alone, recorded as run:
            con = store.connect(text=f"{_READS} {config.where}")
            progress = Progress(total=_plan(con, config, pool, result, shard))
            attempts: dict[str, int] = {}

            def items() -> Iterator[Item]:
                for pending in pending_items(con, pool.needs):
                    if pending.attempt:
                        attempts[pending.item.rollout_id] = pending.attempt
                    yield pending.item

            def write(graded: list[Graded]) -> None:
                table = records.reward_table(graded, pool.name, pool.version, run_id, attempts)
                progress.committed += store.commit({"rewards": table}, fresh=True)["rewards"]

            with ChunkWriter(write, config.chunk_rows) as writer:
                for key, verdict, seconds in checked_start(pool.name, pool.grade_many(items())):
                    writer.add((key, verdict, seconds), 1024)
                    _count(result, key, verdict)
                    progress.done = result.graded
                    progress.graded, progress.reward = result.judged, result.reward
                    on_progress(progress)
            if shard is not None:
                later = store.connect(text=f"{_READS} {config.where}")
                run.complete = _plan(later, config, pool, Verified(run_id)) == 0
    return result


def _plan(
    con: duckdb.DuckDBPyConnection,
    config: VerifyConfig,
    pool: VerifierPool,
    result: Verified,
    shard: Shard | None = None,
) -> int:
    """Make table _pending, note in `result` what cannot be graded, and return the rows to grade."""
    chosen = condition(con, "graded_rollouts", config.where)
    if config.rollouts is not None:
        con.register("_asked", pa.table({"rollout_id": pa.array(config.rollouts, pa.string())}))
        chosen = f" SEMI JOIN _asked USING (rollout_id){chosen}"
    with where_errors("graded_rollouts", config.where):
        con.execute(
            "CREATE TEMP TABLE _wanted AS SELECT rollout_id, prompt_id "
            f"FROM graded_rollouts{chosen}"
        )
    with connection.errors():
        con.execute(
            f"CREATE TEMP TABLE _pending AS {queries.internal('verify_pending')}",
            {
                "verifier": pool.name,
                "version": pool.version,
                "needs_answer": pool.needs.answer,
                "retry": config.retry,
                "most": config.limit,
            },
        )
        if shard is not None:
            pending_ids = con.sql("SELECT rollout_id FROM _pending").fetchall()
            mine = [key for (key,) in pending_ids if shard.holds(key)]
            con.register("_mine", pa.table({"rollout_id": pa.array(mine, pa.string())}))
            con.execute(
                "DELETE FROM _pending WHERE rollout_id NOT IN (SELECT rollout_id FROM _mine)"
            )
        ((wanted, unlabelled, without_text, pending),) = con.execute(
            queries.internal("verify_counts")
        ).fetchall()
    result.unlabelled = unlabelled if pool.needs.answer else 0
    result.without_text = without_text
    if not wanted or result.unlabelled == wanted:
        raise InputError(
            "no rollouts to verify" + (": none of their prompts has an answer" if wanted else ""),
            f"{wanted} rollouts match {config.where!r}" if config.where else "",
            "s2d prompts add with --answer-field" if wanted else "s2d generate, or change --where",
        )
    return int(pending)


def _count(result: Verified, key: str, verdict: Verdict) -> None:
    result.graded += 1
    if verdict.reward is not None:
        result.judged += 1
        result.reward += verdict.reward
    result.outcomes[verdict.outcome] = result.outcomes.get(verdict.outcome, 0) + 1
    if UNREADABLE in verdict.detail:
        result.unreadable[verdict.detail] = result.unreadable.get(verdict.detail, 0) + 1
    if verdict.outcome == "error" and not result.error_example:
        result.error_example = f"rollout {key}: {verdict.detail}"
