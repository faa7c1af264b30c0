"""Secrets masked in what is stored or shown: runs' configurations, grading details, errors."""

from __future__ import annotations

import os
import re
from typing import Any

MASK = "***"
# Shorter values of the environment are words that stand in many texts.
MIN_SECRET_CHARS = 8
# Patterns are text: compiled by re on first use, they cost the start of a command nothing.
_VARIABLE = r"(?:^|_)(?:API)?(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE)$"
_NAME = (
    r"(?:\w+[_-])?(?:(?:api|access|secret|private|auth|session|security)[_-]?(?:key|token)"
    r"|hf[_-]token|password|passwd|passphrase|secret|credentials?)"
)
_SECRET_NAME = rf"{_NAME}|token|sig(?:nature)?|authorization"
_VALUE = r"""(?:'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|[^\s'",;&)}\]]+)"""
_PATTERNS = (
    # scheme://user:password@host, also with the one slash that pathlib leaves of two
    (r"(:/{1,2})(?:[^\s/@:'\"]+:[^\s@'\"]+|[^\s/@'\"]+)@", rf"\1{MASK}@"),
    # api_key=..., 'password': '...', ?token=...
    (rf"(\b(?:{_NAME}\b['\"]?\s*[=:]|(?:token|sig(?:nature)?)=)\s*){_VALUE}", rf"\1{MASK}"),
    (rf"(\bauthorization\b['\"]?\s*[=:]\s*)(?:(?:Basic|Bearer)\s+)?{_VALUE}", rf"\1{MASK}"),
    (r"\b(Bearer)\s+[\w.~+/=-]{16,}", rf"\1 {MASK}"),
    # Tokens that are known by their form: of hubs, model services and clouds.
    (r"\b(?:hf_|sk-|gh[pousr]_|AKIA)[A-Z0-9_-]{16,}", MASK),
)


def redact(text: str) -> str:
    """The text with secrets masked: values of the environment's *_KEY, *_TOKEN, *_SECRET and
    *_PASSWORD, user and password of a URL, values behind such a name, and tokens known by form.
    """
    values = {v for name, v in os.environ.items() if re.search(_VARIABLE, name, re.I)}
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= MIN_SECRET_CHARS:
            text = text.replace(value, MASK)
    for pattern, masked in _PATTERNS:
        text = re.sub(pattern, masked, text, flags=re.I)
    return text


def redacted(value: Any, name: str = "") -> Any:
    """A JSON-like value with secrets masked: what a secret's name holds, and secrets in texts."""
    if isinstance(value, dict):
        return {key: redacted(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redacted(item) for item in value)
    if value and re.fullmatch(_SECRET_NAME, name, re.I):
        return MASK
    return redact(value) if isinstance(value, str) else value
