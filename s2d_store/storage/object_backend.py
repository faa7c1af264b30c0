"""A store under a prefix of an object store: conditional writes, and locks that name a session."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from s2d_store.storage import leases, object_locks
from s2d_store.storage.location import FileInfo
from s2d_store.storage.object_path import ObjectPath

T = TypeVar("T")
READS, UPLOADS = 16, 8
# How often a snapshot is taken of all tables at once before it is taken one by one.
ROUNDS = 3
# Times that an object store may refuse to create an object which is not there.
MAX_CONFLICT_RETRIES = 100


class ObjectBackend:
    """Objects; see `Backend` for what each method promises."""

    late_writers = True

    # Files.

    def make_folder(self, folder: ObjectPath) -> None:
        """There are no folders."""

    def list_files(self, folder: ObjectPath) -> list[FileInfo]:
        """Every object below a prefix, by key."""
        skip = len(folder.key) + 1 if folder.key else 0
        found = [
            FileInfo(path, path.key[skip:], size, when.timestamp())
            for path, size, when in folder.below()
        ]
        return sorted(found, key=lambda file: file.relative)

    def names(self, folder: ObjectPath, after: str = "") -> list[str]:
        """Names of objects; those up to `after` are not asked for."""
        found = folder.below(after=after or None)
        return [path.name for path, *_ in found if path.parent == folder]

    def consecutive(self, folder: ObjectPath, name: str, first: int) -> list[int]:
        """By one listing."""
        there = set(self.names(folder, after=name.format(first - 1) if first else ""))
        found: list[int] = []
        while name.format(first + len(found)) in there:
            found.append(first + len(found))
        return found

    def real_path(self, folder: ObjectPath) -> str:
        """The URL."""
        return str(folder)

    def exists(self, path: ObjectPath) -> bool:
        """Whether an object is there."""
        return path.exists()

    def size(self, path: ObjectPath) -> int:
        """Bytes of an object."""
        return path.size()

    def identity(self, path: ObjectPath) -> object:
        """Not asked for, which would be a request each time."""
        return None

    def sha256(self, path: ObjectPath) -> str:
        """SHA-256 of an object's bytes, in hex."""
        digest = hashlib.sha256()
        for chunk in path.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def parquet_source(self, path: ObjectPath) -> Any:
        """An object to seek in."""
        from s2d_store.storage.object_reader import RangeFile

        return RangeFile(path)

    def read_all(self, paths: Sequence[ObjectPath]) -> Iterator[bytes]:
        """The objects' bytes; each is a request, so some are asked for at once."""
        with ThreadPoolExecutor(READS, thread_name_prefix="read-objects") as pool:
            yield from pool.map(ObjectPath.read_bytes, paths)

    @contextmanager
    def local_copy(self, path: ObjectPath) -> Iterator[Path]:
        """A download in a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="s2d-read-") as folder:
            # Its own name: the hash in it is checked.
            copy = Path(folder) / path.name
            path.download(copy)
            yield copy

    @contextmanager
    def draft_for(self, folder: ObjectPath) -> Iterator[Path]:
        """A temporary folder."""
        with tempfile.TemporaryDirectory(prefix="s2d-write-") as name:
            yield Path(name)

    def publish(self, file: Path, folder: ObjectPath) -> None:
        """Upload."""
        (folder / file.name).upload(file)

    def sync_folders(self, folders: Sequence[ObjectPath]) -> None:
        """There are no folders."""

    def create_if_absent(self, path: ObjectPath, data: bytes) -> bool:
        """A conditional put."""
        for _ in range(MAX_CONFLICT_RETRIES):
            if path.create(data) is not None:
                return True
            # An answer that got lost lets the client ask again, and find its own commit; and a
            # service may refuse one of two that come at once before the other is there.
            with suppress(FileNotFoundError):
                return path.read_bytes() == data
            time.sleep(random.uniform(0, 0.1))
        raise OSError(5, "the service refuses every writer of this object", str(path))

    def replace(self, path: ObjectPath, data: bytes) -> None:
        """Put."""
        path.write_bytes(data)

    def move(self, path: ObjectPath, target: ObjectPath) -> None:
        """Copy, then delete."""
        path.copy(target)
        path.unlink(missing_ok=True)

    def remove(self, path: ObjectPath) -> None:
        """Delete one object."""
        path.unlink(missing_ok=True)

    def storage_time(self, root: ObjectPath) -> float:
        """The service's clock, as it dates a new object."""
        probe = root / "sessions" / ".clock"
        probe.write_text("")
        found = next((when for path, _, when in probe.below() if path == probe), None)
        return time.time() if found is None else found.timestamp()

    def free_bytes(self, root: ObjectPath) -> int | None:
        """See `Backend`."""
        return None

    def contains(self, root: ObjectPath, name: str) -> bool:
        """Whether an object lies below the store's prefix."""
        return name.startswith(f"{root}/")

    def local_path(self, folder: ObjectPath) -> Path | None:
        """Not on this machine."""
        return None

    # Folders that appear and go as a whole.

    def folder_exists(self, folder: ObjectPath, marker: str) -> bool:
        """The marker makes the folder."""
        return (folder / marker).exists()

    def folders_with(self, parent: ObjectPath, marker: str) -> list[str]:
        """Prefixes that have the marker."""
        found = (file.relative.split("/") for file in self.list_files(parent))
        return sorted(parts[0] for parts in found if parts[1:] == [marker])

    @contextmanager
    def draft_folder(self, folder: ObjectPath) -> Iterator[Path]:
        """A temporary folder."""
        with tempfile.TemporaryDirectory(prefix="s2d-build-") as temporary:
            yield Path(temporary)

    def publish_folder(self, draft: Path, folder: ObjectPath, marker: str) -> None:
        """Upload, the marker last; what is not of the draft goes."""
        parts = [path for path in draft.iterdir() if path.name != marker]
        with ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload") as pool:
            list(pool.map(lambda path: (folder / path.name).upload(path), parts))
        (folder / marker).upload(draft / marker)
        names = {path.name for path in draft.iterdir()}
        for found in self.list_files(folder):
            if found.relative not in names:
                (folder / found.relative).unlink(missing_ok=True)

    def remove_folder(self, folder: ObjectPath, marker: str) -> None:
        """Delete the marker, then the rest."""
        (folder / marker).unlink(missing_ok=True)
        for found in self.list_files(folder):
            (folder / found.relative).unlink(missing_ok=True)

    def download(self, path: ObjectPath, target: Path) -> str:
        """Download, and hash meanwhile."""
        return path.download(target)

    # Who is at work.

    @contextmanager
    def register_writer(self, root: ObjectPath) -> Iterator[None]:
        """A session."""
        with leases.hold_lease(root):
            yield

    @contextmanager
    def try_block_writers(self, root: ObjectPath) -> Iterator[bool]:
        """Whether every other session is dead."""
        with leases.hold_lease(root) as mine:
            others = [
                found.relative
                for found in self.list_files(root / "sessions")
                if found.relative not in (mine, ".clock")
            ]
            yield all(leases.is_dead(root, name, wait=True) for name in others)

    @contextmanager
    def exclusive_lock(self, root: ObjectPath, name: str, *, wait: bool) -> Iterator[bool]:
        """An object that names the session of who holds it."""
        with object_locks.sole_object(root, root / "locks" / name, wait) as got:
            yield got

    def require_trust(self, root: ObjectPath) -> None:
        """Whether this process got through to the object store lately."""
        leases.require_trust(root)

    @contextmanager
    def hold_entry(
        self, root: ObjectPath, name: str, text: Callable[[Mapping[str, Any]], str]
    ) -> Iterator[ObjectPath]:
        """An object that names its writer's session."""
        with leases.hold_lease(root) as session:
            entry = root / "pending" / name
            entry.write_text(text({"session": session}))
            yield entry

    @contextmanager
    def claim_entry(self, root: ObjectPath, path: ObjectPath) -> Iterator[bytes | None]:
        """An entry whose session is dead, or that names none."""
        with ExitStack() as held:
            data: bytes | None = None
            with suppress(FileNotFoundError):  # its writer, or who took it up first, finished it
                session = _session_in(path.read_bytes())
                is_orphan = session is None or leases.is_dead(root, session, wait=False)
                if is_orphan and held.enter_context(
                    self.exclusive_lock(root, f".entry.{path.stem}", wait=False)
                ):
                    data = path.read_bytes()
            yield data

    def leftovers(self, root: ObjectPath, whole: set[str]) -> Iterator[FileInfo]:
        """Parts of datasets without a lock, and locks and sessions of the dead."""
        for file in self.list_files(root / "datasets"):
            if file.relative.split("/")[0] not in whole:
                yield file
        for file in self.list_files(root / "locks"):
            with suppress(FileNotFoundError):
                session = _session_in((root / "locks" / file.relative).read_bytes())
                if session is None or leases.is_dead(root, session, wait=False):
                    yield file
        for file in self.list_files(root / "sessions"):
            if leases.is_dead(root, file.relative, wait=False):
                yield file

    # Reading.

    def read_in_order(
        self, read: Callable[[ObjectPath], T], folders: Sequence[ObjectPath]
    ) -> list[T]:
        """Each folder is some requests that wait for each other, so all are asked at once. What two
        rounds find alike was there, all of it, between them.
        """
        if not folders:
            return []
        with ThreadPoolExecutor(len(folders), thread_name_prefix="snapshot") as pool:
            before = list(pool.map(read, folders))
            for _ in range(ROUNDS):
                after = list(pool.map(read, folders))
                if after == before:
                    return after
                before = after
        return [read(folder) for folder in folders]

    def register(self, con: Any, root: ObjectPath) -> None:
        """DuckDB reads through our own requests."""
        from s2d_store.storage.object_reader import RangeFiles

        con.register_filesystem(RangeFiles(root.bucket.split(":")[0]))


def _session_in(data: bytes) -> str | None:
    """The session that an entry or a lock names; None where it is not legible."""
    try:
        found = json.loads(data)["session"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None
