"""A snapshot: one version of every table, and the Parquet files that make it up."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from s2d_store.errors import InputError, StoreError
from s2d_store.schema import TABLES
from s2d_store.storage import location
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables import delta_log, migrated_files, table_state
from s2d_store.tables.table_state import TableState

# What refers before what it refers to, and what a commit writes last before what it writes first
# (the reverse of TABLES): whatever is committed meanwhile, nothing that is seen lacks its origin.
_READING_ORDER = (
    "updates",
    "datasets",
    "dataset_rows",
    "rollouts",
    "rewards",
    "withdrawals",
    "topk",
    "token_ranks",
    "endpoints",
    "relocations",
    "policies",
    "vocabularies",
    "prompts",
    "runs",
)


@dataclass(frozen=True)
class Snapshot:
    """Versions and absolute file paths by table name. Files never change once written."""

    versions: Mapping[str, int]
    files: Mapping[str, tuple[str, ...]]


def table_path(root: Place, name: str) -> Place:
    """Folder of a table's Delta log and files."""
    return root / "tables" / name


def read(
    root: Place,
    as_of: datetime | Mapping[str, int] | None = None,
    names: Collection[str] = TABLES,
) -> Snapshot:
    """Resolve the newest snapshot, the one at a moment, or the one at given versions.

    Tables are read in _READING_ORDER, so a newest snapshot never shows a row without what it refers
    to, nor a rollout without the rewards and top-k that were committed with it.

    Args:
        root: the store's folder.
        as_of: a moment, or versions by table; None for the newest.
        names: the tables that it holds; the logs of others are not read.

    Raises:
        NotFoundError: a version that the table does not have.
        StoreError: an older version's files are gone, as after a vacuum.
    """
    order = [name for name in _READING_ORDER if name in names]
    folders = [table_path(root, name) for name in order]
    with _log_errors(root):
        if as_of is None:
            found = backend_of(root).read_in_order(table_state.newest, folders)
        else:
            found = [_load(folder, as_of) for folder in folders]
        by_name = dict(zip(order, found, strict=True))
        states = {name: by_name[name] for name in TABLES if name in by_name}
        versions = {name: state.version for name, state in states.items()}
        files = {
            name: table_state.file_paths(table_path(root, name), state)
            for name, state in states.items()
        }
    if as_of is not None:
        for name in states:
            files[name] = _as_migrated(table_path(root, name), files[name])
        for name, paths in files.items():
            _check_present(name, versions[name], paths)
    return Snapshot(versions, files)


def _load(folder: Place, as_of: datetime | Mapping[str, int]) -> TableState:
    if isinstance(as_of, datetime):
        return table_state.read(folder, delta_log.version_at(folder, as_of))
    if folder.name not in as_of:
        return table_state.newest(folder)
    return table_state.read(folder, as_of[folder.name])


@contextmanager
def _log_errors(root: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the logs of the store at {root} cannot be read",
            f"{error.filename or ''}: {error.strerror or error}".lstrip(": "),
            "s2d doctor, which says what is damaged",
        ) from error


def forget(root: Place) -> None:
    """Open a store's tables anew at the next snapshot, where nothing tells whether another store
    lies there by now.
    """
    table_state.forget(root)


def _check_present(name: str, version: int, files: tuple[str, ...]) -> None:
    paths = [location.parse_location(file) for file in files]
    gone = sum(not backend_of(path).exists(path) for path in paths)
    if gone:
        raise StoreError(
            f"version {version} of table {name} is not whole any more",
            f"{gone} of its {len(files)} files are gone: s2d vacuum --older-than removes files "
            "that a compaction replaced, unless a locked dataset pins them",
            "read a newer version (s2d info), or restore the files from a copy",
        )


def _as_migrated(folder: Place, files: tuple[str, ...]) -> tuple[str, ...]:
    """Files of an older version; of one before a migration, those that took their place."""
    renamed = {
        old.rpartition("/")[2]: (old, new) for old, new in migrated_files.read(folder).items()
    }
    found = ((file, renamed.get(file.rpartition("/")[2], ("", ""))) for file in files)
    return tuple(sorted(file.removesuffix(old) + new for file, (old, new) in found))


def n_rows(root: Place, name: str) -> int:
    """Rows of a table's newest version, from the log alone."""
    return table_state.newest(table_path(root, name)).rows


def parse_as_of(text: str) -> datetime | dict[str, int]:
    """Read `--as-of`: an ISO time (UTC unless it says otherwise) or `table=version,...`.

    Raises:
        InputError: neither form fits.
    """
    if "=" in text:
        pairs = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
        if set(pairs) <= set(TABLES) and all(v.strip().isdigit() for v in pairs.values()):
            return {name: int(version) for name, version in pairs.items()}
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    raise InputError(
        f"--as-of {text!r} is neither a time nor table versions",
        f"tables are {', '.join(TABLES)}",
        "--as-of 2026-01-31T12:00, or --as-of rollouts=12,rewards=9",
    )
