from __future__ import annotations

import pytest

from s2d_store.publishing.masks import mask


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/models/qwen", ".../qwen"),
        ('{"file": "/data/x y/z.jsonl", "n": 3}', '{"file": ".../z.jsonl", "n": 3}'),
        ("~/runs/a/final/", ".../final"),
        ("--output=/mnt/disk/out done", "--output=.../out done"),
        # Neither a fraction, nor a hub id, nor a closing tag is a path.
        ("1/2 of Qwen/Qwen3-4B </think>", "1/2 of Qwen/Qwen3-4B </think>"),
        ("tables/rollouts/a.parquet", "tables/rollouts/a.parquet"),
    ],
)
def test_paths_are_cut_to_their_last_part(text: str, expected: str) -> None:
    assert mask(text) == expected


def test_addresses_are_told_apart_and_not_told() -> None:
    first, second = mask("http://10.0.0.3:8000/v1"), mask("http://10.0.0.4:8000/v1")
    assert first != second and first == mask("http://10.0.0.3:8000/v1")
    assert first.startswith("url-") and "10.0.0" not in first
    assert "bucket" not in mask("s3://bucket/prefix") and "ann" not in mask("file:///home/ann/x")
    assert mask("hf://me/rollouts") == "hf://me/rollouts"


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "one-two-three-four")
    assert mask("key one-two-three-four") == "key ***"
