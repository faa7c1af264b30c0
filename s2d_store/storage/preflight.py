"""Can a store be at a place, and be reached there? Asked before there is one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2d_store.errors import StoreError
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place

_OWN = {"tables", "pending", "sessions"}


def is_foreign(path: Place) -> bool:
    """Whether a store would not have its place to itself."""
    if isinstance(path, Path) and path.exists() and not path.is_dir():
        return True
    if isinstance(path, Path):
        return path.is_dir() and not all(_is_own(entry.name) for entry in path.iterdir())
    files = backend_of(path).list_files(path)
    return not all(_is_own(found.relative.split("/")[0]) for found in files)


def _is_own(name: str) -> bool:
    """Whether making a store leaves a folder or draft of the name when it is cut off."""
    return name in _OWN or (name.startswith(".") and name.endswith(".draft"))


def require_conditional_writes(root: Place) -> None:
    """Try out that an object is created once only, on which commits and locks rest; disks do so.

    Raises:
        StoreError: the service takes every write.
    """
    if isinstance(root, Path):
        return
    probe = root / "sessions" / f"probe-{uuid.uuid4().hex}"
    try:
        tag = probe.create(b"1")
        twice = probe.create(b"2")
        changed = probe.replace(b"3", tag) if tag and not twice else None
        late = probe.replace(b"4", tag) if tag and changed else None
    finally:
        probe.unlink(missing_ok=True)
    if not changed or late:
        raise StoreError(
            f"no store can be kept at {root}",
            "the service there does not do conditional writes (If-None-Match, If-Match), so two "
            "writers could undo each other's commits",
            "use a service that does: Amazon S3, Google Cloud Storage, Azure, MinIO, SeaweedFS",
        )


@contextmanager
def connection_errors(path: Place) -> Iterator[None]:
    """Turn what an object store refuses before there is a store into one error.

    Raises:
        StoreError: names the place, what the service said and the settings to look at.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if isinstance(path, Path):
            raise
        http = "scheme is not allowed" in str(error) or "http" in str(error).lower()
        raise StoreError(
            f"cannot reach the store at {path}",
            f"{error.strerror or error}",
            "check the bucket's name and, in the environment, the credentials, region and endpoint "
            "(docs/object_stores.md)"
            + ("; an http:// endpoint wants AWS_ALLOW_HTTP=true as well" if http else ""),
        ) from error
