"""What kind of dataset a query makes, as its header declares it.

    -- kind: opd
    -- needs: scorer_policy_id, support, k, response_logprobs
    -- labels: none
    -- policy: on
    -- rollouts: own
    -- control: treatment

`kind` is a name; a query without it is of its own name's kind. `needs` are the columns that
trainers of the kind rely on, beside row, update and rollout_id: the query's own, and
response_logprobs where the sampling policy's logprobs are stored with the rows. `labels`: none,
chosen (rewards may choose or weigh rows) or derived (they become numbers in the rows). `policy`: on
(rollouts of the policy that training starts from, or little older) or off. `rollouts`: own (of the
policy that is trained), teacher, or any. `control` names the parameter with the dataset that this
one is a control of, and `follows` those that are the treatment's: left out, they are filled in, and
another value is refused.

The lines stand before or after the parameters. A query of somebody's own takes over what a shipped
kind of its name declares, line by line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

LOGPROBS = "response_logprobs"
CHOICES: Mapping[str, tuple[str, ...]] = {
    "labels": ("none", "chosen", "derived"),
    "policy": ("on", "off"),
    "rollouts": ("own", "teacher", "any"),
}
# Parameters stand further in.
_LINE = re.compile(r"-- (\w+):(.*)")


@dataclass(frozen=True)
class Kind:
    """A kind of dataset; the module says what the fields mean.

    Attributes:
        name: the kind's.
        needs: columns; None where nothing is declared.
        labels, policy, rollouts: one of CHOICES.
        control: a parameter's name, or empty.
        follows: parameters that a control takes over from its treatment.
    """

    name: str
    needs: tuple[str, ...] | None = None
    labels: str = "chosen"
    policy: str = "off"
    rollouts: str = "any"
    control: str = ""
    follows: tuple[str, ...] = ()

    @property
    def has_topk(self) -> bool:
        """Whether its rows name a scorer's top-k."""
        return "scorer_policy_id" in (self.needs or ())

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a query of this kind must give."""
        return tuple(name for name in self.needs or () if name != LOGPROBS)

    @property
    def has_logprobs(self) -> bool:
        """Whether the sampling policy's logprobs are stored with the rows."""
        return self.needs is None or LOGPROBS in self.needs

    def traits(self) -> dict[str, Any]:
        """What a lock and view dataset_kinds say of it."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("name", "needs", "follows")}
        return kept | {"has_topk": self.has_topk}


def of(name: str, text: str) -> Kind:
    """The kind of that name, as the header of a query's text declares it.

    Raises:
        ValueError: a word that is not among the choices.
    """
    return _declared(shipped().get(name, Kind(name)), text)


@cache
def shipped() -> Mapping[str, Kind]:
    """The kinds that ship with s2d, by name: one per file of queries/datasets."""
    files = sorted((Path(__file__).parent / "datasets").glob("*.sql"))
    return {path.stem: _declared(Kind(path.stem), path.read_text()) for path in files}


@cache
def view() -> str:
    """SQL of view dataset_kinds: what each shipped kind declares; one row per kind."""
    rows = [{"kind": kind.name, **kind.traits()} for kind in shipped().values()]
    values = ", ".join(f"({', '.join(map(_literal, row.values()))})" for row in rows)
    return f"CREATE VIEW dataset_kinds AS FROM (VALUES {values}) AS k({', '.join(rows[0])})"


def _declared(base: Kind, text: str) -> Kind:
    values: dict[str, Any] = {}
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        found = _LINE.match(line)
        if found is None:
            continue
        key, value = found[1], found[2].strip()
        if value not in CHOICES.get(key, (value,)):
            raise ValueError(
                f"a dataset query's header says '-- {key}: {value}', which is not one of "
                f"{', '.join(CHOICES[key])}"
            )
        if key in ("needs", "follows"):
            values[key] = tuple(filter(None, (name.strip() for name in value.split(","))))
        elif key in CHOICES or key == "control":
            values[key] = value
    return replace(base, **values)


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"'{value}'"
