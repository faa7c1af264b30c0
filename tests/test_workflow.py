"""`s2d run`: recipes carried out, continued, refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli
from safetensors.torch import load_file
from test_verify_command import LENGTH_VERIFIER
from tiny_models import save_tiny_model

import cli.workflow.rounds as rounds
from cli.workflow.order import tasks
from cli.workflow.read import read_recipe
from s2d_store.errors import BudgetError, InputError, NotFoundError, S2DError
from s2d_store.store import Store

RECIPE = """
name = "tiny"
store = "{place}/store"
output = "{place}/policies"
verifier = "my_verifiers:Length"
verify_workers = 1

[prompts.train]
file = "{questions}"
source = "sums"

[prompts.test]
file = "{test}"
source = "sums"

[policies]
teacher = "{teacher}"
student = "{student}"

[defaults.generate]
max_tokens = 6
n = 2

[defaults.train]
lr = 1e-3

[stage.control]
kind = "replay"
start = "bridge"
treatment = "stage3"
bridge = ["bridge"]
dataset = {{ tolerance = 0.9, passes = 4 }}

[stage.warmup]
kind = "warmup"
prompts = "split = 'train'"
start = "student"
teacher = "teacher"
generate.top_k = 4
dataset = {{ rows_per_update = 8, correct_only = false, finished_only = false }}

[stage.longer]
kind = "warmup"
start = "student"
teacher = "teacher"
rollouts_of = "warmup"
dataset = {{ rows_per_update = 8, passes = 2, correct_only = false, finished_only = false }}

[stage.bridge]
kind = "opd"
prompts = "split = 'train'"
start = "warmup"
teacher = "teacher"
rounds = 3
prompts_per_round = 4
generate.top_k = 4
dataset.rows_per_update = 4

[stage.stage3]
kind = "grpo"
start = "bridge"
prompts = "split = 'train'"
rounds = 2
prompts_per_round = 4
generate.n = 4
dataset = {{ prompts_per_update = 2, keep_equal = true }}

[stage.eval]
kind = "eval"
policies = ["student", "stage3", "control"]
prompts = "split = 'test'"
baseline = "student"
"""
Write = Callable[..., Path]


def held_out(folder: Path) -> Path:
    """A file of two labelled prompts that no other stage has."""
    file = folder / "test.jsonl"
    rows = ({"question": "20+1=", "answer": "21"}, {"question": "3+30=", "answer": "33"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def recipe(
    tmp_path: Path,
    questions: Path,
    teacher_folder: Path,
    student_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Write:
    """Write the recipe into a folder, some of its text replaced."""
    (tmp_path / "my_verifiers.py").write_text(LENGTH_VERIFIER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(place: str = "a", *changes: tuple[str, str]) -> Path:
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        text = RECIPE.format(
            place=folder,
            test=held_out(tmp_path),
            questions=questions,
            teacher=teacher_folder,
            student=student_folder,
        )
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "recipe.toml").write_text(text)
        return folder / "recipe.toml"

    return write


def weights(file: Path, name: str) -> dict[str, Any]:
    return load_file(file.parent / "policies" / name / "final" / "model.safetensors")


def counts(store: Store) -> list[tuple[int, ...]]:
    return store.sql(
        "SELECT (SELECT count(*) FROM rollouts), (SELECT count(*) FROM rewards), "
        "(SELECT count(*) FROM topk), (SELECT count(*) FROM updates), "
        "(SELECT count(*) FROM policies), (SELECT count(*) FROM datasets)"
    ).fetchall()


def test_a_recipe_runs_whole_and_is_left_alone_the_second_time(cli: Cli, recipe: Write) -> None:
    file = recipe()
    planned = cli("run", file, "--plan")
    assert planned.code == 0 and not (file.parent / "store").exists()
    header, *lines = planned.out.splitlines()[1:8]
    assert header.split()[:3] == ["stage", "kind", "from"]
    # Dependencies first, whatever the file's order.
    order = ["warmup", "bridge", "stage3", "control", "longer", "eval"]
    assert [line.split()[0] for line in lines] == order
    assert lines[1].split()[1:] == ["opd", "warmup", "teacher", "0", "3", "24", "144", "6", "0"]
    assert lines[2].split()[1:] == ["grpo", "bridge", "-", "0", "2", "32", "192", "4", "8"]

    done = cli("run", file)
    assert done.code == 0, done.err
    assert "bridge.r002: opd from bridge.r001" in done.err
    assert "avg@2 difference" in done.out and "what each policy cost in all" in done.out
    store = Store.open(file.parent / "store")
    parents = dict(
        store.sql(
            "SELECT p.name, q.name FROM policies AS p "
            "JOIN policies AS q ON q.policy_id = p.parent_policy_id"
        ).fetchall()
    )
    assert parents == {
        "warmup": "student",
        "longer": "student",
        "bridge.r000": "warmup",
        "bridge.r001": "bridge.r000",
        "bridge.r002": "bridge.r001",
        "stage3.r000": "bridge.r002",
        "stage3.r001": "stage3.r000",
        "control.r000": "bridge.r002",
        "control.r001": "control.r000",
    }
    # Every round samples from its own start, other prompts each time until all had their turn.
    sampled = store.sql(
        "SELECT round, any_value(p.name), count(DISTINCT prompt_id), list(DISTINCT prompt_id) "
        "FROM rollouts AS r JOIN policies AS p USING (policy_id) "
        "WHERE r.run_id LIKE 'tiny.bridge%' GROUP BY round ORDER BY round"
    ).fetchall()
    assert [row[:3] for row in sampled] == [
        (0, "warmup", 4),
        (1, "bridge.r000", 4),
        (2, "bridge.r001", 4),
    ]
    assert not set(sampled[0][3]) & set(sampled[1][3])
    # Two stages on the same rollouts; the control spends no label and takes as many updates.
    assert store.sql("SELECT count(*) FROM rollouts WHERE role = 'teacher'").fetchall() == [(16,)]
    control, treated = (store.dataset(f"{name}.r001").lock.counts for name in ("control", "stage3"))
    assert control["labels"] == 0 < treated["labels"]
    assert control["updates"] == treated["updates"] and control["rows"] == treated["rows"]
    stages = store.sql("SELECT DISTINCT stage FROM runs WHERE kind = 'train' ORDER BY 1").fetchall()
    assert [name for (name,) in stages] == ["bridge", "control", "longer", "stage3", "warmup"]
    # Only the last round's weights stay.
    policies = file.parent / "policies"
    assert not (policies / "bridge.r000" / "final").exists()
    assert (policies / "bridge.r002" / "final").exists()

    before = counts(store)
    again = cli("run", file)
    assert again.code == 0 and "opd from" not in again.err, again.err
    assert counts(store) == before
    assert again.out == done.out
    assert "eval" in again.out
    assert cli("run", file, "--plan").out.splitlines()[3].split()[4:6] == ["3", "3"]

    changed = recipe("a", ("dataset.rows_per_update = 4", "dataset.rows_per_update = 2"))
    refused = cli("run", changed)
    assert refused.code == 1 and "bridge.r000 was begun with other settings" in refused.err
    assert "dataset.rows_per_update was 4, is 2" in refused.err
    assert counts(store) == before
    assert cli("dataset", "verify", "control.r001", "--store", store.root).code == 0


@dataclass(frozen=True)
class Bridge:
    """A warmup and a bridge of two rounds, run without a stop.

    Attributes:
        half: folder with `store` and `policies` as they were when the second round began.
        warmup, end: weights that the two stages made.
    """

    half: Path
    warmup: dict[str, Any]
    end: dict[str, Any]


@pytest.fixture(scope="module")
def bridge(
    tmp_path_factory: pytest.TempPathFactory,
    questions: Path,
    teacher_folder: Path,
    student_folder: Path,
) -> Bridge:
    from cli.run import run

    place, half = (tmp_path_factory.mktemp("bridge") / name for name in ("whole", "half"))
    place.mkdir()
    text = RECIPE.format(
        place=place,
        test=held_out(place),
        questions=questions,
        teacher=teacher_folder,
        student=student_folder,
    )
    for old, new in (*TWO_ROUNDS, ("verify_workers", 'keep_rounds = "all"\nverify_workers')):
        text = text.replace(old, new)
    (place / "recipe.toml").write_text(text)
    sample = rounds._Round._sample

    def kept(self: Any) -> None:
        if self.name == "bridge.r001":
            shutil.copytree(place, half)
        sample(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds._Round, "_sample", kept)
        run(place / "recipe.toml", stage=["bridge"], quiet=True)
    ends = [weights(place / "recipe.toml", name) for name in ("warmup", "bridge.r001")]
    return Bridge(half, *ends)


# Nothing is graded on the way to the bridge's end but the warmup's rollouts, in another process.
TWO_ROUNDS = (("rounds = 3", "rounds = 2"), ("my_verifiers:Length", "math-verify"))


@pytest.mark.parametrize("after", [False, True])
def test_stopped_anywhere_it_goes_on_to_the_same_weights(
    cli: Cli, recipe: Write, monkeypatch: pytest.MonkeyPatch, bridge: Bridge, after: bool
) -> None:
    """At every step of a round in turn, before it or after it, and taken up again each time."""
    file = recipe("b", *TWO_ROUNDS)
    shutil.copytree(bridge.half / "store", file.parent / "store")
    for step in ("_sample", "_score", "_build", "_train"):
        whole = getattr(rounds._Round, step)

        def stopped(self: Any, whole: Callable[[Any], None] = whole) -> None:
            if after:
                whole(self)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(rounds._Round, step, stopped)
            done = cli("run", file, "--stage", "bridge")
        assert done.code == 130 and "bridge.r001: opd from bridge.r000" in done.err, step
    done = cli("run", file, "--stage", "bridge")
    assert done.code == 0 and "bridge.r000:" not in done.err, done.err
    found = weights(file, "bridge.r001")
    assert all(found[name].equal(bridge.end[name]) for name in bridge.end)


def test_rounds_that_change_no_weight_pass_their_start_on(
    cli: Cli, recipe: Write, bridge: Bridge
) -> None:
    # Graded as sums, everything is wrong: no group has an advantage, and no update moves a weight.
    file = recipe("same", *TWO_ROUNDS, ('start = "bridge"\nprompts', 'start = "warmup"\nprompts'))
    for name in ("store", "policies"):
        shutil.copytree(bridge.half / name, file.parent / name)
    for _ in range(2):
        done = cli("run", file, "--stage", "stage3")
        assert done.code == 0 and "warmup:" not in done.err, done.err
    store = Store.open(file.parent / "store")
    names = store.sql("SELECT name FROM policies ORDER BY name").fetchall()
    assert names == [("bridge.r000",), ("student",), ("teacher",), ("warmup",)]
    assert store.sql("SELECT count(*) FROM updates WHERE run_id LIKE 'train-grpo%'").fetchall() == [
        (4,)
    ]
    assert weights(file, "warmup")


def test_seeds_are_run_side_by_side_in_one_store(cli: Cli, recipe: Write) -> None:
    file = recipe("c", ("verify_workers = 1", "verify_workers = 1\nseeds = [3, 5]"))
    assert [task.name for task in tasks(read_recipe(file), [5])][:2] == ["warmup.s5", "bridge.s5"]
    for seed in (5, 3):
        assert cli("run", file, "--seed", seed, "--stage", "warmup", "--quiet").code == 0
    store = Store.open(file.parent / "store")
    names = store.sql("SELECT name FROM policies ORDER BY name").fetchall()
    # The recipe's own policies are the same for both seeds.
    assert names == [("student",), ("teacher",), ("warmup.s3",), ("warmup.s5",)]
    a, b = (weights(file, f"warmup.s{seed}") for seed in (3, 5))
    assert any(not a[name].equal(b[name]) for name in a)
    assert "--seed 4 is not a seed of the recipe" in cli("run", file, "--seed", 4).err


def test_a_launcher_trains_in_a_process_of_its_own(cli: Cli, recipe: Write, bridge: Bridge) -> None:
    def launched(by: str) -> Path:
        return recipe("d", ("verify_workers = 1", f'verify_workers = 1\nlauncher = ["{by}"]'))

    failed = cli("run", launched("no-such"), "--stage", "warmup", "--quiet")
    assert failed.code == 1 and "cannot start the launcher no-such" in failed.err
    file = launched(sys.executable)
    done = cli("run", file, "--stage", "warmup", "--quiet")
    assert done.code == 0, done.err
    found = weights(file, "warmup")
    assert all(found[name].equal(bridge.warmup[name]) for name in bridge.warmup)


def test_a_recipe_over_budget_is_refused_before_any_work(cli: Cli, recipe: Write) -> None:
    file = recipe("g")
    budget = file.parent / "budget.toml"
    budget.write_text("[stage.bridge]\nupdates = 5\n[experiment]\nlabels = 7\n")
    file = recipe("g", ("verify_workers = 1", f'verify_workers = 1\nbudget = "{budget}"'))
    refused = cli("run", file)
    assert refused.code == 1 and "recipe tiny would go over the budget" in refused.err
    assert "stage bridge: updates declared 5, spent 0, left 5, would add 6" in refused.err
    assert "experiment: labels declared 7, spent 0, left 7, would add 8" in refused.err
    store = Store.open(file.parent / "store")
    assert store.sql("SELECT count(*) FROM runs").fetchall() == [(0,)]
    assert cli("run", file, "--plan").code == 1


BAD: list[tuple[tuple[str, str], str]] = [
    (("verify_workers", "verify_worker"), "unknown key verify_worker; did you mean verify_workers"),
    (("prompts_per_round = 4\ngenerate", "prompts_per_rond = 4\ngenerate"),
     "unknown key stage.bridge.prompts_per_rond; did you mean stage.bridge.prompts_per_round"),
    (('kind = "opd"', 'kind = "odp"'),
     "stage.bridge.kind is 'odp'\n  why: it must be one of grpo, warmup, opd, sft, replay, eval"),
    (("rounds = 3", 'rounds = "3"'), "stage.bridge.rounds is '3'"),
    (("rounds = 3", "rounds = 0"), "[stage.bridge]: rounds is 0"),
    (("lr = 1e-3", "lr = -1"),
     "[stage.control]: train: lr is -1\n  why: it must be above 0\n  fix: give another train.lr\n"),
    (("lr = 1e-3", "learning_rate = 1e-3"), "train.learning_rate is no setting of s2d train"),
    (("lr = 1e-3", 'lr = "fast"'),
     "[stage.control]: train.lr is 'fast'\n  why: it must be a number\n"),
    (("lr = 1e-3", 'betas = [0.9, "b"]'),
     "train.betas is [0.9, 'b']\n  why: it must be a list of numbers\n"),
    (("lr = 1e-3", "seed = true"), "train.seed is True\n  why: it must be a whole number\n"),
    (("lr = 1e-3", "precision = 16"), "train.precision is 16\n  why: it must be a text\n"),
    (("lr = 1e-3", 'trackers = ["paper"]'),
     "[stage.warmup]: train: tracker 'paper' is unknown\n"),
    (("my_verifiers:Length", "nobody"), "no verifier is named 'nobody'; available: "),
    (("[defaults.train]", "[defaults.trains]"), "unknown key defaults.trains"),
    (("dataset.rows_per_update = 4", "dataset.row_per_update = 4"),
     "[stage.bridge]: dataset.row_per_update cannot be given: its query has no such parameter"),
    (("dataset.rows_per_update = 4", 'dataset.teacher = "teacher"'),
     "dataset.teacher cannot be given: the stage fills it in"),
    (('start = "student"\nteacher', 'start = "stage3"\nteacher'),
     "stages of the recipe wait for each other: "),
    (('start = "warmup"', 'start = "warmpu"'),
     "[stage.bridge] names 'warmpu', which is neither a stage nor a policy"),
    (('start = "warmup"\n', ""), "[stage.bridge] lacks start"),
    (('treatment = "stage3"', 'treatment = "warmup"'),
     "treatment 'warmup' is no grpo stage\n  why: the recipe has stage3\n"),
    (('bridge = ["bridge"]', 'bridge = ["stage3"]'), "bridge 'stage3' is no opd or warmup stage"),
    (('bridge = ["bridge"]', 'bridge = "bridge"'), "stage.control.bridge is 'bridge'"),
    (('rollouts_of = "warmup"', 'rollouts_of = "bridge"'), "is no warmup or sft stage"),
    (('baseline = "student"', 'baseline = "bridge"'), "'bridge' is not one of its policies"),
    (('treatment = "stage3"', 'treatment = "stage3"\nteacher = "teacher"'),
     "[stage.control] has teacher, which a stage of kind replay does not take"),
    (("rounds = 3\nprompts_per_round = 4\ngenerate.top_k = 4", "rounds = 3\nprompts_per_round = 4"),
     "[stage.bridge] keeps no top-k of the student"),
    (('name = "tiny"', 'name = "../tiny"'), "recipe '../tiny' is not a usable name"),
    (("prompts = \"split = 'test'\"", ""),
     "eval would evaluate on 8 prompts that warmup trains on"),
    (("dataset.rows_per_update = 4", 'dataset.rows_per_update = 4\nscore.engine = "vllm"'),
     "[stage.bridge] has vLLM score the ids that the student ranked highest"),
    (('name = "tiny"', "name = tiny"), "is not TOML"),
    (('name = "tiny"\n', ""), "lacks name"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD, ids=[says[:40] for _, says in BAD])
def test_a_wrong_recipe_is_one_clear_error_before_any_work(
    cli: Cli, recipe: Write, change: tuple[str, str], message: str
) -> None:
    file = recipe("bad", change)
    refused = cli("run", file)
    assert refused.code == 1 and message in refused.err, refused.err
    assert "Traceback" not in refused.err and not (file.parent / "store").exists()


def test_a_teacher_of_other_tokens_is_refused_before_any_work(
    cli: Cli, recipe: Write, student_folder: Path, tmp_path: Path
) -> None:
    other = save_tiny_model(tmp_path / "swapped", seed=2, vocab="swapped")
    file = recipe("a", (f'student = "{student_folder}"', f'student = "{other}"'))
    refused = cli("run", file)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        "error: [stage.warmup] trains 'student', which has another tokenizer than 'teacher'\n"
        "  why: 2 of 100 token ids differ: id 13: '8' vs '7'; id 14: '7' vs '8'\n"
        "  fix: a student learns from its teacher's token ids: name policies that share a "
        "tokenizer under [policies]\n"
    )
    # Also of what the student becomes in another stage.
    refused = cli("run", file, "--stage", "longer")
    assert refused.code == 1 and "trains 'student', which has another" in refused.err
    assert not (file.parent / "store").exists()


def test_bf16_without_a_gpu_is_refused_before_any_work(cli: Cli, recipe: Write) -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    # The third stage asks for it: those before it would have run.
    file = recipe("a", ("rounds = 2", 'rounds = 2\ntrain.precision = "bf16"'))
    refused = cli("run", file)
    assert refused.code == 1 and refused.err.startswith(
        "error: [stage.stage3]: train: precision is bf16, but no GPU here computes in bfloat16\n"
    )
    assert "fix: use train.precision auto or train.precision fp32\n" in refused.err
    assert not (file.parent / "store").exists()


def test_missing_files_are_named(cli: Cli, recipe: Write, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no recipe file"):
        read_recipe(tmp_path / "none.toml")
    file = recipe("h", ("sums.jsonl", "none.jsonl"))
    refused = cli("run", file)
    assert refused.code == 1 and "none.jsonl" in refused.err
    assert not (file.parent / "store").exists()
    unknown = cli("run", recipe("i"), "--stage", "stage4")
    assert unknown.code == 1 and "the recipe has no stage 'stage4'" in unknown.err


def test_every_key_is_explained() -> None:
    from dataclasses import fields

    from cli.workflow import schema
    from trainers.arguments import field_help

    for table in (
        schema.Recipe,
        schema.Prompts,
        schema.Engine,
        schema.Stage,
        schema.Generate,
        schema.Score,
    ):
        help_of = field_help(table)
        assert all(help_of[field.name] for field in fields(table))


def test_ready_recipes_are_valid() -> None:
    examples = Path(__file__).parent.parent / "examples"
    found = sorted(examples.glob("*.toml"))
    assert found
    for file in found:
        try:
            assert tasks(read_recipe(file)), file
        except (InputError, BudgetError, S2DError) as error:
            pytest.fail(f"{file.name}: {error}")
