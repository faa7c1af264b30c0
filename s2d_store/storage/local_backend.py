"""A store in a local folder: files, renames, and advisory locks that die with their process."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import IO, Any, TypeVar

from s2d_store.storage import fault_points
from s2d_store.storage.location import FileInfo

T = TypeVar("T")
# A run's lock is named like the run, which cannot start with a dot.
_WRITERS = ".writers"
_DRAFTS = ("datasets/.*.draft", "pending/*.draft", "tables/*/_delta_log/.*.draft", ".*.draft")


class LocalBackend:
    """Files of a local folder; see `Backend` for what each method promises."""

    late_writers = False

    # Files.

    def make_folder(self, folder: Path) -> None:
        """Make a folder and its parents."""
        _make_folders(folder)

    def list_files(self, folder: Path) -> list[FileInfo]:
        """Every file below a folder, by path."""
        return sorted(_files(folder), key=lambda file: file.relative)

    def names(self, folder: Path, after: str = "") -> list[str]:
        """Names of the files that lie in a folder itself."""
        try:
            return [name for name in os.listdir(folder) if name > after]
        except FileNotFoundError:
            return []

    def consecutive(self, folder: Path, name: str, first: int) -> list[int]:
        """By asking for one after another: listing a long log takes longer."""
        found: list[int] = []
        while (folder / name.format(first + len(found))).exists():
            found.append(first + len(found))
        return found

    def real_path(self, folder: Path) -> str:
        """The path with links followed."""
        return os.path.realpath(folder)

    def exists(self, path: Path) -> bool:
        """Whether a file is there."""
        return path.exists()

    def size(self, path: Path) -> int:
        """Bytes of a file."""
        return path.stat().st_size

    def identity(self, path: Path) -> object:
        """Inode and time of the last change."""
        state = path.stat()
        return state.st_ino, state.st_mtime_ns

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file's bytes, in hex; the interpreter is free meanwhile."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def parquet_source(self, path: Path) -> Path:
        """The path."""
        return path

    def read_all(self, paths: Sequence[Path]) -> Iterator[bytes]:
        """The files' bytes, one after another."""
        return (path.read_bytes() for path in paths)

    @contextmanager
    def local_copy(self, path: Path) -> Iterator[Path]:
        """The file itself."""
        yield path

    @contextmanager
    def draft_for(self, folder: Path) -> Iterator[Path]:
        """The folder itself."""
        _make_folders(folder)
        yield folder

    def publish(self, file: Path, folder: Path) -> None:
        """The file lies there already."""

    def sync_folders(self, folders: Sequence[Path]) -> None:
        """Flush the names in each folder."""
        for folder in dict.fromkeys(folders):
            _sync_folder(folder)

    def create_if_absent(self, path: Path, data: bytes) -> bool:
        """Write a draft, and link it to its name."""
        draft = _draft(path)
        try:
            _write_synced(draft, data)
            fault_points.reach(f"link {path.name}")
            _link(draft, path)
            _sync_folder(path.parent)
            fault_points.reach(f"linked {path.name}")
        except FileExistsError:
            # A network's disk may have asked twice, and find its own.
            return path.read_bytes() == data
        finally:
            with suppress(FileNotFoundError):
                draft.unlink()
        return True

    def replace(self, path: Path, data: bytes) -> None:
        """Write a draft, and rename it over what was there."""
        draft = _draft(path)
        try:
            _write_synced(draft, data)
            fault_points.reach(f"replace {path.name}")
            os.replace(draft, path)
            _sync_folder(path.parent)
        finally:
            draft.unlink(missing_ok=True)

    def move(self, path: Path, target: Path) -> None:
        """Rename, and date it now."""
        _make_folders(target.parent)
        os.utime(path)
        os.replace(path, target)

    def remove(self, path: Path) -> None:
        """Delete a file or a folder."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def storage_time(self, root: Path) -> float:
        """This machine's clock."""
        return time.time()

    def free_bytes(self, root: Path) -> int | None:
        """See `Backend`."""
        return shutil.disk_usage(root).free

    def contains(self, root: Path, name: str) -> bool:
        """Whether a file lies below the store's folder, links followed."""
        return Path(name).resolve().is_relative_to(root.resolve())

    def local_path(self, folder: Path) -> Path | None:
        """The folder itself."""
        return folder

    # Folders that appear and go as a whole.

    def folder_exists(self, folder: Path, marker: str) -> bool:
        """Whether something has the folder's name."""
        return folder.exists()

    def folders_with(self, parent: Path, marker: str) -> list[str]:
        """Folders that hold the marker."""
        return sorted(path.parent.name for path in parent.glob(f"[!.]*/{marker}"))

    @contextmanager
    def draft_folder(self, folder: Path) -> Iterator[Path]:
        """A hidden folder beside the one that it will be."""
        draft = _hidden_sibling(folder)
        _make_folders(folder.parent)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def publish_folder(self, draft: Path, folder: Path, marker: str) -> None:
        """Rename; a kill between the two renames leaves no folder of the name."""
        _sync_folder(draft)
        if folder.exists():
            old = _hidden_sibling(folder)
            os.rename(folder, old)
            os.rename(draft, folder)
            _sync_folder(folder.parent)
            shutil.rmtree(old)
        else:
            os.rename(draft, folder)
            _sync_folder(folder.parent)

    def remove_folder(self, folder: Path, marker: str) -> None:
        """Delete it under another name: a kill must not leave a lock without its files."""
        doomed = _hidden_sibling(folder)
        os.rename(folder, doomed)
        shutil.rmtree(doomed)

    def download(self, path: Path, target: Path) -> str:
        """Copy the file."""
        shutil.copyfile(path, target)
        return self.sha256(target)

    # Who is at work.

    @contextmanager
    def register_writer(self, root: Path) -> Iterator[None]:
        """A shared lock on one file of the store."""
        with _lock_file(root, _WRITERS) as file:
            flock(file, LOCK_SH)
            yield

    @contextmanager
    def try_block_writers(self, root: Path) -> Iterator[bool]:
        """The same file's exclusive lock."""
        with _lock_file(root, _WRITERS) as file:
            yield _flocked(file)

    @contextmanager
    def exclusive_lock(self, root: Path, name: str, *, wait: bool) -> Iterator[bool]:
        """An exclusive lock on a file of its own."""
        with _lock_file(root, name) as file:
            if wait:
                flock(file, LOCK_EX)
            yield wait or _flocked(file)

    def require_trust(self, root: Path) -> None:
        """A process that lives holds what it holds."""

    @contextmanager
    def hold_entry(
        self, root: Path, name: str, text: Callable[[Mapping[str, Any]], str]
    ) -> Iterator[Path]:
        """A file that is locked before it gets its name."""
        folder = root / "pending"
        _make_folders(folder)
        draft, path = folder / f"{name}.draft", folder / name
        with draft.open("x+b") as file:
            file.write(text({}).encode())
            file.flush()
            os.fsync(file.fileno())
            _flocked(file)
            fault_points.reach("name entry")
            draft.rename(path)
            _sync_folder(folder)
            fault_points.reach("entry is named")
            yield path

    @contextmanager
    def claim_entry(self, root: Path, path: Path) -> Iterator[bytes | None]:
        """An entry whose lock nobody holds."""
        try:
            file = path.open("r+b")
        except FileNotFoundError:
            yield None
            return
        with file:
            yield file.read() if _flocked(file) and path.exists() else None

    def leftovers(self, root: Path, whole: set[str]) -> Iterator[FileInfo]:
        """Drafts; a lock that nobody holds is only an empty file."""
        for pattern in _DRAFTS:
            for path in root.glob(pattern):
                inside = self.list_files(path) if path.is_dir() else []
                try:
                    state = path.stat()
                except FileNotFoundError:
                    continue
                size = sum(file.size for file in inside) if path.is_dir() else state.st_size
                yield FileInfo(path, path.name, size, state.st_mtime)

    # Reading.

    def read_in_order(self, read: Callable[[Path], T], folders: Sequence[Path]) -> list[T]:
        """One after another."""
        return [read(folder) for folder in folders]

    def register(self, con: Any, root: Path) -> None:
        """DuckDB reads local files by itself."""


def _files(folder: Path) -> Iterator[FileInfo]:
    for path in folder.rglob("*"):
        try:
            state = path.stat()
        except FileNotFoundError:  # gone meanwhile
            continue
        if path.is_file():
            relative = path.relative_to(folder).as_posix()
            yield FileInfo(path, relative, state.st_size, state.st_mtime)


def _draft(path: Path) -> Path:
    return path.with_name(f".{uuid.uuid4().hex}.draft")


def _hidden_sibling(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.draft")


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link(draft: Path, path: Path) -> None:
    """Give a draft its name, where nothing has it.

    Raises:
        FileExistsError: something has it.
        OSError: the file system has no hard links; nothing else there gives one of two writers a
            name and tells the other.
    """
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(
                error.errno,
                "this file system has no hard links, on which commits rest; "
                "keep the store on another disk (ext4, xfs, btrfs, NFS) or an object store",
                str(path),
            ) from error
        raise


def _make_folders(folder: Path) -> None:
    """Make a folder and its parents, each flushed in the folder that it lies in."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, without which a power loss takes them back."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        # Some network file systems do so by themselves, and refuse to be asked.
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    finally:
        os.close(opened)


def _lock_file(root: Path, name: str) -> IO[str]:
    folder = root / "locks"
    folder.mkdir(exist_ok=True)
    return (folder / name).open("a")


def _flocked(file: IO[Any]) -> bool:
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True
