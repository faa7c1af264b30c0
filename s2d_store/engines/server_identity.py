"""What runs behind an endpoint: which server, which model, whose tokenizer. Asked over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s2d_store.engines.server_client import Busy, Refused, ServerClient
from s2d_store.engines.server_dialect import BadAnswer, Call, Dialect
from s2d_store.engines.server_openai import OpenAIDialect
from s2d_store.engines.server_sglang import SglangDialect
from s2d_store.engines.server_trl import TrlDialect
from s2d_store.engines.server_vllm import VllmDialect

DIALECTS: Mapping[str, type[Dialect]] = {
    "vllm": VllmDialect,
    "sglang": SglangDialect,
    "trl": TrlDialect,
    "openai": OpenAIDialect,
}
# A path that one kind of server alone answers, and what its answer holds.
_MARKS = (
    ("vllm", "/version", "version"),
    ("sglang", "/get_model_info", "model_path"),
    ("trl", "/get_world_size/", "world_size"),
    ("openai", "/v1/models", "data"),
)


class WrongServer(Exception):
    """The endpoint is not what was asked for."""


@dataclass(frozen=True)
class Identity:
    """What an endpoint says of itself.

    Attributes:
        server: a name in DIALECTS.
        model: the model that requests name.
        version: of the server; None where it does not say.
        max_model_len: most tokens of prompt and response; 0 where it does not say.
    """

    server: str
    model: str
    version: str | None
    max_model_len: int


async def identify(client: ServerClient, url: str, server: str, model: str) -> Identity:
    """Ask an endpoint what it is.

    Args:
        client: HTTP.
        url: of the endpoint.
        server: which dialect it must speak; empty: find out.
        model: which model it must serve; empty: the only one.

    Raises:
        WrongServer: it serves other models, or several and none was chosen, or is no such server.
        Lost: it does not answer.
    """
    kind = server or await _kind(client, url)
    version, length = None, 0
    if kind in ("vllm", "openai"):
        if kind == "vllm":
            version = _text(await _get(client, url, "/version"), "version")
        listed = await _get(client, url, "/v1/models")
        entries = listed.get("data") if isinstance(listed, dict) else None
        models = {str(e["id"]): e for e in entries or () if isinstance(e, dict) and "id" in e}
        name = _chosen(models, model)
        length = models.get(name, {}).get("max_model_len") or 0
    elif kind == "sglang":
        about = await _get(client, url, "/get_model_info")
        name = _chosen({_text(about, "model_path") or "": about}, model)
        server_info = await _get(client, url, "/get_server_info")
        version = _text(server_info, "version")
        if isinstance(server_info, dict):
            length = server_info.get("context_length") or 0
    else:
        # TRL's server names no model.
        name = model or "unknown"
    return Identity(kind, name, version, int(length))


async def tokenizes_alike(
    client: ServerClient, url: str, identity: Identity, tokenizer: Any
) -> bool | None:
    """Whether the server reads a text into the ids that this tokenizer reads it into.

    The text has tokens from all over the vocabulary. None where the server reads no text.
    """
    text = probe_text(tokenizer)
    ours = [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
    if identity.server == "vllm":
        body = {"model": identity.model, "prompt": text, "add_special_tokens": False}
        theirs = (await _get(client, url, "/tokenize", body) or {}).get("tokens")
    elif identity.server == "sglang":
        body = {
            "text": text,
            "sampling_params": {"max_new_tokens": 0},
            "return_logprob": True,
            "logprob_start_len": 0,
        }
        meta = (await _get(client, url, "/generate", body) or {}).get("meta_info", {})
        theirs = [entry[1] for entry in meta.get("input_token_logprobs") or ()] or None
    else:
        return None
    # A tokenizer that puts a token before a text does so at the server.
    return None if theirs is None else theirs[-len(ours) :] == ours


def probe_text(tokenizer: Any) -> str:
    """A text with tokens from all over a vocabulary, none of them special."""
    special = set(tokenizer.all_special_ids)
    n_tokens = len(tokenizer)
    ids = [i for i in range(0, n_tokens, max(1, n_tokens // 400)) if i not in special]
    # Half a character decodes to U+FFFD, which is another text.
    return str(tokenizer.decode(ids)).replace("\N{REPLACEMENT CHARACTER}", "")


async def _kind(client: ServerClient, url: str) -> str:
    for kind, path, mark in _MARKS:
        answer = await _get(client, url, path)
        if isinstance(answer, dict) and mark in answer:
            return kind
    raise WrongServer(
        "it answers none of " + ", ".join(path for _, path, _ in _MARKS) + ": no inference server "
        "that s2d knows (--engine-arg server=NAME says which it is)"
    )


async def _get(client: ServerClient, url: str, path: str, body: Any = None) -> Any:
    """An answer, or None where the server knows no such path."""
    try:
        return await client.send(url, Call(path, body))
    except (BadAnswer, Busy):
        return None
    except Refused as error:
        if error.status in (401, 403):
            raise WrongServer(
                f"it wants a key (status {error.status}): export S2D_API_KEY=..., or name another "
                "variable with --engine-arg key_env=NAME"
            ) from error
        return None


def _chosen(models: Mapping[str, Any], wanted: str) -> str:
    """The model to name in requests."""
    names = sorted(models)
    if wanted:
        if names and wanted not in names:
            raise WrongServer(f"it serves {', '.join(map(repr, names))}, not {wanted!r}")
        return wanted
    if len(names) != 1:
        said = f"{len(names)} models: {', '.join(names[:8])}" if names else "no model"
        raise WrongServer(f"it serves {said}; choose with --engine-arg model=NAME")
    return names[0]


def _text(answer: Any, name: str) -> str | None:
    found = answer.get(name) if isinstance(answer, dict) else None
    return str(found) if found is not None else None
