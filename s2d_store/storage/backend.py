"""What the rest of s2d asks of the place where a store lies, in one protocol.

`LocalBackend` answers for folders, `ObjectBackend` for object stores. Who wants to know how a store
on a disk works reads local_backend.py and can skip everything about objects. Nothing outside of
this package asks which of the two it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from s2d_store.storage.local_backend import LocalBackend
from s2d_store.storage.location import FileInfo, Place, is_url, parse_location
from s2d_store.storage.object_backend import ObjectBackend
from s2d_store.storage.object_path import ObjectPath

P = TypeVar("P")
T = TypeVar("T")


class Backend(Protocol[P]):
    """Files, locks and clocks of one kind of place; `P` is the type of its paths.

    Attributes:
        late_writers: whether a writer that was taken for dead may wake up and go on. A local lock
            dies with its process, so there it cannot.
    """

    late_writers: bool

    # Files.

    def make_folder(self, folder: P) -> None:
        """Make a folder and its parents; object stores have none."""

    def list_files(self, folder: P) -> list[FileInfo]:
        """Every file below a folder, by path; none where there is no folder."""

    def names(self, folder: P, after: str = "") -> list[str]:
        """Names of the files that lie in a folder itself and sort after a text, in no order."""

    def consecutive(self, folder: P, name: str, first: int) -> list[int]:
        """The numbers from `first` on, without a gap, whose files are there.

        Args:
            folder: the files'.
            name: format of their names, which sort like their numbers.
            first: number to begin with.
        """

    def real_path(self, folder: P) -> str:
        """The folder's path, links followed: what DuckDB compares with what it may read."""

    def exists(self, path: P) -> bool:
        """Whether a file is there."""

    def size(self, path: P) -> int:
        """Bytes of a file."""

    def identity(self, path: P) -> object:
        """What tells a file from another that was put in its place; None where nothing does."""

    def sha256(self, path: P) -> str:
        """SHA-256 of a file's bytes, in hex."""

    def parquet_source(self, path: P) -> Any:
        """What `pq.ParquetFile` and `pq.read_schema` open."""

    def read_all(self, paths: Sequence[P]) -> Iterator[bytes]:
        """The bytes of small files, in the order given."""

    def local_copy(self, path: P) -> AbstractContextManager[Path]:
        """A local file with the same bytes and name, until the block ends."""

    def draft_for(self, folder: P) -> AbstractContextManager[Path]:
        """A local folder to write a file in that `publish` then takes to `folder`."""

    def publish(self, file: Path, folder: P) -> None:
        """Take a written file from its draft folder to where it belongs."""

    def sync_folders(self, folders: Sequence[P]) -> None:
        """See to it that the names of the files in these folders outlive a power loss."""

    def create_if_absent(self, path: P, data: bytes) -> bool:
        """Write a file, all of it at once, where there is none; False where another one is.

        On return it is on the disk, its name too.
        """

    def replace(self, path: P, data: bytes) -> None:
        """Write a file, all of it at once, whatever was there; on return it is on the disk."""

    def move(self, path: P, target: P) -> None:
        """Give a file another place, where its age begins anew."""

    def remove(self, path: P) -> None:
        """Delete a file, or a folder with all that is in it; nothing where there is none."""

    def storage_time(self, root: P) -> float:
        """Seconds since 1970 by the clock that dates the store's files."""

    def free_bytes(self, root: P) -> int | None:
        """Bytes that can still be written; None where nobody knows."""

    def contains(self, root: P, name: str) -> bool:
        """Whether a file of this name is among the store's."""

    def local_path(self, folder: P) -> Path | None:
        """Where a folder lies on this machine; None where its files have to be fetched."""

    # Folders that appear and go as a whole: locked datasets.

    def folder_exists(self, folder: P, marker: str) -> bool:
        """Whether something has a folder's place; on an object store the file `marker` says so."""

    def folders_with(self, parent: P, marker: str) -> list[str]:
        """Names of the folders in `parent` that hold a file `marker`, sorted; hidden ones not."""

    def draft_folder(self, folder: P) -> AbstractContextManager[Path]:
        """A local folder to fill for `publish_folder`; what is left of it goes with the block."""

    def publish_folder(self, draft: Path, folder: P, marker: str) -> None:
        """Make a filled draft the folder, in place of what was there; `marker` comes last."""

    def remove_folder(self, folder: P, marker: str) -> None:
        """Delete a folder; `marker` goes first, so that a kill leaves no half of a whole one."""

    def download(self, path: P, target: Path) -> str:
        """Write a file's bytes to a local file; returns their SHA-256 in hex."""

    # Who is at work.

    def register_writer(self, root: P) -> AbstractContextManager[None]:
        """Hold while files are written that nobody has committed; waits for a sweep to end."""

    def try_block_writers(self, root: P) -> AbstractContextManager[bool]:
        """Whether nobody is writing. If so, nobody begins before the block ends; on an object store
        somebody may, whose files are younger than any grace, since the service dates them.
        """

    def exclusive_lock(self, root: P, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Hold a lock that one process has at a time; False where another does, unless it waits."""

    def require_trust(self, root: P) -> None:
        """Refuse to go on where others may have taken this process for dead.

        Raises:
            StoreError: they may.
        """

    def hold_entry(
        self, root: P, name: str, text: Callable[[Mapping[str, Any]], str]
    ) -> AbstractContextManager[P]:
        """Write `pending/NAME` and be known as its live writer until the block ends.

        Args:
            root: the store.
            name: of the entry.
            text: makes the entry's text, told what it has to hold for this backend.
        """

    def claim_entry(self, root: P, path: P) -> AbstractContextManager[bytes | None]:
        """The bytes of a dead writer's entry, which nobody else takes up meanwhile; else None."""

    def leftovers(self, root: P, whole: set[str]) -> Iterator[FileInfo]:
        """What killed processes left besides data files: drafts, locks and sessions of the dead.

        Args:
            root: the store.
            whole: names of the datasets that are whole.
        """

    # Reading.

    def read_in_order(self, read: Callable[[P], T], folders: Sequence[P]) -> list[T]:
        """What `read` finds in each folder, as one moment had it or in the order given."""

    def register(self, con: Any, root: P) -> None:
        """Let a DuckDB connection read the store's files."""


LOCAL: Backend[Path] = LocalBackend()
OBJECTS: Backend[ObjectPath] = ObjectBackend()


def backend_of(location: Place) -> Backend[Any]:
    """The backend that answers for a location."""
    return OBJECTS if isinstance(location, ObjectPath) else LOCAL


def parquet_source(path: str | Place) -> Any:
    """What `pq.ParquetFile` and `pq.read_schema` open: the path, or an object to seek in."""
    if isinstance(path, str):
        if not is_url(path):
            return path
        path = parse_location(path)
    return backend_of(path).parquet_source(path)
