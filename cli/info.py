"""s2d info."""

from __future__ import annotations

from cli.options import DEFAULT_STORE, StoreOption, open_store


def info(store: StoreOption = DEFAULT_STORE) -> None:
    """Show the store's tables: rows, files, bytes and versions."""
    import os

    from cli.output import print_rows
    from s2d_store.schema import FORMAT_VERSION, TABLES
    from s2d_store.tables.snapshot import n_rows

    opened = open_store(store)
    snap = opened.snapshot()
    rows: list[tuple[object, ...]] = []
    for name, table in TABLES.items():
        files = snap.files[name]
        size = sum(os.path.getsize(file) for file in files)
        n, version = n_rows(opened.root, name), snap.versions[name]
        rows.append((name, n, len(files), size, version, table.doc))
    print(f"store {opened.root}, format version {FORMAT_VERSION}")
    print_rows(["table", "rows", "files", "bytes", "version", "grain"], rows)
