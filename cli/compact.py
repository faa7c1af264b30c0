"""s2d compact."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_STORE, StoreOption, open_store


def compact(
    tables: Annotated[
        list[str] | None, typer.Argument(help="Tables to compact; all where none is named.")
    ] = None,
    target_mb: Annotated[
        int, typer.Option("--target-mb", help="Megabytes of a full file; small is below half.")
    ] = 256,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is small.")] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Rewrite small files into few large ones, the rows unchanged, while others read and write.

    Old files stay for older versions and open readers until `s2d vacuum --older-than`.
    """
    from s2d_store.maintenance.compact import compact as run_compact

    done = run_compact(
        open_store(store), tables or (), target_bytes=target_mb << 20, dry_run=dry_run
    )
    idle = True
    for table in done:
        if not table.files:
            continue
        idle = False
        small = f"{table.table}: {table.files:,} small files ({table.bytes:,} bytes)"
        if dry_run:
            print(f"{small} would be rewritten")
        else:
            print(f"{small} -> {table.new_files:,} ({table.new_bytes:,} bytes)", flush=True)
    if idle:
        print("no small files to compact")
