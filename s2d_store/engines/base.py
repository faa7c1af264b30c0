"""What an inference engine gives s2d: sampled rollouts and top-k logprobs, as plain NumPy arrays.

Dimensions: T response tokens of one rollout, K top-k entries. All logprobs are natural logs at
temperature 1 over the full vocabulary, whatever the sampling parameters were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from s2d_store.encoding.topk import FloatArray, IntArray, TopK

FinishReason = Literal["stop", "length"]
LogprobsKind = Literal["raw", "processed"]


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
    """One rollout to draw: caller's id, prompt token ids, a seed of its own (0 <= seed < 2**63).

    `messages` are the conversation behind the ids, for servers that take nothing else.
    """

    rollout_id: str
    prompt_token_ids: Sequence[int]
    seed: int
    messages: Sequence[Mapping[str, Any]] | None = None


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
    """One finished rollout. Engines that hold the model fill all but the last three.

    Attributes:
        rollout_id: the id of its request.
        response_token_ids: int32 (T,), the end-of-sequence token included when it was sampled;
            None where a server returned text alone.
        response_logprobs: float32 (T,), the policy's own logprob of each sampled token; None where
            a server did not give it.
        finish_reason: `stop` when an end-of-sequence token was sampled, else `length`; None where a
            server does not say.
        topk: the policy's own top k from the same pass, or None when k was 0.
        sampler_logprobs: float32 (T,), logprobs after temperature and truncation, from a server
            that gives no others.
        text: the response as a server decoded it, where there are no ids.
        endpoint: base URL of the server that sampled it.
    """

    rollout_id: str
    response_token_ids: IntArray | None
    response_logprobs: FloatArray | None
    finish_reason: FinishReason | None
    topk: TopK | None
    sampler_logprobs: FloatArray | None = None
    text: str | None = None
    endpoint: str | None = None

    @property
    def n_tokens(self) -> int:
        """T; 0 where the ids are unknown."""
        return 0 if self.response_token_ids is None else len(self.response_token_ids)


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do, whatever the model.

    Attributes:
        scores_given_ids: whether `score` takes requests with a support of their own.
        max_logprobs: the largest K it can keep; None: as many as the vocabulary has entries.
        served: whether the model lies behind a server, so that a policy needs no weights here.
    """

    scores_given_ids: bool
    max_logprobs: int | None = None
    served: bool = False


@dataclass(frozen=True)
class EndpointProbe:
    """What was found out about one endpoint before the first request: a row of table endpoints.

    Attributes:
        endpoint: base URL.
        server: which dialect it speaks: vllm, sglang, trl or openai.
        model_name: the model that it names.
        server_version: the version that it reports; None where it does not.
        tokenizer_fingerprint: of the tokenizer behind it; None where it cannot be asked.
        logprobs_kind: `raw`, or `processed` by temperature and truncation; None where unknown.
        max_logprobs: largest k that it returned; None where it returns no ids with them.
        scores_given_ids: whether it scores ids that it is given at each position.
        spread_nats: largest difference when one sequence is scored repeatedly; None where it
            cannot score.
        probed_at: when.
    """

    endpoint: str
    server: str
    model_name: str
    server_version: str | None
    tokenizer_fingerprint: str | None
    logprobs_kind: LogprobsKind | None
    max_logprobs: int | None
    scores_given_ids: bool
    spread_nats: float | None
    probed_at: datetime


@runtime_checkable
class Served(Protocol):
    """What an engine in front of servers has beside an `Engine`.

    Attributes:
        probes: one per endpoint that was looked at; more come as endpoints are added.
        rejected: rollouts that no attempt returned in a form that can be stored, and why.
    """

    probes: list[EndpointProbe]
    rejected: dict[str, str]

    def lacks(self, params: SamplingParams | None) -> list[str]:
        """What its servers cannot give of what is asked for, to be said before the first request.

        `params` is None while scoring.
        """
        ...


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
