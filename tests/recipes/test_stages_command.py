"""The bridge, Stage 3 and its control by `s2d` commands, from rollouts to audits."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2d_store.datasets.open import open_dataset
from tests.conftest import Cli
from tests.support import made_stores
from tests.verifiers.test_verify_command import LENGTH_VERIFIER

pytestmark = pytest.mark.slow


def test_all_stages_and_their_books(
    cli: Cli,
    tmp_path: Path,
    questions: Path,
    teacher_folder: Path,
    student_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "my_verifiers.py").write_text(LENGTH_VERIFIER)
    monkeypatch.syspath_prepend(tmp_path)
    store = made_stores.make(tmp_path / "store", made_stores.read(questions), teacher_folder)

    def s2d(*arguments: object) -> str:
        done = cli(*arguments, "--store", store.root)
        assert done.code == 0, done.err
        return done.out

    def generate(policy: object, role: str, stage: str, *options: object) -> None:
        usual = ("--n", 4, "--max-tokens", 8, "--quiet", "--stage", stage)
        s2d("generate", "--policy", policy, "--role", role, *usual, *options)

    def build(name: str, query: str, *params: str) -> None:
        options = [x for param in params for x in ("--param", param)]
        s2d("dataset", "build", name, "--query", query, *options)

    def train(trainer: str, dataset: str, student: object, *options: object) -> None:
        output = ("--output", tmp_path / dataset, "--lr", 1e-3, "--quiet")
        s2d("train", trainer, "--dataset", dataset, "--student", student, *output, *options)

    s2d("policies", "add", "teacher", teacher_folder)
    s2d("policies", "add", "student", student_folder)
    # 2a and its baseline: the teacher's own top-k, or its tokens alone.
    generate("teacher", "teacher", "warmup", "--top-logprobs", 5)
    keep = ("correct_only=false", "finished_only=false")
    build("warmup", "warmup", "teacher=teacher", "rows_per_update=8", *keep)
    train("warmup", "warmup", "student")
    build("sft", "sft", "policy=teacher", "rows_per_update=8", *keep)
    train("sft", "sft", "student")
    # 2b: the student's rollouts, the teacher's logprobs at the student's own top k.
    generate("warmup", "student", "opd", "--top-logprobs", 5)
    where = "policy = 'warmup'"
    s2d("score", "--scorer", "teacher", "--where", where, "--support", "policy", "--quiet")
    build("opd", "opd", "student=warmup", "teacher=teacher", "rows_per_update=8")
    train("opd", "opd", "warmup")
    # 3: GRPO on graded groups, and the control that continues the bridge on the same schedule.
    generate("opd", "student", "student-grpo")
    s2d("verify", "--verifier", "my_verifiers:Length", "--where", "policy = 'opd'", "--quiet")
    build("stage3", "grpo", "policy=opd", "verifier=length", "prompts_per_update=2")
    train("grpo", "stage3", "opd")
    build("control", "bridge_continuation", "treatment=stage3", "passes=2", "tolerance=0.5")
    train("bridge_continuation", "control", "opd")

    updates = store.sql(
        "SELECT run_id.split('-')[2], count(*), bool_and(isfinite(loss) AND grad_norm > 0), "
        "bool_and(kl IS NOT NULL), bool_and(clip_fraction IS NOT NULL), "
        "bool_and(topk_mass IS NOT NULL) FROM updates GROUP BY 1 ORDER BY 1"
    ).fetchall()
    n = open_dataset(store, "stage3").lock.counts["updates"]
    assert updates == [
        ("bridge_continuation", n, True, True, False, True),
        ("grpo", n, True, True, True, False),
        ("opd", 4, True, True, False, True),
        ("sft", 4, True, False, False, False),
        ("warmup", 4, True, True, False, True),
    ]
    # The student's first KL to itself: stored logprobs are those that the trainer computes again.
    kl = store.sql("SELECT kl FROM updates WHERE run_id LIKE 'train-grpo%' AND update = 1")
    assert kl.fetchall()[0][0] == pytest.approx(0, abs=1e-5)
    parents = dict(
        store.sql(
            "SELECT p.name, q.name FROM policies AS p "
            "JOIN policies AS q ON q.policy_id = p.parent_policy_id"
        ).fetchall()
    )
    assert parents == {
        "warmup": "student",
        "sft": "student",
        "opd": "warmup",
        "stage3": "opd",
        "control": "opd",
    }
    labels = {
        name: open_dataset(store, name).lock.counts["labels"]
        for name in ("opd", "stage3", "control")
    }
    assert labels["stage3"] > 0 and labels["opd"] == labels["control"] == 0
    audited = s2d("audit", "replay_matched", "staleness", "-p", "tolerance=0.5", "--strict")
    assert "2 passed, 0 failed, 0 skipped" in audited
    trace = s2d("trace", "stage3")
    for name in ("warmup", "opd", "stage3", "student", "teacher"):
        assert f" {name}" in trace
    wrong = cli(
        "train",
        "opd",
        "--dataset",
        "stage3",
        "--student",
        "opd",
        "--output",
        tmp_path / "wrong",
        "--store",
        store.root,
    )
    assert wrong.code == 1 and "dataset stage3 is of kind grpo" in wrong.err
    assert "s2d train grpo --dataset stage3" in wrong.err and not (tmp_path / "wrong").exists()
