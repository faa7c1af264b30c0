"""examples/miniature: its models and recipe, cut down, end to end; pages that hold its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.recipes.parse import read_recipe
from s2d_store.store import Store
from tests.conftest import Cli
from tests.verifiers.test_verify_command import LENGTH_VERIFIER

MINIATURE = Path(__file__).parents[2] / "examples" / "miniature"
ARMS = ["teacher", "rl-teacher", "bridge", "stage3", "replay"]
GRPO = {"rounds": 1, "prompts_per_round": 8, "dataset.prompts_per_update": 4}
TRANSFER = {"prompts_per_round": 8, "dataset.rows_per_update": 16}
TINY: dict[str, dict[str, Any]] = {
    "rl-teacher": GRPO,
    "warmup": TRANSFER,
    "bridge": TRANSFER | {"rounds": 1},
    "stage3": GRPO,
    "eval": {"policies": ARMS, "prompts": "split = 'test' AND prompt_id < '08'"},
}


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the miniature's scripts be imported, as where one of them is run."""
    monkeypatch.syspath_prepend(str(MINIATURE))


def test_chains_lead_to_the_answer_and_have_one_length(modules: None) -> None:
    import numpy as np
    from make_models import TASKS

    for task in TASKS.values():
        numbers = np.random.default_rng(0).integers(0, task.n_questions, 200)
        results = task.work_out(numbers)
        tokenizer = task.tokenizer()
        for question, chain, answer in zip(
            task.questions(numbers),
            task.chains(numbers, results),
            task.answers(results),
            strict=True,
        ):
            assert chain.endswith(task.boxed(answer))
            assert len(tokenizer.encode(chain)) == task.response_tokens - 1
            if task.name == "addition":
                first, second = question[:-1].split("+")
                assert int(first) + int(second) == answer


@pytest.mark.slow
def test_a_cut_down_seed_runs_and_leaves_its_figures(
    cli: Cli, tmp_path: Path, modules: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import make_models
    import seed_figures

    (tmp_path / "my_verifiers.py").write_text(LENGTH_VERIFIER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    models = tmp_path / "models"
    given = f"make_models.py {models} --task addition --steps 1 --prompts {tmp_path}/prompts"
    monkeypatch.setattr("sys.argv", given.split())
    make_models.main()
    values = {
        "seeds": [0],
        "store": f"{tmp_path}/store",
        "output": f"{tmp_path}/policies",
        "prompts.labels.file": f"{tmp_path}/prompts/labels.jsonl",
        "prompts.test.file": f"{tmp_path}/prompts/test.jsonl",
        "policies.teacher": f"{models}/teacher",
        "policies.student": f"{models}/student",
        "verify_workers": 1,
        "verifier": "my_verifiers:Length",
        **{f"stage.{name}.{k}": v for name, table in TINY.items() for k, v in table.items()},
    }
    settings = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    flags = [part for setting in settings for part in ("--set", setting)]
    file = MINIATURE / "addition.toml"
    done = cli("run", file, "--quiet", "--stage", "eval", *flags)
    assert done.code == 0, done.err

    recipe = read_recipe(file, (), settings)
    found = seed_figures.figures(recipe, 0, Store.open(tmp_path / "store"))
    arms = found["arms"]
    assert list(arms) == ARMS
    assert [arms[arm]["labels"] for arm in ARMS] == [0, 8, 8, 16, 8]
    assert arms["replay"]["updates"] == arms["stage3"]["updates"]
    assert arms["bridge"]["first_kl"] > 0
    assert 0 <= arms["stage3"]["first_mixed"] <= 1
    assert found["audits"]["replay_matched replay"] == "passed"
    assert found["audits"]["label_splits R5"] == "passed"
    seed_figures.write(found, tmp_path / "results" / "seed-0.json")
    assert json.loads((tmp_path / "results" / "seed-0.json").read_text()) == found


def test_pages_hold_the_figures_of_the_files(modules: None) -> None:
    import report

    for path, text in report.pages([report.read_task(task) for task in report.TASKS]).items():
        same = path.read_text(encoding="utf-8") == text
        assert same, f"{path.name} is stale: python examples/miniature/report.py"


def test_no_gain_takes_equivalence_and_no_difference_is_no_verdict(modules: None) -> None:
    import numpy as np
    from results import _holds, holm

    from s2d_store.statistics import paired_test
    from viewer.claims import Claim

    same = Claim(text="", same=("a", "b"), margin=0.02)
    better = Claim(text="", better="a", than="b")

    def said(claim: Claim, *differences: float) -> str:
        values = np.array(differences)
        test = paired_test(values, claim.margin or None)
        p = test.p_equivalent if claim.same else test.p
        return _holds(claim, float(values.mean()), test, p)

    near, wide, far = (0.001, -0.002, 0.0, 0.002), (0.1, -0.1, 0.05, -0.06), (0.1, 0.11, 0.12, 0.1)
    assert [said(same, *d) for d in (near, wide, far)] == ["yes", "not decided", "no: better"]
    assert [said(better, *d) for d in (near, wide, far)] == ["not decided", "not decided", "yes"]
    assert said(better, *(-d for d in far)) == "no: worse"
    assert said(better, 0.3) == "one seed"
    assert holm([0.01, None, 0.04, 0.03]) == [0.03, None, 0.06, 0.06]
