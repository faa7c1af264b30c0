"""Is a table's log whole? Its commits by their hashes, its checkpoints against the commits."""

from __future__ import annotations

from collections.abc import Mapping

from s2d_store.errors import S2DError
from s2d_store.schema import TABLES
from s2d_store.sql import connection
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.store import Store
from s2d_store.tables import checkpoint_file, delta_log, journal, log_entry
from s2d_store.tables.delta_log import FileLifetime
from s2d_store.tables.snapshot import Snapshot, table_path
from s2d_store.tables.table_state import live_file

DROP = "s2d doctor --drop-damaged"


def damaged_commits(folder: Place) -> dict[int, str]:
    """What is wrong with the commits of a table, in a few words by version.

    Raises:
        OSError: the log cannot be read.
    """
    there, _ = delta_log.listing(folder)
    last = there[-1] if there else 0
    found = {version: "is missing" for version in set(range(last + 1)) - set(there)}
    paths = [delta_log.commit_path(folder, version) for version in there]
    texts = backend_of(folder).read_all(paths) if paths else ()
    for version, data in zip(there, texts, strict=True):
        what = log_entry.damage(data)
        if what is not None:
            found[version] = what
    return dict(sorted(found.items()))


def torn_checkpoints(folder: Place, lives: Mapping[str, FileLifetime]) -> tuple[int, ...]:
    """Versions of checkpoints that are torn or name other files than the commits do; -1 stands for
    a hint that is not legible or leads nowhere.

    Args:
        folder: the table's.
        lives: its files, from `file_lifetimes`.
    """
    _, there = delta_log.listing(folder)
    hint = checkpoint_file.hint(folder)
    torn = [-1] if hint and hint.version not in there else []
    for version in there:
        adds = checkpoint_file.read(folder, version, hint)
        held = {path for path, life in lives.items() if life.in_version(version)}
        if adds is None or {live_file(add).path for add in adds} != held:
            torn.append(version)
    return tuple(torn)


def faults_of_table(store: Store, name: str) -> list[str]:
    """What is wrong with a table's log, one line each."""
    folder = table_path(store.root, name)
    try:
        damaged = damaged_commits(folder)
        if damaged:
            return [
                f"the log of table {name} cannot be read: its version {version} {what}; repair: "
                f"restore tables/{name}/_delta_log from a copy, or {DROP}"
                for version, what in damaged.items()
            ]
        torn = torn_checkpoints(folder, delta_log.file_lifetimes(folder))
    except S2DError as error:
        return [f"{error.what}: {error.why}; repair: {error.fix}"]
    except OSError as error:
        return [f"the log of table {name} cannot be read: {error.strerror or error}"]
    return [
        (
            f"the hint {checkpoint_file.HINT} of table {name} is torn"
            if version < 0
            else f"the checkpoint of version {version} of table {name} is not whole"
        )
        + "; the commits are, and s2d reads those; repair: s2d vacuum"
        for version in torn
    ]


def faults_of_entries(store: Store) -> list[str]:
    """Entries of commits under way that are not legible, one line each."""
    return [
        f"the entry {path} of an unfinished commit {what}; repair: {DROP}, which sets it aside"
        for path, what in journal.damaged_entries(store.root).items()
    ]


def doubled_keys(store: Store, snap: Snapshot, name: str) -> list[str]:
    """Whether a key stands twice in a table, in words."""
    key = ", ".join(f'"{column}"' for column in TABLES[name].key)
    con = connection.connect_raw(store.root, {name: snap.files[name]})
    # Names come from schema.py.
    text = (
        "SELECT count(*), coalesce(sum(n), 0) FROM (SELECT count(*) AS n "
        f"FROM raw.{name} GROUP BY {key} HAVING count(*) > 1)"
    )
    with connection.errors():
        ((keys, rows),) = con.sql(text).fetchall()
    if not keys:
        return []
    return [
        f"table {name} holds {keys:,} keys more than once, {rows:,} rows in all; "
        "repair: read an older snapshot (s2d query --as-of) or restore the table from a copy"
    ]
