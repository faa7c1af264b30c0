"""Audits of datasets: controls, staleness, tokenizers along a run, locks that rebuild."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import queries
from s2d_store.audits import audit
from s2d_store.datasets.build import build, materialise
from s2d_store.errors import InputError, NotFoundError
from s2d_store.store import Store
from tests.support import audit_rows as rows
from tests.support import made_stores
from tests.support.synthetic import NOW, policy, table


@pytest.fixture
def audited(sound: Store, tmp_path: Path) -> Store:
    return made_stores.copy(sound, tmp_path / "copy")


def add_control(store: Store, rollouts: list[str], **settings: Any) -> None:
    dataset = rows.add_dataset(
        store, "other", "bridge_continuation", rollouts, treatment="stage3", **settings
    )
    rows.train(store, "train-other", dataset, "student-opd", "student-other", "continued")


def test_a_control_with_a_row_too_few(audited: Store) -> None:
    add_control(audited, rows.rollout_ids(audited, "gen-opd")[:-1])
    found = rows.only_failure(audited, "replay_matched")
    differences = {(r["update"], r["differs"]): r for r in found.sample}
    assert set(differences) == {
        (4, "rows"),
        (4, "response_tokens"),
        (None, "rows"),
        (None, "response_tokens"),
    }
    assert differences[4, "response_tokens"] == {
        "control": "other",
        "treatment": "stage3",
        "update": 4,
        "differs": "response_tokens",
        "control_has": str(rows.T),
        "treatment_has": str(2 * rows.T),
    }
    assert rows.one(audited, "replay_matched", datasets="control").status == "passed"


def test_a_control_with_an_update_too_many(audited: Store) -> None:
    add_control(audited, rows.rollout_ids(audited, "gen-opd"), rows_per_update=1)
    found = rows.only_failure(audited, "replay_matched")
    assert {(r["update"], r["control_has"], r["treatment_has"]) for r in found.sample} >= {
        (1, "1", "2")
    }
    assert found.offending == 16, "rows and tokens of 8 updates; the whole agrees"


def test_a_control_that_uses_labels(audited: Store) -> None:
    add_control(audited, rows.rollout_ids(audited, "gen-opd"), labelled=True)
    (row,) = rows.one(audited, "replay_matched").sample
    assert (row["differs"], row["control_has"], row["treatment_has"]) == ("new labels", "4", "0")


def test_tokens_match_within_the_tolerance_that_the_lock_states(audited: Store) -> None:
    prompts = rows.prompt_ids(audited, "gen-opd")
    longer = rows.add_rollouts(
        audited, "gen-longer", "student-warmup", prompts, response_token_ids=[*range(21)]
    )
    add_control(audited, longer, tolerance=0.05)
    assert rows.one(audited, "replay_matched").status == "passed", "21 against 20 tokens"
    found = rows.one(audited, "replay_matched", tolerance=0.04)
    assert found.offending == 5 and {r["differs"] for r in found.sample} == {"response_tokens"}


def test_any_dataset_may_be_named_as_the_treatment(audited: Store) -> None:
    named = {"datasets": "opd", "treatment": "stage3"}
    by_name = {r["differs"] for r in rows.one(audited, "replay_matched", **named).sample}
    assert by_name == {"start policy"}, "the data match, the runs do not"
    named = {"datasets": "warmup", "treatment": "stage3"}
    assert rows.one(audited, "replay_matched", **named).offending > 1
    with pytest.raises(NotFoundError, match=r"no dataset 'stage4'.*did you mean 'stage3'"):
        rows.one(audited, "replay_matched", treatment="stage4")


def test_a_control_whose_treatment_is_unknown(audited: Store) -> None:
    bridge = rows.rollout_ids(audited, "gen-opd")
    dataset = rows.add_dataset(audited, "other", "bridge_continuation", bridge, treatment="gone")
    rows.train(audited, "train-other", dataset, "student-opd", "student-other", "continued")
    (row,) = rows.only_failure(audited, "replay_matched").sample
    assert (row["treatment"], row["differs"]) == ("gone", "treatment not stored")


def test_rollouts_of_a_policy_behind_the_one_that_trains_on_them(audited: Store) -> None:
    bridge = rows.rollout_ids(audited, "gen-opd")
    late = rows.add_dataset(audited, "late", "opd", bridge)
    rows.train(audited, "train-late", late, "student-opd", "student-late", "opd")
    (row,) = rows.only_failure(audited, "staleness").sample
    assert (row["learner"], row["policy"]) == ("student-opd", "student-warmup")
    assert (row["lag"], row["allowed"], row["rows"]) == (2, 0, 8)
    assert rows.one(audited, "staleness", max_lag=2).status == "passed"
    assert rows.one(audited, "staleness", max_lag=1).offending == 1
    assert rows.one(audited, "staleness", datasets="opd").status == "passed"
    # Before its last update, a run on 8 rows, 2 an update, has taken 3.
    assert rows.one(audited, "staleness", datasets="opd", within=True, max_lag=2).offending == 1
    assert rows.one(audited, "staleness", datasets="opd", within=True, max_lag=3).offending == 0


def test_the_lock_says_how_stale_rows_may_be(audited: Store) -> None:
    bridge = rows.rollout_ids(audited, "gen-opd")
    for name, allowed, status in (("one", 1, "failed"), ("two", 2, "passed")):
        late = rows.add_dataset(
            audited, name, "opd", bridge, max_lag=allowed, student=rows.policy_id("student-opd")
        )
        assert rows.one(audited, "staleness", datasets=name).status == status
        assert late == f"id-{name}"


def test_rollouts_of_a_policy_that_training_never_passed_through(audited: Store) -> None:
    strange = rows.rollout_ids(audited, "gen-after")
    dataset = rows.add_dataset(audited, "strange", "opd", strange)
    rows.train(audited, "train-strange", dataset, "student-opd", "student-strange", "opd")
    found = rows.one(audited, "staleness", max_lag=1000)
    assert [(r["policy"], r["lag"]) for r in found.sample] == [("teacher", None)]


def test_checkpoints_of_one_run_lag_by_the_updates_between_them(audited: Store) -> None:
    parent = rows.policy_id("student-warmup")
    for update in (3, 7):
        rows.add_policy(
            audited, f"at-{update}", parent_policy_id=parent, run_id="train-x", update=update
        )
    rollouts = rows.add_rollouts(audited, "gen-at-3", "at-3", rows.prompt_ids(audited, "gen-opd"))
    rows.add_dataset(audited, "x", "opd", rollouts, student=rows.policy_id("at-7"))
    (row,) = rows.one(audited, "staleness", datasets="x").sample
    assert (row["policy"], row["lag"]) == ("at-3", 4)


def test_a_teacher_with_another_tokenizer(audited: Store) -> None:
    rows.put(audited, policies=table("policies", [policy("foreign", tokenizer="other")]))
    rows.score(audited, "foreign", rows.rollout_ids(audited, "gen-opd"), rows.LOGPROB - 0.1)
    found = rows.only_failure(audited, "tokenizers")
    assert {(r["relation"], r["policy"], r["tokenizer"], r["expected"]) for r in found.sample} == {
        ("scored the rows of dataset", "foreign", "other", "tok"),
        ("scored in run", "foreign", "other", "tok"),
    }
    assert rows.one(audited, "tokenizers", datasets="warmup", scores=False).status == "passed"


def test_a_student_with_another_tokenizer(audited: Store) -> None:
    rows.put(audited, policies=table("policies", [policy("foreign", tokenizer="other")]))
    sft = rows.add_dataset(audited, "sft", "sft", rows.rollout_ids(audited, "gen-warmup"))
    rows.train(audited, "train-sft", sft, "foreign", "student-sft", "sft")
    (row,) = rows.only_failure(audited, "tokenizers").sample
    assert (row["relation"], row["name"], row["policy"]) == ("starts run", "train-sft", "foreign")


def test_a_lock_edited_by_hand(audited: Store) -> None:
    path = audited.root / "datasets" / "warmup" / "lock.json"
    lock = json.loads(path.read_text())
    path.write_text(json.dumps(lock | {"seed": 1}))
    (row,) = rows.only_failure(audited, "locks_rebuild").sample
    assert row["dataset"] == "warmup" and "was changed after it was written" in row["fault"]


def test_a_lock_that_is_no_json(audited: Store) -> None:
    (audited.root / "datasets" / "warmup" / "lock.json").write_text("{")
    (row,) = rows.only_failure(audited, "locks_rebuild").sample
    assert row["dataset"] == "warmup" and "not readable" in row["fault"]


def test_files_that_were_swapped(audited: Store) -> None:
    """A part with the same rows in another order, as the lock's size and count cannot tell."""
    import pyarrow.parquet as pq

    materialise(audited, "warmup")
    path = audited.root / "datasets" / "warmup" / "part-00000.parquet"
    part = pq.read_table(path)
    pq.write_table(part.take(list(reversed(range(part.num_rows)))), path)
    (row,) = rows.only_failure(audited, "locks_rebuild").sample
    assert row["fault"] == "files differ from the lock"
    assert row["locked"] == row["rebuilt"] != row["files"]


def test_a_missing_file_of_a_dataset(audited: Store) -> None:
    (audited.root / "datasets" / "warmup" / "rows.parquet").unlink()
    (row,) = rows.only_failure(audited, "locks_rebuild").sample
    assert row["dataset"] == "warmup" and "rows.parquet" in row["fault"]


def test_only_the_datasets_that_are_named_are_rebuilt(audited: Store) -> None:
    given = {"teacher": "teacher", "rows_per_update": "4"}
    build(audited, "second", queries.catalog()["warmup"], given)
    path = audited.root / "datasets" / "warmup" / "lock.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert rows.one(audited, "locks_rebuild").figures == [{"examined": 2}]
    assert rows.one(audited, "locks_rebuild", datasets="second").status == "passed"
    assert rows.one(audited, "locks_rebuild", datasets="warmup").status == "failed"
    assert rows.one(audited, "locks_rebuild", datasets="control").status == "skipped", "no files"


def test_a_name_means_the_dataset_that_lies_there_now(audited: Store) -> None:
    """Two datasets of one name, the first dropped: its rows count no more."""
    record: dict[str, Any] = {
        "dataset_id": "id-old",
        "name": "warmup",
        "query": "warmup",
        "fingerprint": "f",
    }
    record |= {"lock": json.dumps({"kind": "opd"}), "created_at": NOW}
    rows.put(audited, datasets=table("datasets", [record]))
    assert rows.one(audited, "staleness", datasets="warmup").status == "skipped"
    with pytest.raises(NotFoundError, match=r"no dataset 'warmpu'.*did you mean 'warmup'"):
        rows.one(audited, "staleness", datasets="warmpu")
    with pytest.raises(InputError, match="max_lag='few' of query staleness is not a BIGINT"):
        rows.one(audited, "staleness", max_lag="few")


def test_datasets_of_the_shipped_queries_pass(audited: Store) -> None:
    bridge = {"student": "student-warmup", "teacher": "teacher", "support": "own"}
    made = {
        "built-opd": ("opd", bridge | {"rows_per_update": "2"}),
        "built-grpo": ("grpo", {"policy": "student-opd", "prompts_per_update": "1"}),
        "built-control": (
            "bridge_continuation",
            {"treatment": "built-grpo", "bridge": "built-opd"},
        ),
    }
    for name, (query, given) in made.items():
        build(audited, name, queries.catalog()[query], given)
    results = {r.name: r for r in audit(audited)}
    assert {n for n, r in results.items() if r.status != "passed"} == {"server_agrees"}
    assert results["locks_rebuild"].figures == [{"examined": 4}]
    assert {f["dataset"] for f in results["staleness"].figures} >= {"built-opd", "built-grpo"}
    assert [f["control"] for f in results["replay_matched"].figures] == ["built-control", "control"]
