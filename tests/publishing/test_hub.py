"""Going to the Hub: the calls that are made of its client, which itself needs a network."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s2d_store.errors import InputError, StoreError
from s2d_store.publishing import hub


class Folders:
    """Repositories kept as folders, by name, with the signatures of huggingface_hub.HfApi."""

    def __init__(self, root: Path) -> None:
        self.root, self.private = root, dict[str, bool]()

    def repo_exists(self, repo_id: str, *, repo_type: str) -> bool:
        return repo_id in self.private

    def repo_info(self, repo_id: str, *, repo_type: str) -> Any:
        return SimpleNamespace(private=self.private[repo_id])

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool) -> None:
        assert repo_type == "dataset"
        self.private[repo_id] = private

    def upload_folder(
        self, *, repo_id: str, repo_type: str, folder_path: str, commit_message: str
    ) -> None:
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def snapshot_download(self, repo_id: str, *, repo_type: str, local_dir: str) -> str:
        if repo_id not in self.private:
            raise OSError("404 Client Error")
        shutil.copytree(self.root / repo_id, local_dir, dirs_exist_ok=True)
        return local_dir


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "s2d.json").write_text("{}")
    return folder


def test_a_repository_is_private_unless_asked_otherwise(tmp_path: Path, published: Path) -> None:
    api = Folders(tmp_path / "hub")
    hub.upload(api, "hf://me/rollouts", published, public=False)
    hub.upload(api, "hf://datasets/me/open", published, public=True)
    assert api.private == {"me/rollouts": True, "me/open": False}
    with pytest.raises(InputError, match="hf://me/open is a public repository"):
        hub.upload(api, "hf://me/open", published, public=False)
    hub.download(api, "hf://me/rollouts", tmp_path / "got")
    assert (tmp_path / "got" / "s2d.json").read_text() == "{}"


def test_what_the_hub_refuses_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the Hub does not give hf://me/none") as refused:
        hub.download(Folders(tmp_path), "hf://me/none", tmp_path / "got")
    assert "404" in refused.value.why
    for url in ("hf://me", "hf://a/b/c", "hf:///"):
        with pytest.raises(InputError, match="names no repository"):
            hub.repository(url)


def test_its_client_has_what_is_called() -> None:
    """The signatures of the installed client, by name."""
    import inspect

    from huggingface_hub import HfApi

    for name in ("repo_exists", "repo_info", "create_repo", "upload_folder", "snapshot_download"):
        wanted = set(inspect.signature(getattr(hub.Api, name)).parameters) - {"self"}
        assert wanted <= set(inspect.signature(getattr(HfApi, name)).parameters), name
