"""s2d info."""

from __future__ import annotations

from cli.options import DEFAULT_STORE, FormatOption, StoreOption, open_store


def info(format_: FormatOption = "table", store: StoreOption = DEFAULT_STORE) -> None:
    """Show the store's tables: rows, files, bytes and versions."""
    from cli.output import check_format, print_rows
    from s2d_store.schema import FORMAT_VERSION, TABLES
    from s2d_store.tables import table_state
    from s2d_store.tables.snapshot import table_path

    check_format(format_)
    opened = open_store(store)
    rows: list[tuple[object, ...]] = []
    for name, table in TABLES.items():
        # The log alone knows all of it: no file is opened.
        state = table_state.newest(table_path(opened.root, name))
        size = sum(file.size for file in state.files.values())
        rows.append((name, state.rows, len(state.files), size, state.version, table.doc))
    if format_ == "table":
        print(f"store {opened.root}, format version {FORMAT_VERSION}")
    print_rows(["table", "rows", "files", "bytes", "version", "grain"], rows, format_)
