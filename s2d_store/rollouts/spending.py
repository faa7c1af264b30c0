"""What `s2d generate` spends, held against a budget before it starts and as samples come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from s2d_store import ids
from s2d_store.accounting import charges, flops
from s2d_store.accounting.guard import Guard, Meter, PlannedSpend
from s2d_store.engines.base import Sample
from s2d_store.policies.registry import Registered
from s2d_store.rollouts import records
from s2d_store.rollouts.requests import Job
from s2d_store.rollouts.selection import Prompt
from s2d_store.store import Store

if TYPE_CHECKING:
    from s2d_store.rollouts.generate_config import GenerateConfig


def open_meter(
    guard: Guard,
    store: Store,
    config: GenerateConfig,
    policy: Registered,
    run_id: str,
    prompts: Sequence[Prompt],
) -> Meter | None:
    """Hold the run against the budget before it starts; a run with nothing to do passes."""
    if guard.is_open:
        return None
    stored = records.stored_rollouts(store, run_id)
    missing = [
        prompt
        for prompt in prompts
        if any(
            ids.rollout_id(run_id, prompt.prompt_id, policy.policy_id, i, config.round)
            not in stored
            for i in range(config.n)
        )
    ]
    if not missing:
        return None
    stage = config.stage or charges.recorded_stage(store, run_id)
    graded = [p.prompt_id for p in missing if config.verifier and p.answer is not None]
    return charges.before_sampling(
        guard, PlannedSpend(run_id, stage, config.role, config.purpose), graded
    )


def cost(policy: Registered, job: Job, sample: Sample) -> dict[str, float]:
    """What one sampled rollout cost, by metric."""
    prompt, tokens = len(job.request.prompt_token_ids), sample.n_tokens
    return {"generated_tokens": tokens, "flops": flops.sampling_flops(policy, prompt, tokens)}
