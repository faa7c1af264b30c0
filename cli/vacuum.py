"""s2d vacuum."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_STORE, StoreOption, open_store


def vacuum(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Finish the commits of killed writers and sweep files that nobody committed."""
    from s2d_store.vacuum import vacuum as run_vacuum

    swept = run_vacuum(open_store(store), dry_run=dry_run)
    verb = "would be removed" if dry_run else "removed"
    print(f"{swept.recovered} unfinished commits completed")
    print(f"{swept.files} uncommitted files {verb} ({swept.bytes:,} bytes)")
