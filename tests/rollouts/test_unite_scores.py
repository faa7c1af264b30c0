"""`s2d score --support union`: stored, charged for once, built into a dataset and trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2d_store.audits import audit
from s2d_store.datasets.build import verify
from s2d_store.encoding.topk_ragged import PAD_ID
from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support import dataset_rows, made_stores

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
