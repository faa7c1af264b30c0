"""Engine output and verdicts as Arrow rows of the store's tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from s2d_store import ids
from s2d_store.encoding import topk
from s2d_store.encoding.list_columns import list_array
from s2d_store.encoding.topk import TopK
from s2d_store.encoding.topk_ragged import keep_mass
from s2d_store.engines.base import Sample, SamplingParams
from s2d_store.engines.output_checks import check_topk
from s2d_store.rollouts.first_verdicts import Graded
from s2d_store.rollouts.grade_items import item_of
from s2d_store.rollouts.requests import Job
from s2d_store.schema import TABLES
from s2d_store.store import Store
from s2d_store.verifiers.base import Item
from s2d_store.verifiers.pool import VerifierPool


@dataclass(frozen=True)
class RunContext:
    """What all rollouts of a run share."""

    run_id: str
    policy_id: str
    role: str
    purpose: str
    round: int
    params: SamplingParams
    engine: str
    engine_version: str
    vocab_size: int
    mass: float = 1.0


@dataclass(frozen=True)
class CompletedSample:
    """A job and what the engine sampled for it."""

    job: Job
    sample: Sample


def stored_rollouts(store: Store, run_id: str) -> set[str]:
    """Ids of a run's committed rollouts."""
    text = "SELECT rollout_id FROM rollouts WHERE run_id = $run"
    return {row[0] for row in store.sql(text, {"run": run_id}).fetchall()}


def rollout_tables(
    context: RunContext, done: Sequence[CompletedSample], tokenizer: Any
) -> dict[str, pa.Table]:
    """Rows of table rollouts and, where the engine kept it, of table topk.

    Raises:
        EngineError: logprobs that fail their checks; names the rollout and position.
    """
    samples = [f.sample for f in done]
    n, now = len(done), datetime.now(UTC)
    texts = _texts(samples, tokenizer)
    schema = TABLES["rollouts"].schema
    same = {
        "role": context.role,
        "run_id": context.run_id,
        "origin": "sampled",
        "policy_id": context.policy_id,
        "purpose": context.purpose,
        "round": context.round,
        "temperature": context.params.temperature,
        "top_p": context.params.top_p,
        "top_k": context.params.top_k,
        "max_tokens": context.params.max_tokens,
        "engine": context.engine,
        "engine_version": context.engine_version,
        "created_at": now,
    }
    prompt_ids = [list(f.job.request.prompt_token_ids) or None for f in done]
    lengths = [None if s.response_token_ids is None else s.n_tokens for s in samples]
    columns: dict[str, Any] = {
        name: pa.repeat(pa.scalar(value, schema.field(name).type), n)
        for name, value in same.items()
    }
    columns |= {
        "rollout_id": [s.rollout_id for s in samples],
        "group_id": [_group_id(context, f.job.prompt.prompt_id) for f in done],
        "prompt_id": [f.job.prompt.prompt_id for f in done],
        "sample_index": pa.array([f.job.sample_index for f in done], pa.int32()),
        "seed": pa.array([f.job.request.seed for f in done], pa.int64()),
        "prompt_token_ids": pa.array(prompt_ids, pa.list_(pa.int32())),
        "response_token_ids": list_array([s.response_token_ids for s in samples], pa.int32()),
        "response_logprobs": list_array([s.response_logprobs for s in samples], pa.float32()),
        "sampler_logprobs": list_array([s.sampler_logprobs for s in samples], pa.float32()),
        "tokens_from": ["none" if n is None else "sampled" for n in lengths],
        "endpoint": pa.array([s.endpoint for s in samples], pa.string()),
        "response_text": texts,
        "finish_reason": pa.array([s.finish_reason for s in samples], pa.string()),
        "prompt_tokens": pa.array([ids and len(ids) for ids in prompt_ids], pa.int32()),
        "response_tokens": pa.array(lengths, pa.int32()),
        "sampled_tokens": pa.array(lengths, pa.int32()),
    }
    tables = {"rollouts": pa.table(columns)}
    for sample in samples:
        topk = sample.topk or _of_sampled_tokens(sample)
        if topk is not None and sample.response_token_ids is not None:
            check_topk(
                sample.rollout_id,
                topk,
                sample.n_tokens,
                support="own",
                vocab_size=context.vocab_size,
                response_token_ids=sample.response_token_ids,
            )
    scored = [(s.rollout_id, s.topk) for s in samples if s.topk is not None]
    if scored:
        tables["topk"] = topk_table(scored, context.policy_id, "own", context.run_id, context.mass)
    return tables


def _texts(samples: Sequence[Sample], tokenizer: Any) -> list[str | None]:
    """Responses as text: decoded here where their ids are known, else as the server did."""
    known = [s.response_token_ids.tolist() for s in samples if s.response_token_ids is not None]
    decoded = iter(tokenizer.batch_decode(known, skip_special_tokens=True) if known else ())
    return [s.text if s.response_token_ids is None else next(decoded) for s in samples]


def _of_sampled_tokens(sample: Sample) -> TopK | None:
    """A top 0: the sampled tokens' logprobs alone; None where none are known."""
    known = sample.response_logprobs
    if known is None:
        known = sample.sampler_logprobs
    if known is None:
        return None
    none = np.empty((len(known), 0))
    return TopK(none.astype(np.int32), none.astype(np.float32), known)


def _group_id(context: RunContext, prompt_id: str) -> str:
    run, policy = context.run_id, context.policy_id
    return ids.group_id(run, prompt_id, policy, context.round, asdict(context.params))


def topk_table(
    scored: Sequence[tuple[str, TopK]],
    scorer_policy_id: str,
    support: str,
    run_id: str,
    mass: float = 1.0,
) -> pa.Table:
    """Rows of table topk; of a mass below 1, at each token the fewest entries that reach it."""
    n = len(scored)
    table = pa.table(
        {
            "rollout_id": [rollout_id for rollout_id, _ in scored],
            "scorer_policy_id": [scorer_policy_id] * n,
            "support": [support] * n,
            **topk.to_columns([entry for _, entry in scored]),
            "run_id": [run_id] * n,
            "created_at": pa.array([datetime.now(UTC)] * n, pa.timestamp("us", tz="UTC")),
        }
    )
    return table if mass == 1 else keep_mass(table, mass)


def grade(
    done: Sequence[CompletedSample],
    texts: Sequence[str | None],
    prompts: Mapping[str, Item],
    pool: VerifierPool,
) -> list[Graded]:
    """Verdicts on the rollouts that the pool's verifier can grade.

    Args:
        done: what was sampled.
        texts: the decoded responses, aligned with `done`.
        prompts: see `grade_items.prompt_facts`; by prompt id.
        pool: the verifier.
    """
    items = [
        item_of(prompts[f.job.prompt.prompt_id], f.sample.rollout_id, text, _ids(f.sample))
        for f, text in zip(done, texts, strict=True)
        if text is not None and (not pool.needs.answer or prompts[f.job.prompt.prompt_id].accepted)
    ]
    return list(pool.grade_many(items))


def _ids(sample: Sample) -> list[int] | None:
    return None if sample.response_token_ids is None else sample.response_token_ids.tolist()


def reward_table(
    verdicts: Iterable[Graded],
    verifier: str,
    version: str,
    run_id: str,
    attempts: Mapping[str, int] | None = None,
) -> pa.Table:
    """Rows of table rewards; `attempts` by rollout id, 0 where it names none."""
    attempts = attempts or {}
    now = datetime.now(UTC)
    rows = [
        {
            "rollout_id": rollout_id,
            "verifier": verifier,
            "verifier_version": version,
            "attempt": attempts.get(rollout_id, 0),
            "reward": verdict.reward,
            "outcome": verdict.outcome,
            "extracted": verdict.extracted,
            "detail": verdict.detail,
            "metrics": _json(verdict.metrics),
            "cost": _json(verdict.cost),
            "seconds": seconds,
            "run_id": run_id,
            "created_at": now,
        }
        for rollout_id, verdict, seconds in verdicts
    ]
    return pa.Table.from_pylist(rows, schema=TABLES["rewards"].schema)


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)
