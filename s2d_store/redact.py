"""Secrets masked in what is stored or shown: runs' configurations, grading details, errors."""

from __future__ import annotations

import os
import re
from functools import cache, lru_cache
from typing import Any

MASK = "***"
# Shorter values of the environment are words that stand in many texts.
MIN_SECRET_CHARS = 8
# Patterns are text: compiled on first use, they cost the start of a command nothing.
_VARIABLE = (
    r"(?:(?:^|_)(?:(?:API)?(?:KEY|TOKEN)|PASS|PWD|PAT)|SECRET|PASSWORD|PASSWD|PASSPHRASE"
    r"|CREDENTIAL)S?$"
)
_NOT_SECRET = ("PWD", "OLDPWD")
_NAME = (
    r"(?:\w+[_-])?(?:(?:api|access|secret|private|auth|session|security|signing|encryption)"
    r"[_-]?(?:key|token)|hf[_-]token|\w{0,30}password|passwd|passphrase|\w{0,30}secret|credential"
    r"|(?<=[_-])(?:pass|pwd))s?"
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
    (
        r"\b(?:hf_|sk-|gh[pousr]_|github_pat_|AKIA|ASIA|glpat-|xox[abeoprs]-|xapp-|AIza|pypi-AgEI)"
        r"[A-Z0-9_-]{16,}",
        MASK,
    ),
    # JSON web tokens: header, payload and signature, the first two of JSON.
    (r"\beyJ[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]*", MASK),
    # --api-key VALUE
    (rf"((?:^|\s)--?(?:{_NAME}|token)\s+)(?!-){_VALUE}", rf"\1{MASK}"),
)


def redact(text: str) -> str:
    """The text with secrets masked: values of the environment's *_KEY, *_TOKEN, *_PASS, *SECRET and
    *PASSWORD (plurals too), user and password of a URL, values behind such a name, and tokens
    known by form.
    """
    values = {os.environ.get(name, "") for name in _secret_variables(tuple(os.environ))}
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= MIN_SECRET_CHARS:
            text = text.replace(value, MASK)
    for pattern, masked in _compiled():
        text = pattern.sub(masked, text)
    return text


@lru_cache(maxsize=16)
def _secret_variables(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the environment's names that tell a secret; values are read anew for each text."""
    return tuple(n for n in names if re.search(_VARIABLE, n, re.I) and n not in _NOT_SECRET)


@cache
def _compiled() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern, re.I), masked) for pattern, masked in _PATTERNS)


def redacted(value: Any, name: str = "") -> Any:
    """A JSON-like value with secrets masked: what a secret's name holds, and secrets in texts."""
    if isinstance(value, dict):
        return {key: redacted(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redacted(item) for item in value)
    if value and re.fullmatch(_SECRET_NAME, name, re.I):
        return MASK
    return redact(value) if isinstance(value, str) else value
