"""Files of vLLM's batch runner: a request and its response are one entry, a choice is a rollout."""

from __future__ import annotations

from pathlib import Path

from tests.support.dump_rows import Entry, Fact, Facts, Format, Record, Stored
from tests.support.dump_texts import lines

BODY = "out.response.body"
SAMPLING = {"temperature": "temperature", "top_p": "top_p", "seed": "seed"}
SAMPLING |= {"max_tokens": "max_tokens"}
TOKEN = "token_id:"


def _read(folder: Path) -> list[Entry]:
    asked = {e.record["custom_id"]: e.record for e in lines(folder, "in.jsonl")}
    return [
        Entry(e.file, e.line, {"in": asked[e.record["custom_id"]], "out": e.record})
        for e in lines(folder, "out.jsonl")
    ]


def _facts(record: Record) -> Facts:
    facts: Facts = {
        "in.body.model": lambda s: s[0].policy["location"],
        "in.body.messages": lambda s: s[0].prompt_messages,
    }
    for name, column in SAMPLING.items():
        if name in _asked(record):
            facts[f"in.body.{name}"] = _column(column)
    body = record["out"]["response"]["body"]
    if body is None:
        return facts
    facts |= {
        f"{BODY}.model": lambda s: s[0].policy["location"],
        f"{BODY}.created": lambda s: int(s[0].rollout["created_at"].timestamp()),
    }
    if body["prompt_logprobs"]:
        return facts | _scored_facts(body)
    if record["in"]["custom_id"].startswith("chat-noids"):
        assert len(body["choices"]) == 1
        facts |= _named_facts(f"{BODY}.choices.0.logprobs.content", body["choices"][0])
    else:
        facts[f"{BODY}.prompt_token_ids"] = lambda s: s[0].rollout["prompt_token_ids"]
    for part, choice in enumerate(body["choices"]):
        facts |= _choice_facts(f"{BODY}.choices.{part}", part, choice)
        if not record["in"]["custom_id"].startswith("chat-noids"):
            facts |= _token_facts(f"{BODY}.choices.{part}", part, choice)
    return facts


def _asked(record: Record) -> set[str]:
    """Sampling parameters of the request: those that have a column are gone from a rest."""
    custom = record["in"]["custom_id"]
    if custom.startswith("bad"):
        return {"max_tokens"}
    if custom.startswith("score"):
        return {"max_tokens", "temperature"}
    plain = {"temperature", "seed", "max_tokens"}
    return plain if custom.startswith("chat-noids") else plain | {"top_p"}


def _choice_facts(path: str, part: int, choice: Record) -> Facts:
    facts: Facts = {
        f"{path}.index": lambda s: s[part].rollout["sample_index"],
        f"{path}.message": lambda s: s[part].messages[-1],
        f"{path}.finish_reason": lambda s: s[part].rollout["finish_reason"],
    }
    for t in range(len(choice["logprobs"]["content"]) if choice["logprobs"] else 0):
        facts[f"{path}.logprobs.content.{t}.logprob"] = _logprob(part, t)
    return facts


def _column(name: str) -> Fact:
    if name in ("temperature", "top_p"):
        return lambda s: s[0].number(name)
    return lambda s: s[0].rollout[name]


def _logprob(part: int, t: int) -> Fact:
    return lambda s: s[part].rollout["response_logprobs"][t]


def _token_facts(path: str, part: int, choice: Record) -> Facts:
    return {f"{path}.token_ids": lambda s: s[part].rollout["response_token_ids"]}


def _named_facts(path: str, choice: Record) -> Facts:
    """Tokens named by id, `token_id:N`, with the entries of a top-k that the server sent."""
    facts: Facts = {}
    for t, token in enumerate(choice["logprobs"]["content"]):
        facts[f"{path}.{t}.token"] = _named_token(t)
        k = len(token["top_logprobs"])
        for j in range(k):
            facts |= _entry_facts(f"{path}.{t}.top_logprobs.{j}", t * k + j)
    return facts


def _named_token(t: int) -> Fact:
    return lambda s: f"{TOKEN}{s[0].rollout['response_token_ids'][t]}"


def _entry_facts(path: str, at: int) -> Facts:
    return {
        f"{path}.token": lambda s: f"{TOKEN}{s[0].topk[0]['token_ids'][at]}",
        f"{path}.logprob": lambda s: s[0].topk[0]["logprobs"][at],
    }


def _scored_facts(body: Record) -> Facts:
    """Part 0 is the given sequence, scored; part 1 the one token sampled after it."""
    path = f"{BODY}.choices.0"
    facts: Facts = {
        f"{BODY}.prompt_token_ids": lambda s: (
            s[0].rollout["prompt_token_ids"] + s[0].rollout["response_token_ids"]
        ),
        f"{path}.message": lambda s: s[1].messages[-1],
        f"{path}.finish_reason": lambda s: s[1].rollout["finish_reason"],
        f"{path}.token_ids": lambda s: s[1].rollout["response_token_ids"][
            s[1].rollout["parent_tokens"] :
        ],
    }
    for t, entries in enumerate(body["prompt_logprobs"][1:]):
        for token in entries:
            facts[f"{BODY}.prompt_logprobs.{t + 1}.{token}.logprob"] = _scored_at(t, int(token))
    return facts


def _scored_at(t: int, token: int) -> Fact:
    return lambda s: _scored(s[0], t)[token]


def _scored(stored: Stored, t: int) -> dict[int, float]:
    """The stored logprobs at response token t by token id, the token itself among them."""
    (topk,) = stored.topk
    cut = slice(t * topk["k"], (t + 1) * topk["k"])
    found = dict(zip(topk["token_ids"][cut], topk["logprobs"][cut], strict=True))
    return {stored.rollout["response_token_ids"][t]: topk["sampled_logprobs"][t]} | found


ASKED = "n logprobs top_logprobs return_token_ids prompt_logprobs return_tokens_as_token_ids"
ASKED += " add_generation_prompt"
SAID = "id object service_tier system_fingerprint usage prompt_text kv_transfer_params metrics"
SAID += " ec_transfer_params"
# Null where the tokens are named in the logprobs; logprobs of a sampled token that were not asked.
CHOICE = "stop_reason routed_experts index token_ids"

VLLM_BATCH = Format(
    "vllm_batch",
    "openai-batch",
    _read,
    _facts,
    frozenset({"in.custom_id", "in.method", "in.url", "out.id", "out.custom_id", "out.error"})
    | {"out.response.status_code", "out.response.request_id", f"{BODY}.prompt_token_ids"}
    | {f"in.body.{name}" for name in ASKED.split()}
    | {f"{BODY}.{name}" for name in SAID.split()}
    | {f"{BODY}.prompt_logprobs.*.*.{name}" for name in ("rank", "decoded_token")}
    | {f"{BODY}.choices.*.{name}" for name in CHOICE.split()}
    | {f"{BODY}.choices.*.logprobs.content.*.{name}" for name in ("token", "bytes")}
    # Of entries that are told apart by text alone.
    | {
        f"{BODY}.choices.*.logprobs.content.*.top_logprobs.*.{name}"
        for name in ("token", "logprob", "bytes")
    },
)
