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
from safetensors.torch import load_file

import cli.recipes.run_stage as rounds
from cli.recipes.parse import read_recipe
from cli.recipes.tasks import tasks
from s2d_store.datasets.open import open_dataset
from s2d_store.engines import workers_engine
from s2d_store.errors import BudgetError, InputError, S2DError
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support.tiny_recipe import Write, held_out, written

pytestmark = pytest.mark.slow


def weights(file: Path, name: str) -> dict[str, Any]:
    return load_file(file.parent / "policies" / name / "final" / "model.safetensors")


def counts(store: Store) -> list[tuple[int, ...]]:
    return store.sql(
        "SELECT (SELECT count(*) FROM rollouts), (SELECT count(*) FROM rewards), "
        "(SELECT count(*) FROM topk), (SELECT count(*) FROM updates), "
        "(SELECT count(*) FROM policies), (SELECT count(*) FROM datasets)"
    ).fetchall()


def test_a_recipe_runs_whole_and_is_left_alone_the_second_time(
    cli: Cli, recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S2D_CACHE", str(tmp_path / "cache"))
    file = recipe()
    planned = cli("run", file, "--plan")
    assert planned.code == 0 and not (file.parent / "store").exists()
    header, *lines = planned.out.splitlines()[1:8]
    assert header.split()[:3] == ["stage", "kind", "from"]
    # Dependencies first, whatever the file's order.
    order = ["warmup", "bridge", "stage3", "control", "longer", "eval"]
    assert [line.split()[0] for line in lines] == order
    assert lines[1].split()[1:-1] == ["opd", "warmup", "teacher", "0", "3", "24", "144", "6", "0"]
    assert lines[2].split()[1:-1] == ["grpo", "bridge", "-", "0", "2", "32", "192", "4", "8"]

    done = cli("run", file)
    assert done.code == 0, done.err
    assert "tiny.bridge.r002: opd from tiny.bridge.r001" in done.err
    assert "differences of avg@2" in done.out and "what each policy cost in all" in done.out
    store = Store.open(file.parent / "store")
    parents = dict(
        store.sql(
            "SELECT p.name, q.name FROM policies AS p "
            "JOIN policies AS q ON q.policy_id = p.parent_policy_id"
        ).fetchall()
    )
    assert parents == {
        "tiny.warmup": "student",
        "tiny.longer": "student",
        "tiny.bridge.r000": "tiny.warmup",
        "tiny.bridge.r001": "tiny.bridge.r000",
        "tiny.bridge.r002": "tiny.bridge.r001",
        "tiny.stage3.r000": "tiny.bridge.r002",
        "tiny.stage3.r001": "tiny.stage3.r000",
        "tiny.control.r000": "tiny.bridge.r002",
        "tiny.control.r001": "tiny.control.r000",
    }
    # Every round samples from its own start, other prompts each time until all had their turn.
    sampled = store.sql(
        "SELECT round, any_value(p.name), count(DISTINCT prompt_id), list(DISTINCT prompt_id) "
        "FROM rollouts AS r JOIN policies AS p USING (policy_id) "
        "WHERE r.run_id LIKE 'tiny.bridge%' GROUP BY round ORDER BY round"
    ).fetchall()
    assert [row[:3] for row in sampled] == [
        (0, "tiny.warmup", 4),
        (1, "tiny.bridge.r000", 4),
        (2, "tiny.bridge.r001", 4),
    ]
    assert not set(sampled[0][3]) & set(sampled[1][3])
    # Two stages on the same rollouts; the control spends no label and takes as many updates.
    assert store.sql("SELECT count(*) FROM rollouts WHERE role = 'teacher'").fetchall() == [(16,)]
    control, treated = (
        open_dataset(store, f"tiny.{name}.r001").lock.counts for name in ("control", "stage3")
    )
    assert control["labels"] == 0 < treated["labels"]
    assert control["updates"] == treated["updates"] and control["rows"] == treated["rows"]
    stages = store.sql("SELECT DISTINCT stage FROM runs WHERE kind = 'train' ORDER BY 1").fetchall()
    assert [name for (name,) in stages] == ["bridge", "control", "longer", "stage3", "warmup"]
    # Only the last round's weights stay.
    policies = file.parent / "policies"
    assert not (policies / "tiny.bridge.r000" / "final").exists()
    assert (policies / "tiny.bridge.r002" / "final").exists()

    # A page for a reader without the store.
    page = file.parent / "report.html"
    assert "report.html" in done.out and "tiny.stage3.r001" in page.read_text()

    before, written_at = counts(store), page.stat().st_mtime_ns
    # What is finished needs no model: the evaluation is read, and the page that is current stays.
    made, cache = policies / "tiny.stage3.r001", tmp_path / "cache" / "finished-recipes"
    made.rename(policies / "away")
    for is_known in (True, False):
        if not is_known:
            shutil.rmtree(cache)
        again = cli("run", file)
        assert again.code == 0 and not again.err, again.err
        assert counts(store) == before and page.stat().st_mtime_ns == written_at
        assert again.out == done.out
    assert "eval" in again.out and len(list(cache.iterdir())) == 1
    (policies / "away").rename(made)
    planned = json.loads(cli("run", file, "--plan", "--format", "json").out)
    shown = {row["stage"]: (row["done"], row["rounds"]) for row in planned}
    assert shown["bridge"] == shown["eval"] == (3, 3)
    claimed = recipe("a", ("[stage.eval]", CLAIM + "[stage.eval]"))
    assert cli("run", claimed).code == 0
    assert "training helps" in page.read_text(), "with another claim it is another page"
    page.unlink()
    assert cli("run", claimed).code == 0 and page.exists()

    changed = recipe("a", ("dataset.rows_per_update = 4", "dataset.rows_per_update = 2"))
    refused = cli("run", changed)
    assert refused.code == 1 and "tiny.bridge.r000 was begun with other settings" in refused.err
    assert "dataset.rows_per_update was 4, is 2" in refused.err
    assert counts(store) == before
    assert cli("dataset", "verify", "tiny.control.r001", "--store", store.root).code == 0


CLAIM = """
[claim.gain]
text = "training helps"
better = "stage3"
than = "student"

"""


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
    changes = (*TWO_ROUNDS, ("verify_workers", 'keep_rounds = "all"\nverify_workers'))
    models = {"teacher": teacher_folder, "student": student_folder}
    written(place, changes, held_out(place), questions=questions, **models)
    sample = rounds._Round._sample

    def kept(self: Any) -> None:
        if self.name == "tiny.bridge.r001":
            shutil.copytree(place, half)
        sample(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds._Round, "_sample", kept)
        run(place / "recipe.toml", stage=["bridge"], quiet=True)
    ends = [weights(place / "recipe.toml", name) for name in ("tiny.warmup", "tiny.bridge.r001")]
    return Bridge(half, *ends)


# Nothing is graded on the way to the bridge's end but the warmup's rollouts, in another process.
# Its teacher's two supports are united: a step that may be stopped in the middle.
UNION = 'score = { support = "union", top_logprobs = 3 }'
TWO_ROUNDS = (
    ("rounds = 3", "rounds = 2"),
    ("my_verifiers:Length", "exact-match"),
    ("dataset.rows_per_update = 4", f"{UNION}\ndataset.rows_per_update = 4"),
)


@pytest.mark.parametrize("after", [False, True])
def test_stopped_anywhere_it_goes_on_to_the_same_weights(
    cli: Cli, recipe: Write, monkeypatch: pytest.MonkeyPatch, bridge: Bridge, after: bool
) -> None:
    """At every step of a round in turn, before it or after it, and taken up again each time."""
    file = recipe("b", *TWO_ROUNDS)
    for name in ("store", "policies"):  # policies beside a store are found from where it lies
        shutil.copytree(bridge.half / name, file.parent / name)
    for step in ("_sample", "_score", "_build", "_train"):
        whole = getattr(rounds._Round, step)

        def stopped(self: Any, *given: Any, whole: Callable[..., None] = whole) -> None:
            if after:
                whole(self, *given)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(rounds._Round, step, stopped)
            done = cli("run", file, "--stage", "bridge")
        assert done.code == 130 and "tiny.bridge.r001: opd from tiny.bridge.r000" in done.err, step
    done = cli("run", file, "--stage", "bridge")
    assert done.code == 0 and "tiny.bridge.r000:" not in done.err, done.err
    found = weights(file, "tiny.bridge.r001")
    assert all(found[name].equal(bridge.end[name]) for name in bridge.end)


@pytest.mark.parametrize("keep_equal", [True, False])
def test_rounds_that_change_no_weight_pass_their_start_on(
    cli: Cli, recipe: Write, bridge: Bridge, keep_equal: bool
) -> None:
    # Graded as sums, everything is wrong: no group has an advantage, and no update moves a weight.
    kept = ("keep_equal = true", f"keep_equal = {str(keep_equal).lower()}")
    start = ('start = "bridge"\nprompts', 'start = "warmup"\nprompts')
    file = recipe("same", *TWO_ROUNDS, start, kept)
    for name in ("store", "policies"):
        shutil.copytree(bridge.half / name, file.parent / name)
    for _ in range(2):
        done = cli("run", file, "--stage", "stage3")
        assert done.code == 0 and "tiny.warmup:" not in done.err, done.err
    store = Store.open(file.parent / "store")
    names = store.sql("SELECT name FROM policies ORDER BY name").fetchall()
    assert names == [("student",), ("teacher",), ("tiny.bridge.r000",), ("tiny.warmup",)]
    updates = store.sql("SELECT count(*) FROM updates WHERE run_id LIKE 'train-grpo%'").fetchall()
    assert updates == [(4 if keep_equal else 0,)]
    rounds = store.sql("SELECT run_id, status FROM runs WHERE stage = 'stage3' AND kind = 'round'")
    assert sorted(rounds.fetchall()) == [("tiny.stage3.r000", "done"), ("tiny.stage3.r001", "done")]
    # Either way the rewards of all its prompts decided.
    counts = dict(open_dataset(store, "tiny.stage3.r001").lock.counts)
    assert counts == counts | {"labels": 4, "updates": 2 if keep_equal else 0}
    assert cli("dataset", "verify", "tiny.stage3.r001", "--store", store.root).code == 0
    assert weights(file, "tiny.warmup")


def test_seeds_are_run_side_by_side_in_one_store(cli: Cli, recipe: Write) -> None:
    file = recipe("c", ("verify_workers = 1", "verify_workers = 1\nseeds = [3, 5]"))
    assert [task.name for task in tasks(read_recipe(file), [5])][:2] == ["warmup.s5", "bridge.s5"]
    for seed in (5, 3):
        assert cli("run", file, "--seed", seed, "--stage", "warmup", "--quiet").code == 0
    store = Store.open(file.parent / "store")
    names = store.sql("SELECT name FROM policies ORDER BY name").fetchall()
    # The recipe's own policies are the same for both seeds.
    assert names == [("student",), ("teacher",), ("tiny.warmup.s3",), ("tiny.warmup.s5",)]
    a, b = (weights(file, f"tiny.warmup.s{seed}") for seed in (3, 5))
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
    found = weights(file, "tiny.warmup")
    assert all(found[name].equal(bridge.warmup[name]) for name in bridge.warmup)


def test_workers_share_what_a_stage_samples(
    cli: Cli, recipe: Write, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    open_workers = workers_engine.open_workers

    def seen(*given: Any) -> workers_engine.WorkersEngine:
        engine = open_workers(*given)
        opened.append(len(engine.process_ids))
        return engine

    monkeypatch.setattr(workers_engine, "open_workers", seen)
    tables = "[engine]\nbatch_size = 4\n[workers]\ncount = 2\n[policies]"
    file = recipe("w", *TWO_ROUNDS, ("[policies]", tables))
    done = cli("run", file, "--stage", "warmup", "--quiet")
    assert done.code == 0 and opened == [2], done.err
    found = weights(file, "tiny.warmup")
    for name, expected in bridge.warmup.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-5)


def test_every_key_is_explained() -> None:
    from dataclasses import fields

    from cli.recipes import schema
    from s2d_store.config_fields import field_help

    for table in (
        schema.Recipe,
        schema.Prompts,
        schema.Engine,
        schema.Workers,
        schema.Stage,
        schema.Generate,
        schema.Score,
    ):
        help_of = field_help(table)
        assert all(help_of[field.name] for field in fields(table))


def test_ready_recipes_are_valid() -> None:
    examples = Path(__file__).parents[2] / "examples"
    found = [*examples.glob("*.toml"), *examples.glob("miniature/[!r]*.toml")]
    assert len(found) > 2
    for file in found:
        try:
            assert tasks(read_recipe(file)), file
        except (InputError, BudgetError, S2DError) as error:
            pytest.fail(f"{file.name}: {error}")
