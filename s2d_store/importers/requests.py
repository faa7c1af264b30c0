"""Requests of batch files by their custom_id: an index of places, not the requests themselves."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from s2d_store.errors import InputError
from s2d_store.importers import files


class Requests:
    """Finds a request by its custom_id; memory grows with the ids alone.

    Files that are packed are unpacked into a temporary file first, since they are read in whatever
    order the responses have.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Look through request files.

        Raises:
            InputError: two requests have one custom_id.
        """
        self._open: list[IO[bytes]] = []
        self._places: dict[str, tuple[int, int]] = {}
        for path in paths:
            self._index(path)

    def find(self, custom_id: str) -> dict[str, Any] | None:
        """The request of that id, or None."""
        if custom_id not in self._places:
            return None
        which, offset = self._places[custom_id]
        self._open[which].seek(offset)
        found: dict[str, Any] = json.loads(self._open[which].readline())
        return found

    def _index(self, path: Path) -> None:
        file: IO[bytes]
        if path.suffix.lower() in files.PACKED:
            file = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the others
            with files.opened(path) as packed:
                shutil.copyfileobj(packed, file)
            file.seek(0)
        else:
            file = path.open("rb")
        self._open.append(file)
        offset = 0
        while raw := file.readline():
            start, offset = offset, offset + len(raw)
            try:
                custom = json.loads(raw)["custom_id"]
            except (ValueError, KeyError, TypeError):
                continue  # a response without its request is a reject of its own
            if custom in self._places:
                raise InputError(
                    f"{path.name} has custom_id {custom!r} twice, or another file has it too",
                    "responses are joined to their requests by it",
                    "import one batch at a time, in a folder of its own",
                )
            self._places[custom] = (len(self._open) - 1, start)

    def __enter__(self) -> Requests:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for file in self._open:
            file.close()
