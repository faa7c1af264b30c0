"""Audits of policies: a teacher that RL made better (C1), a student close to it (C2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from s2d_store.errors import NotFoundError
from s2d_store.store import Store
from tests.support import audit_rows as rows
from tests.support import made_stores


@pytest.fixture
def audited(sound: Store, tmp_path: Path) -> Store:
    return made_stores.copy(sound, tmp_path / "copy")


def add_teacher(store: Store, rewards: list[float]) -> list[str]:
    """A child of the teacher, with one rollout for each reward on the prompts of gen-after."""
    parent = rows.policy_id("teacher")
    rows.add_policy(store, "teacher-2", parent_policy_id=parent, run_id="train-2", update=1)
    prompts = rows.prompt_ids(store, "gen-after")
    rollouts = rows.add_rollouts(store, "gen-2", "teacher-2", prompts, n=1, role="teacher")
    rows.grade(store, rollouts, rewards)
    return rollouts


def test_a_teacher_that_training_made_no_better(audited: Store) -> None:
    add_teacher(audited, [1.0, 1.0, 1.0, 0.0])
    found = rows.only_failure(audited, "teacher_reward_shaped")
    (row,) = found.sample
    assert row == {
        "policy": "teacher-2",
        "parent": "teacher",
        "verifier": "math-verify",
        "prompts": 4,
        "rate_before": 1.0,
        "rate_after": 0.75,
        "gain": -0.25,
        "standard_error": 0.25,
    }
    assert [(f["policy"], f["gain"]) for f in found.figures] == [
        ("teacher", 0.5),
        ("teacher-2", -0.25),
    ]
    assert rows.one(audited, "teacher_reward_shaped", policy="teacher").status == "passed"
    assert rows.one(audited, "teacher_reward_shaped", min_gain=-0.3).status == "passed"
    against = {"policy": "teacher-2", "before": "teacher-base"}
    assert rows.one(audited, "teacher_reward_shaped", **against).figures[0]["gain"] == 0.25


def test_a_teacher_that_stays_as_it_was_fails_too(audited: Store) -> None:
    add_teacher(audited, [1.0] * 4)
    assert rows.only_failure(audited, "teacher_reward_shaped").sample[0]["gain"] == 0.0


def test_a_gain_may_have_to_exceed_its_error(audited: Store) -> None:
    add_teacher(audited, [1.0, 1.0, 1.0, 0.0])
    asked = {"policy": "teacher-2", "before": "teacher-base"}
    (figures,) = rows.one(audited, "teacher_reward_shaped", **asked).figures
    gains = np.array([0.5, 0.5, 0.5, -0.5])
    assert figures["standard_error"] == pytest.approx(gains.std(ddof=1) / 2, abs=1e-4)
    assert rows.one(audited, "teacher_reward_shaped", errors=1, **asked).status == "failed"


def test_only_prompts_that_both_were_graded_on_count(audited: Store) -> None:
    add_teacher(audited, [1.0, 1.0, 1.0, 1.0])
    elsewhere = rows.add_rollouts(
        audited, "gen-3", "teacher-2", rows.prompt_ids(audited, "gen-opd"), role="teacher"
    )
    rows.grade(audited, elsewhere, [0.0] * 8)
    found = rows.one(audited, "teacher_reward_shaped", policy="teacher-2")
    assert (found.figures[0]["examined"], found.figures[0]["rate_after"]) == (4, 1.0)
    assert rows.one(audited, "teacher_reward_shaped", purpose="eval").status == "skipped"
    assert rows.one(audited, "teacher_reward_shaped", verifier="exact").status == "skipped"


def test_a_student_far_from_its_teacher(audited: Store) -> None:
    prompts = rows.prompt_ids(audited, "gen-opd")
    far = rows.add_rollouts(audited, "gen-far", "student-warmup", prompts, n=6)
    rows.score(audited, "teacher", far, rows.LOGPROB - 1.0)
    (row,) = rows.only_failure(audited, "student_near_teacher").sample
    assert (row["student"], row["teacher"]) == ("student-warmup", "teacher")
    assert row["direction"] == "student || teacher"
    # Of each of the four prompts two rollouts at 0.1 nats per token and six at 1.0.
    assert row["kl"] == pytest.approx((2 * 0.1 + 6 * 1.0) / 8, abs=1e-4)
    assert row["prompts"] == len(prompts) == 4
    error = 0.0
    assert row["standard_error"] == pytest.approx(error, abs=1e-4)
    assert rows.one(audited, "student_near_teacher", max_kl=0.8).status == "passed"


def test_the_kl_the_other_way_is_looked_at_too(audited: Store) -> None:
    rollouts = rows.rollout_ids(audited, "gen-warmup")
    rows.score(audited, "student-warmup", rollouts, rows.LOGPROB - 0.7)
    (row,) = rows.only_failure(audited, "student_near_teacher").sample
    assert row["direction"] == "teacher || student"
    assert (row["kl"], row["tokens"]) == (0.7, 8 * rows.T)


def test_long_rollouts_count_by_their_tokens(audited: Store) -> None:
    prompts = rows.prompt_ids(audited, "gen-opd")
    tokens = [i % 50 for i in range(100)]
    far = rows.add_rollouts(
        audited, "gen-far", "student-warmup", prompts[:1], n=1, response_token_ids=tokens
    )
    rows.score(audited, "teacher", far, rows.LOGPROB - 0.5)
    (figures,) = rows.one(audited, "student_near_teacher").figures
    assert figures["kl"] == pytest.approx((160 * 0.1 + 100 * 0.5) / 260, abs=1e-4)


def test_only_plain_sampling_estimates_a_kl(audited: Store) -> None:
    prompts = rows.prompt_ids(audited, "gen-opd")
    cool = rows.add_rollouts(audited, "gen-cool", "student-warmup", prompts, temperature=0.7)
    rows.score(audited, "teacher", cool, rows.LOGPROB - 2.0)
    assert rows.one(audited, "student_near_teacher").figures[0]["kl"] == 0.1
    assert rows.one(audited, "student_near_teacher", any_sampling=True).status == "failed"


def test_students_are_those_of_opd_datasets_unless_named(audited: Store) -> None:
    rollouts = rows.rollout_ids(audited, "gen-grpo")
    rows.score(audited, "teacher", rollouts, rows.LOGPROB - 2.0)
    assert rows.one(audited, "student_near_teacher").status == "passed"
    assert rows.one(audited, "student_near_teacher", student="student-opd").status == "failed"
    asked = {"student": "student-opd", "teacher": "teacher-base"}
    assert rows.one(audited, "student_near_teacher", **asked).status == "skipped"
    with pytest.raises(NotFoundError, match=r"no policy 'studnet-opd'.*did you mean 'student-opd'"):
        rows.one(audited, "student_near_teacher", student="studnet-opd")
