"""Audits of prompts: eval prompts among those trained on, labels used by several stages."""

from __future__ import annotations

from pathlib import Path

import pytest

import queries
from s2d_store.datasets.build import build
from s2d_store.store import Store
from tests.support import audit_rows as rows
from tests.support import made_stores


@pytest.fixture
def audited(sound: Store, tmp_path: Path) -> Store:
    return made_stores.copy(sound, tmp_path / "copy")


def changed(seed: int, *places: int) -> str:
    """A question of `fill`, with other words in some places."""
    text = rows.words(seed)
    for place in places:
        text[place] = "other"
    return " ".join(text)


def test_an_eval_prompt_that_is_trained_on_in_other_spelling(audited: Store) -> None:
    text = " - ".join(rows.words(8)[:1]) + ",  " + "\n".join(rows.words(8)[1:]).upper() + "?!"
    eval_prompt = rows.add_prompt(audited, text, split="test")
    found = rows.only_failure(audited, "contamination_exact")
    (row,) = found.sample
    assert row["eval_prompt_id"] == eval_prompt
    assert row["datasets"] == "control,opd,stage3"
    assert found.figures[0]["eval_prompts"] == 5


def test_a_trained_prompt_that_is_evaluated(audited: Store) -> None:
    (prompt, *_) = rows.prompt_ids(audited, "gen-warmup")
    rows.add_rollouts(audited, "gen-eval-2", "student-grpo", [prompt], purpose="eval")
    (row,) = rows.only_failure(audited, "contamination_exact").sample
    assert row["eval_prompt_id"] == row["train_prompt_id"] == prompt
    assert rows.one(audited, "contamination_exact", datasets="opd").status == "passed"
    assert rows.one(audited, "contamination_exact", train_split="train").offending == 1


def test_an_eval_prompt_with_one_word_changed(audited: Store) -> None:
    eval_prompt = rows.add_prompt(audited, changed(4, 25), split="test")
    (row,) = rows.only_failure(audited, "contamination_ngram").sample
    assert (row["eval_prompt_id"], row["datasets"]) == (eval_prompt, "warmup")
    # Of 30 - 13 + 1 n-grams, those from 13 on hold word 25.
    assert (row["shared"], row["overlap"]) == (13, round(13 / 18, 3))
    assert rows.one(audited, "contamination_ngram", min_overlap=0.73).status == "passed"


def test_overlap_below_the_threshold_passes(audited: Store) -> None:
    # Words 2 and 16 leave one n-gram in 18 as it was; the rest of the text is new.
    other = rows.words(999)
    other[3:16] = rows.words(4)[3:16]
    rows.add_prompt(audited, " ".join(other), split="test")
    assert rows.one(audited, "contamination_ngram").status == "passed"
    assert rows.one(audited, "contamination_ngram", min_overlap=0.05).offending == 1


@pytest.mark.parametrize("size", [8, 12, 20])
def test_an_answer_format_that_many_prompts_have_is_no_contamination(
    audited: Store, size: int
) -> None:
    """Not even together with a question's last words, which make it as long as an n-gram."""
    suffix = " ".join(["had", "in", "all", "that", "day", *rows.words(500)[:size]])
    texts = [" ".join([*rows.words(700 + i)[:10], suffix]) for i in range(12)]
    rows.add_prompts(audited, texts[:11], "test")
    rollouts = rows.add_rollouts(
        audited, "gen-more", "student-opd", rows.add_prompts(audited, texts[11:])
    )
    dataset = rows.add_dataset(audited, "more", "sft", rollouts)
    rows.train(audited, "train-more", dataset, "student-opd", "student-more", "sft")
    assert rows.one(audited, "contamination_ngram").status == "passed"
    # 11 of 15 eval prompts have it: below a share of 0.8 it counts like any other text.
    assert rows.one(audited, "contamination_ngram", template=0.8, min_overlap=0.05).offending == 11


def test_a_near_duplicate_is_seen_despite_the_answer_format(audited: Store) -> None:
    suffix = " ".join(rows.words(500)[:12])
    texts = [" ".join([*rows.words(700 + i), suffix]) for i in range(12)]
    rows.add_prompts(audited, texts, "test")
    near = rows.add_prompt(audited, " ".join([changed(703, 29), suffix]))
    rollouts = rows.add_rollouts(audited, "gen-more", "student-opd", [near])
    rows.add_dataset(audited, "more", "sft", rollouts)
    (row,) = rows.one(audited, "contamination_ngram", datasets="more").sample
    assert (row["train_prompt_id"], row["datasets"]) == (near, "more")
    # Of 30 n-grams, the last 7 hold six words of the suffix, and the 6 before them word 29.
    assert row["shared"] == 17


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is 5 + 6?", "what is  5+6", True),
        ("What is 5 + 6?", "What is 5 - 6?", False),
        ("What is 5 - 6?", "What is 5 6?", False),
        ("What is 5\u22126?", "What is 5-6?", True),
        ("A nine-mile walk costs $1,000.", "A nine mile walk costs 1000", True),
        ("It costs 10 00", "It costs 1000", False),
        ("\\frac{1}{2} of x^2", "frac 1 2 of x ^ 2", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("caf\u00e9", "cafe", False),
        ("\uff11\uff12 \uff21\uff42", "12 ab", True),
        ("\u5b83\u662f3+4\u5417\uff1f", "\u5b83\u662f3 + 4\u5417", True),
    ],
)
def test_normalised_text(store: Store, one: str, other: str, same: bool) -> None:
    query = "SELECT normalised_text($a), normalised_text($b)"
    ((a, b),) = store.sql(query, {"a": one, "b": other}).fetchall()
    assert (a == b) is same, (a, b)


def test_system_messages_are_not_the_question(store: Store) -> None:
    text = "[{'role': 'system', 'content': 'Be kind'}, {'role': 'user', 'content': 'Why'}]"
    assert store.sql(f"SELECT prompt_text({text})").fetchall() == [("Why",)]


def test_a_label_that_two_stages_use(audited: Store) -> None:
    shared, *_ = rows.prompt_ids(audited, "gen-warmup")
    rollouts = rows.add_rollouts(audited, "gen-more", "student-opd", [shared])
    dataset = rows.add_dataset(audited, "more", "grpo", rollouts, labelled=True)
    rows.train(audited, "train-more", dataset, "student-opd", "student-more", "grpo")
    found = rows.only_failure(audited, "label_splits")
    assert found.sample == [
        {"prompt_id": shared, "stages": "student/grpo,student/warmup", "datasets": "more,warmup"}
    ]
    allowed = {"shared": "student/grpo,student/warmup"}
    assert rows.one(audited, "label_splits", **allowed).status == "passed"
    assert (
        rows.one(audited, "label_splits", shared="student/grpo,teacher/teacher-rl").offending == 1
    )
    assert rows.one(audited, "label_splits", datasets="more,stage3").status == "passed"


def test_a_label_of_the_teacher_and_the_student(audited: Store) -> None:
    taught, *_ = rows.prompt_ids(audited, "gen-base")
    rollouts = rows.add_rollouts(audited, "gen-more", "student-opd", [taught])
    dataset = rows.add_dataset(audited, "more", "grpo", rollouts, labelled=True)
    # Both stages are called teacher-rl here: the role keeps them apart.
    rows.train(audited, "train-more", dataset, "student-opd", "student-more", "teacher-rl")
    (row,) = rows.only_failure(audited, "label_splits").sample
    assert row["stages"] == "student/teacher-rl,teacher/teacher-rl"


def spend(store: Store, name: str, prompts: list[str], start: str, recipe: str = "") -> None:
    """GRPO of a student on the labels of these prompts, as stage NAME; it makes policy NAME."""
    rollouts = rows.add_rollouts(store, f"gen-{name}", start, prompts)
    dataset = rows.add_dataset(store, name, "grpo", rollouts, labelled=True)
    rows.train(store, f"train-{name}", dataset, start, name, name, recipe=recipe)


def test_arms_of_a_recipe_may_spend_the_same_labels(audited: Store) -> None:
    rows.add_policy(audited, "fresh")
    fresh = rows.add_prompts(audited, ["one more question of many words to ask"])
    spend(audited, "arm", fresh, "student-opd", recipe="paper")
    spend(audited, "cold", fresh, "fresh", recipe="paper")
    assert rows.one(audited, "label_splits").status == "passed", "no policy is made from both"
    spend(audited, "later", fresh, "cold", recipe="paper")
    found = rows.one(audited, "label_splits")
    assert found.sample == [
        {"prompt_id": fresh[0], "stages": "student/cold,student/later", "datasets": "cold,later"}
    ]


@pytest.mark.parametrize("by", ["hand", "recipe"])
def test_labels_by_hand_are_shared_with_no_arm(audited: Store, by: str) -> None:
    (fresh,) = rows.add_prompts(audited, ["one more question of many words to ask"])
    rows.add_policy(audited, "fresh")
    spend(audited, "arm", [fresh], "student-opd", recipe="paper")
    spend(audited, "cold", [fresh], "fresh", recipe="paper" if by == "recipe" else "")
    assert rows.one(audited, "label_splits").offending == (by == "hand")


def test_a_dataset_dropped_before_training_is_nobodys_concern(audited: Store) -> None:
    shared, *_ = rows.prompt_ids(audited, "gen-warmup")
    rollouts = rows.add_rollouts(audited, "gen-more", "student-opd", [shared])
    rows.add_dataset(audited, "dropped", "grpo", rollouts, labelled=True)
    assert rows.one(audited, "label_splits").status == "passed"
    assert rows.one(audited, "label_splits", datasets="dropped,warmup").offending == 1


def test_a_dataset_not_trained_on_yet_belongs_to_the_stage_of_its_kind(audited: Store) -> None:
    given = {"policy": "student-opd", "prompts_per_update": "1"}
    build(audited, "next", queries.catalog()["grpo"], given)
    found = rows.one(audited, "label_splits")
    assert found.status == "passed", "the same labels as dataset stage3, and the same stage"
    assert {f["stage"] for f in found.figures} == {
        "teacher/teacher-rl",
        "student/warmup",
        "student/stage3",
    }
    alone = rows.one(audited, "label_splits", datasets="next")
    assert [f["stage"] for f in alone.figures] == ["student/grpo"]


def test_labels_overlap_before_anything_trained_on_them(audited: Store) -> None:
    prompts = rows.prompt_ids(audited, "gen-warmup")
    rollouts = rows.add_rollouts(audited, "gen-next", "student-opd", prompts)
    rows.grade(audited, rollouts, [1.0, 0.0] * 4)
    given = {"policy": "student-opd", "prompts_per_update": "1"}
    build(audited, "next", queries.catalog()["grpo"], given)
    found = rows.only_failure(audited, "label_splits")
    assert found.offending == 4
    row = found.sample[0]
    assert (row["stages"], row["datasets"]) == ("student/stage3,student/warmup", "next,warmup")
