"""Publish to and clone from the Hugging Face Hub: `hf://OWNER/NAME`, a dataset repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from s2d_store.errors import InputError, S2DError, StoreError

SCHEME = "hf://"


class Api(Protocol):
    """What is used of `huggingface_hub.HfApi`."""

    def repo_exists(self, repo_id: str, *, repo_type: str) -> bool:
        """Whether there is such a repository."""
        ...

    def repo_info(self, repo_id: str, *, repo_type: str) -> Any:
        """What is known of it; has `private`."""
        ...

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool) -> Any:
        """Make it."""
        ...

    def upload_folder(
        self, *, repo_id: str, repo_type: str, folder_path: str, commit_message: str
    ) -> Any:
        """Add a folder's files in one commit."""
        ...

    def snapshot_download(self, repo_id: str, *, repo_type: str, local_dir: str) -> str:
        """Fetch all of it."""
        ...


def is_url(target: str) -> bool:
    """Whether a target is a repository."""
    return target.startswith(SCHEME)


def repository(url: str) -> str:
    """OWNER/NAME of a URL.

    Raises:
        InputError: it is not of that form.
    """
    name = url.removeprefix(SCHEME).removeprefix("datasets/").strip("/")
    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(f"{url} names no repository", "the form is hf://OWNER/NAME")
    return name


def api() -> Api:
    """The Hub, with the token of its own login.

    Raises:
        InputError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
    except ModuleNotFoundError as error:
        raise InputError(
            "hf:// needs huggingface_hub, not installed here",
            "the base install has no client of the Hub",
            'pip install "s2d[hub]", or publish to a folder',
        ) from error
    found: Api = HfApi()
    return found


def upload(hub: Api, url: str, folder: Path, *, public: bool) -> None:
    """Put a published folder into a repository, which is private unless asked otherwise.

    Raises:
        InputError: the repository is public, and this was not asked for.
        StoreError: the Hub refuses, or cannot be reached.
    """
    name = repository(url)
    try:
        if not hub.repo_exists(name, repo_type="dataset"):
            hub.create_repo(name, repo_type="dataset", private=not public)
        elif not public and not hub.repo_info(name, repo_type="dataset").private:
            raise InputError(
                f"{url} is a public repository",
                "what is published is private unless you say otherwise",
                "--public, or choose another repository",
            )
        hub.upload_folder(
            repo_id=name,
            repo_type="dataset",
            folder_path=str(folder),
            commit_message=f"s2d publish {folder.name}",
        )
    except S2DError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise _failed(url, error) from error


def download(hub: Api, url: str, folder: Path) -> None:
    """Fetch a repository.

    Raises:
        StoreError: there is none, it is not yours to read, or the Hub cannot be reached.
    """
    try:
        hub.snapshot_download(repository(url), repo_type="dataset", local_dir=str(folder))
    except (OSError, ValueError, RuntimeError) as error:
        raise _failed(url, error) from error


def _failed(url: str, error: Exception) -> StoreError:
    return StoreError(
        f"the Hub does not give {url}",
        f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        "hf auth login, and look whether the name is right",
    )
