"""Lines of updates.jsonl as rows of table updates."""

from __future__ import annotations

import pytest

from s2d_store.runs.training import UpdateRecorder
from s2d_store.store import Store
from tests.support import audit_rows as rows


def test_what_grpo_measures_is_stored_and_flops_count_attention(store: Store) -> None:
    sizes = {"n_parameters": 1000, "head_parameters": 100, "attention_width": 8}
    rows.add_policy(store, "student", **sizes)
    line: dict[str, float] = {"update": 1, "rows": 2, "prompt_tokens": 6, "response_tokens": 20}
    line |= {"squared_tokens": 338, "loss": 0.5, "kl": 0.1, "grad_norm": 1.0, "lr": 1e-6}
    line |= {"seconds": 1.0, "reference_kl": 0.02, "mismatch_kl": 0.003}
    rows.add_run(store, "train", "train", "grpo")
    rows.add_policy(store, "trained", run_id="train", update=1, **sizes)
    with UpdateRecorder(store, "train", "dataset") as recorder:
        recorder.add(line)
    found = store.sql("SELECT reference_kl, mismatch_kl, squared_tokens FROM updates").fetchall()
    assert found == [(0.02, 0.003, 338)]
    ((flops,),) = store.sql("SELECT flops FROM spent WHERE run_id = 'train'").fetchall()
    assert flops == pytest.approx(6 * 900 * 26 + 6 * 100 * 20 + 3.5 * 4 * 8 * 338)
