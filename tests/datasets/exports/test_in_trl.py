"""TRL's own readers make of our files what was sampled; where text changes it, they change it as
the sidecar says. Needs TRL: `make test-trainers`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s2d_store.datasets.exports.run import export
from s2d_store.store import Store
from tests.support import sampled_store

pytestmark = [pytest.mark.trainers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def trl() -> Any:
    return pytest.importorskip("trl", reason="make test-trainers installs it")


def prepared(kind: str, path: Path, model: Path, place: Path, **settings: Any) -> list[Any]:
    """Rows of a file as TRL's SFTTrainer trains on them."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    data = load_dataset(kind, data_files=str(path), split="train", cache_dir=str(place / "cache"))
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=data,
        args=SFTConfig(
            output_dir=str(place / "out"), report_to="none", use_cpu=True, bf16=False, **settings
        ),
    )
    return list(trainer.train_dataset)


def sft_settings(sidecar: Path) -> dict[str, Any]:
    """What the sidecar says of SFTConfig; what is no name of a setting is left out."""
    settings = json.loads(sidecar.read_text())["settings"]["trl.SFTConfig"]
    return {name: value for name, value in settings.items() if name.isidentifier()}


def test_tokens_are_trained_on_as_they_were_sampled(
    sampled: Store, tmp_path: Path, teacher_folder: Path
) -> None:
    """Faults 1 to 4 and 9: other tokens, an end that nobody sampled, lost prompts and templates."""
    path = tmp_path / "w.parquet"
    export(sampled, "w", "tokens", path)
    settings = sft_settings(tmp_path / "w.parquet.s2d.json")
    rows = prepared("parquet", path, teacher_folder, tmp_path, **settings)
    expected = sampled_store.sequences(sampled, "w")
    for row, one in zip(rows, expected, strict=True):
        assert row["input_ids"] == one["prompt"] + one["response"]
        assert row["labels"] == [-100] * len(one["prompt"]) + one["response"]


def test_the_settings_keep_the_order(sampled: Store, tmp_path: Path, teacher_folder: Path) -> None:
    """Fault 10: a batch is an update. TRL's defaults draw rows at random and cut long ones."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    path = tmp_path / "w.parquet"
    export(sampled, "w", "tokens", path)
    settings = sft_settings(tmp_path / "w.parquet.s2d.json")
    data = load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path))
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(teacher_folder),
        processing_class=AutoTokenizer.from_pretrained(teacher_folder),
        train_dataset=data,
        args=SFTConfig(
            output_dir=str(tmp_path / "out"), report_to="none", use_cpu=True, bf16=False,
            per_device_train_batch_size=8, **settings,
        ),
    )  # fmt: skip
    batches = [batch["input_ids"] for batch in trainer.get_train_dataloader()]
    expected = sampled_store.sequences(sampled, "w")
    assert len(batches) == expected[-1]["update"] == 4
    for number, batch in enumerate(batches):
        rows = [row for row in expected if row["update"] == number + 1]
        for ids, row in zip(batch.tolist(), rows, strict=True):
            whole = row["prompt"] + row["response"]
            assert ids[: len(whole)] == whole


def test_text_becomes_other_tokens_as_often_as_the_sidecar_says(
    sampled: Store, tmp_path: Path, teacher_folder: Path
) -> None:
    path = tmp_path / "w.jsonl"
    written = export(sampled, "w", "trl-sft", path, {"truncated": "keep"})
    settings = sft_settings(tmp_path / "w.jsonl.s2d.json")
    rows = prepared("json", path, teacher_folder, tmp_path, **settings)
    expected = [r["prompt"] + r["response"] for r in sampled_store.sequences(sampled, "w")]
    same = sum(row["input_ids"] == ids for row, ids in zip(rows, expected, strict=True))
    longer = sum(
        row["input_ids"] != ids and row["input_ids"][: len(ids)] == ids
        for row, ids in zip(rows, expected, strict=True)
    )
    counted = written.facts["retokenised"]
    assert (counted["same"], counted["longer"]) == (same, longer)
    assert counted["other"] == len(rows) - same - longer > 0


def test_grpo_finds_the_answers(sampled: Store, tmp_path: Path) -> None:
    """Fault 5: TRL's accuracy_reward reads `solution`, and prompts do not repeat."""
    from datasets import load_dataset

    path = tmp_path / "w.jsonl"
    export(sampled, "w", "trl-grpo", path)
    data = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "c"))
    assert len({json.dumps(row["prompt"]) for row in data}) == len(data) == 8
    assert all(isinstance(row["solution"], str) for row in data)
    try:
        from trl.rewards import accuracy_reward

        right = [[{"content": f"$\\boxed{{{row['solution']}}}$"}] for row in data]
        assert accuracy_reward(right, data["solution"]) == [1.0] * 8
    except ImportError as error:  # another version of ANTLR's runtime than math-verify's parser
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_preferences_are_read(
    sampled: Store, tmp_path: Path, teacher_folder: Path, name: str
) -> None:
    import trl
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = tmp_path / "g.jsonl"
    export(sampled, "g", f"trl-{name}", path, {"truncated": "keep"})
    data = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "c"))
    config, trainer = getattr(trl, f"{name.upper()}Config"), getattr(trl, f"{name.upper()}Trainer")
    made = trainer(
        model=AutoModelForCausalLM.from_pretrained(teacher_folder),
        processing_class=AutoTokenizer.from_pretrained(teacher_folder),
        train_dataset=data,
        args=config(
            output_dir=str(tmp_path / "out"), report_to="none", use_cpu=True, bf16=False,
            max_steps=2, per_device_train_batch_size=2, logging_steps=1, save_strategy="no",
        ),
    )  # fmt: skip
    assert len(made.train_dataset) == len(data)
    made.train()
    assert made.state.global_step == 2
