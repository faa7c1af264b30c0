"""`trl-dpo`: JSONL of prompt, chosen and rejected, for TRL's DPOTrainer: the best and the worst
rollout of a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.rewards import require_rewards
from s2d_store.datasets.exports.sampled_with import SampledWith
from s2d_store.datasets.exports.texts import as_json, prompt_completion, texts, usable
from s2d_store.datasets.exports.trl_sft import keep_template
from s2d_store.datasets.read import LockedDataset
from s2d_store.store import Store


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """One JSONL file, pairs in the order of their groups' first use; see `Write`."""
    require_rewards(dataset, "trl-dpo")
    written, sampled = Written(), SampledWith.of(store, dataset)
    sampled.check_one_form()
    usable_rows = usable(store, dataset, options, written)
    group = "group_id" if "group_id" in dataset.columns else "prompt_id"
    light = dataset.light([group, "reward"]).take(usable_rows.column("row"))
    pairs = best_and_worst(
        light.column(group).to_pylist(),
        usable_rows.column("rollout_id").to_pylist(),
        light.column("reward").to_numpy(),
        options.pairs,
    )
    written.drop("no_pair", usable_rows.num_rows - 2 * len(pairs))
    chosen = usable_rows.take(pa.array(np.array(pairs, np.int64).reshape(-1)))
    stream = texts(store, dataset, chosen)
    with draft.open("w", encoding="utf-8") as file:
        for better, worse in _by_two(prompt_completion(text, sampled) for text in stream):
            line = {"prompt": better["prompt"], "chosen": better.pop("completion")}
            line |= {"rejected": worse["completion"]} | better
            file.write(as_json(line))
            written.rows += 1
    written.settings["trl.DPOConfig"] = {"max_length": None}
    keep_template(written, "trl.DPOConfig", sampled)
    return written


def best_and_worst(
    groups: list[str], rollouts: list[str], rewards: NDArray[np.float64], most: int
) -> list[tuple[int, int]]:
    """Places of the rollouts of each pair, groups in the order of their first place.

    A rollout that stands several times counts once; of equal rewards the earlier one is better.
    The best is paired with the worst, the second best with the second worst, while rewards differ.

    Args:
        groups: the group of each place.
        rollouts: its rollout.
        rewards: its reward; NaN where nothing was judged, which makes no pair.
        most: pairs of one group.
    """
    places: dict[str, dict[str, int]] = {}
    for place, (group, rollout) in enumerate(zip(groups, rollouts, strict=True)):
        if not np.isnan(rewards[place]):
            places.setdefault(group, {}).setdefault(rollout, place)
    pairs = []
    for members in places.values():
        ranked = sorted(members.values(), key=lambda place: (-rewards[place], place))
        for n in range(min(most, len(ranked) // 2)):
            better, worse = ranked[n], ranked[-1 - n]
            if rewards[better] > rewards[worse]:
                pairs.append((better, worse))
    return pairs


def _by_two(lines: Iterator[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    return zip(lines, lines, strict=True)


EXPORTER = Exporter(
    "trl-dpo",
    "the best and the worst rollout of each group, for TRL's DPOTrainer",
    write,
    options=("truncated", "pairs"),
)
