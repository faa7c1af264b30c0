"""What ways of scoring share: which rollouts are chosen, who may do it at a time, what was done."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import duckdb

from s2d_store.errors import InputError, StoreError
from s2d_store.rollouts.selection import condition, where_errors
from s2d_store.rollouts.settings import ScoreConfig, Support
from s2d_store.shards import Shard
from s2d_store.store import Store


@dataclass(frozen=True)
class Scored:
    """What a score command did: its run, rollouts scored now and before, tokens scored now; of a
    server also how many rollouts no answer could be stored for, and why the last one could not.
    """

    run_id: str
    scorer: str
    stored: int
    present: int
    tokens: int
    rejected: int = 0
    rejected_why: str = ""


def choose(con: duckdb.DuckDBPyConnection, config: ScoreConfig) -> int:
    """Make temporary table _chosen (rollout_id, policy_id) of the rollouts that are asked for.

    Returns:
        how many they are.

    Raises:
        InputError: none are.
        QueryError: `where` fails.
    """
    chosen_by = condition(con, "graded_rollouts", config.where)
    with where_errors("graded_rollouts", config.where):
        con.execute(
            "CREATE TEMP TABLE _chosen AS SELECT rollout_id, policy_id FROM "
            f"graded_rollouts{chosen_by}{' AND ' if config.where else ' WHERE '}"
            f"response_tokens > 0 ORDER BY rollout_id LIMIT {config.limit or 'ALL'}"
        )
    ((chosen,),) = con.execute("SELECT count(*) FROM _chosen").fetchall()
    if not chosen:
        raise InputError(
            "no rollouts to score",
            f"none matches {config.where!r}" if config.where else "the store holds none",
            "change --where" if config.where else "s2d generate",
        )
    return int(chosen)


def one_process(
    store: Store, policy_id: str, name: str, support: Support, shard: Shard | None
) -> AbstractContextManager[None]:
    """The lock of everybody who stores a policy's scores on a support: another engine is another
    run, but its scores may have the same keys.
    """
    busy = StoreError(
        f"{name} is scoring with support {support} in another process",
        "one process does at a time, or n with --shard i/n: others could store scores twice",
        "wait for it to end",
    )
    return store.exclusive(f".score-{policy_id}-{support}", busy, shard)
