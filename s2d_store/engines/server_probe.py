"""What an endpoint can do, found out by asking it before the first request.

Dimensions: T response tokens, K top-k entries.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from s2d_store.encoding.topk import FloatArray
from s2d_store.engines.base import (
    EndpointProbe,
    LogprobsKind,
    SampleRequest,
    SamplingParams,
    ScoreRequest,
)
from s2d_store.engines.server_client import Refused, ServerClient
from s2d_store.engines.server_dialect import Answer, BadAnswer, Dialect, ServedModel
from s2d_store.engines.server_identity import Identity, WrongServer
from s2d_store.engines.server_sglang import SglangDialect

# Largest k that is tried where nobody asks for more: an answer of more entries says little.
MOST_TRIED = 1024
PROBE_TOKENS = 16
# Another temperature moves the likeliest token's logprob by more, rounding by less.
ANOTHER_TEMPERATURE = 0.02
# A logprob this near to 0 is the same at every temperature.
CERTAIN = -0.05
# Two servers of one model differ by rounding: in bfloat16 by 0.1 nats per token on average.
ANOTHER_MODEL_NATS = 0.5
COMPANY = 8
_LIMIT = re.compile(r"max(?:imum)? allowed\D{0,3}(\d+)")


@dataclass(frozen=True)
class Reference:
    """A sequence that every endpoint scores, and the first one's logprobs of it.

    Attributes:
        prompt: token ids.
        response: token ids, sampled by the first endpoint.
        logprobs: float32 (T,), as the first endpoint scored it.
    """

    prompt: list[int]
    response: Any
    logprobs: FloatArray


@dataclass(frozen=True)
class Probed:
    """What the probe of one endpoint found, and how to speak with it from now on."""

    facts: EndpointProbe
    dialect: Dialect
    reference: Reference | None


async def probe(
    client: ServerClient,
    url: str,
    identity: Identity,
    dialect: Dialect,
    model: ServedModel,
    prompts: Sequence[Sequence[int]],
    fingerprint: str | None,
    k: int,
    reference: Reference | None,
) -> Probed:
    """Find out what an endpoint gives.

    Args:
        client: HTTP.
        url: of the endpoint.
        identity: what it says of itself.
        dialect: how it is spoken with.
        model: the model behind it.
        prompts: token ids of short texts to ask about.
        fingerprint: of its tokenizer, where that was found out.
        k: the largest k that will be asked for.
        reference: of the first endpoint; None: this is it.

    Raises:
        WrongServer: another model than behind the first endpoint, or logprobs that contradict
            themselves.
        Refused, Lost, Busy, BadAnswer: it does not answer as its kind of server does.
    """
    asked = _Asker(client, url, dialect, model)
    most: int | None = None
    kind: LogprobsKind | None = None
    spread: float | None = None
    given = False
    if dialect.name != "openai":
        most = await _largest_k(asked, prompts[0], max(k, min(MOST_TRIED, model.vocab_size)))
        kind = await _kind(asked, prompts) if most else None
        if reference is None:
            reference = await _make_reference(asked, prompts[0])
    if dialect.scores and reference is not None:
        logprobs = await _against(asked, reference)
        spread = await _spread(asked, reference, logprobs, prompts)
        if most:
            dialect, given = await _given_ids(asked, reference, min(most, 2))
    facts = EndpointProbe(
        endpoint=url,
        server=identity.server,
        model_name=identity.model,
        server_version=identity.version,
        tokenizer_fingerprint=fingerprint,
        logprobs_kind=kind,
        max_logprobs=most,
        scores_given_ids=given,
        spread_nats=spread,
        probed_at=datetime.now(UTC),
    )
    return Probed(facts, dialect, reference)


@dataclass(frozen=True)
class _Asker:
    client: ServerClient
    url: str
    dialect: Dialect
    model: ServedModel

    async def sample(
        self, prompt: Sequence[int], params: SamplingParams, k: int, seed: int = 1
    ) -> Answer:
        # Padding of the vocabulary counts as entries here: how many come is what is asked.
        model = replace(self.model, n_tokens=0, vocab_size=0)
        request = SampleRequest("probe", list(prompt), seed)
        answer = await self.client.send(self.url, self.dialect.sample(model, request, params, k))
        return self.dialect.read_sample(model, request, answer, k, k)

    async def score(
        self, prompt: Sequence[int], response: Any, k: int = 0, support: Any = None
    ) -> Any:
        model = replace(self.model, n_tokens=0, vocab_size=0)
        request = ScoreRequest("probe", list(prompt), response, support)
        answer = await self.client.send(self.url, self.dialect.score(model, request, k))
        return self.dialect.read_score(model, request, answer, k, k)


async def _largest_k(asked: _Asker, prompt: Sequence[int], most: int) -> int:
    """The largest k up to `most` that comes back whole; the endpoint must do with 0."""
    await asked.sample(prompt, SamplingParams(max_tokens=1), 0)
    low, high = 0, most + 1
    tried = most
    while low + 1 < high:
        try:
            await asked.sample(prompt, SamplingParams(max_tokens=1), tried)
        except (Refused, BadAnswer) as error:
            high = tried
            said = _LIMIT.search(str(error))
            if said and low < int(said[1]) < high:
                tried = int(said[1])
                continue
        else:
            low = tried
        tried = (low + high) // 2
    return low


async def _kind(asked: _Asker, prompts: Sequence[Sequence[int]]) -> LogprobsKind | None:
    """Whether the likeliest token's logprob depends on the temperature that is sampled at."""
    said = False
    for prompt in prompts:
        found = []
        for temperature in (1.0, 0.5):
            params = SamplingParams(temperature=temperature, max_tokens=1)
            topk = (await asked.sample(prompt, params, 1)).topk
            if topk is None:
                return None
            found.append(float(topk.logprobs[0, 0]))
        if abs(found[0] - found[1]) > ANOTHER_TEMPERATURE:
            return "processed"
        said |= found[0] < CERTAIN
    return "raw" if said else None


async def _make_reference(asked: _Asker, prompt: Sequence[int]) -> Reference | None:
    """Sample a short response and score it; both logprobs must be of the same model."""
    # Newer servers end at once where the model likes its end: take what comes.
    answer = await asked.sample(prompt, SamplingParams(max_tokens=PROBE_TOKENS), 0)
    if answer.token_ids is None or answer.topk is None or not len(answer.token_ids):
        return None
    reference = Reference(list(prompt), answer.token_ids, answer.topk.sampled_logprobs)
    if not asked.dialect.scores:
        return reference
    scored = (await asked.score(prompt, answer.token_ids)).sampled_logprobs
    apart = float(np.abs(scored - reference.logprobs).mean())
    if not apart <= ANOTHER_MODEL_NATS:
        raise WrongServer(
            f"its logprobs contradict themselves: one sequence sampled and scored differs by "
            f"{apart:.3g} nats per token; something between it and here changes them"
        )
    return replace(reference, logprobs=scored)


async def _against(asked: _Asker, reference: Reference) -> FloatArray:
    """This endpoint's logprobs of the reference, if it has the same model behind it."""
    found: FloatArray = (await asked.score(reference.prompt, reference.response)).sampled_logprobs
    apart = float(np.abs(found - reference.logprobs).mean())
    if not apart <= ANOTHER_MODEL_NATS:
        raise WrongServer(
            f"it scores one sequence {apart:.3g} nats per token apart from the first endpoint: "
            "another model is behind it"
        )
    return found


async def _spread(
    asked: _Asker, reference: Reference, first: FloatArray, prompts: Sequence[Sequence[int]]
) -> float:
    """Largest difference at one token, scored alone and among others."""
    found = [first, (await asked.score(reference.prompt, reference.response)).sampled_logprobs]
    same = (asked.score(reference.prompt, reference.response) for _ in range(COMPANY // 2))
    others = (asked.score(prompts[i % len(prompts)], reference.response) for i in range(COMPANY))
    together = await asyncio.gather(*same, *others)
    found += [scored.sampled_logprobs for scored in together[: COMPANY // 2]]
    return float((np.max(found, axis=0) - np.min(found, axis=0)).max())


async def _given_ids(asked: _Asker, reference: Reference, k: int) -> tuple[Dialect, bool]:
    """Whether other ids can be scored at each position, and the dialect that asks for them."""
    own = await asked.score(reference.prompt, reference.response, k)
    support = own.token_ids[:, ::-1].copy()
    forms: list[Dialect] = [asked.dialect]
    if isinstance(asked.dialect, SglangDialect):
        forms = [SglangDialect("positions"), SglangDialect("union")]
    elif asked.dialect.name != "vllm":
        return asked.dialect, False
    for form in forms:
        try:
            found = await replace(asked, dialect=form).score(
                reference.prompt, reference.response, 0, support
            )
        except (Refused, BadAnswer):
            continue
        if np.abs(found.logprobs - own.logprobs[:, ::-1]).max() <= ANOTHER_MODEL_NATS:
            return form, True
    return asked.dialect, False
