"""Content-hash identities: the same fact always gets the same id."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from s2d_store.errors import InputError

ID_BYTES = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def content_id(*parts: object) -> str:
    """Hash JSON-able parts to 16 hex characters; order and types count."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=ID_BYTES).hexdigest()


def prompt_id(messages: Iterable[Mapping[str, Any]], tools: str | None = None) -> str:
    """Identity of a prompt: its stored messages' roles, contents and extra fields, and its tools.

    Args:
        messages: as `s2d_store.messages.to_stored` makes them.
        tools: tool definitions as JSON text, or None.
    """
    told = [[m["role"], m["content"], *([m["extra"]] if m.get("extra") else [])] for m in messages]
    return content_id("prompt", told, *([tools] if tools else []))


def rollout_id(run: str, prompt: str, policy: str, sample_index: int, round_: int) -> str:
    """Identity of a rollout (DESIGN section 3)."""
    return content_id("rollout", run, prompt, policy, sample_index, round_)


def group_id(run: str, prompt: str, policy: str, round_: int, sampling: object) -> str:
    """Identity of a group: rollouts of one prompt that were drawn together, in the same way."""
    return content_id("group", run, prompt, policy, round_, sampling)


def rollout_seed(seed: int, prompt: str, sample_index: int, round_: int) -> int:
    """A rollout's own seed in [0, 2**63), the same whatever else the run samples."""
    digest = hashlib.blake2b(f"{seed}/{prompt}/{sample_index}/{round_}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> 1


def check_name(name: str, what: str) -> str:
    """Return `name` if it is safe as a folder and partition name.

    Raises:
        InputError: it is empty, too long, or holds anything but letters, digits, dot, _ and -.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{what} {name!r} is not a usable name",
            "names become folders: letters, digits, '.', '_' and '-', at most 100, "
            "starting with a letter or digit",
            f"choose another {what}",
        )
    return name
