"""Files of dumps, read row by row in bounded memory: JSONL (plain, gz, zst, zip), JSON, Parquet.

JSON may hold NaN and Infinity, as Python writes them. Nothing here opens a pickle.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.errors import InputError
from s2d_store.importers.record import Read, Reject
from s2d_store.prompts import plain_json

MAX_LINE_BYTES = 256 << 20
MAX_JSON_BYTES = 1 << 30
BATCH_ROWS = 512
PACKED = (".gz", ".zst", ".zip")
# What reading bytes of a damaged or cut file raises.
DAMAGE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, pa.ArrowException)
# What a mapping raises on a record of another version or shape.
OTHER_SHAPE = (KeyError, TypeError, IndexError, ValueError, AttributeError)


@dataclass(slots=True)
class Line:
    """One record of a file: where it stands, a hash of its bytes, and itself.

    Attributes:
        file: the file, as the user will know it.
        number: its line or row, from 0.
        content: 16 hex characters over its bytes.
        value: the JSON object, or the row.
        size: bytes in the file, unpacked.
    """

    file: str
    number: int
    content: str
    value: dict[str, Any]
    size: int


Make = Callable[[Line], Iterable[Read]]


def suffix(path: Path | str) -> str:
    """The ending that tells the kind of content: `.jsonl` for `a.jsonl.zst`."""
    name = str(path).lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def records(path: Path, name: str, make: Make) -> Iterator[Read]:
    """What `make` says of each record of a file; one that it cannot read is a reject.

    Args:
        path: a JSONL (also packed) or Parquet file.
        name: what the file is called in rejects and in column `source`.
        make: from a line to records and rejects.
    """
    for line in rows(path, name):
        if isinstance(line, Reject):
            yield line
        else:
            yield from made(line, make)


def made(line: Line, make: Make) -> Iterator[Read]:
    """What `make` says of one record, all or nothing; the boundary at which a record of another
    version is told.
    """
    try:
        found = list(make(line))
    except InputError as error:
        yield Reject(line.file, line.number, "a record that does not fit", str(error))
    except OTHER_SHAPE as error:
        what = f"{type(error).__name__}: {error}"
        yield Reject(line.file, line.number, "not a record of this format or version", what)
    else:
        yield from found


def rows(path: Path, name: str) -> Iterator[Line | Reject]:
    """The records of a JSONL or Parquet file."""
    return parquet_rows(path, name) if suffix(path) == ".parquet" else json_lines(path, name)


def json_lines(path: Path, name: str) -> Iterator[Line | Reject]:
    """Objects of a JSONL file; a line that is none is a reject, as is the end of a cut file."""
    number = -1
    try:
        with opened(path) as file:
            for number, raw in enumerate(_lines(file)):
                if raw and not raw.isspace():
                    yield _parsed(name, number, raw)
    except DAMAGE as error:
        yield Reject(name, number + 1, "the file ends in the middle, or is damaged", str(error))


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while raw := file.readline(MAX_LINE_BYTES):
        yield raw


def _parsed(name: str, number: int, raw: bytes) -> Line | Reject:
    raw = raw.strip()
    try:
        value = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        return Reject(name, number, "not JSON, or a line that was cut", str(error))
    if not isinstance(value, dict):
        return Reject(name, number, "not a JSON object", f"{value!r:.60}")
    # Half of a surrogate pair is no text: only an escape can bring one in.
    if b"\\ud" in raw or b"\\uD" in raw:
        try:
            plain_json.check(f"{name} line {number + 1}", value)
        except InputError as error:
            return Reject(name, number, "half of a surrogate pair in a text", str(error))
    return Line(name, number, hashed(raw), value, len(raw))


def hashed(raw: bytes) -> str:
    """16 hex characters over bytes."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def parquet_rows(path: Path, name: str) -> Iterator[Line | Reject]:
    """Rows of a Parquet file; its values as JSON has them, maps as lists of pairs."""
    number = -1
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                size = batch.nbytes // max(1, batch.num_rows)
                for value in batch.to_pylist():
                    number += 1
                    raw = json.dumps(value, sort_keys=True, default=str).encode()
                    yield Line(name, number, hashed(raw), value, size)
    except DAMAGE as error:
        yield Reject(name, number + 1, "the file ends in the middle, or is damaged", str(error))


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked by its ending; of a zip the members one after another.

    Raises:
        OSError, EOFError, zipfile.BadZipFile: it cannot be read; see DAMAGE.
    """
    ending = path.suffix.lower()
    if ending == ".gz":
        with gzip.open(path, "rb") as packed:
            yield cast(IO[bytes], packed)
    elif ending == ".zst":
        with pa.input_stream(str(path), compression="zstd") as stream:
            yield io.BufferedReader(stream, 1 << 16)
    elif ending == ".zip":
        with zipfile.ZipFile(path) as archive:
            yield io.BufferedReader(_Members(archive))
    else:
        with path.open("rb", buffering=1 << 20) as file:
            yield file


class _Members(io.RawIOBase):
    """The files of a zip as one stream, a new line after each."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._waiting = [info for info in archive.infolist() if not info.is_dir()]
        self._archive = archive
        self._open: IO[bytes] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._open is not None or self._waiting:
            if self._open is None:
                self._open = self._archive.open(self._waiting.pop(0))
            data = self._open.read(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            self._open = None
            buffer[:1] = b"\n"
            return 1
        return 0


def json_file(path: Path) -> Any:
    """A JSON document of bounded size.

    Raises:
        InputError: it is too large, cut, or not JSON.
    """
    try:
        with opened(path) as file:
            raw = file.read(MAX_JSON_BYTES + 1)
        if len(raw) > MAX_JSON_BYTES:
            raise InputError(f"{path.name} has more than {MAX_JSON_BYTES:,} bytes")
        return json.loads(raw)
    except DAMAGE as error:
        raise InputError(f"{path.name} cannot be read", str(error)) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not JSON, or was cut", str(error)) from None


def first_record(path: Path) -> dict[str, Any]:
    """The first record of a file, or an empty one where it has none that can be read."""
    for line in rows(path, path.name):
        return {} if isinstance(line, Reject) else line.value
    return {}


_NUMBERS = re.compile(r"\d+")


def step_of(text: str) -> int | None:
    """The last number in a file or folder name, such as a step; None for none."""
    found = _NUMBERS.findall(text)
    return int(found[-1]) if found else None
