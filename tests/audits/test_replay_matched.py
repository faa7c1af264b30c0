"""The audit of controls compares what was trained, and prints both values of what differs."""

from __future__ import annotations

from typing import Any

import pytest

from s2d_store.audits import AuditResult, audit
from s2d_store.store import Store
from tests.support import half_split
from tests.support.dataset_rows import add_policies, built, trained
from tests.support.synthetic import policy

SETTINGS: dict[str, Any] = {
    "lr": 1e-3,
    "betas": [0.9, 0.99],
    "kl_coefficient": 0.0005,
    "kl_estimator": "k3",
}


@pytest.fixture
def split(store: Store) -> Store:
    half_split.fill(store)
    trained(store, "train-3", "stage3", "bridge", "made-3", **SETTINGS)
    built(store, "replay", "replay", treatment="stage3", policy="bridge")
    return store


def found(store: Store) -> AuditResult:
    (result,) = audit(store, ["replay_matched"], datasets=["replay"], sample=20)
    return result


def differences(store: Store) -> dict[str, tuple[str, str]]:
    rows = found(store).sample
    return {row["differs"]: (row["control_has"], row["treatment_has"]) for row in rows}


def test_a_matched_replay_passes_and_shows_what_it_took(split: Store) -> None:
    trained(split, "train-7", "replay", "bridge", "made-7", **SETTINGS)
    result = found(split)
    assert result.status == "passed", result.sample
    (figures,) = result.figures
    assert (figures["control_updates"], figures["treatment_updates"]) == (2, 2)
    assert figures["labelled_rows"] == 64 and figures["uses_per_rollout"] == 1


def test_one_of_two_updates_from_another_start_does_not_pass(split: Store) -> None:
    trained(split, "train-7", "replay", "warmed", "made-7", updates=1, **SETTINGS)
    assert differences(split) == {"start policy": ("warmed", "bridge"), "updates taken": ("1", "2")}


def test_every_setting_is_compared(split: Store) -> None:
    changed = SETTINGS | {"lr": 1e-4, "betas": [0.9, 0.999], "kl_coefficient": 0.0}
    trained(split, "train-7", "replay", "bridge", "made-7", **changed)
    assert differences(split) == {
        "setting lr": ("0.0001", "0.001"),
        "setting betas": ("[0.9,0.999]", "[0.9,0.99]"),
        "setting kl_coefficient": ("0.0", "0.0005"),
    }


def test_labels_of_the_whole_lineage_count(split: Store) -> None:
    """The control's own rows are old; what it started from had spent Stage 3's labels."""
    trained(split, "train-7", "replay", "made-3", "made-7", **SETTINGS)
    assert differences(split) == {
        "start policy": ("made-3", "bridge"),
        "new labels": ("16", "0"),
    }


def test_rounds_are_followed_back_to_where_their_stages_began(split: Store) -> None:
    trained(split, "train-7", "replay", "bridge", "made-7", **SETTINGS)
    given = {"treatment": "stage3", "tolerance": 0.9}
    built(split, "stage3b", "grpo", policy="made-3", runs="gen-3", max_lag=2, **half_split.GRPO)
    built(split, "replayb", "bridge_continuation", **given | {"treatment": "stage3b"})
    trained(split, "train-3b", "stage3b", "made-3", "made-3b", **SETTINGS)
    trained(split, "train-7b", "replayb", "made-7", "made-7b", lr=1e-3)
    (result,) = audit(split, ["replay_matched"], sample=20)
    assert result.status == "passed", result.sample
    add_policies(split, policy("elsewhere"))
    trained(split, "train-7c", "replayb", "elsewhere", "made-7c", lr=1e-3)
    (result,) = audit(split, ["replay_matched"], sample=20)
    wrong = {row["differs"]: row["control_has"] for row in result.sample}
    assert wrong == {"start policy": "elsewhere", "updates before the run": "0"}
