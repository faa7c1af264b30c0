"""Every format: whole or not at all, with a sidecar, in HF datasets' own hands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s2d_store import plugins
from s2d_store.datasets.exports import registry
from s2d_store.datasets.exports.base import Exporter, Options, Written, options_for
from s2d_store.datasets.exports.run import export
from s2d_store.datasets.exports.sidecar import beside
from s2d_store.datasets.lock_file import read_lock
from s2d_store.datasets.open import open_dataset
from s2d_store.errors import DatasetError, InputError, NotFoundError, S2DError, StoreError
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import sampled_store
from tests.support.dataset_rows import read

NEEDED: dict[str, dict[str, Any]] = {"skyrl": {"env_class": "gsm8k"}}
# The others export dataset w, of which no reward chose a row.
OF_REWARDS = ("trl-kto", "trl-dpo")


def dataset_for(format_: str) -> str:
    return "g" if format_ in OF_REWARDS else "w"


def loaded(kind: str, path: Path, cache: Path) -> list[dict[str, Any]]:
    from datasets import load_dataset

    data = load_dataset(kind, data_files=str(path), split="train", cache_dir=str(cache))
    return list(data)


def test_plain_parquet(sampled: Store, tmp_path: Path) -> None:
    path = tmp_path / "out" / "w.parquet"
    assert export(sampled, "w", "parquet", path).rows == 32
    rows = loaded("parquet", path, tmp_path / "cache")
    assert rows == read(sampled.folder / "datasets" / "w").to_pylist()
    order = [row["rollout_id"] for row in sampled_store.sequences(sampled, "w")]
    assert [row["rollout_id"] for row in rows] == order


@pytest.mark.parametrize("format_", registry.names())
def test_the_sidecar_says_what_it_is(sampled: Store, tmp_path: Path, format_: str) -> None:
    path = tmp_path / "out"
    name = dataset_for(format_)
    written = export(sampled, name, format_, path, NEEDED.get(format_))
    record = json.loads(beside(path).read_text())
    lock = read_lock(sampled, name)
    assert record["format"] == format_
    assert record["dataset"]["fingerprint"] == lock["fingerprint"]
    assert record["dataset"]["dataset_id"] == lock["dataset_id"]
    assert record["tokenizer_fingerprint"] == lock["tokenizer_fingerprint"]
    assert [p["policy"] for p in record["policies"]] == ["teacher"]
    (template,) = record["templates"]
    assert template["template_hash"] == record["policies"][0]["template_hash"] is not None
    assert record["counts"]["written"] == written.rows
    assert record["counts"]["rows"] == lock["counts"]["rows"]
    assert sum(record["counts"]["dropped"].values()) <= lock["counts"]["rows"]
    assert str(sampled.root) not in json.dumps(record)


@pytest.mark.parametrize("format_", registry.names())
def test_an_export_that_fails_leaves_what_was_there(
    sampled: Store, tmp_path: Path, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, given, name = tmp_path / "out", NEEDED.get(format_), dataset_for(format_)
    export(sampled, name, format_, path, given)
    before = sorted(p.name for p in tmp_path.rglob("*") if "sampled" not in p.parts)
    note = beside(path).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("s2d_store.datasets.exports.run.os.fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*: No space left on device"):
        export(sampled, name, format_, path, given)
    assert sorted(p.name for p in tmp_path.rglob("*") if "sampled" not in p.parts) == before
    assert beside(path).read_bytes() == note


def test_a_folder_is_replaced_only_where_an_export_wrote_it(sampled: Store, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "thesis.txt").write_text("mine")
    for format_ in ("hf", "tokens"):
        with pytest.raises(InputError, match="out is there already"):
            export(sampled, "w", format_, path)
    assert [p.name for p in path.iterdir()] == ["thesis.txt"]
    other = tmp_path / "other"
    export(sampled, "w", "hf", other)
    (other / "stale.parquet").write_text("")
    export(sampled, "w", "hf", other)
    assert not (other / "stale.parquet").exists()
    assert not list(tmp_path.glob(".other*"))


def test_options_belong_to_formats() -> None:
    with pytest.raises(InputError, match="--env-class says nothing to format trl-sft"):
        options_for(registry.find("trl-sft"), {"env_class": "gsm8k", "truncated": None})
    with pytest.raises(InputError, match="--truncated 'cut' is unknown"):
        options_for(registry.find("trl-sft"), {"truncated": "cut"})
    with pytest.raises(InputError, match="--pairs 0"):
        options_for(registry.find("trl-dpo"), {"pairs": 0})
    assert options_for(registry.find("trl-kto"), {"above": 0.5}).above == 0.5


def test_what_cannot_be_exported(sampled: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="export format 'trl-sfr' is unknown; did you mean"):
        export(sampled, "w", "trl-sfr", tmp_path / "w.csv")
    with pytest.raises(NotFoundError, match="no dataset 'x'"):
        export(sampled, "x", "parquet", tmp_path / "x.parquet")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        export(sampled, "w", "parquet", file / "w.parquet")
    with pytest.raises(DatasetError, match=r"dataset g \(grpo\) has no top-k"):
        export(sampled, "g", "distillkit", tmp_path / "g")
    assert not list(tmp_path.glob("*.s2d.json"))


def test_a_package_brings_its_own_format(
    sampled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(store: Store, dataset: Any, draft: Path, options: Options) -> Written:
        draft.write_text("\n".join(dataset.light(["rollout_id"])["rollout_id"].to_pylist()))
        return Written(dataset.lock.counts["rows"])

    ours = Exporter("names", "rollout ids", names)
    monkeypatch.setattr(plugins, "registered", lambda group: {"names": ours})
    monkeypatch.setattr(plugins, "load_row", lambda group, name, kind: ours)
    assert registry.names()[-1] == "names"
    assert export(sampled, "w", "names", tmp_path / "names.txt").rows == 32
    assert len((tmp_path / "names.txt").read_text().splitlines()) == 32


def test_the_command_tells_what_was_left_out(sampled: Store, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    usual = ("dataset", "export", "w", "--output", path, "--store", sampled.root)
    done = cli(*usual, "--format", "trl-sft")
    assert done.code == 0, done.err
    assert f"{path}: 7 rows of dataset w as trl-sft" in done.out
    assert "25 left out (truncated): their end was not sampled" in done.out
    assert "7 of 7 rows become other tokens than were sampled" in done.out
    assert f"{path}.s2d.json" in done.out
    assert cli(*usual).out.startswith(f"{path}: 32 rows of dataset w as tokens")
    assert "reward" not in done.out, "a warmup set holds what the teacher says, right or wrong"
    rewards = open_dataset(sampled, "g").light(["reward"])["reward"].to_pylist()
    wrong = sum(reward <= 0 for reward in rewards)
    of_grpo = cli("dataset", "export", "g", *usual[3:], "-f", "trl-sft", "--truncated", "keep")
    assert wrong and f"  {wrong} rows have a reward of 0 or less" in of_grpo.out
    refused = cli(*usual, "-f", "verl-rl", "--env-class", "x")
    assert refused.code == 1 and "--env-class says nothing to format verl-rl" in refused.err


def test_every_error_is_one_of_ours(sampled: Store, tmp_path: Path) -> None:
    for format_ in registry.names():
        try:
            export(sampled, "g", format_, tmp_path / format_)
        except S2DError as error:
            assert error.why and error.fix
