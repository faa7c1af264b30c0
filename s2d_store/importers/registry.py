"""Importers by name: s2d's own and those of other packages (entry points `s2d.importers`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s2d_store import plugins
from s2d_store.errors import InputError, NotFoundError, did_you_mean
from s2d_store.importers import files
from s2d_store.importers.record import LogprobsKind, Read

GROUP = "s2d.importers"
AUTO = "auto"


@dataclass(frozen=True)
class Head:
    """What a file looks like: enough to tell its format.

    Attributes:
        path: the file.
        keys: names of its first record's fields, or of a Parquet file's columns.
        kind: its ending, unpacked: .jsonl, .json, .parquet, .eval, .pt.
    """

    path: Path
    keys: frozenset[str]
    kind: str


@dataclass(frozen=True)
class Importer:
    """One format.

    Attributes:
        name: as commands take it.
        version: the writer's version whose records it knows; stored with every row.
        about: the system, in a few words.
        claims: whether a file holds rollouts of this format.
        beside: whether a file belongs to the format and is read together with others.
        read: (path, name) -> records and rejects, one file at a time.
        columns: column of table rollouts, prompts or rewards -> where it comes from.
        left_out: what the files have and the store does not get as a column, and why.
        logprobs: which logprobs its files hold, where they hold any.
    """

    name: str
    version: str
    about: str
    claims: Callable[[Head], bool]
    read: Callable[[Path, str], Iterable[Read]]
    columns: Mapping[str, str]
    left_out: Sequence[str] = ()
    logprobs: LogprobsKind = "processed"
    beside: Callable[[Head], bool] = field(default=lambda head: False)


def names() -> list[str]:
    """Every importer's name; nothing of them is loaded."""
    return sorted(plugins.registered(GROUP))


def find(name: str) -> Importer:
    """An importer by name.

    Raises:
        NotFoundError: there is none of that name.
    """
    if name not in plugins.registered(GROUP):
        raise NotFoundError(
            f"no importer {name!r}{did_you_mean(name, names())}",
            f"there are: {', '.join(names())}",
            "s2d import auto PATH looks at the files; s2d import map PATH --map takes any JSONL",
        )
    return plugins.load_row(GROUP, name, Importer)


def head(path: Path) -> Head:
    """Look at a file's beginning."""
    kind = files.suffix(path)
    if path.suffix.lower() in (".eval", ".pt"):
        return Head(path, frozenset(), path.suffix.lower())
    if kind == ".json":
        value = files.json_file(path)
        return Head(path, frozenset(value) if isinstance(value, dict) else frozenset(), kind)
    if kind in (".jsonl", ".ndjson", ".parquet"):
        return Head(path, frozenset(files.first_record(path)), kind)
    return Head(path, frozenset(), kind)


@dataclass(frozen=True)
class Chosen:
    """The files of an import.

    Attributes:
        importer: their format.
        files: path and name of each, in order.
        ignored: files of the folders named that are something else.
    """

    importer: Importer
    files: tuple[tuple[Path, str], ...]
    ignored: tuple[str, ...]


def choose(name: str, paths: Sequence[str]) -> Chosen:
    """The files that a command names, and their format; folders are searched.

    Raises:
        NotFoundError: no such path, importer, or nothing of the format there.
        InputError: a file that was named is something else, or the files are of several formats.
    """
    heads, of_file = _heads(paths)
    importer = find(_only([h for h, _, _ in heads], of_file) if name == AUTO else name)
    return _taken(importer, paths, heads, of_file)


def chosen(importer: Importer, paths: Sequence[str]) -> Chosen:
    """The files of an importer at hand; see `choose`."""
    return _taken(importer, paths, *_heads(paths))


Heads = list[tuple[Head, str, bool]]


def _heads(paths: Sequence[str]) -> tuple[Heads, dict[Path, list[str]]]:
    if not paths:
        raise InputError("no path to import from", fix="s2d import FORMAT PATH...")
    heads = [(head(path), label, named) for path, label, named in _found(paths)]
    every = {n: find(n) for n in names()}
    return heads, {h.path: [n for n, i in every.items() if i.claims(h)] for h, _, _ in heads}


def _taken(
    importer: Importer, paths: Sequence[str], heads: Heads, of_file: Mapping[Path, list[str]]
) -> Chosen:
    taken, ignored = [], []
    for h, label, named in heads:
        if importer.claims(h):
            taken.append((h.path, label))
        elif importer.beside(h):
            continue
        elif named:
            raise _other(importer, h, of_file[h.path])
        else:
            ignored.append(label)
    if not taken:
        raise InputError(
            f"nothing of format {importer.name} in {', '.join(paths)}",
            _seen(of_file),
            "s2d import auto PATH looks for any format that s2d knows",
        )
    return Chosen(importer, tuple(taken), tuple(ignored))


def _found(paths: Sequence[str]) -> Iterator[tuple[Path, str, bool]]:
    """Path, its name in `source`, and whether the user named it; each file once."""
    seen: set[Path] = set()
    for text in paths:
        path = Path(text).expanduser()
        if not path.exists():
            raise NotFoundError(f"no file or folder {text}")
        inside = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in inside:
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if file.resolve() not in seen and not hidden:
                seen.add(file.resolve())
                label = file.name if file == path else file.relative_to(path).as_posix()
                yield file, label, file == path


def _only(heads: Sequence[Head], of_file: Mapping[Path, list[str]]) -> str:
    claimed = {h.path: of_file[h.path] for h in heads if of_file[h.path]}
    if not claimed:
        raise InputError(
            "none of the files is of a format that s2d knows",
            _keys(heads),
            "name its columns: s2d import map PATH --map prompt=FIELD --map text=FIELD",
        )
    for path, found in claimed.items():
        if len(found) > 1:
            raise InputError(
                f"{path.name} may be {' or '.join(found)}", fix=f"s2d import {found[0]} {path}"
            )
    formats = sorted({found[0] for found in claimed.values()})
    if len(formats) > 1:
        raise InputError(
            f"the files are of {len(formats)} formats: {', '.join(formats)}",
            _seen(claimed),
            f"import one at a time: s2d import {formats[0]} PATH",
        )
    return formats[0]


def _other(importer: Importer, h: Head, found: Sequence[str]) -> InputError:
    like = f"it looks like {' or '.join(found)}" if found else _keys([h])
    fix = f"s2d import {found[0]} {h.path}" if found else f"s2d import {importer.name} --help"
    return InputError(f"{h.path.name} is not a file of {importer.name}", like, fix)


def _seen(of_file: Mapping[Path, list[str]]) -> str:
    shown = [f"{path.name}: {' or '.join(found) or 'unknown'}" for path, found in of_file.items()]
    return "; ".join(shown[:5]) + (f"; and {len(shown) - 5} more files" if len(shown) > 5 else "")


def _keys(heads: Sequence[Head]) -> str:
    if not heads:
        return "there is no file"
    keys = ", ".join(sorted(heads[0].keys)[:12])
    return f"{heads[0].path.name} has {f'fields {keys}' if keys else 'no fields that can be read'}"
