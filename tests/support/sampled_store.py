"""A store whose rollouts a tiny model really sampled: some end, some are cut off, some hold special
tokens that text loses. With rewards, top-k, and locked datasets of three kinds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import queries
from s2d_store.datasets.build import build
from s2d_store.engines.base import SamplingParams
from s2d_store.rollouts.generate import generate
from s2d_store.rollouts.generate_config import GenerateConfig
from s2d_store.store import Store
from tests.support import made_stores
from tests.support.synthetic import NOW, table

K = 5
MAX_TOKENS = 40
DATASETS = {
    "w": ("warmup", {"teacher": "teacher", "rows_per_update": "8", "finished_only": "false"}),
    "s": ("sft", {"policy": "teacher", "rows_per_update": "8", "finished_only": "false"}),
    "g": ("grpo", {"policy": "teacher", "prompts_per_update": "2"}),
}


def make(root: Path, records: list[dict[str, Any]], policy: Path, **settings: Any) -> Store:
    """The store; each rollout's reward depends on its id, so that groups differ."""
    store = made_stores.make(root, records, policy)
    params = SamplingParams(max_tokens=MAX_TOKENS)
    usual: dict[str, Any] = {"role": "teacher", "n": 4, "top_logprobs": K}
    generate(store, GenerateConfig(policy=str(policy), params=params, **(usual | settings)))
    found = store.sql("SELECT rollout_id FROM rollouts ORDER BY rollout_id").fetchall()
    rewards = [
        {
            "rollout_id": rollout,
            "verifier": "math-verify",
            "verifier_version": "1",
            "reward": float(number % 3),
            "outcome": "correct" if number % 3 else "wrong",
            "extracted": "",
            "detail": "",
            "run_id": "verify",
            "created_at": NOW,
        }
        for number, (rollout,) in enumerate(found)
    ]
    store.commit({"rewards": table("rewards", rewards)}, fresh=True)
    return store


def build_all(store: Store) -> None:
    """Lock every dataset of DATASETS, all rows whatever their reward."""
    for name, (query, given) in DATASETS.items():
        params = given if query == "grpo" else given | {"correct_only": "false"}
        build(store, name, queries.catalog()[query], params)


def sequences(store: Store, name: str) -> list[dict[str, Any]]:
    """What was sampled, by row: prompt and response ids, finish reason, text."""
    text = (
        "SELECT d.row, d.update, d.rollout_id, r.prompt_token_ids AS prompt, "
        "r.response_token_ids AS response, r.response_logprobs AS logprobs, r.finish_reason, "
        "r.response_text FROM dataset_rows AS d JOIN rollouts AS r USING (rollout_id) "
        "WHERE d.dataset_id = dataset_named($name) ORDER BY d.row"
    )
    rows: list[dict[str, Any]] = store.sql(text, {"name": name}).to_arrow_table().to_pylist()
    return rows
