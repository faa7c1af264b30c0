"""Which labels a dataset spends: whatever its query reads, be it to leave rows out."""

from __future__ import annotations

import pytest

from s2d_store.datasets.build import build, drop, read_lock
from s2d_store.errors import BudgetError, DatasetError
from s2d_store.maintenance.restore_dataset import restore
from s2d_store.store import Store
from tests.support.dataset_rows import (
    Made,
    add_policies,
    add_prompts,
    add_rollouts,
    built,
    trained,
    user_query,
)
from tests.support.synthetic import policy

HEAD = "SELECT row_number() OVER (ORDER BY rollout_id) - 1 AS row, 1 AS update, rollout_id FROM "
MIXED, SOLVED, GRADED = 3, 8, 20


@pytest.fixture
def graded(store: Store) -> Store:
    """20 prompts with four graded rollouts each: 3 mixed groups, 5 all right, 12 all wrong; five
    more that nobody graded, and two by another policy."""
    add_prompts(store, 30)
    add_policies(store, policy("student"), policy("other"), policy("teacher"))
    made = [
        Made(p, s, reward=float(s % 2 if p < MIXED else p < SOLVED))
        for p in range(GRADED)
        for s in range(4)
    ]
    made += [Made(p, s) for p in range(GRADED, 25) for s in range(4)]
    add_rollouts(store, "gen", "student", made)
    add_rollouts(store, "gen-other", "other", [Made(p, reward=1.0) for p in (28, 29)])
    return store


def labels(store: Store, name: str) -> int:
    return int(read_lock(store, name)["counts"]["labels"])


def spent(store: Store, name: str) -> tuple[int, int]:
    """Distinct labels and visits of a run that takes every update of a dataset."""
    trained(store, f"train-{name}", name, "student", f"made-{name}")
    found = store.sql(
        "SELECT count(DISTINCT prompt_id), coalesce(sum(visits), 0) FROM spent_labels "
        "WHERE run_id = $run",
        {"run": f"train-{name}"},
    )
    return tuple(map(int, found.fetchall()[0]))  # type: ignore[return-value]


def test_grpo_spends_the_same_labels_whether_equal_groups_are_kept_or_dropped(
    graded: Store,
) -> None:
    kept = built(graded, "kept", "grpo", policy="student", keep_equal=True)
    dropped = built(graded, "dropped", "grpo", policy="student")
    assert (kept.num_rows, dropped.num_rows) == (4 * GRADED, 4 * MIXED)
    assert labels(graded, "kept") == labels(graded, "dropped") == GRADED
    assert spent(graded, "kept") == (GRADED, GRADED)
    assert spent(graded, "dropped") == (GRADED, MIXED), "labels, and visits of those in the rows"


def test_sft_spends_the_labels_of_prompts_that_nobody_solved(graded: Store) -> None:
    right = built(graded, "right", "sft", policy="student")
    assert len(set(right.column("prompt_id").to_pylist())) == SOLVED
    assert labels(graded, "right") == GRADED
    assert spent(graded, "right") == (GRADED, SOLVED)
    every = built(graded, "every", "sft", policy="student", correct_only=False)
    assert every.num_rows == 4 * 25 and labels(graded, "every") == 0
    assert spent(graded, "every") == (0, 0)
    built(graded, "band", "sft", policy="student", correct_only=False, max_pass_rate=0.5)
    assert labels(graded, "band") == GRADED
    # The other policy's rewards choose among the student's rollouts of the prompts it solved: none.
    with pytest.raises(DatasetError, match="selects no rows"):
        built(
            graded, "x", "sft", policy="student", correct_only=False, max_pass_rate=0.5,
            pass_rate_of="other",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        (HEAD + "graded_rollouts WHERE run_id = 'gen' AND reward = 1", GRADED),
        (HEAD + "graded_rollouts WHERE run_id = 'gen' AND outcome = 'correct'", GRADED),
        (HEAD + "rollouts JOIN rewards AS w USING (rollout_id) WHERE policy_id IN (SELECT policy_id"
         " FROM policies WHERE name = 'student') AND w.reward > 0", GRADED),
        ("WITH a AS (SELECT *, reward * 2 AS points FROM rollout_rewards WHERE run_id = 'gen') "
         + HEAD + "a WHERE points > 1 LIMIT 3", GRADED),
        (HEAD + "rollouts WHERE run_id = 'gen' AND prompt_id IN (SELECT prompt_id FROM "
         "graded_rollouts GROUP BY prompt_id HAVING avg(reward) BETWEEN 0.1 AND 0.9)", GRADED),
        (HEAD + "(FROM graded_rollouts WHERE run_id = 'gen' AND reward IS NOT NULL QUALIFY "
         "row_number() OVER (PARTITION BY prompt_id ORDER BY reward, rollout_id) = 1)", GRADED),
        ("WITH best AS (SELECT prompt_id FROM pass_rates_of((SELECT policy_id FROM policies WHERE "
         "name = 'student'), 'math-verify') WHERE pass_rate = 1) " + HEAD
         + "rollouts SEMI JOIN best USING (prompt_id) WHERE run_id = 'gen'", GRADED),
        (HEAD + "graded_rollouts WHERE policy = 'other' AND reward = 1", 2),
        # Anti joins take rows away: every graded prompt of the store is the bound.
        ("WITH bad AS (SELECT rollout_id FROM rewards WHERE reward = 0) " + HEAD
         + "rollouts ANTI JOIN bad USING (rollout_id) WHERE run_id = 'gen'", GRADED + 2),
        (HEAD + "rollouts JOIN prompts AS p USING (prompt_id) WHERE run_id = 'gen' AND "
         "length(answer) = 1", 25),
        (HEAD + "(SELECT * FROM rollouts JOIN prompts USING (prompt_id)) WHERE run_id = 'gen' AND "
         "response_text NOT LIKE '%' || answer || '%'", 25),
    ],
)  # fmt: skip
def test_own_sql_that_reads_rewards_or_answers_counts_without_being_asked(
    graded: Store, text: str, candidates: int
) -> None:
    build(graded, "mine", user_query(text, kind="sft"), {})
    assert labels(graded, "mine") == candidates
    assert spent(graded, "mine")[0] == candidates


def test_own_sql_that_reads_neither_spends_nothing(graded: Store) -> None:
    """Though the view that it reads has rewards, and its prompts have answers."""
    text = (
        HEAD + "graded_rollouts WHERE policy = 'student' AND split = 'train' AND role = 'student'"
    )
    build(graded, "mine", user_query(text, kind="sft"), {})
    assert read_lock(graded, "mine")["counts"]["rows"] == 100
    assert labels(graded, "mine") == 0 and spent(graded, "mine") == (0, 0)


def test_own_sql_cannot_say_that_it_spends_nothing(graded: Store) -> None:
    text = HEAD.replace("rollout_id FROM", "rollout_id, false AS labelled FROM")
    text += "graded_rollouts WHERE run_id = 'gen' AND reward = 1"
    build(graded, "mine", user_query(text, kind="sft"), {})
    assert labels(graded, "mine") == GRADED


def test_own_sql_inherits_what_a_reward_chose_before(graded: Store) -> None:
    built(graded, "right", "sft", policy="student")
    text = HEAD + "dataset_rows JOIN datasets USING (dataset_id) WHERE name = 'right'"
    build(graded, "again", user_query(text, kind="sft"), {})
    assert labels(graded, "again") == SOLVED


def test_a_header_may_name_candidates_that_do_not_depend_on_rewards(graded: Store) -> None:
    import queries

    head = "-- question: q\n-- grain: g\n-- columns: row, update, rollout_id\n-- kind: sft\n"
    body = (
        "WITH bad AS (SELECT rollout_id FROM rewards WHERE reward = 0), "
        "mine AS (FROM rollouts WHERE run_id = 'gen') "
        + HEAD + "mine ANTI JOIN bad USING (rollout_id)"
    )  # fmt: skip
    exact = queries.parse("mine", "user", f"{head}-- candidates: mine\n{body}")
    build(graded, "mine", exact, {})
    assert labels(graded, "mine") == GRADED
    for part, why in (("bad", "reads rewards.reward"), ("nobody", "nobody does not exist")):
        wrong = queries.parse("mine", "user", f"{head}-- candidates: {part}\n{body}")
        with pytest.raises(DatasetError, match=f"the candidates '{part}' of query mine") as error:
            build(graded, "wrong", wrong, {})
        assert why in str(error.value)


def test_labels_that_are_left_out_count_in_budgets(graded: Store) -> None:
    (graded.root / "budget.toml").write_text("[experiment]\nlabels = 19\n")
    with pytest.raises(BudgetError, match="labels declared 19, spent 0, left 19, would add 20"):
        built(graded, "dropped", "grpo", policy="student")
    (graded.root / "budget.toml").write_text("[experiment]\nlabels = 20\n")
    built(graded, "dropped", "grpo", policy="student")
    visits = f"[experiment]\nlabels = 20\nlabel_visits = {2 * MIXED - 1}\n"
    (graded.root / "budget.toml").write_text(visits)
    with pytest.raises(BudgetError, match="label_visits declared 5, spent 0, left 5, would add 6"):
        built(graded, "twice", "grpo", policy="student", passes=2, prompts_per_update=1)


def test_the_record_of_labels_is_restored_from_the_lock(graded: Store) -> None:
    text = HEAD + "graded_rollouts WHERE run_id = 'gen' AND reward = 1"
    build(graded, "mine", user_query(text, kind="sft"), {})
    count = "SELECT count(*) FILTER (labelled), count(*) FROM dataset_rows"
    before = graded.sql(count).fetchall()
    assert before == [(26, 26)]
    restore(graded, "mine")
    assert graded.sql(count).fetchall() == before
    drop(graded, "mine")
    assert labels_of(graded) == GRADED


def labels_of(store: Store) -> int:
    return int(store.sql("SELECT count(*) FROM dataset_labels").fetchall()[0][0])


def test_evaluation_rollouts_are_refused_unless_asked_for(graded: Store) -> None:
    add_rollouts(graded, "eval", "student", [Made(26), Made(27)], purpose="eval")
    text = HEAD + "rollouts WHERE run_id IN ('gen', 'eval')"
    with pytest.raises(DatasetError) as error:
        build(graded, "mine", user_query(text, kind="sft"), {})
    assert "2 of the 102 rollouts that query mine selects were sampled to" in str(error.value)
    assert "purpose = 'train'" in str(error.value)
    assert "any_purpose: BOOLEAN = false" in str(error.value)
    asked = user_query(text, kind="sft", any_purpose="true")
    assert build(graded, "mine", asked, {})["counts"]["rows"] == 102
