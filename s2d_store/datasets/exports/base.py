"""What a format of `s2d dataset export` is, what it is asked, and what it says it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from s2d_store.errors import InputError

if TYPE_CHECKING:
    from s2d_store.datasets.read import LockedDataset
    from s2d_store.store import Store

Truncated = Literal["drop", "keep"]
Unlabelled = Literal["refuse", "drop", "keep"]


@dataclass(frozen=True)
class Options:
    """What a format may be told; each reads those that its `Exporter.options` name."""

    truncated: Truncated = "drop"
    """Rollouts without a sampled end: drop or keep them."""
    tokenizer: str = ""
    """Policy or folder that tokenizes the texts again, to count what differs; none: nothing is
    counted. Default: the policy that sampled."""
    unlabelled: Unlabelled = "refuse"
    """Prompts without a gold answer: refuse, drop or keep them."""
    instruction: str = ""
    """Text behind the user's last message, as 'Answer in \\boxed{}.'"""
    data_source: str = ""
    """Name by which the trainer chooses a reward function."""
    ability: str = "math"
    """What verl's column of that name says."""
    env_class: str = ""
    """SkyRL's environment."""
    above: float = 0.0
    """A rollout is desired where its reward is above this (trl-kto)."""
    license: str = ""
    """Licence on the card, by the Hub's name for it, as cc-by-4.0; empty: unknown."""
    pairs: int = 1
    """Most pairs of one group: best with worst, second best with second worst (trl-dpo)."""


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "truncated": get_args(Truncated),
    "unlabelled": get_args(Unlabelled),
}


# Why rows or prompts are left out.
REASONS: Mapping[str, str] = {
    "truncated": "their end was not sampled, and the trainer would append one",
    "several_turns": "not every response token was sampled by the policy",
    "unlabelled": "the prompt has no gold answer",
    "other_fields": "their messages hold more than role and text",
    "tools": "their prompts render tool definitions, which the format does not hold",
    "no_pair": "no other rollout of the group has a reward that differs",
    "not_judged": "their reward is null",
}


@dataclass
class Written:
    """What an exporter wrote.

    Attributes:
        rows: rows in the output.
        dropped: rows or prompts of the dataset that are not, by reason; REASONS explains those.
        settings: of the trainer: name of its config class or file, then setting and value. They
            keep the dataset's order and tokens.
        facts: whatever else the sidecar says.
    """

    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def drop(self, reason: str, rows: int) -> None:
        """Count rows that are left out."""
        if rows:
            self.dropped[reason] = self.dropped.get(reason, 0) + rows


class Write(Protocol):
    """Writes a dataset to a draft, which takes its name once all of it is there."""

    def __call__(
        self, store: Store, dataset: LockedDataset, draft: Path, options: Options, /
    ) -> Written:
        """Write it in bounded memory.

        Args:
            store: the store.
            dataset: one of it, its files checked against its lock.
            draft: a file's path, or an empty folder where the exporter's form is folder.
            options: what was asked for.

        Raises:
            DatasetError: the dataset lacks what the format needs.
        """
        ...


@dataclass(frozen=True)
class Exporter:
    """A format, as `s2d dataset export --format` knows it.

    Attributes:
        name: what it is called by.
        summary: one line: what is written, for whom.
        write: see `Write`.
        form: whether the output is a file or a folder.
        options: names of the `Options` that it reads.
    """

    name: str
    summary: str
    write: Write
    form: Literal["file", "folder"] = "file"
    options: tuple[str, ...] = ()


def options_for(exporter: Exporter, given: Mapping[str, Any]) -> Options:
    """The options that were given; None stands for one that was not.

    Raises:
        InputError: one that the format does not read, or a value out of its range.
    """
    known = {name: value for name, value in given.items() if value is not None}
    for name, value in known.items():
        flag = f"--{name.replace('_', '-')}"
        if name not in exporter.options:
            read = ", ".join(f"--{o.replace('_', '-')}" for o in exporter.options) or "none"
            raise InputError(
                f"{flag} says nothing to format {exporter.name}",
                f"options that it reads: {read}",
                f"leave {flag} out",
            )
        if value not in _CHOICES.get(name, (value,)):
            raise InputError(f"{flag} {value!r} is unknown", f"it is {' or '.join(_CHOICES[name])}")
    if known.get("pairs", 1) < 1:
        raise InputError(f"--pairs {known['pairs']} is no number of pairs", fix="--pairs 1")
    assert set(known) <= {f.name for f in fields(Options)}
    return Options(**known)
