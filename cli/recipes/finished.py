"""What a finished recipe printed, kept in the user's cache: to say it again costs a second.

The key holds everything that the text follows from: the recipe as it was read, every file that it
names, the store's snapshot, the terminal, and the code of s2d itself. Whatever changes, the recipe
is worked out again.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cli.output import colored, terminal_width
from cli.recipes.schema import Recipe
from s2d_store.ids import content_id
from s2d_store.policies.hash_cache import cache_folder, keep
from s2d_store.store import Store
from s2d_store.version import __version__

_CODE = {".py", ".sql", ".html", ".md", ".tex", ".css", ".js"}


class Finished:
    """What one recipe prints on one store and one terminal, once nothing of it is left to do.

    Args:
        recipe: the recipe.
        chosen: the stages and seeds that were asked for.
    """

    def __init__(self, recipe: Recipe, chosen: Sequence[object]) -> None:
        self._recipe, self._chosen = recipe, chosen

    def said(self, store: Store) -> str | None:
        """What was printed when nothing was left to do; None where something may be."""
        with suppress(OSError, ValueError):
            return self._entry(store).read_text(encoding="utf-8")
        return None

    @contextmanager
    def noted(self, store: Store) -> Iterator[None]:
        """Keep what is printed inside the block, which leaves nothing to do."""
        tee = _Tee()
        with redirect_stdout(tee):
            yield
        keep(self._entry(store), tee.getvalue())

    def _entry(self, store: Store) -> Path:
        settings = asdict(self._recipe)
        del settings["places"]  # lines of the file decide nothing
        folder = store.backend.local_path(store.root)
        root = store.root if folder is None else folder.resolve()
        files = sorted({text for text in _texts(settings) if text and "\0" not in text})
        key = content_id(
            "finished",
            [__version__, *_code()],
            repr(settings),
            repr(self._chosen),
            [(text, _seen(Path(text).expanduser())) for text in files],
            [str(root), sorted(store.snapshot().versions.items())],
            [terminal_width(), colored(sys.stdout)],
        )
        return cache_folder("finished-recipes") / key


def _code() -> Iterator[tuple[str, int, int]]:
    """Name, size and time of each file of s2d: a checkout keeps one version over many changes."""
    for package in ("cli", "queries", "s2d_store", "trainers", "viewer"):
        found = find_spec(package)
        for folder in found.submodule_search_locations or () if found else ():
            for path in sorted(Path(folder).rglob("*")):
                if path.suffix in _CODE:
                    seen = path.stat()
                    yield str(path), seen.st_size, seen.st_mtime_ns


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _seen(path: Path) -> list[tuple[str, int, int]] | None:
    """Name, size and time of a file, or of those in a folder; None where neither is there."""
    try:
        files = [path] if path.is_file() else [f for f in path.iterdir() if f.is_file()]
        return sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files)
    except OSError:
        return None


class _Tee(io.StringIO):
    """Standard output that also remembers."""

    def __init__(self) -> None:
        super().__init__()
        self._out = sys.stdout

    def write(self, text: str) -> int:
        self._out.write(text)
        return super().write(text)

    def flush(self) -> None:
        self._out.flush()

    def isatty(self) -> bool:
        return self._out.isatty()
