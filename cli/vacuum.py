"""s2d vacuum."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_STORE, StoreOption, open_store


def vacuum(
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than",
            help="Also remove files that s2d compact replaced longer ago than this: 12h, 7d, 4w. "
            "What locked datasets pin stays; other versions before then cannot be read any more.",
            metavar="AGE",
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Finish the commits of killed writers and sweep files that nobody committed."""
    from s2d_store.maintenance.vacuum import parse_age
    from s2d_store.maintenance.vacuum import vacuum as run_vacuum

    age_s = parse_age(older_than) if older_than else None
    swept = run_vacuum(open_store(store), dry_run=dry_run, older_than_s=age_s)
    verb = "would be removed" if dry_run else "removed"
    print(f"{swept.recovered} unfinished commits completed")
    print(f"{swept.files} uncommitted files {verb} ({swept.bytes:,} bytes)")
    if swept.trashed:
        print(
            f"{swept.trashed} of them whole, but named by no commit: "
            f"{'they would go' if dry_run else 'they are'} in trash/ for 7 days"
        )
    if swept.emptied:
        print(f"{swept.emptied} files of the trash {verb} ({swept.emptied_bytes:,} bytes)")
    if swept.busy:
        print("another command is writing, so uncommitted files were left alone; run this later")
    if age_s is not None:
        print(f"{swept.replaced_files} compacted files {verb} ({swept.replaced_bytes:,} bytes)")
        print(f"old log checkpoints {verb} ({swept.checkpoint_bytes:,} bytes)")
    for kept in swept.kept:
        print(f"{kept.files} kept for dataset {kept.dataset} ({kept.bytes:,} bytes)")
