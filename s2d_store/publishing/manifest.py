"""What a published folder says of itself: `s2d.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError, NotFoundError
from s2d_store.schema import FORMAT_VERSION, TABLES

NAME = "s2d.json"
# Raised where a reader of an older layout would be wrong.
LAYOUT = 1


@dataclass(frozen=True)
class Published:
    """The manifest.

    Attributes:
        of: `dataset` or `store`.
        name: the dataset's name, or the store's folder's.
        epochs: of each epoch its files by table, relative to the folder.
        locks: of each lock, by name, the epoch at whose end it was built.
        hashes: SHA-256 of each file, by its path.
    """

    of: str
    name: str
    epochs: tuple[dict[str, list[str]], ...]
    locks: dict[str, int]
    hashes: dict[str, str]

    def text(self) -> str:
        """As it is written."""
        record = {
            "published": LAYOUT,
            "format_version": FORMAT_VERSION,
            "of": self.of,
            "name": self.name,
            "epochs": list(self.epochs),
            "locks": self.locks,
            "sha256": self.hashes,
        }
        return json.dumps(record, indent=2) + "\n"


def read(folder: Path) -> Published:
    """The manifest of a folder, its paths checked: it may be a stranger's.

    Raises:
        NotFoundError: there is none.
        InputError: it is of another layout or format, or names files elsewhere.
    """
    try:
        found: Any = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"{folder} is nothing that s2d published", f"it has no {NAME}", "s2d publish --help"
        ) from error
    except ValueError as error:
        raise InputError(f"{folder / NAME} is not JSON", str(error), "publish it again") from error
    known = isinstance(found, dict) and found.get("published") == LAYOUT
    if not known or found.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{folder / NAME} is of another layout than this s2d reads",
            f"it reads layout {LAYOUT} with format version {FORMAT_VERSION}",
            "install the s2d release that published it",
        )
    try:
        epochs = tuple(
            {t: [str(f) for f in files] for t, files in e.items()} for e in found["epochs"]
        )
        locks = {str(name): int(epoch) for name, epoch in found["locks"].items()}
        hashes = {str(path): str(digest) for path, digest in found["sha256"].items()}
        made = Published(str(found["of"]), str(found["name"]), epochs, locks, hashes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder / NAME} is damaged", f"{type(error).__name__}: {error}", "fetch it again"
        ) from error
    for files in made.epochs:
        for table, paths in files.items():
            if table not in TABLES or not all(_is_below(path) for path in paths):
                raise InputError(
                    f"{folder / NAME} names files of {table!r} elsewhere than below tables/",
                    "what s2d publishes lies there",
                    "do not use it: s2d writes no such file",
                )
    return made


def _is_below(path: str) -> bool:
    parts = Path(path).parts
    return len(parts) == 3 and parts[0] == "tables" and ".." not in parts
