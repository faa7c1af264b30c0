"""A recipe's TOML before it is checked: base files, overlays and --set laid over each other.

Of every key it is known where it stands, for errors, and which folder its paths start at.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError, did_you_mean
from s2d_store.strict_toml import TomlFile, place_of
from s2d_store.toml_lines import key_lines

HELP = "docs/recipes.md explains every key"
EXTENDS = "extends"
# Keys that hold a path; * is any name. Folders of policies may be hub ids instead.
_PATHS = (
    "store",
    "output",
    "budget",
    "engine.url",
    "prompts.*.file",
    "stage.*.query",
    "stage.*.generate.chat_template",
    "defaults.generate.chat_template",
)
_POLICIES = ("policies.*", "served.*")
_BARE = re.compile(r"[A-Za-z_][\w./:-]*")


@dataclass
class Document:
    """Values of a recipe as TOML has them.

    Attributes:
        values: the tables.
        places: dotted key -> where it stands: `paper.toml:12`, `--set name`.
        folders: dotted key -> folder that a path there starts at.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)

    def place(self, key: str) -> str:
        """Where a key, or the table around it, stands."""
        return place_of(self.places, key) or "the recipe"

    def lay_over(self, other: Document) -> None:
        """Let another document's values take the place of this one's; tables are merged."""
        _merge(self.values, other.values)
        self.places |= other.places
        self.folders |= other.folders


def read_document(path: Path, overlays: Sequence[Path], settings: Sequence[str]) -> Document:
    """Read a recipe with all that is laid over it, paths resolved.

    Args:
        path: the recipe; `extends = "base.toml"` in it names a file that it is laid over.
        overlays: files laid over it, in order.
        settings: `dotted.key=VALUE`, laid over all.

    Raises:
        NotFoundError: a file that is not there.
        InputError: one that is not TOML, extends itself, or a setting that is none.
    """
    document = _read(path, ())
    for overlay in overlays:
        document.lay_over(_read(overlay, ()))
    for setting in settings:
        document.lay_over(_set(document, setting))
    _resolve_paths(document)
    return document


def _read(path: Path, inside: tuple[Path, ...]) -> Document:
    file = TomlFile(f"recipe {path}", HELP)
    values = file.read(path, "name a .toml file; examples/ has some")
    base = values.pop(EXTENDS, None)
    lines = key_lines(path.read_text(encoding="utf-8"))
    places = {key: f"{path}:{line}" for key, line in lines.items()}
    if base is not None and not isinstance(base, str):
        raise InputError(f"{places[EXTENDS]}: extends is {base!r}", "it must be a text", HELP)
    whole = path.resolve()
    if whole in inside:
        raise InputError(
            f"{path} extends itself",
            " -> ".join(str(file) for file in (*inside[inside.index(whole) :], whole)),
            "leave extends out of one of them",
        )
    document = _read(path.parent / base, (*inside, whole)) if base else Document()
    folders = {key: path.parent for key in _keys(values)}
    document.lay_over(Document(values, places, folders))
    return document


def _set(document: Document, setting: str) -> Document:
    """`stage.bridge.train.lr=1e-5` as a document."""
    key, equals, text = setting.partition("=")
    if not equals:
        raise _no_setting(setting, "it has no =")
    try:
        values = tomllib.loads(f"{key} = {text}")
    except tomllib.TOMLDecodeError as error:
        # A shell takes quotes away: a word that TOML has no other use for is a text.
        if not _BARE.fullmatch(text):
            raise _no_setting(setting, str(error)) from error
        try:
            values = tomllib.loads(f'{key} = "{text}"')
        except tomllib.TOMLDecodeError as wrong:
            raise _no_setting(setting, str(wrong)) from wrong
    keys = list(_keys(values))
    stages = document.values.get("stage", {})
    names = keys[-1].split(".")
    if names[0] == "stage" and len(names) > 2 and names[1] not in stages:
        raise InputError(
            f"--set {key}: the recipe has no stage {names[1]!r}{did_you_mean(names[1], stages)}",
            f"it has {', '.join(stages)}",
        )
    return Document(values, dict.fromkeys(keys, f"--set {key}"), dict.fromkeys(keys, Path()))


def _no_setting(setting: str, why: str) -> InputError:
    return InputError(
        f"--set {setting} is no setting",
        why,
        "--set stage.bridge.train.lr=1e-5, or --set 'verifier=\"math-verify\"'",
    )


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value


def _keys(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Every dotted key, tables before what is in them."""
    for key, value in values.items():
        dotted = f"{before}{key}"
        yield dotted
        if isinstance(value, dict):
            yield from _keys(value, f"{dotted}.")


def _resolve_paths(document: Document) -> None:
    """Let every path start at the folder of the file that says it, not at the working directory."""
    for pattern in (*_PATHS, *_POLICIES):
        for table, key, dotted in _matches(document.values, pattern.split(".")):
            value = table[key]
            if not isinstance(value, str) or not value or "://" in value:
                continue
            folder = document.folders.get(dotted, Path())
            if pattern in _POLICIES and not _is_folder(folder, value):
                continue
            if not value.startswith("hf:"):
                table[key] = shown_path(folder / Path(value).expanduser())


def shown_path(path: Path) -> str:
    """A path as it is short to read: from the working directory where it lies below it."""
    whole, here = Path(os.path.normpath(path.absolute())), Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)


def _is_folder(folder: Path, location: str) -> bool:
    """Whether a policy's location is meant as a folder, there or missing, and not as a hub id."""
    parts = Path(location).parts
    first = folder / Path(location).expanduser() if len(parts) == 1 else folder / parts[0]
    return location.startswith((".", "/", "~")) or len(parts) > 2 or first.exists()


def _matches(
    table: Mapping[str, Any], pattern: Sequence[str], before: str = ""
) -> Iterator[tuple[Any, str, str]]:
    """Every (table, key, dotted key) that a pattern means."""
    name, *rest = pattern
    for key in list(table) if name == "*" else [name]:
        dotted = f"{before}{key}"
        if key in table and not rest:
            yield table, key, dotted
        elif key in table and isinstance(table[key], dict):
            yield from _matches(table[key], rest, f"{dotted}.")
