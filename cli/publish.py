"""s2d publish and s2d clone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_STORE, StoreOption, open_store

if TYPE_CHECKING:
    from s2d_store.store import Store


def publish(
    what: Annotated[str, typer.Argument(help="A dataset of --store, or the folder of a store.")],
    target: Annotated[str, typer.Argument(help="A new folder, or hf://OWNER/NAME.")],
    license_: Annotated[
        str, typer.Option("--license", help="Licence on the card, as cc-by-4.0.")
    ] = "",
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody read a repository that is made.")
    ] = False,
    no_audits: Annotated[
        bool, typer.Option("--no-audits", help="Leave out of the card what the audits find.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Publish a dataset or a store as plain Parquet with a card, paths and secrets masked.

    Example:
        s2d publish bridge hf://me/bridge-rollouts --license cc-by-4.0
    """
    import tempfile

    from s2d_store.errors import InputError
    from s2d_store.publishing import hub
    from s2d_store.publishing.publish import publish as run_publish

    opened, dataset = _what(what, store)
    if not hub.is_url(target):
        if public:
            raise InputError("--public says nothing of a folder", fix="leave it out")
        made = run_publish(opened, dataset, Path(target), license=license_, audits=not no_audits)
    else:
        api = hub.api()
        hub.repository(target)
        with tempfile.TemporaryDirectory(prefix="s2d-publish-") as place:
            folder = Path(place) / "published"
            made = run_publish(opened, dataset, folder, license=license_, audits=not no_audits)
            hub.upload(api, target, folder, public=public)
    locks = f"{len(made.locks)} lock" + "s" * (len(made.locks) != 1)
    print(f"{made.of} {made.name} published to {target}: {locks}")
    print(f"  s2d clone {target} NEW_STORE makes a store of it")


def _what(what: str, store: str) -> tuple[Store, str]:
    """The store, and the dataset's name; empty for the whole store."""
    from s2d_store.errors import NotFoundError
    from s2d_store.publishing.publish import is_dataset
    from s2d_store.store import Store

    if Store.is_at(store):
        opened = open_store(store)
        if is_dataset(opened, what):
            return opened, what
    if Store.is_at(what):
        return open_store(what), ""
    raise NotFoundError(
        f"{what!r} is neither a dataset of the store at {store} nor a store",
        fix="s2d dataset list shows the datasets",
    )


def clone(
    source: Annotated[str, typer.Argument(help="A published folder, or hf://OWNER/NAME.")],
    target: Annotated[Path, typer.Argument(help="The store to make: a new folder.")],
) -> None:
    """Make a store of what was published; its locks verify.

    Example:
        s2d clone hf://me/bridge-rollouts bridge-store
    """
    import tempfile

    from s2d_store.publishing import hub
    from s2d_store.publishing.clone import clone as run_clone

    if not hub.is_url(source):
        made = run_clone(Path(source), target)
    else:
        with tempfile.TemporaryDirectory(prefix="s2d-clone-") as place:
            hub.download(hub.api(), source, Path(place))
            made = run_clone(Path(place), target)
    print(f"{target}: a store with the datasets {', '.join(made.locks) or 'none'}")
    print("  policies are known by id; s2d policies move NAME FOLDER says where their files are")
