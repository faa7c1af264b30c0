"""The rollouts that a generate command still has to sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s2d_store.engines.base import SampleRequest
from s2d_store.errors import InputError
from s2d_store.rollouts.selection import Prompt


@dataclass(frozen=True)
class Job:
    """One rollout to sample: the engine's request, its prompt, and which of the n it is."""

    request: SampleRequest
    prompt: Prompt
    sample_index: int


def plan(
    prompts: Sequence[Prompt],
    *,
    render: Callable[[Prompt], list[int]],
    stored: set[str],
    new_id: Callable[[str, int], str],
    new_seed: Callable[[str, int], int],
    n: int,
) -> tuple[list[Job], int]:
    """Every rollout that is not stored yet, prompts in order; and how many are stored."""
    jobs: list[Job] = []
    present = 0
    for prompt in prompts:
        missing = [i for i in range(n) if new_id(prompt.prompt_id, i) not in stored]
        present += n - len(missing)
        if not missing:
            continue
        token_ids = render(prompt)
        for i in missing:
            rollout_id = new_id(prompt.prompt_id, i)
            # Without a tokenizer here, a server renders the messages itself.
            messages = None if token_ids else prompt.messages
            seed = new_seed(prompt.prompt_id, i)
            request = SampleRequest(rollout_id, token_ids, seed, messages)
            jobs.append(Job(request, prompt, i))
    return jobs, present


def drop_too_long(
    jobs: Sequence[Job],
    max_model_len: int,
    max_tokens: int,
    *,
    skip_too_long: bool,
    may_be_empty: bool,
) -> list[Job]:
    """Jobs whose prompt and longest response fit the model.

    Args:
        jobs: what is to be sampled.
        max_model_len: most tokens of prompt and response together.
        max_tokens: most tokens of a response.
        skip_too_long: leave out what does not fit.
        may_be_empty: whether leaving out every job is fine, as when a run is repeated.

    Raises:
        InputError: one does not fit and `skip_too_long` is off, or nothing fits at all.
    """
    kept = [j for j in jobs if len(j.request.prompt_token_ids) + max_tokens <= max_model_len]
    if len(kept) == len(jobs) or (skip_too_long and (kept or may_be_empty)):
        return kept
    worst = max(jobs, key=lambda j: len(j.request.prompt_token_ids))
    raise InputError(
        f"prompt {worst.prompt.prompt_id} has {len(worst.request.prompt_token_ids)} tokens, too "
        f"long with --max-tokens {max_tokens}",
        f"the model holds {max_model_len}; {len(jobs) - len(kept)} of {len(jobs)} rollouts do "
        "not fit",
        "lower --max-tokens, raise --max-model-len, or leave those prompts out with "
        "--skip-too-long",
    )
