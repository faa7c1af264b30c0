"""Format hf: a folder that load_dataset opens, with a card."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2d_store.datasets.exports import hf
from s2d_store.datasets.exports.run import export
from s2d_store.store import Store
from s2d_store.tables import fetch_rows as gathering
from tests.support import sampled_store


@pytest.mark.parametrize("file_bytes", [20_000, 1 << 30])
def test_load_dataset_opens_it(
    sampled: Store, tmp_path: Path, file_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import load_dataset

    monkeypatch.setattr(hf, "FILE_BYTES", file_bytes)
    monkeypatch.setattr(gathering.fetch_rows, "__defaults__", (9_000, None))
    folder = tmp_path / "w"
    assert export(sampled, "w", "hf", folder, {"license": "cc-by-4.0"}).rows == 32
    names = sorted(path.name for path in (folder / "data").iterdir())
    assert names[0] == f"train-00000-of-{len(names):05d}.parquet"
    assert len(names) > 1
    data = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    expected = sampled_store.sequences(sampled, "w")
    for row, one in zip(data, expected, strict=True):
        assert row["response_text"] == one["response_text"]
        assert row["input_ids"] == one["prompt"] + one["response"]
        assert row["messages"][0]["role"] == "user"
        assert len(row["topk_token_ids"]) == len(one["response"])
        assert row["rollout_id"] == one["rollout_id"]


def test_the_card_says_what_it_is(sampled: Store, tmp_path: Path) -> None:
    export(sampled, "g", "hf", tmp_path / "g")
    card = (tmp_path / "g" / "README.md").read_text()
    assert card.startswith("---\nlicense: unknown\n")
    assert "path: data/train-*.parquet" in card
    assert "# g\n" in card and "of kind `grpo`: 28 rows" in card
    assert "| `advantage` |" in card and "| `topk_token_ids` |" not in card
