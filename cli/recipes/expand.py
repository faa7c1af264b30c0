"""Templates of a recipe: a stage becomes one stage per teacher and student, or per swept setting.

`[matrix]` gives variables that stand in texts as `{teacher}`; `[sweep]` gives keys their values in
turn. A stage that uses a variable, or names a stage that does, is copied for each of its values;
all others stay one stage, which the copies share. An eval stage compares all copies in one table,
unless its baseline or its own settings vary.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from cli.recipes.document import Document
from s2d_store.errors import InputError, did_you_mean

# Keys of a stage that name one stage or several.
_ONE = ("start", "teacher", "reference", "rollouts_of", "treatment", "baseline")
_SEVERAL = ("bridge", "policies")
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")
EVAL = "eval"


@dataclass(frozen=True)
class Variable:
    """What varies.

    Attributes:
        name: of the matrix, or the swept key.
        values: what it is in turn.
        labels: what each value adds to a stage's name.
        keys: stage -> key below it that is set; empty for a variable of the matrix.
    """

    name: str
    values: tuple[Any, ...]
    labels: tuple[str, ...]
    keys: Mapping[str, str]

    def is_in(self, name: str, stage: Mapping[str, Any]) -> bool:
        """Whether a stage uses it itself."""
        if self.keys:
            return name in self.keys
        return any(f"{{{self.name}}}" in text for text in _texts(stage))


Cell = Mapping[str, int]


def expand(document: Document) -> dict[str, str]:
    """Put the copies of every template in its place; returns copy -> template.

    Raises:
        InputError: a variable or swept key that is none, or that no stage uses.
    """
    families = _expand_sets(document)
    stages = document.values.get("stage")
    variables = [*_matrix(document), *_sweep(document)]
    if not variables or not isinstance(stages, dict):
        return families
    used = _used(stages, variables)
    for variable in variables:
        if not any(variable.name in names for names in used.values()):
            raise InputError(
                f"{document.place(_at(variable))}: no stage uses {variable.name}",
                "a stage uses a variable of the matrix as {NAME} in one of its texts",
                "use it, or leave it out",
            )
    made: dict[str, Any] = {}
    for name, stage in stages.items():
        for cell in _cells([v for v in variables if v.name in used[name]]):
            copied = _copy(name, stage, cell, variables, used)
            full = _named(name, cell, variables)
            made[full] = copied
            if full != name:
                families[full] = families.get(str(name), str(name))
                _copy_places(document, name, full)
    document.values["stage"] = made
    return families


def _at(variable: Variable) -> str:
    return f"sweep.{variable.name}" if variable.keys else f"matrix.{variable.name}"


def _matrix(document: Document) -> Iterator[Variable]:
    table = document.values.pop("matrix", {})
    for name, values in table.items() if isinstance(table, dict) else ():
        at = f"matrix.{name}"
        if name == "seed" or not _is_list(values) or not all(isinstance(v, str) for v in values):
            raise InputError(
                f"{document.place(at)}: {at} is {values!r}",
                "it must be a list of texts, under a name other than seed",
                'teacher = ["small", "large"], used as {teacher}',
            )
        yield Variable(name, tuple(values), tuple(map(_label, values)), {})


def _sweep(document: Document) -> list[Variable]:
    table = document.values.pop("sweep", {})
    found = dict(_leaves(table)) if isinstance(table, dict) else {}
    stages = document.values.get("stage", {})
    variables = []
    for key, values in found.items():
        if not _is_list(values):
            raise InputError(
                f"{document.place(f'sweep.{key}')}: sweep.{key} is {values!r}",
                "it must be a list of the values that the key takes in turn",
                "stage.bridge.train.lr = [1e-5, 1e-6]",
            )
        table_of, _, rest = key.partition(".")
        if table_of == "stage":
            stage, below = _stage_of(document, key, rest, stages)
            keys = {stage: below}
        elif table_of == "defaults":
            keys = {name: rest for name in stages if _is_default(document, name, rest)}
        else:
            raise InputError(
                f"{document.place(f'sweep.{key}')}: {key} cannot be swept",
                "only settings of stages and their defaults can",
                "stage.bridge.train.lr = [1e-5, 1e-6]",
            )
        short = key.rpartition(".")[2]
        if sum(other.rpartition(".")[2] == short for other in found) > 1:
            short = key.removeprefix("stage.").replace(".", "-")
        labels = tuple(f"{short}-{_label(value)}" for value in values)
        variables.append(Variable(key, tuple(values), labels, keys))
    return variables


def _stage_of(
    document: Document, key: str, rest: str, stages: Mapping[str, Any]
) -> tuple[str, str]:
    for name in stages:
        if rest.startswith(f"{name}."):
            return name, rest.removeprefix(f"{name}.")
    stage = rest.partition(".")[0]
    raise InputError(
        f"{document.place(f'sweep.{key}')}: the recipe has no stage {stage!r}"
        + did_you_mean(stage, stages),
        f"it has {', '.join(stages)}",
    )


def _is_default(document: Document, stage: str, rest: str) -> bool:
    """Whether a stage's setting is the one of `[defaults]`."""
    at = document.places.get(f"stage.{stage}.{rest}")
    return at is not None and at == document.places.get(f"defaults.{rest}")


def _used(stages: Mapping[str, Any], variables: Sequence[Variable]) -> dict[str, frozenset[str]]:
    """Stage -> the variables that it depends on."""
    found: dict[str, frozenset[str]] = {}

    def used(name: str, path: tuple[str, ...]) -> frozenset[str]:
        stage = stages.get(name)
        if name in path or not isinstance(stage, dict):
            return frozenset()
        if name not in found:
            own = {variable.name for variable in variables if variable.is_in(name, stage)}
            # An eval stage holds the others side by side; its baseline is one.
            named = [stage.get("baseline")] if stage.get("kind") == EVAL else _references(stage)
            for ref in named:
                own |= used(str(ref), (*path, name))
            found[name] = frozenset(own)
        return found[name]

    for name in stages:
        used(name, ())
    return {name: found.get(name, frozenset()) for name in stages}


def _references(stage: Mapping[str, Any]) -> list[Any]:
    several = [ref for key in _SEVERAL if _is_list(stage.get(key)) for ref in stage[key]]
    return [*(stage[key] for key in _ONE if key in stage), *several]


def _cells(variables: Sequence[Variable], fixed: Cell | None = None) -> Iterator[Cell]:
    """Every choice of a value, by its place, for each variable; those fixed keep theirs."""
    fixed = fixed or {}
    names = [variable.name for variable in variables]
    ranges = [[fixed[v.name]] if v.name in fixed else list(range(len(v.values))) for v in variables]
    for chosen in product(*ranges):
        yield dict(zip(names, chosen, strict=True))


def _named(name: str, cell: Cell, variables: Sequence[Variable]) -> str:
    return ".".join([name, *(v.labels[cell[v.name]] for v in variables if v.name in cell)])


def _copy(
    name: str,
    stage: Any,
    cell: Cell,
    variables: Sequence[Variable],
    used: Mapping[str, frozenset[str]],
) -> Any:
    """A stage for one choice of values: variables filled in, references to copies."""
    if not isinstance(stage, dict):
        return stage

    def named(ref: Any) -> list[Any]:
        if not isinstance(ref, str) or not used.get(ref):
            return [_filled(ref, cell, variables)]
        of = [variable for variable in variables if variable.name in used[ref]]
        return [_named(ref, other, variables) for other in _cells(of, cell)]

    copied = {k: _filled(copy.deepcopy(v), cell, variables) for k, v in stage.items()}
    for key in _ONE:
        if key in stage:
            copied[key] = named(stage[key])[0]
    for key in _SEVERAL:
        if _is_list(stage.get(key)):
            copied[key] = [one for ref in stage[key] for one in named(ref)]
    for variable in variables:
        if variable.name in cell and name in variable.keys:
            _put(copied, variable.keys[name], variable.values[cell[variable.name]])
    return copied


def _filled(value: Any, cell: Cell, variables: Sequence[Variable]) -> Any:
    if isinstance(value, str):
        for variable in variables:
            if variable.name in cell and not variable.keys:
                filler = variable.values[cell[variable.name]]
                value = value.replace(f"{{{variable.name}}}", filler)
        return value
    if isinstance(value, dict):
        return {key: _filled(inner, cell, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, cell, variables) for inner in value]
    return value


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    name, _, rest = key.partition(".")
    if rest:
        _put(table.setdefault(name, {}), rest, value)
    else:
        table[name] = value


def _expand_sets(document: Document) -> dict[str, str]:
    """`sets = ["math", "aime"]` of an eval stage: one eval stage per set of prompts."""
    stages = document.values.get("stage")
    if not isinstance(stages, dict):
        return {}
    made: dict[str, Any] = {}
    families: dict[str, str] = {}
    for name, stage in stages.items():
        is_eval = isinstance(stage, dict) and stage.get("kind") == EVAL
        sets = stage.get("sets") if is_eval else None
        if not _is_list(sets) or not all(isinstance(s, str) for s in sets or ()):
            made[name] = stage
            continue
        also = f" AND ({stage['prompts']})" if stage.get("prompts") else ""
        for split in sets or ():
            kept = {key: value for key, value in stage.items() if key != "sets"}
            quoted = split.replace("'", "''")
            full = f"{name}.{_label(split)}"
            made[full] = kept | {"prompts": f"split = '{quoted}'{also}"}
            families[full] = name
            _copy_places(document, name, full)
    document.values["stage"] = made
    return families


def _copy_places(document: Document, name: str, full: str) -> None:
    of = f"stage.{name}"
    for key, place in list(document.places.items()):
        if key == of or key.startswith(f"{of}."):
            document.places.setdefault(f"stage.{full}{key.removeprefix(of)}", place)


def _leaves(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        inner: Iterable[Any] = value.values() if isinstance(value, Mapping) else value
        for one in inner:
            yield from _texts(one)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _label(value: Any) -> str:
    """A value as a part of a name."""
    if isinstance(value, list):
        return "-".join(map(_label, value))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return _NO_NAME.sub("-", text).strip("-") or "empty"
