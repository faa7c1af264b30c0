"""Templates: [sweep], [matrix], eval sets, and prompts dealt out to splits."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from cli.recipes.parse import read_recipe
from cli.recipes.prompt_sets import deal
from cli.recipes.tasks import tasks
from s2d_store.errors import InputError, S2DError
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support.tiny_recipe import Write

EVAL = '[stage.eval]\nkind = "eval"\n'


def test_a_swept_stage_and_what_depends_on_it_are_copied(recipe: Write) -> None:
    file = recipe("a", (EVAL, f"[sweep]\nstage.bridge.train.lr = [1e-4, 1e-5]\n{EVAL}"))
    found = read_recipe(file)
    copies = ("lr-0.0001", "lr-1e-05")
    copied = [f"{s}.{copy}" for s in ("control", "bridge", "stage3") for copy in copies]
    assert set(found.stage) == {"warmup", "longer", "eval", *copied}
    for copy, lr in zip(copies, (1e-4, 1e-5), strict=True):
        bridge, control = (found.stage[f"{s}.{copy}"] for s in ("bridge", "control"))
        assert (bridge.train["lr"], bridge.start) == (lr, "warmup")
        assert control.bridge == (f"bridge.{copy}",) and control.treatment == f"stage3.{copy}"
    # All side by side in one table, against what does not vary.
    policies = [*(f"stage3.{c}" for c in copies), *(f"control.{c}" for c in copies)]
    assert found.stage["eval"].policies == ("student", *policies)
    by_name = {task.name: task for task in tasks(found)}
    seeds = {by_name[f"bridge.{copy}"].sampling_seed for copy in copies}
    plain = {task.name: task for task in tasks(read_recipe(recipe("b")))}
    assert seeds == {plain["bridge"].sampling_seed}
    assert found.at("stage.bridge.lr-1e-05.rounds") == plain_place(file, "rounds = 3")


def plain_place(file: Path, line: str) -> str:
    text = file.read_text().splitlines()
    return f"{file}:{text.index(line) + 1}"


def test_an_eval_stage_whose_baseline_varies_is_one_for_each(recipe: Write) -> None:
    file = recipe(
        "a",
        ('baseline = "student"', 'baseline = "stage3"'),
        (EVAL, f"[sweep]\ndefaults.train.lr = [1e-4, 1e-5]\nstage.bridge.rounds = [1, 2]\n{EVAL}"),
    )
    found = read_recipe(file)
    evals = [name for name, stage in found.stage.items() if stage.kind == "eval"]
    cells = itertools.product(("lr-0.0001", "lr-1e-05"), ("rounds-1", "rounds-2"))
    assert evals == [f"eval.{lr}.{rounds}" for lr, rounds in cells]
    assert found.stage[evals[0]].policies == (
        "student",
        "stage3.lr-0.0001.rounds-1",
        "control.lr-0.0001.rounds-1",
    )
    assert {name for name in found.stage if name.startswith("warmup")} == {
        "warmup.lr-0.0001",
        "warmup.lr-1e-05",
    }


def test_a_matrix_runs_a_stage_for_every_pair(recipe: Write) -> None:
    file = recipe(
        "a",
        ('start = "student"\nteacher = "teacher"\ngen', 'start = "{s}"\nteacher = "{t}"\ngen'),
        (
            "[stage.control]",
            '[matrix]\nt = ["teacher", "longer"]\ns = ["student"]\n[stage.control]',
        ),
        ('rollouts_of = "warmup"', "prompts_per_round = 4"),
    )
    found = read_recipe(file)
    warm = {name: s for name, s in found.stage.items() if name.startswith("warmup")}
    assert {name: (s.teacher, s.start) for name, s in warm.items()} == {
        "warmup.teacher.student": ("teacher", "student"),
        "warmup.longer.student": ("longer", "student"),
    }
    assert found.stage["stage3.longer.student"].start == "bridge.longer.student"
    assert "longer" in found.stage and found.stages_of("bridge") == [
        "bridge.teacher.student",
        "bridge.longer.student",
    ]


def test_an_eval_stage_has_a_table_for_each_of_its_sets(recipe: Write) -> None:
    found = read_recipe(recipe("a", ("prompts = \"split = 'test'\"", 'sets = ["test", "aime"]')))
    evals = {name: s.prompts for name, s in found.stage.items() if s.kind == "eval"}
    assert evals == {"eval.test": "split = 'test'", "eval.aime": "split = 'aime'"}
    assert found.stages_of("eval") == ["eval.test", "eval.aime"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[sweep]\nstage.brigde.train.lr = [1]", "no stage 'brigde'; did you mean 'bridge'?"),
        ("[sweep]\nstage.bridge.train.lr = 1", "sweep.stage.bridge.train.lr is 1"),
        ("[sweep]\nverifier = ['a']", "verifier cannot be swept"),
        ("[matrix]\nteacher = ['a']", "no stage uses teacher"),
        ("[matrix]\nseed = ['a']", "matrix.seed is ['a']"),
    ],
)
def test_templates_that_are_none_are_refused(recipe: Write, text: str, says: str) -> None:
    file = recipe("a", (EVAL, f"{text}\n{EVAL}"))
    with pytest.raises(S2DError) as refused:
        read_recipe(file)
    assert says in str(refused.value) and f"{file}:" in str(refused.value)


def test_prompts_are_dealt_out_in_equal_parts_by_a_seed() -> None:
    ids = [str(i) for i in range(101)]
    halves = {"1H": 0.5, "2H": 0.5}
    dealt = deal(ids, halves, 0)
    sizes = [sum(split == half for split in dealt.values()) for half in halves]
    assert sorted(sizes) == [50, 51] and len(dealt) == 101
    assert deal([*ids[::-1], *ids], halves, 0) == dealt
    assert deal(ids, halves, 1) != dealt
    assert len(deal(ids, {"dev": 0.1}, 0)) == 10
    for shares in ({"a": 0.6, "b": 0.5}, {"a": 0.0}):
        with pytest.raises(InputError, match="are no shares"):
            deal(ids, shares, 0)


@pytest.mark.slow
def test_a_sweep_runs_what_its_experiments_share_once(cli: Cli, recipe: Write) -> None:
    file = recipe(
        "a",
        (EVAL, f"[sweep]\nstage.longer.train.lr = [1e-3, 1e-4]\n{EVAL}"),
        ("[prompts.test]", "split = { train = 0.5, other = 0.5 }\n[prompts.test]"),
    )
    done = cli("run", file, "--stage", "longer")
    assert done.code == 0, done.err
    store = Store.open(file.parent / "store")
    assert store.sql("SELECT split, count(*) FROM prompts GROUP BY 1 ORDER BY 1").fetchall() == [
        ("other", 4),
        ("test", 2),
        ("train", 4),
    ]
    assert store.sql("SELECT count(*), count(DISTINCT run_id) FROM rollouts").fetchall() == [(8, 1)]
    rows = store.sql("SELECT config FROM runs WHERE kind = 'train' ORDER BY run_id").fetchall()
    assert sorted(json.loads(config)["lr"] for (config,) in rows) == [1e-4, 1e-3, 1e-3]
    names = store.sql("SELECT name FROM policies WHERE run_id IS NOT NULL ORDER BY 1").fetchall()
    # The first is the warmup with passes over its rollouts; the second only slower.
    assert names == [("tiny.longer.lr-0.0001",), ("tiny.longer.lr-0.001",), ("tiny.warmup",)]
