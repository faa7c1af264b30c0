"""Sample and score with models behind HTTP: vLLM, SGLang, TRL, or what speaks OpenAI's protocol.

Token ids go out and come back; nothing is tokenized again. What a server does not give stays None.

Dimensions: T response tokens of one rollout, K top-k entries.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from s2d_store.encoding.topk import TopK
from s2d_store.engines import server_identity
from s2d_store.engines.base import (
    EndpointProbe,
    Sample,
    SampleRequest,
    SamplingParams,
    ScoreRequest,
)
from s2d_store.engines.output_checks import (
    Support,
    check_k,
    check_lengths,
    check_sampling,
    check_topk,
)
from s2d_store.engines.server_args import ServerArgs
from s2d_store.engines.server_client import Busy, Limits, Lost, Refused, ServerClient
from s2d_store.engines.server_dialect import BadAnswer, Dialect, ServedModel
from s2d_store.engines.server_identity import DIALECTS, Identity, WrongServer
from s2d_store.engines.server_model import UNLIMITED, LocalModel
from s2d_store.engines.server_probe import Reference, probe
from s2d_store.engines.vllm_logprobs import SPARE_ENTRIES
from s2d_store.errors import EngineError, S2DError

# So many requests without one answer that can be stored: it is not the requests.
HOPELESS = 16


class ServerEngine:
    """An `Engine` in front of endpoints; see `Served` for what else it has.

    Args:
        location: a folder or hub id with the model's tokenizer; empty: none, so that prompts go as
            messages and responses come as text.
        urls: endpoints: see `server_endpoints.read_urls`.
        top_logprobs: the largest K that will be asked for.
        max_model_len: most tokens of prompt and response; None takes the servers' own.
        engine_args: see `ServerArgs`.

    Raises:
        InputError: endpoints or arguments that cannot be used.
        EngineError: no endpoint answers, or K is above what the servers return.
    """

    name = "server"
    version: str
    max_model_len: int
    vocab_size: int
    _model: ServedModel

    def __init__(
        self,
        location: str,
        urls: str,
        *,
        top_logprobs: int,
        max_model_len: int | None,
        engine_args: Mapping[str, object],
    ) -> None:
        self._args = ServerArgs.read(engine_args)
        self._local = LocalModel.load(location)
        self.tokenizer = self._local.tokenizer
        self._k = top_logprobs
        self.probes: list[EndpointProbe] = []
        self.rejected: dict[str, str] = {}
        self._identity: Identity | None = None
        self._dialect: Dialect | None = None
        self._reference: Reference | None = None
        self._given_ids = True
        self._probing = asyncio.Lock()
        self._opened = False
        args = self._args
        self._client = ServerClient(
            urls,
            os.environ.get(args.key_env),
            Limits(args.in_flight, args.timeout_s, args.attempts, args.wait_s),
            self._check,
        )
        try:
            self._client.look_at_all()
        except BaseException:
            self._client.close()
            raise
        self._opened = True
        identity = self._identity
        assert identity is not None, "an endpoint that is up was identified"
        self.version = f"{identity.server} {identity.version or 'of unknown version'}"
        known = [n for n in (identity.max_model_len, self._local.max_model_len) if n]
        self.max_model_len = min([max_model_len, *known] if max_model_len else known or [UNLIMITED])
        self._model = self._served(identity)
        self.vocab_size = self._model.vocab_size or UNLIMITED

    def lacks(self, params: SamplingParams | None) -> list[str]:
        """What the servers cannot give of what is asked for; `params` None: while scoring."""
        out = (e for e in self._client.endpoints.known.values() if not e.up)
        found = [f"{endpoint.url} is left out: {endpoint.why}" for endpoint in out]
        kinds = {probe.logprobs_kind for probe in self.probes}
        if self._speaks.name == "openai":
            found.append(
                "the server returns text alone: rollouts have no token ids, logprobs or top-k"
            )
        elif params is not None and kinds != {"raw"} and not _plain(params):
            found.append(
                "the server's logprobs are processed by temperature and truncation: they are kept "
                "as sampler_logprobs; response_logprobs and top-k stay null until s2d score"
            )
        if self._speaks.name != "openai" and not all(p.tokenizer_fingerprint for p in self.probes):
            found.append("the server's tokenizer cannot be compared with the policy's")
        return found

    def sample(
        self, requests: Sequence[SampleRequest], params: SamplingParams, top_logprobs: int
    ) -> Iterator[Sample]:
        """Yield samples as they come; see `Engine.sample`. What no server returned in a form that
        can be stored is left out, and is in `rejected`.
        """
        check_sampling(params)
        self._check_k(top_logprobs)
        if self._speaks.name != "openai":
            lengths = ((r.rollout_id, len(r.prompt_token_ids), params.max_tokens) for r in requests)
            check_lengths(lengths, self.max_model_len)
        return self._samples(requests, params, top_logprobs)

    def score(self, requests: Iterable[ScoreRequest], k: int) -> Iterator[tuple[str, TopK]]:
        """Yield scores as they come; see `Engine.score` and `sample`."""
        self._check_k(k)
        if not self._speaks.scores:
            raise EngineError(
                f"the server ({self.version}) cannot score stored rollouts",
                "it gives no logprobs of tokens that it is given",
                "serve the model with vLLM or SGLang, or score with --engine transformers",
            )
        return self._scores(requests, k)

    def reload(self, location: str) -> bool:
        """False: the servers keep their weights."""
        return False

    def close(self) -> None:
        """Cancel what is under way and end the client's thread."""
        self._client.close()

    def _samples(
        self, requests: Iterable[SampleRequest], params: SamplingParams, k: int
    ) -> Generator[Sample, None, None]:
        entries = self._entries(k)
        stream = self._client.stream(
            requests,
            lambda request: self._speaks.sample(self._model, request, params, entries),
            lambda request, answer, url: self._sample(request, params, k, answer, url),
        )
        for done in stream:
            if done.result is not None:
                yield done.result
            else:
                self._reject(done.item.rollout_id, done.why)

    def _sample(
        self, request: SampleRequest, params: SamplingParams, k: int, answer: Any, url: str
    ) -> Sample:
        entries = self._entries(k)
        found = self._speaks.read_sample(self._model, request, answer, entries, k)
        tokens, own, reason = found.token_ids, found.topk, found.finish_reason
        if tokens is None or own is None:
            return Sample(request.rollout_id, None, None, reason, None, None, found.text, url)
        if not 0 < len(tokens) <= params.max_tokens:
            raise BadAnswer(f"{len(tokens)} tokens came of at most {params.max_tokens}")
        if reason is None and len(tokens) == params.max_tokens:
            reason = "length"
        self._checked(request.rollout_id, own, tokens, "own")
        kinds = {probe.logprobs_kind for probe in self.probes}
        if kinds == {"raw"} or _plain(params):
            kept = own if k else None
            return Sample(
                request.rollout_id, tokens, own.sampled_logprobs, reason, kept, endpoint=url
            )
        sampler = own.sampled_logprobs
        return Sample(request.rollout_id, tokens, None, reason, None, sampler, endpoint=url)

    def _scores(
        self, requests: Iterable[ScoreRequest], k: int
    ) -> Generator[tuple[str, TopK], None, None]:
        entries = self._entries(k)

        def checked(requests: Iterable[ScoreRequest]) -> Iterator[ScoreRequest]:
            for request in requests:
                length = (request.rollout_id, len(request.prompt_token_ids))
                check_lengths([(*length, len(request.response_token_ids))], self.max_model_len)
                if request.support is not None and not self._given_ids:
                    raise EngineError(
                        f"the server ({self.version}) cannot score rollout {request.rollout_id} at "
                        "given ids",
                        "the probe found no way; vLLM needs --enable-scale-out and its V2 model "
                        "runner",
                        "--support own with --top-logprobs K, or --engine transformers",
                    )
                yield request

        def read(request: ScoreRequest, answer: Any, url: str) -> TopK:
            entry = self._speaks.read_score(self._model, request, answer, entries, k)
            support: Support = "own" if request.support is None else "policy"
            self._checked(request.rollout_id, entry, request.response_token_ids, support)
            return entry

        stream = self._client.stream(
            checked(requests),
            lambda request: self._speaks.score(self._model, request, entries),
            read,
        )
        for done in stream:
            if done.result is not None:
                yield done.item.rollout_id, done.result
            else:
                self._reject(done.item.rollout_id, done.why)

    def _reject(self, rollout_id: str, why: str) -> None:
        self.rejected[rollout_id] = why
        if len(self.rejected) >= HOPELESS and not self._answered:
            raise EngineError(
                f"none of the first {HOPELESS} requests has an answer that can be stored",
                why,
                "look at the server, or at what stands between it and here",
            )

    _answered = False

    def _checked(self, rollout_id: str, topk: TopK, tokens: Any, support: Support) -> None:
        try:
            check_topk(
                rollout_id,
                topk,
                len(tokens),
                support=support,
                vocab_size=self.vocab_size,
                response_token_ids=tokens,
            )
        except EngineError as error:
            raise BadAnswer(error.what) from error
        self._answered = True

    async def _check(self, client: ServerClient, url: str) -> str:
        """What is wrong with an endpoint, or nothing; one that is new is probed."""
        try:
            async with self._probing:
                await self._look(client, url)
        except (WrongServer, Refused, Lost, Busy, BadAnswer) as error:
            return str(error)
        except S2DError as error:
            if not self._opened:
                raise
            return error.what
        return ""

    async def _look(self, client: ServerClient, url: str) -> None:
        first = self._identity
        server = first.server if first else self._args.server
        model = self._args.model or (first.model if first else "")
        identity = await server_identity.identify(client, url, server, model)
        if any(known.endpoint == url for known in self.probes):
            return
        fingerprint, tokenizer = None, self._local.tokenizer
        if tokenizer is not None:
            alike = await server_identity.tokenizes_alike(client, url, identity, tokenizer)
            if alike is False:
                raise WrongServer(
                    f"{identity.model!r} has another tokenizer than the policy: it reads one text "
                    "into other ids"
                )
            fingerprint = self._local.fingerprint if alike else None
        found = await probe(
            client,
            url,
            identity,
            self._dialect or DIALECTS[identity.server](),
            self._served(identity),
            self._local.prompts(),
            fingerprint,
            self._k,
            self._reference,
        )
        self._require_k(url, found.facts)
        self.probes.append(found.facts)
        self._identity, self._reference = first or identity, found.reference
        # What one endpoint cannot do, none is asked to.
        self._given_ids &= found.facts.scores_given_ids
        if self._dialect is not None and self._dialect != found.dialect:
            self._given_ids = False
        self._dialect = self._dialect or found.dialect

    def _require_k(self, url: str, facts: EndpointProbe) -> None:
        if facts.server != "openai" and self._k > (facts.max_logprobs or 0):
            raise EngineError(
                f"top k of {self._k} cannot be kept",
                f"{url} returns at most {facts.max_logprobs or 0} logprobs per token",
                f"start vLLM with --max-logprobs {self._k + SPARE_ENTRIES}, or pass --top-logprobs "
                f"{facts.max_logprobs or 0}",
            )

    def _served(self, identity: Identity) -> ServedModel:
        local = self._local
        return ServedModel(
            identity.model,
            local.n_tokens,
            local.vocab_size,
            local.eos_ids,
            identity.max_model_len,
        )

    @property
    def _speaks(self) -> Dialect:
        assert self._dialect is not None, "an endpoint that is up was probed"
        return self._dialect

    def _entries(self, k: int) -> int:
        """Entries to ask for, so that k are left without the vocabulary's padding."""
        known = self._local.vocab_size_is_known
        padding = self._model.vocab_size - self._model.n_tokens if known else SPARE_ENTRIES
        most = min((probe.max_logprobs or 0 for probe in self.probes), default=0)
        return max(k, min(k + min(padding, 2 * SPARE_ENTRIES), most)) if k else 0

    def _check_k(self, k: int) -> None:
        if self._speaks.name == "openai":
            return
        check_k(k, self.vocab_size)
        for facts in self.probes:
            if k > (facts.max_logprobs or 0):
                raise EngineError(
                    f"top k of {k} cannot be kept",
                    f"{facts.endpoint} returns at most {facts.max_logprobs or 0}",
                    "open the engine with the largest k that is needed",
                )


def _plain(params: SamplingParams) -> bool:
    """Whether sampling changes no logprob: processed ones are raw then."""
    return params.temperature == 1 and params.top_p == 1 and params.top_k == 0
