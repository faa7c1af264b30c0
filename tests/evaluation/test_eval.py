"""`s2d eval`: what it samples, finds again, reports and refuses."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from s2d_store import prompts
from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support import audit_rows as rows
from tests.support import made_stores

pytestmark = pytest.mark.slow

Eval = Callable[..., Result]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, questions: Path, teacher_folder: Path) -> Store:
    """8 prompts, no rollouts."""
    root = tmp_path_factory.mktemp("made") / "store"
    return made_stores.make(root, made_stores.read(questions), teacher_folder)


@pytest.fixture
def evaluate(cli: Cli, made: Store, tmp_path: Path) -> Eval:
    """Run `s2d eval` on 8 prompts, 8 tokens per rollout."""
    root = made_stores.copy(made, tmp_path / "store").root
    usual = ("--max-tokens", 8, "--verify-workers", 1, "--store", root)
    return lambda *options: cli("eval", *options, *usual)


@pytest.fixture
def of_trained(cli: Cli, sound: Store, tmp_path: Path) -> Eval:
    """On policies made from each other by training; their models are not on disk."""
    root = made_stores.copy(sound, tmp_path / "store").root
    return lambda *options: cli("eval", *options, "--store", root)


def rollouts(root: Path) -> list[Any]:
    text = "SELECT run_id, role, purpose, count(*) FROM rollouts GROUP BY ALL ORDER BY ALL"
    return Store.open(root).sql(text).fetchall()


def test_policies_are_sampled_graded_and_compared_once(
    evaluate: Eval, cli: Cli, teacher_folder: Path, student_folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    # One policy has taught before: its evaluation keeps that role.
    usual = ("--max-tokens", 8, "--limit", 1, "--store", root)
    cli("generate", "--policy", teacher_folder, "--role", "teacher", *usual)
    options = ("--n", 2, "--k", 1, "--k", 2)
    done = evaluate(student_folder, teacher_folder, *options)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0][:5] == ["measure", "policy", "prompts", "rollouts", "mean"]
    measures = ("avg@2", "pass@1", "pass@2", "maj@2", "tokens", "truncated")
    shown = [line[:4] for line in lines[1:13]]
    policies = ("student", "teacher")
    assert shown == [[m, policy, "8", "16"] for m in measures for policy in policies]
    assert "over prompts" in done.out and "equivalence is tested with --margin alone" in done.out
    assert lines[-2][:3] == ["teacher", "student", "8"]
    found = rollouts(root)
    assert {(role, purpose, n) for _, role, purpose, n in found} == {
        ("teacher", "train", 1),
        ("teacher", "eval", 16),
        ("student", "eval", 16),
    }
    again = evaluate("student", "teacher", *options)
    assert (again.code, again.out, again.err) == (0, done.out, ""), "no model is loaded again"
    assert evaluate("student", "teacher", *options, "--report").out == done.out
    assert rollouts(root) == found
    # More rollouts extend the same runs.
    assert evaluate("student", "--n", 3).code == 0
    assert [run for run, *_ in rollouts(root)] == [run for run, *_ in found]

    done = evaluate("student", "teacher", *options, "--report", "--format", "csv")
    scores, pairs = (list(csv.DictReader(io.StringIO(part))) for part in done.out.split("\n\n"))
    assert "over prompts" in done.err and len(scores) == 12 and len(pairs) == 1
    assert all(float(row["low"]) <= float(row["mean"]) <= float(row["high"]) for row in scores)

    done = evaluate("student", "teacher", *options, "--report", "--format", "json")
    report = json.loads(done.out)
    stored = Store.open(root).sql(
        "SELECT policy, avg(reward), avg(response_tokens) FROM graded_rollouts "
        "WHERE purpose = 'eval' AND sample_index < 2 GROUP BY policy ORDER BY policy"
    )
    for score, (policy, reward, tokens) in zip(report["scores"], stored.fetchall(), strict=True):
        figures = {figure["measure"]: figure["value"] for figure in score["figures"]}
        assert (score["policy"], score["missing"], score["trained"]) == (policy, 0, 0)
        assert figures["avg@2"] == figures["pass@1"] == pytest.approx(reward, abs=1e-4)
        assert figures["tokens"] == pytest.approx(tokens, abs=1e-4)
    (pair,) = report["pairs"]
    assert pair["won"] + pair["lost"] + pair["tied"] == pair["prompts"] == 8
    held = evaluate("student", "teacher", *options, "--baseline", "teacher", "--format", "json")
    (pair,) = json.loads(held.out)["pairs"]
    assert (pair["policy"], pair["against"]) == ("student", "teacher")


def test_a_policy_whose_files_changed_is_not_taken_as_evaluated(
    evaluate: Eval, student_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(student_folder, folder)
    options = ("--n", 1, "--limit", 1)
    assert evaluate(folder, *options).code == 0
    assert evaluate("mine", *options).err == ""
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert "loading mine" in evaluate("mine", *options).err
    assert len(rollouts(tmp_path / "store")) == 2, "an edited template is another run"
    config = folder / "config.json"
    config.write_text(config.read_text().replace("{", '{"changed": 1,', 1))
    refused = evaluate("mine", *options)
    assert refused.code == 1 and "policy 'mine' has changed on disk" in refused.err


def test_rollouts_stored_without_verdicts_are_graded(
    evaluate: Eval, cli: Cli, student_folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    generate = ("--policy", student_folder, "--role", "student", "--purpose", "eval", "--n", 2)
    cli("generate", *generate, "--max-tokens", 8, "--store", root)
    found = rollouts(root)
    options = ("student", "--n", 2, "--limit", 5)
    done = evaluate(*options, "--report")
    assert done.code == 1
    assert "error: nothing to report on student: no prompt has 2 graded rollouts" in done.err
    assert "holds 16 rollouts of 8 prompts, 0 of them graded by math-verify" in done.err
    assert evaluate(*options).code == 0
    assert rollouts(root) == found
    store = Store.open(root)
    assert store.sql("SELECT count(*) FROM rewards").fetchall() == [(10,)], "what was asked for"
    ((config,),) = store.sql("SELECT config FROM runs WHERE kind = 'verify'").fetchall()
    assert '"rollouts": 10' in config and len(config) < 500, "their number, not their ids"
    done = evaluate("student", "--n", 2, "--report")
    assert "student: 3 of 8 prompts are left out, without 2 graded rollouts" in done.out
    done = evaluate("student", "--n", 2, "--temperature", 0.5, "--report")
    assert done.code == 1
    assert "has temperature 1.0 instead of 0.5" in done.err and "s2d" not in done.out


def prompts_taken(root: Path, runs: Sequence[str]) -> set[str]:
    """Prompts of the updates that training runs took."""
    text = "SELECT run_id, prompt_id FROM updates JOIN dataset_rows USING (dataset_id, update)"
    return {prompt for run, prompt in Store.open(root).sql(text).fetchall() if run in runs}


REFUSED = {
    "an unknown policy": (("teecher",), "no policy 'teecher' in this store"),
    "one of two": (("teacher", "./none"), "policy folder ./none does not exist"),
    "a policy twice": (("teacher", "teacher"), "policy 'teacher' is given twice"),
    "no prompts": (("teacher", "--where", "split = 'x'"), "none of 8 matches \"split = 'x'\""),
    "no condition": (("teacher", "--where", "splt = 'x'"), "does not work on prompts"),
    "no rollouts": (("teacher", "--n", 0), "--n 0 is not usable"),
    "k above n": (("teacher", "--n", 2, "--k", 4), "--k 4 is above --n 2"),
    "k of nothing": (("teacher", "--k", 0), "--k 0 is not usable"),
    "a role": (("teacher", "--role", "boss"), "--role boss is unknown"),
    "a baseline": (("teacher", "--baseline", "techer"), "no policy 'techer' in this store"),
    "a verifier": (("teacher", "--verifier", "none"), "no verifier is named 'none'"),
    "no margin": (("teacher", "--margin", -1), "--margin -1.0 is no margin"),
    "seeds of nothing": (("teacher", "--seeds", "0-3"), "--seeds 0-3 without a method"),
    "a method and a policy": (("a.s{seed}", "teacher"), "'teacher' is not a method"),
    "a method of nothing": (("a.s{seed}",), "no policy is named 'a.s{seed}'"),
    "odd seeds": (("a.s{seed}", "--seeds", "3-x"), "--seeds '3-x' is not a list of seeds"),
    "a format": (("teacher", "--format", "yaml"), "output format 'yaml' is unknown"),
    "a temperature": (("teacher", "--temperature", -1), "temperature is -1.0"),
    "nothing stored": (("teacher", "--report"), "the store holds no eval rollouts of it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_one_clear_error(
    evaluate: Eval, cli: Cli, teacher_folder: Path, tmp_path: Path, name: str
) -> None:
    cli("policies", "add", "teacher", teacher_folder, "--store", tmp_path / "store")
    options, says = REFUSED[name]
    done = evaluate(*options)
    assert (done.code, done.out) == (1, "")
    assert says in done.err and done.err.count("error:") == 1 and "Traceback" not in done.err
    assert rollouts(tmp_path / "store") == []


def test_prompts_without_an_answer_and_other_baselines_are_refused(
    evaluate: Eval, cli: Cli, teacher_folder: Path, student_folder: Path, tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "store")
    for name, folder in (("teacher", teacher_folder), ("student", student_folder)):
        cli("policies", "add", name, folder, "--store", store.root)
    done = evaluate("teacher", "--baseline", "student")
    assert "error: baseline 'student' is not one of those evaluated" in done.err
    unlabelled = [("line", {"question": "why?"})]
    prompts.add(store, unlabelled, prompts.PromptOptions(source="open"))
    done = evaluate("teacher")
    assert done.code == 1 and rollouts(store.folder) == []
    assert "error: 1 of 9 prompts to evaluate on have no gold answer" in done.err
    assert "'why?'" in done.err and "answer IS NOT NULL" in done.err


def test_prompts_that_were_trained_on_are_refused(of_trained: Eval, tmp_path: Path) -> None:
    root = tmp_path / "store"
    before = rollouts(root)
    own = ("train-grpo", "train-opd", "train-warmup")
    for policy, runs, where, asked in (
        # Its own line's training, and the teacher's RL behind it.
        ("student-grpo", (*own, "train-teacher"), "split = 'train'", 12),
        ("student-warmup", ("train-warmup", "train-teacher"), "true", 16),
        ("teacher", ("train-teacher",), "split = 'train'", 12),
    ):
        count = len(prompts_taken(root, runs))
        for report in ((), ("--report",)):
            done = of_trained(policy, "--where", where, *report)
            assert (done.code, done.out) == (1, "")
            assert (
                f"error: {count} of {asked} prompts to evaluate on were trained on by {policy} "
                "or a policy behind it" in done.err
            )
            assert "in dataset " in done.err and "--allow-trained" in done.err
    assert rollouts(root) == before
    # Past the check, the command fails for want of the models themselves.
    for options in (
        ("student-grpo", "--where", "split = 'test'"),
        ("student-base", "--where", "split = 'train'"),
        ("student-grpo", "--where", "split = 'train'", "--allow-trained"),
    ):
        done = of_trained(*options)
        assert done.code == 1 and "models/" in done.err, done.err


def test_a_trained_prompt_in_other_words_is_refused_too(of_trained: Eval, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    text = "  ".join(rows.words(8)).upper() + "?!"
    prompt = rows.add_prompt(store, text, split="test")
    done = of_trained("student-opd", "--where", "split = 'test'")
    assert "error: 1 of 5 prompts to evaluate on were trained on by student-opd" in done.err
    assert f"one is {prompt}: " in done.err and "in dataset opd of student-opd" in done.err
    # What a descendant learned afterwards is no matter.
    assert "models/" in of_trained("student-warmup", "--where", "split = 'test'").err


def test_stored_evaluations_on_trained_prompts_say_so(of_trained: Eval, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    asked = ("student-opd", "student-base", "--where", "split = 'train'", "--n", 2, "--report")
    done = of_trained(*asked, "--allow-trained")
    assert "error: nothing to report on student-opd" in done.err
    prompt_ids = sorted(
        row[0]
        for row in store.sql("SELECT prompt_id FROM prompts WHERE split = 'train'").fetchall()
    )
    for name in ("student-opd", "student-base"):
        run = run_named_by_the_settings(name)
        given: dict[str, Any] = {"purpose": "eval", "engine": "transformers", "max_tokens": 512}
        graded = rows.add_rollouts(store, run, name, prompt_ids, **given)
        rows.grade(store, graded, [1.0, 0.0] * 12)
    done = of_trained(*asked, "--allow-trained")
    assert done.code == 0, done.err
    count = len(prompts_taken(store.folder, ("train-opd", "train-warmup", "train-teacher")))
    assert f"student-opd: {count} prompts were trained on" in done.out
    assert "student-base:" not in done.out
    assert done.out.splitlines()[1].split()[4] == "0.500"


def run_named_by_the_settings(name: str) -> str:
    from s2d_store.policies.registry import Registered
    from s2d_store.rollouts.generate_config import GenerateConfig, run_of

    config = GenerateConfig(policy=name, role="student", purpose="eval")
    return run_of(config, Registered(rows.policy_id(name), name, "", "", None))
