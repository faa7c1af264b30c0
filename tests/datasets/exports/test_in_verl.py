"""verl's own readers and rewards on our files. Needs verl: `make test-trainers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s2d_store.datasets.exports.run import export
from s2d_store.store import Store
from tests.support import made_stores, sampled_store

pytestmark = [pytest.mark.trainers, pytest.mark.filterwarnings("ignore")]

# As verl's SFT dataset joins messages: each rendered alone, the assistant's ended by <eos>.
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<eos>{% else %}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(autouse=True)
def verl() -> Any:
    return pytest.importorskip("verl", reason="make test-trainers installs it")


def tokenizer(folder: Path, template: str = "") -> Any:
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(folder)
    made.chat_template = template or made.chat_template
    return made


def test_rl_prompts_are_rendered_as_they_were_sampled(
    sampled: Store, tmp_path: Path, teacher_folder: Path
) -> None:
    from omegaconf import OmegaConf
    from verl.utils.dataset.rl_dataset import RLHFDataset

    path = tmp_path / "w.parquet"
    export(sampled, "w", "verl-rl", path)
    config = OmegaConf.create({"max_prompt_length": 64, "cache_dir": str(tmp_path / "cache")})
    rows = RLHFDataset(str(path), tokenizer(teacher_folder), config)
    prompts = {tuple(row["prompt"]) for row in sampled_store.sequences(sampled, "w")}
    assert len(rows) == len(prompts) == 8
    rendered = {
        tuple(
            tokenizer(teacher_folder).apply_chat_template(
                list(rows[i]["raw_prompt"]), add_generation_prompt=True, return_dict=False
            )
        )
        for i in range(8)
    }
    assert rendered == prompts


def test_the_reward_is_one_that_verl_has(sampled: Store, tmp_path: Path) -> None:
    """Fault 6: the source is one of verl's names, or the function that the sidecar names grades."""
    import pyarrow.parquet as pq
    from verl.utils.import_utils import load_extern_object
    from verl.utils.reward_score import default_compute_score

    path = tmp_path / "w.parquet"
    export(sampled, "w", "verl-rl", path)
    row = pq.read_table(path).to_pylist()[0]
    answer = row["reward_model"]["ground_truth"]
    with pytest.raises(NotImplementedError):
        default_compute_score(row["data_source"], f"#### {answer}", answer)
    function = load_extern_object("pkg://s2d_store.verifiers.verl_reward", "compute_score")
    assert function(row["data_source"], f"#### {answer}", answer, {})["score"] == 1.0
    export(sampled, "w", "verl-rl", path, {"data_source": "openai/gsm8k"})
    row = pq.read_table(path).to_pylist()[0]
    assert default_compute_score(row["data_source"], f"so #### {answer}", answer) == 1.0


def test_sft_conversations_give_the_sampled_tokens(
    tmp_path: Path, questions: Path, teacher_folder: Path
) -> None:
    """Fault 8: what keeps its tokens as text is trained on as it was sampled."""
    from omegaconf import OmegaConf
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

    records = made_stores.read(questions)
    store = sampled_store.make(
        tmp_path / "store", records, teacher_folder, n=12, chat_template=TEMPLATE
    )
    sampled_store.build_all(store)
    path = tmp_path / "w.parquet"
    written = export(store, "w", "verl-sft", path)
    config = OmegaConf.create({"max_length": 128, "pad_mode": "no_padding", "truncation": "error"})
    rows = MultiTurnSFTDataset(str(path), tokenizer(teacher_folder, TEMPLATE), config)
    ended = [r for r in sampled_store.sequences(store, "w") if r["finish_reason"] == "stop"]
    same = 0
    for i, one in enumerate(ended):
        row = rows[i]
        n = len(one["prompt"])
        if row["input_ids"].tolist() == one["prompt"] + one["response"]:
            same += 1
            assert row["loss_mask"].tolist() == [0] * n + [1] * len(one["response"])
    assert same == written.facts["retokenised"]["same"] > 0
    assert len(rows) == len(ended)
