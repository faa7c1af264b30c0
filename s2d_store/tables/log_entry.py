"""The text of one commit of a Delta log: written with a hash of itself, and refused if it differs.

The log decides which files a table has, so a flipped bit in it loses or doubles rows. Each commit
of s2d therefore carries, in its `commitInfo`, the SHA-256 of its whole text with zeros in the
hash's place; Delta lets writers add keys there. Commits of other writers have none and are read as
they are, but every line must be an action that s2d knows and a feature that it switched on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from s2d_store.errors import StoreError
from s2d_store.tables import delta_protocol

Action = Mapping[str, Mapping[str, Any]]

_KNOWN = {"commitInfo", "protocol", "metaData", "add", "remove", "txn"}
_ZEROS = "0" * 64
_HASH = re.compile(rb'"s2d": \{"sha256": "([0-9a-f]{64})"\}')


def compose(info: Mapping[str, Any], actions: Sequence[Action]) -> bytes:
    """The text of a commit: one action per line, `commitInfo` first, with the hash of it all."""
    first = {"commitInfo": {**info, "s2d": {"sha256": _ZEROS}}}
    text = "".join(json.dumps(line) + "\n" for line in (first, *actions)).encode()
    return text.replace(_ZEROS.encode(), hashlib.sha256(text).hexdigest().encode(), 1)


def parse(table: str, version: int, data: bytes) -> list[Action]:
    """The actions of a commit.

    Args:
        table: its table, for messages.
        version: of the table that it makes.
        data: the bytes of its file.

    Raises:
        StoreError: it is empty, torn or changed, or switches on what s2d does not read.
    """
    try:
        actions = _actions(data)
    except ValueError as error:
        raise StoreError(
            f"the log of table {table} cannot be read",
            f"its version {version} {error}; without it, nobody knows which files the table has",
            f"restore tables/{table}/_delta_log/{version:020d}.json from a copy, or "
            "s2d doctor --drop-damaged, which gives up what only that commit names",
        ) from error
    for action in actions:
        delta_protocol.check(table, action)
    return actions


def damage(data: bytes) -> str | None:
    """What is wrong with the bytes of a commit, in a few words; None where nothing is."""
    try:
        _actions(data)
    except ValueError as error:
        return str(error)
    return None


def _actions(data: bytes) -> list[Action]:
    """The actions; ValueError says what is wrong, to follow `version 3`."""
    if not data.strip(b"\0 \r\n\t"):
        raise ValueError("is empty" if not data else "holds nothing but zeros")
    try:
        actions = [json.loads(line) for line in data.decode().splitlines() if line.strip()]
    except (ValueError, RecursionError):
        raise ValueError("is cut short or damaged: it is not JSON") from None
    for action in actions:
        if not isinstance(action, dict) or len(action) != 1:
            raise ValueError("has a line that is no action")
        ((name, body),) = action.items()
        if name not in _KNOWN:
            raise ValueError(f"has an action {name!r} that s2d does not know")
        if not isinstance(body, dict) or (name in ("add", "remove") and not _names_file(body)):
            raise ValueError(f"has a damaged action {name!r}")
    _check_hash(data, actions)
    return actions


def _names_file(body: Mapping[str, Any]) -> bool:
    return isinstance(body.get("path"), str) and isinstance(body.get("size", 0), int | None)


def _check_hash(data: bytes, actions: Sequence[Action]) -> None:
    found = _HASH.search(data.partition(b"\n")[0])
    if found is None:
        # Either name of the key is left by any one flipped bit.
        if b'"s2d"' in data or b'"sha256"' in data:
            raise ValueError("was changed after it was written: its hash is damaged")
        return
    zeroed = data[: found.start(1)] + _ZEROS.encode() + data[found.end(1) :]
    if hashlib.sha256(zeroed).hexdigest().encode() != found[1]:
        raise ValueError("was changed after it was written: its hash does not fit")
