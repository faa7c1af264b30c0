"""A disk that loses power: what it surely holds at each step, and what may be there besides.

`PowerCuts` watches the calls that change a folder or flush it. Before each of them it can say what
a machine would find after a power cut there:

- `flushed`: only what was flushed. A file has the bytes of its last fsync (none: it is empty), a
  folder the names of its own last fsync.
- `empty files`: every name is there, but a file that was never flushed is empty, as file systems
  leave it that write names before bytes.
What a kill leaves is tested by itself (tests.tables.test_journal_machine).

The bytes of a flushed file are taken when it is flushed; whatever s2d and pyarrow write goes
through an fsync of Python's.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WATCHED = ("fsync", "link", "rename", "replace", "mkdir", "unlink", "rmdir")
STATES = ("flushed", "empty files")


class PowerCuts:
    """What the disk under a folder holds.

    Attributes:
        names: of each folder, by its inode, the names that were flushed and their inodes.
        contents: of each file, by its inode, its flushed bytes.
    """

    def __init__(self, root: Path) -> None:
        """All that is there already is taken to be flushed."""
        self.root = root
        self.names: dict[int, dict[str, int]] = {}
        self.contents: dict[int, bytes] = {}
        self._open: dict[int, int] = {}
        root.parent.mkdir(parents=True, exist_ok=True)
        self._flush_folder(root.parent)
        for folder, _, files in os.walk(root):
            self._flush_folder(Path(folder))
            for name in files:
                self._flush_file(Path(folder) / name)

    def close(self) -> None:
        """Let the files go."""
        for descriptor in self._open.values():
            os.close(descriptor)

    def flushed(self, descriptor: int) -> None:
        """A file or folder was flushed."""
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if not path.is_relative_to(self.root.parent):
            return
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self._flush_folder(path)
        else:
            self._flush_file(path)

    def _flush_folder(self, path: Path) -> None:
        with os.scandir(path) as entries:
            self.names[path.stat().st_ino] = {entry.name: entry.inode() for entry in entries}

    def _flush_file(self, path: Path) -> None:
        inode = path.stat().st_ino
        # An open file keeps its inode from being given to another.
        if inode not in self._open:
            self._open[inode] = os.open(path, os.O_RDONLY)
        self.contents[inode] = path.read_bytes()

    def write(self, state: str, target: Path) -> None:
        """Write to `target` what the folder holds after a power cut here."""
        if state == "flushed":
            inode = self.names.get(self.root.parent.stat().st_ino, {}).get(self.root.name)
            self._write_flushed(inode, target)
            return
        for folder, _, files in os.walk(self.root):
            inside = target / Path(folder).relative_to(self.root)
            inside.mkdir(parents=True)
            for name in files:
                path = Path(folder) / name
                data = path.read_bytes()
                if state == "empty files":
                    data = self.contents.get(path.stat().st_ino, b"")
                (inside / name).write_bytes(data)

    def _write_flushed(self, inode: int | None, target: Path) -> None:
        if inode is None:
            return
        target.mkdir()
        for name, inner in self.names.get(inode, {}).items():
            if inner in self.contents:
                (target / name).write_bytes(self.contents[inner])
            elif inner in self.names or self._is_folder(inner):
                self._write_flushed(inner, target / name)
            else:
                (target / name).write_bytes(b"")

    def _is_folder(self, inode: int) -> bool:
        return any(Path(folder).stat().st_ino == inode for folder, _, _ in os.walk(self.root))


@contextmanager
def watched(cuts: PowerCuts, at_each: Callable[[str], None]) -> Iterator[None]:
    """Call `at_each` with a description before every call that changes or flushes something."""
    originals = {name: getattr(os, name) for name in WATCHED}
    looking = False

    def wrap(name: str) -> Callable[..., Any]:
        original = originals[name]

        def call(*given: Any, **options: Any) -> Any:
            nonlocal looking
            if looking:
                return original(*given, **options)
            looking = True
            try:
                of = given[:1] if name == "mkdir" else given[:2]
                at_each(f"{name} {', '.join(_shown(value) for value in of)}")
            finally:
                looking = False
            made = original(*given, **options)
            if name == "fsync":
                cuts.flushed(given[0])
            return made

        return call

    try:
        for name in WATCHED:
            setattr(os, name, wrap(name))
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def _shown(value: Any) -> str:
    """A path as text, a descriptor as the path that it has open."""
    return os.readlink(f"/proc/self/fd/{value}") if isinstance(value, int) else str(value)


def kind_of(step: str) -> str:
    """A step without what tells apart two of one kind: hashes, numbers, and the table of a file
    that decides nothing. Names given to a commit keep it: between two tables one is half done.
    """
    step = re.sub(r"[0-9a-f]{6,}|\d+|(?<=\.)tmp\w*", "#", step)
    if "_delta_log" not in step:
        return re.sub(r"/tables/[^/ ]+/[^ ]*", "/tables/file", step)
    named = step.startswith(("link ", "rename ", "replace ")) and "_delta_log/#.json" in step
    return step if named else re.sub(r"/tables/[^/ ]+/", "/tables/any/", step)


@dataclass(frozen=True)
class Cut:
    """What a power cut leaves.

    Attributes:
        step: the call before which power is cut, and which state of the disk is taken.
        folder: the store as it is found.
        returned: parts of the work that had returned by then.
    """

    step: str
    folder: Path
    returned: int


def _digest(root: Path) -> str:
    """Of names and bytes; folders alone count for nothing."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def every_cut(
    root: Path, scratch: Path, work: Sequence[Callable[[], object]], *, by_kind: bool = False
) -> list[Cut]:
    """Do some work on a store, and keep each state that a power cut in it leaves.

    Args:
        root: the store's folder, or where it will lie.
        scratch: where the copies go.
        work: parts, one after another; each is to last once it returned.
        by_kind: cut before the first step of each kind alone, in one state of the disk in turn.
    """
    cuts, found, returned = PowerCuts(root), list[Cut](), 0
    seen: set[tuple[int, str]] = set()
    kinds: set[str] = set()

    def keep(step: str) -> None:
        kind = kind_of(step)
        if by_kind and kind in kinds:
            return
        kinds.add(kind)
        # Where a commit gets its name, both states of the disk; elsewhere one, in turn.
        both = not by_kind or "_delta_log/#.json" in kind
        for state in STATES if both else STATES[len(kinds) % 2 :][:1]:
            copy = scratch / f"{len(found):04d}" / root.name
            copy.parent.mkdir(parents=True)
            cuts.write(state, copy)
            # Most steps leave what the step before them left.
            left = returned, _digest(copy)
            if left in seen:
                shutil.rmtree(copy.parent)
                continue
            seen.add(left)
            found.append(Cut(f"{step} ({state})", copy, returned))

    try:
        with watched(cuts, keep):
            for part in work:
                part()
                returned += 1
        keep("the end")
    finally:
        cuts.close()
    return found
