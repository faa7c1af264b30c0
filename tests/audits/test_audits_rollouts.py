"""Audits of rollouts and their scores: top-k, duplicates, degenerate responses, verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2d_store.audits import topk_consistency as topk_audit
from s2d_store.store import Store
from tests.support import audit_rows as rows
from tests.support import made_stores, synthetic


@pytest.fixture
def audited(sound: Store, tmp_path: Path) -> Store:
    return made_stores.copy(sound, tmp_path / "copy")


def with_cell(array: np.ndarray, place: Any, value: float) -> np.ndarray:
    changed = array.copy()
    changed[place] = value
    return changed


FAULTS = {
    "probabilities sum to": lambda e, t: replace(e, logprobs=with_cell(e.logprobs, 2, -1.4)),
    "logprobs rise after rank 0": lambda e, t: replace(
        e, logprobs=with_cell(e.logprobs, (4, 0), -9.0)
    ),
    "token id 50 is outside [0, 50)": lambda e, t: replace(
        e, token_ids=with_cell(e.token_ids, (1, 3), 50)
    ),
    "stands twice in the top k": lambda e, t: replace(
        e, token_ids=with_cell(e.token_ids, (1, 3), e.token_ids[1, 4])
    ),
    "logprob nan at rank 2": lambda e, t: replace(
        e, logprobs=with_cell(e.logprobs, (0, 2), np.nan)
    ),
    "in the top k": lambda e, t: replace(
        e, sampled_logprobs=with_cell(e.sampled_logprobs, 3, -1.6)
    ),
    "yet is missing from it": lambda e, t: replace(e, token_ids=((e.token_ids + 1) % 50)),
}


def test_topk_that_is_no_distribution(audited: Store) -> None:
    """Every fault in a rollout of its own, and one rollout without any."""
    good, *bad = rows.rollout_ids(audited, "gen-after")
    tokens = rows.stored_tokens(audited, [good, *bad])
    entries = [rows.scores(t, rows.LOGPROB) for t in tokens]
    broken = [
        make(e, t) for make, e, t in zip(FAULTS.values(), entries[1:], tokens[1:], strict=True)
    ]
    rows.add_topk(audited, "teacher", [good, *bad], [entries[0], *broken])
    found = rows.only_failure(audited, "topk_consistency", sample=20).sample
    assert {(row["scorer"], row["k"]) for row in found} == {("teacher", rows.K)}
    said = {row["rollout_id"]: row["fault"] for row in found}
    assert len(found) == len(said) == len(FAULTS)
    for rollout, fault in zip(bad, FAULTS, strict=True):
        assert fault in said[rollout] and said[rollout].startswith("position ")


def test_topk_with_entries_missing(audited: Store) -> None:
    bad, *_ = rows.rollout_ids(audited, "gen-after")
    (tokens,) = rows.stored_tokens(audited, [bad])
    entry = rows.scores(tokens, rows.LOGPROB)
    rows.add_topk(audited, "teacher", [bad], [replace(entry, logprobs=entry.logprobs[1:])])
    (row,) = rows.only_failure(audited, "topk_consistency").sample
    assert row["fault"] == "100 ids and 95 logprobs for 20 tokens and k = 5"
    assert rows.one(audited, "topk_consistency", datasets="warmup").figures == [{"examined": 8}]
    assert rows.one(audited, "topk_consistency", datasets="warmup").status == "passed"


def test_given_ids_need_not_descend(audited: Store) -> None:
    rollouts = rows.rollout_ids(audited, "gen-after")
    entries = [rows.scores(t, rows.LOGPROB) for t in rows.stored_tokens(audited, rollouts)]
    turned = [
        replace(e, token_ids=e.token_ids[:, ::-1], logprobs=e.logprobs[:, ::-1]) for e in entries
    ]
    rows.add_topk(audited, "teacher", rollouts, turned, support="policy")
    assert rows.one(audited, "topk_consistency").status == "passed"
    rows.add_topk(audited, "teacher-base", rollouts, turned, support="own")
    assert rows.one(audited, "topk_consistency").offending == len(rollouts)


def test_topk_is_read_in_batches_of_bounded_size(
    audited: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = rows.rollout_ids(audited, "gen-after")
    tokens = rows.stored_tokens(audited, bad)
    entries = [replace(e, logprobs=e.logprobs + 1) for e in (rows.scores(t, -1.5) for t in tokens)]
    rows.add_topk(audited, "teacher", bad, entries)
    whole = rows.one(audited, "topk_consistency")
    monkeypatch.setattr(topk_audit, "BATCH_TOKENS", 1)
    parts = rows.one(audited, "topk_consistency")
    assert whole.offending == parts.offending == len(bad)
    assert whole.figures == parts.figures == [{"examined": 24}]


def test_scores_that_are_not_one_a_token(audited: Store) -> None:
    bad, *_ = rows.rollout_ids(audited, "gen-after")
    (tokens,) = rows.stored_tokens(audited, [bad])
    rows.add_topk(audited, "teacher", [bad], [rows.scores(tokens[:-1], rows.LOGPROB)])
    (row,) = rows.only_failure(audited, "topk_alignment").sample
    assert row["fault"] == "scores are not one per token"
    assert (row["response_tokens"], row["scored_tokens"]) == (20, 19)
    assert rows.one(audited, "topk_alignment", datasets="warmup").status == "passed"


def test_a_policy_that_disagrees_with_its_own_logprobs(audited: Store) -> None:
    rollouts = rows.rollout_ids(audited, "gen-after")
    rows.score(audited, "teacher", rollouts[:1], rows.LOGPROB - 0.2)
    rows.score(audited, "teacher", rollouts[1:], rows.LOGPROB - 0.05)
    (row,) = rows.only_failure(audited, "topk_alignment").sample
    assert row["rollout_id"] == rollouts[0]
    assert row["difference"] == pytest.approx(0.2, abs=1e-4)
    assert rows.one(audited, "topk_alignment", tolerance=0.3).status == "passed"
    assert rows.one(audited, "topk_alignment", tolerance=0.01).offending == len(rollouts)


def test_scores_of_a_rollout_that_is_not_stored(audited: Store) -> None:
    rows.add_topk(audited, "teacher", ["nowhere"], [rows.scores(np.arange(20), rows.LOGPROB)])
    (row,) = rows.only_failure(audited, "topk_alignment").sample
    assert (row["rollout_id"], row["fault"]) == ("nowhere", "the rollout is not stored")


def test_a_rollout_with_other_counts_than_it_says(audited: Store) -> None:
    prompt, *_ = rows.prompt_ids(audited, "gen-after")
    (bad,) = rows.add_rollouts(audited, "gen-odd", "teacher", [prompt], n=1, response_tokens=21)
    rows.score(audited, "teacher", [bad])
    (row,) = rows.only_failure(audited, "topk_alignment").sample
    assert "other counts" in row["fault"]


def copied(store: Store, run: str, **changes: Any) -> list[str]:
    """The rollouts of `run` once more, under another run."""
    query = "SELECT prompt_id, response_token_ids FROM rollouts WHERE run_id = $run"
    ids = []
    for i, (prompt, tokens) in enumerate(store.sql(query, {"run": run}).fetchall()):
        settings = {"response_token_ids": tokens} | changes
        policy = "student-warmup"
        ids += rows.add_rollouts(store, f"copy-{i}", policy, [prompt], n=1, **settings)
    return ids


def test_the_same_rollouts_under_two_runs(audited: Store) -> None:
    copied(audited, "gen-opd")
    found = rows.only_failure(audited, "duplicate_rollouts")
    assert found.offending == 8
    row = found.sample[0]
    assert (row["run_id"][:5], row["other_run_id"]) == ("copy-", "gen-opd")
    # Three rollouts of the prompt when the first copy came, one of 20 tokens at -1.5 nats.
    assert (row["rollouts"], row["copies"]) == (4, 2)
    assert row["log_chance"] == pytest.approx(20 * -1.5 + np.log(3), abs=0.05)
    assert rows.one(audited, "duplicate_rollouts", datasets="opd").status == "passed"
    assert rows.one(audited, "duplicate_rollouts", chance=1e-20).status == "passed"


def test_the_same_seed_twice_in_a_group(audited: Store) -> None:
    prompt, *_ = rows.prompt_ids(audited, "gen-opd")
    tokens = list(range(20))
    rows.add_rollouts(
        audited, "gen-twice", "student-warmup", [prompt], response_token_ids=tokens, seed=7
    )
    (row,) = rows.only_failure(audited, "duplicate_rollouts").sample
    assert row["same_seed"] and row["copies"] == 2
    assert row["run_id"] == row["other_run_id"] == "gen-twice"


@pytest.mark.parametrize(
    ("changes", "offending"),
    [
        ({"temperature": 0.0}, 0),
        ({"response_logprobs": [-0.5] * 20}, 0),
        ({"response_logprobs": [-2.0] * 20, "temperature": 0.5}, 0),
        ({"response_logprobs": [-8.0] * 20, "temperature": 0.5}, 1),
        ({"response_logprobs": [-1.2] * 20, "top_p": 0.7}, 0),
        ({"response_token_ids": [1, 2]}, 0),
        ({"response_token_ids": []}, 0),
    ],
    ids=["greedy", "likely", "cool", "cool-unlikely", "nucleus", "short", "empty"],
)
def test_repeats_that_chance_explains(
    audited: Store, changes: dict[str, Any], offending: int
) -> None:
    prompt, *_ = rows.prompt_ids(audited, "gen-opd")
    settings = {"response_token_ids": list(range(20))} | changes
    rows.add_rollouts(audited, "gen-twice", "student-warmup", [prompt], **settings)
    assert rows.one(audited, "duplicate_rollouts").offending == offending


LOOP = "so we get the next one. " * 12


@pytest.mark.parametrize(
    ("share", "changes"),
    [
        ("truncated", {"finish_reason": "length"}),
        ("empty", {"response_text": " \n"}),
        ("looping", {"response_text": "First, " + LOOP}),
        ("looping", {"response_text": "1" * 200}),
    ],
)
def test_degenerate_rollouts_of_a_policy(
    audited: Store, share: str, changes: dict[str, Any]
) -> None:
    prompts = rows.prompt_ids(audited, "gen-opd")
    bad = rows.add_rollouts(audited, "gen-bad", "student-warmup", prompts[:1], **changes)
    (row,) = rows.only_failure(audited, "degenerate_rollouts").sample
    assert (row["policy"], row["purpose"], row["rollouts"]) == ("student-warmup", "train", 10)
    assert {s: row[s] for s in ("truncated", "empty", "looping")} == {
        "truncated": 0.0,
        "empty": 0.0,
        "looping": 0.0,
    } | {share: 0.2}
    assert row["example"] == min(bad)
    allowed = {f"max_{share}": 0.2}
    assert rows.one(audited, "degenerate_rollouts", **allowed).status == "passed"
    assert rows.one(audited, "degenerate_rollouts", datasets="opd").status == "passed"


def test_text_that_repeats_itself_a_little_is_no_loop(audited: Store) -> None:
    ends = "the answer is \\boxed{42}, as shown before"
    text = f"First {ends}. Then {ends}. Once more {ends}"
    prompts = rows.prompt_ids(audited, "gen-opd")
    rows.add_rollouts(audited, "gen-more", "student-warmup", prompts, response_text=text)
    assert rows.one(audited, "degenerate_rollouts").status == "passed"
    assert rows.one(audited, "degenerate_rollouts", repeats=3).status == "failed"


def test_verifiers_that_disagree(audited: Store) -> None:
    query = "SELECT rollout_id FROM graded_rollouts WHERE run_id = 'gen-grpo' AND reward > 0"
    first, second, *_ = (row[0] for row in audited.sql(query).fetchall())
    rows.grade(audited, [first, second], [1.0, 0.0], verifier="exact")
    (row,) = rows.only_failure(audited, "verifiers_disagree").sample
    assert row == {
        "rollout_id": second,
        "verifier_a": "exact",
        "verifier_b": "math-verify",
        "outcome_a": "wrong",
        "outcome_b": "correct",
        "extracted_a": "0.0",
        "extracted_b": "1.0",
        "share": 0.1,
    }
    assert rows.one(audited, "verifiers_disagree", max_share=0.1).status == "passed"
    assert rows.one(audited, "verifiers_disagree", datasets="opd").status == "skipped"


def test_versions_of_a_verifier_may_disagree_unless_asked(audited: Store) -> None:
    rollouts = rows.rollout_ids(audited, "gen-after")
    rows.grade(audited, rollouts, [0.0] * 8, version="2", hours=1)
    assert rows.one(audited, "verifiers_disagree").status == "passed"
    found = rows.one(audited, "verifiers_disagree", versions=True)
    assert found.offending == 8
    assert (found.sample[0]["verifier_a"], found.sample[0]["verifier_b"]) == (
        "math-verify 1",
        "math-verify 2",
    )


def test_the_newest_version_of_a_verifier_counts(audited: Store) -> None:
    rollouts = rows.rollout_ids(audited, "gen-base")
    rows.grade(audited, rollouts, [1.0] * 8, version="2", hours=1)
    found = rows.one(audited, "verifiers_disagree")
    assert found.offending == 4, "those that version 1 and the other verifier call wrong"


def test_ragged_top_k_is_checked_by_its_counts(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "ragged")
    synthetic.fill(store, n_prompts=4, n=2, k=5, mass=0.6)
    assert rows.one(store, "topk_consistency").status == "passed"
    plain = store.sql("SELECT * FROM topk WHERE counts IS NOT NULL LIMIT 1").to_arrow_table()
    (row,) = plain.to_pylist()
    fault = row | {"run_id": "other", "k": 6, "logprobs": [0.5] * len(row["logprobs"])}
    fault["created_at"] = synthetic.NOW
    store.commit({"topk": synthetic.table("topk", [fault])})
    (found,) = rows.one(store, "topk_consistency").sample
    assert found["k"] == 6 and found["fault"].startswith("of its tokens with ")
    missing = fault | {"k": 7, "logprobs": row["logprobs"][1:]}
    store.commit({"topk": synthetic.table("topk", [missing])})
    faults = {found["k"]: found["fault"] for found in rows.one(store, "topk_consistency").sample}
    assert faults.keys() == {6, 7} and faults[7].endswith("not those of its counts")
