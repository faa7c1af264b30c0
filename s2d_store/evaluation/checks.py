"""What an evaluation refuses, and the questions that it asks of the store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

import queries
from s2d_store.config_identity import diff_settings
from s2d_store.errors import InputError, NotFoundError
from s2d_store.messages import text_of
from s2d_store.policies.registry import Registered
from s2d_store.rollouts.generate_config import DEFAULTS, GenerateConfig, identity_of
from s2d_store.rollouts.selection import Prompt
from s2d_store.sql import connection, parameters
from s2d_store.store import Store
from s2d_store.verifiers.gold import read_gold

QUERIES = ("eval_scores", "eval_pairs", "eval_seeds", "eval_trained")
_ASKED = ("policy_names", "run_graded", "eval_runs_of")
_SHOWN_RUNS = 3


@dataclass(frozen=True)
class Evaluated:
    """A policy to evaluate, the generate run that its rollouts belong to, and how it samples."""

    policy: Registered
    run_id: str
    settings: GenerateConfig

    @property
    def policy_id(self) -> str:
        """The policy's id."""
        return self.policy.policy_id

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.policy.name


def connect(store: Store) -> duckdb.DuckDBPyConnection:
    """A connection with what the queries of evaluations call."""
    return store.connect(text=queries.texts(*QUERIES, *_ASKED))


def rows(
    con: duckdb.DuckDBPyConnection, name: str, given: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Rows of one of QUERIES, by column."""
    query = queries.catalog()[name]
    values = parameters.resolve(query, given, con)
    with connection.errors():
        relation = con.execute(query.sql, parameters.bind(query, values))
        return [dict(zip(query.columns, row, strict=True)) for row in relation.fetchall()]


def require_labels(prompts: Sequence[Prompt]) -> None:
    """Refuse prompts that nothing can be graded against.

    Raises:
        InputError: how many have no gold answer, and one of them.
    """
    without = [prompt for prompt in prompts if prompt.answer is None]
    if without:
        raise InputError(
            f"{len(without)} of {len(prompts)} prompts to evaluate on have no gold answer",
            f"one is {without[0].prompt_id}: {_shortened(_question(without[0]))}",
            "add AND answer IS NOT NULL to --where, or s2d prompts add with --answer-field",
        )


def unreadable_golds(prompts: Sequence[Prompt], verifier: str) -> tuple[str, ...]:
    """Prompts whose gold answer the verifier cannot grade against, if it is math-verify: why."""
    if not verifier.startswith("math-verify"):
        return ()
    found = (
        (prompt.prompt_id, read_gold(prompt.answer.strip()).problem)
        for prompt in prompts
        if prompt.answer is not None
    )
    return tuple(f"prompt {key}: {problem}" for key, problem in found if problem)


def count_trained_prompts(
    con: duckdb.DuckDBPyConnection,
    evaluated: Sequence[Evaluated],
    prompt_ids: Sequence[str],
    *,
    allow: bool,
) -> dict[str, int]:
    """How many of the prompts each policy, or a policy behind it, was trained on; see query
    eval_trained. For the rest of its life the connection sees the facts of this moment.

    Raises:
        InputError: any, unless `allow`: how many, one of them, and the ways out.
    """
    counts = {}
    connection.read_once(con, ("policy_sources", "consumed_rows"))
    for policy in evaluated:
        found = rows(
            con, "eval_trained", {"policy": policy.policy_id, "prompts": ",".join(prompt_ids)}
        )
        if found and not allow:
            first = found[0]
            behind = [name for name in first["trained"].split(",") if name != policy.name]
            lineage = f", which {policy.name} was made from" if behind else ""
            raise InputError(
                f"{len(found)} of {len(prompt_ids)} prompts to evaluate on were trained on by "
                f"{policy.name} or a policy behind it",
                f"one is {first['prompt_id']}: {_shortened(first['text'])}, in dataset "
                f"{first['datasets']} of {first['trained']}{lineage}",
                "narrow --where to prompts that were held out, or pass --allow-trained",
            )
        counts[policy.name] = len(found)
    return counts


def not_graded(
    store: Store,
    evaluated: Iterable[Evaluated],
    prompt_ids: Sequence[str],
    n: int,
    verifier: str,
) -> list[tuple[str, str]]:
    """Rollouts that count and lack a verdict of the verifier, each with its run."""
    given = {
        "prompts": list(prompt_ids),
        "verifier": verifier,
        "runs": [policy.run_id for policy in evaluated],
        "n": n,
    }
    return store.sql(queries.internal("eval_not_graded"), given).fetchall()


def sampled_runs(
    store: Store, evaluated: Iterable[Evaluated], prompt_ids: Sequence[str], n: int
) -> set[str]:
    """The runs that are done and hold n rollouts of every prompt."""
    given = {
        "prompts": list(prompt_ids),
        "runs": [policy.run_id for policy in evaluated],
        "n": n,
    }
    return {run for (run,) in store.sql(queries.internal("eval_sampled"), given).fetchall()}


def nothing_stored_error(
    con: duckdb.DuckDBPyConnection, policy: Evaluated, n: int, verifier: str
) -> NotFoundError:
    """The error for a policy without a prompt to report on, with what is stored instead."""
    ((held, prompts, graded),) = con.execute(
        queries.internal("run_graded"),
        {"run": policy.run_id, "verifier": verifier},
    ).fetchall()
    if held:
        why = (
            f"run {policy.run_id} holds {held} rollouts of {prompts} prompts, "
            f"{graded} of them graded by {verifier}"
        )
    else:
        others = con.execute(
            queries.internal("eval_runs_of"), {"policy": policy.policy_id}
        ).fetchall()
        shown = [_difference(run, json.loads(text), policy) for run, text in others[:_SHOWN_RUNS]]
        why = "; ".join(shown) or "the store holds no eval rollouts of it"
    return NotFoundError(
        f"nothing to report on {policy.name}: no prompt has {n} graded rollouts of these settings",
        why,
        "repeat the settings of a stored run, or leave --report out to sample",
    )


def _difference(run_id: str, stored: Mapping[str, Any], policy: Evaluated) -> str:
    asked = identity_of(policy.settings, policy.policy)
    found = diff_settings(stored, asked, DEFAULTS)
    shown = ", ".join(f"{key} {was!r} instead of {now!r}" for key, (was, now) in found.items())
    return f"eval run {run_id} has {shown or 'another name'}"


def _question(prompt: Prompt) -> str:
    return " ".join(text_of(m) for m in prompt.messages if m["role"] != "system")


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
