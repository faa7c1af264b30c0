"""Where a policy's files lie: a folder, a hub id, or a path that starts at the store."""

from __future__ import annotations

import os
import re
from pathlib import Path

from s2d_store.errors import InputError, NotFoundError
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place

HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
_RELATIVE = ("./", "../")


def to_stored(root: Place, location: str) -> str:
    """A location as the store records it.

    A folder below the store or beside it (in the folder that holds it) is recorded from the store
    on, as `./...` or `../...`: whoever moves both keeps the policy. Any other folder is recorded
    whole, and a hub id as it is.
    """
    folder = Path(location)
    if not folder.exists():
        return location
    whole = folder.resolve()
    local = backend_of(root).local_path(root)
    if local is not None:
        store = local.resolve()
        around = store.parent
        if around != around.parent and whole.is_relative_to(around) and whole != around:
            relative = os.path.relpath(whole, store)
            return relative if relative.startswith("../") else f"./{relative}"
    return str(whole)


def from_stored(root: Place, recorded: str) -> str:
    """The folder or hub id that a record means, for this place of the store."""
    local = backend_of(root).local_path(root)
    if local is not None and recorded.startswith(_RELATIVE):
        return os.path.normpath(local.resolve() / recorded)
    return recorded


def resolve_location(location: str, revision: str | None = None) -> Path:
    """The absolute local folder of a policy, downloaded from the hub when it is a hub id.

    Raises:
        NotFoundError: no such folder, and no such repository that can be reached.
        InputError: a revision was given for a folder.
    """
    folder = Path(location).expanduser()
    if folder.is_dir():
        if revision:
            raise InputError(
                f"revision {revision!r} was given for the folder {location}",
                why="only hub repositories have revisions",
                fix="leave --revision out",
            )
        return folder.resolve()
    if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", location):
        raise NotFoundError(
            f"policy folder {location} does not exist",
            why="it is neither a folder nor the form of a hub id (owner/name)",
            fix="give a folder written by save_pretrained, or a hub id",
        )
    return _download(location, revision)


def _download(repo_id: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ModuleNotFoundError as error:
        raise NotFoundError(
            f"{repo_id} is not a folder here",
            why="hub ids need huggingface_hub, which is not installed",
            fix='give a folder, or: pip install "s2d[hub]"',
        ) from error
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=HUB_FILES))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        at = f" at revision {revision}" if revision else ""
        raise NotFoundError(
            f"{repo_id}{at} is neither a folder here nor a repository on the hub",
            why="the hub answered that it does not exist, or is private",
            fix="check the name; for a private or gated one: hf auth login",
        ) from error
    except OSError as error:
        # Offline mode, an unreachable hub and an incomplete cache are all OSErrors.
        raise NotFoundError(
            f"{repo_id} is neither a folder here nor can it be fetched from the hub",
            why=" ".join(str(error).split()),
            fix="give a folder, or connect to the hub once and run again",
        ) from error
