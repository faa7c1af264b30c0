"""One store with sampled rollouts for all tests of exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2d_store.store import Store
from tests.support import made_stores, sampled_store


@pytest.fixture(scope="session")
def sampled_once(
    tmp_path_factory: pytest.TempPathFactory, questions: Path, teacher_folder: Path
) -> Store:
    root = tmp_path_factory.mktemp("sampled") / "store"
    store = sampled_store.make(root, made_stores.read(questions), teacher_folder)
    sampled_store.build_all(store)
    return store


@pytest.fixture
def sampled(sampled_once: Store, tmp_path: Path) -> Store:
    """Datasets w (warmup), s (sft) and g (grpo) of 32 rollouts, 7 of which end."""
    return made_stores.copy(sampled_once, tmp_path / "sampled")
