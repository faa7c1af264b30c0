"""`s2d score --support union`, stored, charged for once, built into a dataset and trained on; and a
dataset of two teachers with different k.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import queries
from s2d_store.audits import audit
from s2d_store.datasets.build import verify
from s2d_store.encoding.topk_ragged import PAD_ID
from s2d_store.sql import parameters
from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support import dataset_rows, made_stores
from tests.support.tiny_models import save_tiny_model

OWN, POLICY = 4, 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, questions: Path, student_folder: Path) -> Store:
    """8 rollouts of the student with its own top 6."""
    root = tmp_path_factory.mktemp("made") / "store"
    records = made_stores.read(questions)[:4]
    return made_stores.make(root, records, student_folder, role="student", n=2, top_logprobs=POLICY)


def rows(store: Store, support: str) -> dict[str, dict[str, Any]]:
    text = (
        "SELECT t.* FROM topk AS t JOIN policies AS p ON p.policy_id = t.scorer_policy_id "
        "WHERE p.name = 'teacher' AND t.support = $support"
    )
    found = store.sql(text, {"support": support}).to_arrow_table().to_pylist()
    return {row["rollout_id"]: row for row in found}


def entries(row: dict[str, Any]) -> list[dict[int, float]]:
    counts = row["counts"] or [row["k"]] * len(row["sampled_logprobs"])
    ends = np.cumsum(counts)[:-1]
    parts = (np.split(np.array(row[name]), ends) for name in ("token_ids", "logprobs"))
    return [dict(zip(i.tolist(), x.tolist(), strict=True)) for i, x in zip(*parts, strict=True)]


def test_a_teachers_two_supports_are_united_and_trained_on(
    cli: Cli, made: Store, tmp_path: Path, teacher_folder: Path
) -> None:
    store = made_stores.copy(made, tmp_path / "store")

    def score(*options: object, scorer: object = "teacher") -> Result:
        return cli("score", "--scorer", scorer, *options, "--store", store.root)

    assert score("--top-logprobs", OWN, scorer=teacher_folder).code == 0
    refused = score("--support", "union")
    assert refused.code == 1
    example = min(rows(store, "own"))
    assert "8 of 8 rollouts have no top-k of teacher on support policy, e.g. " in refused.err
    assert example in refused.err and "s2d score --scorer teacher --support policy" in refused.err
    assert score("--support", "policy").code == 0
    spent = store.sql("SELECT sum(scored_tokens) FROM spent").fetchall()

    done = score("--support", "union")
    assert "run unite-teacher-" in done.out and ": 8 rollouts scored" in done.out
    own, policy, union = (rows(store, support) for support in ("own", "policy", "union"))
    for rollout, row in union.items():
        assert row["k"] == OWN + POLICY
        for one, first, second in zip(
            *(entries(side[rollout]) for side in (union, own, policy)), strict=True
        ):
            assert one == second | first and max(len(first), len(second)) <= len(one)
    assert store.sql("SELECT sum(scored_tokens) FROM spent").fetchall() == spent
    again = score("--support", "union")
    assert "0 rollouts scored" in again.out and "8 were scored before" in again.out
    assert score("--support", "union", "--top-logprobs", 5).code == 1, "no own top 5 is stored"

    given = (
        "-p",
        "student=student",
        "-p",
        "teacher=teacher",
        "-p",
        "rows_per_update=4",
        "-p",
        "updates=1",
    )
    for name, extra in (("u", ()), ("copied", ("--materialise",))):
        at = (*given, "-p", "support=union", *extra, "--store", store.root)
        assert cli("dataset", "build", name, "--query", "opd", *at).code == 0
        assert verify(store, name).matches
    for result in audit(store, ["topk_consistency", "topk_alignment", "locks_rebuild"]):
        assert result.status == "passed", result
    _train(cli, store, tmp_path)


def _train(cli: Cli, store: Store, tmp_path: Path) -> None:
    """Of both forms alike, on support that is padded where a token has fewer entries."""
    for name in ("u", "copied"):
        held = dataset_rows.read(store.folder / "datasets" / name).column("topk_token_ids")
        assert PAD_ID in held.combine_chunks().flatten().to_pylist()
        done = cli(
            "train", "opd", "--dataset", name, "--student", "student",
            "--output", tmp_path / name, "--store", store.root,
        )  # fmt: skip
        assert done.code == 0, done.err
    losses = store.sql("SELECT loss, topk_mass FROM updates").fetchall()
    assert len(losses) == 2 and len(set(losses)) == 1 and 0 < losses[0][0] < np.inf


def test_a_lock_of_two_teachers_trains_and_the_books_count_both(
    cli: Cli, made: Store, tmp_path: Path, teacher_folder: Path
) -> None:
    """Half of the prompts have the teacher's top 4, half another's top 5."""
    store = made_stores.copy(made, tmp_path / "store")
    solver = save_tiny_model(tmp_path / "solver", seed=5)
    known = sorted(row[0] for row in store.sql("SELECT prompt_id FROM prompts").fetchall())
    half = f"prompt_id <= '{known[1]}'"
    scorings = {"teacher": (teacher_folder, OWN, half), "solver": (solver, 5, f"NOT {half}")}
    for scorer, k, where in scorings.values():
        usual = ("--where", where, "--store", store.root)
        done = cli("score", "--scorer", scorer, "--top-logprobs", k, *usual)
        assert done.code == 0 and "4 rollouts scored" in done.out, done.err
    route = f"CASE WHEN {half} THEN 'teacher' ELSE 'solver' END"
    given = {"student": "student", "teacher": route, "support": "own", "rows_per_update": 8}
    rows = dataset_rows.built(store, "routed", "opd", **given)
    assert rows.num_rows == 8 and set(rows.column("k").to_pylist()) == {OWN, 5}
    done = cli(
        "train", "opd", "--dataset", "routed", "--student", "student", "--loss", "forward_kl",
        "--output", tmp_path / "out", "--name", "made", "--store", store.root,
    )  # fmt: skip
    assert done.code == 0, done.err
    scored = {
        name: store.sql(f"SELECT sum(response_tokens) FROM rollouts WHERE {where}").fetchall()[0][0]
        for name, (_, _, where) in scorings.items()
    }
    lineage = queries.catalog()["lineage"]
    con = store.connect()
    values = parameters.resolve(lineage, {"policy": "made"}, con)
    found = con.sql(lineage.sql, params=parameters.bind(lineage, values)).to_arrow_table()
    by_policy = {
        row["policy"]: row["scored_tokens"]
        for row in found.to_pylist()
        if row["level"] == "policy" and row["scored_tokens"]
    }
    assert by_policy == scored
    text = "SELECT p.name, sum(scored_tokens) FROM spent JOIN policies AS p USING (policy_id) "
    text += "WHERE scored_tokens > 0 GROUP BY p.name"
    assert dict(store.sql(text).fetchall()) == scored
    ((labels, trained),) = store.sql(
        "SELECT sum(labels), sum(trained_tokens) FROM updates"
    ).fetchall()
    assert (labels, trained) == (0, sum(scored.values()))
