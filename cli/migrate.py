"""s2d migrate."""

from __future__ import annotations

from cli.options import DEFAULT_STORE, StoreOption


def migrate(store: StoreOption = DEFAULT_STORE) -> None:
    """Bring a store of an older format to the current one; killed, the same command goes on.

    Locked datasets verify as before. Old files stay until `s2d vacuum --older-than`.
    """
    from s2d_store.maintenance.migrate import MigratedTable
    from s2d_store.maintenance.migrate import migrate as run_migrate
    from s2d_store.schema import FORMAT_VERSION

    def told(table: MigratedTable) -> None:
        print(
            f"{table.name}: {table.files:,} files, {table.rows:,} rows, "
            f"{table.bytes_before:,} -> {table.bytes_after:,} bytes",
            flush=True,
        )

    if not run_migrate(store, told):
        print(f"nothing to do: format version {FORMAT_VERSION}")
