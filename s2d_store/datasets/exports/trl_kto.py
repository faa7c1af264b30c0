"""`trl-kto`: JSONL of prompt, completion and label, for TRL's KTOTrainer."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.rewards import require_rewards
from s2d_store.datasets.exports.sampled_with import SampledWith
from s2d_store.datasets.exports.texts import as_json, prompt_completion, texts, usable
from s2d_store.datasets.exports.trl_sft import keep_template
from s2d_store.datasets.read import LockedDataset
from s2d_store.store import Store


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """One JSONL file; see `Write`. A rollout is desired where its reward is above a limit."""
    require_rewards(dataset, "trl-kto")
    written, sampled = Written(), SampledWith.of(store, dataset)
    sampled.check_one_form()
    chosen = usable(store, dataset, options, written)
    rewards = dataset.light(["reward"]).column("reward").take(chosen.column("row"))
    judged = rewards.is_valid()
    written.drop("not_judged", rewards.null_count)
    chosen = chosen.filter(judged)
    desired: pa.ChunkedArray = pc.greater(rewards.filter(judged), options.above)
    with draft.open("w", encoding="utf-8") as file:
        for text, label in zip(texts(store, dataset, chosen), desired, strict=True):
            line = prompt_completion(text, sampled) | {"label": label.as_py()}
            file.write(as_json(line))
            written.rows += 1
    written.facts["desired"] = pc.sum(desired).as_py() or 0
    written.settings["trl.KTOConfig"] = {"max_length": None}
    keep_template(written, "trl.KTOConfig", sampled)
    return written


EXPORTER = Exporter(
    "trl-kto",
    "prompt, completion and whether the reward is above a limit, for TRL's KTOTrainer",
    write,
    options=("truncated", "above"),
)
