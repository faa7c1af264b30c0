"""Settings of a verifier as they stand behind its name: `math-verify(answer_from=box)`.

A value is text without commas, quotes and brackets, or stands in double quotes. All are handed to
the verifier's class as text.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from s2d_store.errors import InputError

_CALL = re.compile(r"\s*(?P<name>[^()\s]+)\s*\((?P<settings>.*)\)\s*", re.DOTALL)
_SETTING = re.compile(r'\s*(?P<key>[a-z_]\w*)\s*=\s*(?:"(?P<quoted>[^"]*)"\s*|(?P<bare>[^,"()]*))')
PATTERN = r'\((?:[^()"]|"[^"]*")*\)'
"""Matches the brackets with settings, for those who look for names in a longer text."""


def split(asked: str) -> tuple[str, dict[str, str]]:
    """A verifier's name, and its settings by name; none where no brackets follow.

    Raises:
        InputError: the brackets hold something else than settings, or one twice.
    """
    call = _CALL.fullmatch(asked)
    if call is None:
        return asked, {}
    found: dict[str, str] = {}
    at, text = 0, call["settings"]
    while at < len(text) or not found:
        match = _SETTING.match(text, at)
        ends = match and (match.end() == len(text) or text[match.end()] == ",")
        if match is None or not ends or match["key"] in found:
            raise InputError(
                f"{asked!r} does not say what its settings are",
                "they are NAME=VALUE, comma-separated, each once; a value with commas or brackets "
                "stands in double quotes",
                "for example math-verify(answer_from=box)",
            )
        found[match["key"]] = match["bare"].strip() if match["quoted"] is None else match["quoted"]
        at = match.end() + 1
    return call["name"], found


def join(name: str, settings: Mapping[str, str]) -> str:
    """The inverse of `split`."""
    shown = ", ".join(f'{key}="{value}"' for key, value in settings.items())
    return f"{name}({shown})" if shown else name


def create(found: Any, asked: str, settings: Mapping[str, str]) -> Any:
    """A verifier's class, created with its settings.

    Raises:
        InputError: it takes no such setting, or needs one that is not given.
        Exception: whatever the class raises when it is created.
    """
    taken = inspect.signature(found).parameters
    try:
        inspect.signature(found).bind(**settings)
    except TypeError as error:
        raise InputError(
            f"verifier {asked!r} does not take these settings",
            f"{error}; it takes {', '.join(taken) or 'none'}",
            f"{asked}({', '.join(f'{name}=...' for name in taken)})" if taken else f"{asked} alone",
        ) from None
    return found(**settings)


def with_answer_from(verifier: str, place: str) -> str:
    """A verifier as a command names it, with its option `--answer-from`.

    Raises:
        InputError: it is another verifier than math-verify, or has settings of its own.
    """
    if place == "auto":
        return verifier
    if verifier != "math-verify":
        raise InputError(
            f"--answer-from {place} is given beside verifier {verifier!r}",
            "where the answer stands is a setting of math-verify",
            f"--verifier 'math-verify(answer_from={place})', within a sum too",
        )
    return join(verifier, {"answer_from": place})
