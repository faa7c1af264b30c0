"""Errors for a user's mistakes: the offending value, why it is wrong, the next command to run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from s2d_store.redact import redact

_LISTED = 8


class S2DError(Exception):
    """Base of every error that s2d raises on purpose; the CLI prints it without a traceback.

    Secrets are masked in all three texts.

    Args:
        what: the offending value and what is wrong with it, one sentence.
        why: the reason or the facts behind it; may be empty.
        fix: the next command or change to make; may be empty.
    """

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = redact(what), redact(why), redact(fix)
        super().__init__(self.what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


def listed(names: Sequence[str], what: str = "registered", which: str = "newest") -> str:
    """Names for a message, of many the last ones: a recipe of many rounds makes hundreds."""
    if len(names) > _LISTED:
        return f"the {which} of {len(names)} {what}: {', '.join(names[-_LISTED:])}"
    return f"{what}: {', '.join(names) or 'none'}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'WORD'?` with the nearest known word, or nothing where none is near.

    Where none is, a recipe's name may have been left out: `warmup` is near `paper.warmup`.
    """
    import difflib

    words = list(known)
    close = difflib.get_close_matches(word, words, 1)
    if not close:
        without = {name.partition(".")[2]: name for name in words if "." in name}
        close = [without[end] for end in difflib.get_close_matches(word, without, 1)]
    return f"; did you mean {close[0]!r}?" if close else ""


def load_failure_hint(error: Exception, why: str, fix: str) -> tuple[str, str]:
    """Why transformers or vLLM did not load a model folder, and what to do about it.

    Args:
        error: what the library raised.
        why: its message, in the caller's form.
        fix: the usual next step.
    """
    if "trust_remote_code" not in str(error):
        return why, fix
    return (
        "its config names Python code of its own (auto_map), and s2d never runs code that comes "
        "with a model",
        "use a model whose architecture transformers itself has, or convert it to one",
    )


class InputError(S2DError, ValueError):
    """A value given by the user is malformed or out of range."""


class NotFoundError(S2DError, LookupError):
    """A store, policy, query, dataset, column or file that was named does not exist."""


class StoreError(S2DError, RuntimeError):
    """The store refuses or cannot complete an operation; what was committed before stays."""


class QueryError(S2DError, ValueError):
    """SQL that does not parse, bind or run."""


class EngineError(S2DError, RuntimeError):
    """An inference engine cannot do what is asked, or gave output that fails its checks."""


class DatasetError(S2DError, RuntimeError):
    """A dataset cannot be built, or its files do not match its lock."""


class TrainingError(S2DError, RuntimeError):
    """A trainer refuses to start or stops to protect the run."""


class BudgetError(S2DError, RuntimeError):
    """A command would spend, or has spent, more than a budget declares."""
