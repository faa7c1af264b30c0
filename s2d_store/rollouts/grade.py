"""`s2d verify`: grade stored rollouts that this verifier version has not graded yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb

from s2d_store import ids
from s2d_store.accounting import charges
from s2d_store.accounting.guard import Guard
from s2d_store.errors import InputError, StoreError
from s2d_store.rollouts import records
from s2d_store.rollouts.chunk_writer import ChunkWriter
from s2d_store.rollouts.progress import OnProgress, Progress, ignore
from s2d_store.rollouts.selection import check_counts, condition, where_errors
from s2d_store.rollouts.settings import VerifyConfig as VerifyConfig
from s2d_store.runs import record
from s2d_store.sql import connection
from s2d_store.store import Store
from s2d_store.verifiers.base import Verdict
from s2d_store.verifiers.pool import VerifierPool

_FETCH_ROWS = 1024
# What planning reads, and charging for it.
_READS = "graded_rollouts rewards rollouts runs"


@dataclass
class Verified:
    """What a verify command did: graded now, outcomes, sum of rewards, and an example of a gold
    answer that the verifier could not grade against.
    """

    run_id: str
    graded: int = 0
    reward: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    error_example: str = ""


def verify(store: Store, config: VerifyConfig, on_progress: OnProgress = ignore) -> Verified:
    """Grade what is missing and store it in chunks.

    Raises:
        NotFoundError: no such verifier.
        InputError: a setting out of range, or nothing labelled matches.
        QueryError: `where` is not SQL over graded_rollouts.
        BudgetError: it would grade more labels than are left; nothing started.
    """
    check_counts(("--limit", config.limit, 0), ("--chunk", config.chunk_rows, 1))
    with VerifierPool(config.verifier, config.workers, config.deadline_s) as pool:
        identity = {"verifier": pool.name, "version": pool.version, "deadline_s": config.deadline_s}
        run_id = f"verify-{pool.name}-{ids.content_id(identity)[:8]}"
        result = Verified(run_id)
        guard = Guard.open(store, config.budget)
        if not guard.is_open:
            planned = store.connect(text=f"{_READS} {config.where}")
            _pending(planned, config, pool)
            charges.before_verifying(guard, planned, run_id)
        asked = {"where": config.where, "limit": config.limit}
        # Another deadline is another run, but its verdicts have the same keys.
        busy = StoreError(
            f"verifier {pool.name} {pool.version} is grading in another process",
            "one process grades by a verifier at a time: two would store verdicts twice",
            "wait for it to end",
        )
        alone = store.exclusive(f".verify-{ids.content_id(pool.name, pool.version)}", busy)
        with alone, record.record_run(store, run_id, "verify", identity, asked=asked):
            con = store.connect(text=f"{_READS} {config.where}")
            pending = _pending(con, config, pool)
            progress = Progress(total=pending)

            def write(verdicts: list[tuple[str, Verdict, float]]) -> None:
                table = records.reward_table(verdicts, pool.name, pool.version, run_id)
                progress.committed += store.commit({"rewards": table}, fresh=True)["rewards"]

            with ChunkWriter(write, config.chunk_rows) as writer:
                for key, verdict, seconds in pool.verify_many(_items(con)):
                    writer.add((key, verdict, seconds), 1024)
                    _count(result, key, verdict)
                    progress.done = progress.graded = result.graded
                    progress.reward = result.reward
                    on_progress(progress)
    return result


def _pending(con: duckdb.DuckDBPyConnection, config: VerifyConfig, pool: VerifierPool) -> int:
    chosen = condition(con, "graded_rollouts", config.where)
    with where_errors("graded_rollouts", config.where):
        con.execute(
            "CREATE TEMP TABLE _wanted AS SELECT DISTINCT rollout_id, prompt_id, answer "
            f"FROM graded_rollouts{chosen}"
        )
    with connection.errors():
        con.execute(
            "CREATE TEMP TABLE _pending AS SELECT w.rollout_id, w.answer FROM _wanted AS w "
            "ANTI JOIN (SELECT rollout_id FROM rewards WHERE verifier = $verifier AND "
            "verifier_version = $version) AS d USING (rollout_id) WHERE w.answer IS NOT NULL "
            "ORDER BY w.rollout_id LIMIT CASE WHEN $limit > 0 THEN $limit ELSE 9e18::BIGINT END",
            {"verifier": pool.name, "version": pool.version, "limit": config.limit},
        )
        wanted, labelled, pending = con.execute(
            "SELECT (SELECT count(*) FROM _wanted), (SELECT count(*) FROM _wanted WHERE answer IS "
            "NOT NULL), (SELECT count(*) FROM _pending)"
        ).fetchall()[0]
    if not labelled:
        raise InputError(
            "no rollouts to verify" + (": none of their prompts has an answer" if wanted else ""),
            f"{wanted} rollouts match {config.where!r}" if config.where else "",
            "s2d prompts add with --answer-field" if wanted else "s2d generate, or change --where",
        )
    return int(pending)


def _items(con: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str, str]]:
    con.execute(
        "SELECT p.rollout_id, r.response_text, p.answer FROM _pending AS p "
        "INNER JOIN rollouts AS r USING (rollout_id)"
    )
    while batch := con.fetchmany(_FETCH_ROWS):
        yield from batch


def _count(result: Verified, key: str, verdict: Verdict) -> None:
    result.graded += 1
    result.reward += verdict.reward
    result.outcomes[verdict.outcome] = result.outcomes.get(verdict.outcome, 0) + 1
    if verdict.outcome == "error" and not result.error_example:
        result.error_example = f"rollout {key}: {verdict.detail}"
