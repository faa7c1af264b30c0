"""Paths on an object store (S3, Google Cloud Storage, Azure) and the few calls that we need there.

An object appears whole or not at all. `create` and `replace` are conditional: of several processes
that ask for the same, one gets it. Commits and locks rest on that, so a service that ignores the
conditions cannot hold a store (`Store.init` tries it out).

Credentials and endpoints come from the environment (docs/object_stores.md), under the names that
delta-rs reads as well: both use the Rust crate `object_store`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError

SCHEMES = ("s3", "gs", "az")
# What needs no escaping in a URL: Delta logs, DuckDB and the service then name a file alike.
_URL = re.compile(r"(?:s3|gs|az)://[A-Za-z0-9][\w.-]*(?:/[\w.=@+-]+)*/?")
_RETRY: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# Above this, an upload is cut into parts.
_PART_BYTES = 32 << 20


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object or a prefix of some: like a `pathlib.Path`, where it has the same method.

    Attributes:
        bucket: URL of the bucket or container, as `s3://NAME`.
        key: key without a leading slash; empty for the bucket.
    """

    bucket: str
    key: str

    @classmethod
    def parse(cls, url: str) -> ObjectPath:
        """Read `s3://BUCKET/PREFIX`, `gs://...` or `az://CONTAINER/...`.

        Raises:
            InputError: another scheme, or letters that would need escaping.
        """
        parts = url.split("/")
        if not _URL.fullmatch(url) or {".", ".."} & set(parts):
            raise InputError(
                f"{url!r} is no place for a store",
                f"a URL starts with {', '.join(f'{s}://' for s in SCHEMES)} and a bucket; names "
                "hold letters, digits and . _ - = @ +",
                "--store s3://BUCKET/PREFIX, or a local folder",
            )
        scheme, _, bucket, *key = url.rstrip("/").split("/")
        return cls(f"{scheme}//{bucket}", "/".join(key))

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    def __truediv__(self, name: object) -> ObjectPath:
        return self.joinpath(str(name))

    def joinpath(self, *names: str) -> ObjectPath:
        """This path with names appended."""
        return ObjectPath(self.bucket, "/".join([self.key, *names]).strip("/"))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return Path(self.name).stem

    @property
    def parent(self) -> ObjectPath:
        """The prefix that this lies in."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def with_name(self, name: str) -> ObjectPath:
        """Another object of the same prefix."""
        return self.parent / name

    def exists(self) -> bool:
        """Whether there is such an object; a prefix of objects is none itself."""
        return self.tag() is not None

    def tag(self) -> dict[str, str] | None:
        """What tells this content of the object from any other; None if there is no object."""
        try:
            return _tag(self._meta())
        except FileNotFoundError:
            return None

    def size(self) -> int:
        """Bytes of the object."""
        return int(self._meta()["size"])

    def _meta(self) -> Any:
        import obstore

        with _errors(self):
            return obstore.head(_client(self.bucket), self.key)

    def read_bytes(self) -> bytes:
        """The object's bytes."""
        return self.read_tagged()[0]

    def read_text(self, encoding: str = "utf-8") -> str:
        """The object's bytes as text."""
        return self.read_bytes().decode(encoding)

    def read_tagged(self) -> tuple[bytes, dict[str, str]]:
        """The object's bytes, and the tag to replace just these."""
        import obstore

        with _errors(self):
            found = obstore.get(_client(self.bucket), self.key)
            return bytes(found.bytes()), _tag(found.meta)

    def chunks(self) -> Iterator[bytes]:
        """The object's bytes, some megabytes at a time."""
        import obstore

        with _errors(self):
            for chunk in obstore.get(_client(self.bucket), self.key).stream(_PART_BYTES // 4):
                yield bytes(chunk)

    def write_bytes(self, data: bytes) -> None:
        """Put the object, whatever was there."""
        import obstore

        with _errors(self):
            obstore.put(_client(self.bucket), self.key, data)

    def write_text(self, text: str) -> None:
        """Put the object as text, whatever was there."""
        self.write_bytes(text.encode())

    def copy(self, target: ObjectPath) -> None:
        """Put the same bytes at another key of the bucket."""
        import obstore

        with _errors(self):
            obstore.copy(_client(self.bucket), self.key, target.key)

    def create(self, data: bytes) -> dict[str, str] | None:
        """Put an object where there is none, and give its tag; None where there is one."""
        return self._put(data, "create")

    def replace(self, data: bytes, tag: dict[str, str]) -> dict[str, str] | None:
        """Put an object in the place of the tagged one; None where that is not there any more."""
        return self._put(data, tag)

    def _put(self, data: bytes, mode: Any) -> dict[str, str] | None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError

        with _errors(self):
            try:
                done = obstore.put(_client(self.bucket), self.key, data, mode=mode)
            except (AlreadyExistsError, PreconditionError, NotFoundError):
                return None
            return _tag(done)

    def upload(self, file: Path) -> None:
        """Put a local file's bytes; an object that was there is replaced."""
        import obstore

        with _errors(self):
            obstore.put(_client(self.bucket), self.key, file, chunk_size=_PART_BYTES)

    def download(self, file: Path) -> str:
        """Write the object to a local file; returns the SHA-256 of its bytes in hex."""
        digest = hashlib.sha256()
        with file.open("wb") as target:
            for chunk in self.chunks():
                digest.update(chunk)
                target.write(chunk)
        return digest.hexdigest()

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object; most services do not say whether there was one."""
        import obstore

        with _errors(self):
            try:
                obstore.delete(_client(self.bucket), self.key)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def below(self, after: str | None = None) -> Iterator[tuple[ObjectPath, int, datetime]]:
        """Every object under this prefix, with its bytes and when it was put, in no order.

        Args:
            after: leave out what sorts before this name, without asking for it.
        """
        import obstore

        with _errors(self):
            begin = None if after is None else f"{self.key}/{after}"
            for page in obstore.list(_client(self.bucket), prefix=self.key or None, offset=begin):
                for found in page:
                    path = ObjectPath(self.bucket, found["path"])
                    yield path, int(found["size"]), found["last_modified"]

    def read_range(self, start: int, end: int) -> Any:
        """The object's bytes from `start` to before `end`, as a buffer."""
        import obstore

        with _errors(self):
            return obstore.get_range(_client(self.bucket), self.key, start=start, end=end)

    def read_tail(self, n: int) -> tuple[int, bytes]:
        """The object's size, and its last bytes, `n` or all of them."""
        import obstore

        if self.bucket.startswith("az:"):  # which has no ranges that count from the end
            size = self.size()
            return size, bytes(self.read_range(max(0, size - n), size)) if size else b""
        with _errors(self):
            options: Any = {"range": {"suffix": n}}
            found = obstore.get(_client(self.bucket), self.key, options=options)
            return int(found.meta["size"]), bytes(found.bytes())


def _tag(found: Any) -> dict[str, str]:
    """Etag and, where the service has one, version of an object."""
    return {key: found[key] for key in ("e_tag", "version") if found.get(key)}


@lru_cache
def _client(bucket: str) -> Any:
    from obstore.store import from_url

    make: Any = from_url
    return make(bucket, retry_config=_RETRY)


@contextmanager
def _errors(path: ObjectPath) -> Iterator[None]:
    """Turn what the service said into the OSError that a local disk would have raised."""
    from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError

    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(2, "no such object", str(path)) from error
    except FileNotFoundError as error:
        raise FileNotFoundError(2, "no such object", str(path)) from error
    except PermissionDeniedError as error:
        raise PermissionError(13, f"access denied: {_line(error)}", str(path)) from error
    except BaseError as error:
        raise OSError(5, _line(error), str(path)) from error


def _line(error: Exception) -> str:
    """What the service said, without the debug output that follows it."""
    text = " ".join(str(error).split("Debug source:")[0].split())
    return text[:300]
