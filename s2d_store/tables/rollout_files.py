"""Which files may hold a rollout: the log notes the first bytes of the ids in each small file.

Ids are hashes, so every file's smallest and largest id span nearly all of them and rule nothing
out. The first three bytes of each id do: of a thousand files of 256 rollouts, one look-up opens one
file that it need not in 65. A commit notes them among a file's statistics, as
`"s2d": {"rollout_ids": ...}`, which other readers of Delta pass over: sorted, three bytes each, in
base64. Files with many ids, or with ids that are not hashes, note nothing and are always read.

A look-up needs no compute functions of pyarrow, which take a small command's time to load: writers
import them when they write.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.schema import Table
from s2d_store.storage.location import Place
from s2d_store.tables import table_state
from s2d_store.tables.snapshot import Snapshot, table_path
from s2d_store.tables.table_state import LiveFile

COLUMN = "rollout_id"
BYTES = 3
# A file with more is one of few: its footer costs less than its ids in the log.
MOST_IDS = 4096
_DIGITS = 2 * BYTES
_HASH = "^[0-9a-f]{16}$"

Ints = NDArray[np.uint32]
Bools = NDArray[np.bool_]


def note(declared: Table, rows: pa.Table) -> str:
    """What a commit notes of a file's ids; empty where it notes nothing.

    Args:
        declared: the rows' table.
        rows: all rows of the file, or those of some row groups.
    """
    import pyarrow.compute as pc

    if COLUMN not in declared.key or COLUMN not in rows.column_names:
        return ""
    ids = pc.unique(rows.column(COLUMN))
    if len(ids) > MOST_IDS or not pc.all(pc.match_substring_regex(ids, _HASH)).as_py():
        return ""
    starts = pc.unique(pc.utf8_slice_codeunits(ids, 0, _DIGITS)).to_pylist()
    return base64.b64encode(bytes.fromhex("".join(sorted(starts)))).decode()


def merge(notes: Sequence[str]) -> str:
    """What to note of a file that holds the rows of several, each with its note."""
    if not all(notes):
        return ""
    packed = (base64.b64decode(text) for text in notes)
    starts = {data[i : i + BYTES] for data in packed for i in range(0, len(data), BYTES)}
    if len(starts) > MOST_IDS:
        return ""
    return base64.b64encode(b"".join(sorted(starts))).decode()


def unnoted(noted: str, ids: Iterable[str]) -> str | None:
    """An id of a file that its note does not know, so that a look-up would miss it."""
    known = set(_numbers(base64.b64decode(noted)).tolist())
    return next((name for name in ids if int(name[:_DIGITS], 16) not in known), None)


def holding(root: Place, snap: Snapshot, prefix: str) -> Snapshot:
    """The snapshot without those files that hold no row of a rollout.

    Args:
        root: the store's folder.
        snap: the snapshot.
        prefix: the rollout's id, or the first characters of it.
    """
    if not re.fullmatch("[0-9a-f]{1,16}", prefix):
        return snap
    head = prefix[:_DIGITS]
    low, high = (int(head.ljust(_DIGITS, fill), 16) for fill in "0f")
    return _without(root, snap, snap.files, lambda starts: (starts >= low) & (starts <= high))


def holding_any(
    root: Place, snap: Snapshot, ids: Collection[str], names: Collection[str]
) -> Snapshot:
    """The snapshot without those files of some tables that hold no row of any of these rollouts.

    Args:
        root: the store's folder.
        snap: the snapshot.
        ids: whole ids; with one that is no hash, all files stay.
        names: the tables.
    """
    if not all(re.fullmatch(_HASH, name) for name in ids):
        return snap
    wanted = np.array([int(name[:_DIGITS], 16) for name in ids], np.uint32)
    return _without(root, snap, names, lambda starts: np.isin(starts, wanted))


def _without(
    root: Place, snap: Snapshot, names: Collection[str], hits: Callable[[Ints], Bools]
) -> Snapshot:
    """The snapshot without those files of which no noted number is a hit."""
    files = dict(snap.files)
    for name in names:
        paths = files.get(name, ())
        if len(paths) > 1:
            files[name] = _kept(table_path(root, name), paths, hits)
    return Snapshot(snap.versions, files)


def _kept(folder: Place, paths: tuple[str, ...], hits: Callable[[Ints], Bools]) -> tuple[str, ...]:
    """Paths of files whose notes have a number that is a hit, or that have no note."""
    state = table_state.newest(folder)
    found = dict(zip(table_state.file_paths(folder, state), state.paths, strict=True))
    # What a compaction has replaced since is no longer known.
    notes = [state.files[found[path]].rollout_ids if path in found else "" for path in paths]
    # Three bytes are four characters, without padding: all notes are decoded at once.
    starts_N = _numbers(base64.b64decode("".join(notes), validate=True))
    owner_N = np.repeat(np.arange(len(paths)), [len(note) // 4 for note in notes])
    hit = set(owner_N[hits(starts_N)].tolist())
    return tuple(path for i, path in enumerate(paths) if i in hit or not notes[i])


def sharing(files: Collection[LiveFile], ids: pa.ChunkedArray) -> list[LiveFile]:
    """Those files that may hold one of these ids.

    Args:
        files: of one table.
        ids: strings.
    """
    import pyarrow.compute as pc

    if not pc.all(pc.match_substring_regex(ids, _HASH)).as_py():
        return list(files)
    heads = pc.unique(pc.utf8_slice_codeunits(ids, 0, _DIGITS)).to_pylist()
    wanted = np.array([int(head, 16) for head in heads], np.uint32)

    def may_hold(file: LiveFile) -> bool:
        noted = file.rollout_ids
        return not noted or bool(np.isin(wanted, _numbers(base64.b64decode(noted))).any())

    return [file for file in files if may_hold(file)]


def _numbers(packed: bytes) -> Ints:
    """Starts as numbers, uint32 (N,)."""
    bytes_NB = np.frombuffer(packed, np.uint8).reshape(-1, BYTES)
    return bytes_NB.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
