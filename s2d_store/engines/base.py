"""What an inference engine gives s2d: sampled rollouts and top-k logprobs, as plain NumPy arrays.

Dimensions: T response tokens of one rollout, K top-k entries. All logprobs are natural logs at
temperature 1 over the full vocabulary, whatever the sampling parameters were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from s2d_store.encoding.topk import FloatArray, IntArray, TopK

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class SamplingParams:
    """Sampling: how response tokens are drawn."""

    temperature: float = 1.0
    """Divides the logits before sampling; 0 is greedy."""
    top_p: float = 1.0
    """Nucleus mass to sample from, in (0, 1]."""
    top_k: int = 0
    """Sample from the k likeliest tokens; 0: all. Not the k of stored logprobs."""
    max_tokens: int = 512
    """Most response tokens."""


@dataclass(frozen=True)
class SampleRequest:
    """One rollout to draw: caller's id, prompt token ids, a seed of its own (0 <= seed < 2**63)."""

    rollout_id: str
    prompt_token_ids: Sequence[int]
    seed: int


@dataclass(frozen=True)
class ScoreRequest:
    """One stored rollout to score.

    Attributes:
        rollout_id: the caller's id.
        prompt_token_ids: the stored prompt.
        response_token_ids: int32 (T,), the stored response; never re-tokenised.
        support: None for the scorer's own top k (`support = own`), or int32 (T, K): the ids to
            gather, in the order to keep (`support = policy`).
    """

    rollout_id: str
    prompt_token_ids: Sequence[int]
    response_token_ids: IntArray
    support: IntArray | None = None


@dataclass(frozen=True)
class Sample:
    """One finished rollout.

    Attributes:
        rollout_id: the id of its request.
        response_token_ids: int32 (T,), the end-of-sequence token included when it was sampled.
        response_logprobs: float32 (T,), the policy's own logprob of each sampled token.
        finish_reason: `stop` when an end-of-sequence token was sampled, else `length`.
        topk: the policy's own top k from the same pass, or None when k was 0.
    """

    rollout_id: str
    response_token_ids: IntArray
    response_logprobs: FloatArray
    finish_reason: FinishReason
    topk: TopK | None


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do, whatever the model.

    Attributes:
        scores_given_ids: whether `score` takes requests with a support of their own.
        max_logprobs: the largest K it can keep; None: as many as the vocabulary has entries.
    """

    scores_given_ids: bool
    max_logprobs: int | None = None


class Engine(Protocol):
    """One loaded model. Engines are context managers' payloads: callers always `close()` them.

    Callers check what it yields (`output_checks.check_topk`) before they store it.

    Attributes:
        name: as it is registered: `transformers`, `vllm`.
        version: version of the library behind it.
        vocab_size: size of the model's output distribution; the largest possible k.
        max_model_len: most tokens of prompt and response together.
        tokenizer: the transformers tokenizer (decode, chat template).
    """

    name: str
    version: str
    vocab_size: int
    max_model_len: int
    tokenizer: Any

    def sample(
        self, requests: Sequence[SampleRequest], params: SamplingParams, top_logprobs: int
    ) -> Iterator[Sample]:
        """Yield one `Sample` per request as it finishes, in any order; `top_logprobs` = K.

        Raises:
            EngineError: K above what the engine allows.
        """
        ...

    def score(self, requests: Iterable[ScoreRequest], k: int) -> Iterator[tuple[str, TopK]]:
        """Yield `(rollout_id, TopK)` a request, in any order; k is ignored with a given support."""
        ...

    def reload(self, location: str) -> bool:
        """Take over the weights of another policy of the same shape and tokenizer.

        False where the engine cannot: open another one then.

        Raises:
            EngineError: it failed half way; the engine must be closed.
        """
        ...

    def close(self) -> None:
        """Free the model and end every process the engine started."""
        ...
