"""Recipes that share a store: names of their own, and work that is the same is done once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import queries
from s2d_store.config_identity import INVOCATION
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support.tiny_models import save_tiny_model
from tests.support.tiny_recipe import Write

pytestmark = pytest.mark.slow
SHORT = ("rounds = 3", "rounds = 2")


def sibling(file: Path, name: str, *changes: tuple[str, str]) -> Path:
    """A copy of a recipe beside it, under another name, on the same store."""
    text = file.read_text().replace('name = "tiny"', f'name = "{name}"')
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    other = file.with_name(f"{name}.toml")
    other.write_text(text)
    return other


def policies(store: Store) -> list[str]:
    rows = store.sql("SELECT name FROM policies WHERE run_id IS NOT NULL ORDER BY name")
    return [name for (name,) in rows.fetchall()]


def beside(store: Store, run_id: str) -> dict[str, object]:
    rows = store.sql("SELECT config FROM runs WHERE run_id = $run", {"run": run_id}).fetchall()
    found: dict[str, object] = json.loads(rows[0][0])[INVOCATION]
    return found


def test_two_recipes_share_a_store_and_the_stages_that_are_the_same(
    cli: Cli, recipe: Write
) -> None:
    file = recipe("a", SHORT)
    slow = ("dataset.rows_per_update = 4", "dataset.rows_per_update = 4\ntrain.lr = 1e-4")
    other = sibling(file, "slow", slow)
    assert cli("run", file, "--stage", "bridge", "--quiet").code == 0
    store = Store.open(file.parent / "store")
    rollouts = store.sql("SELECT count(*) FROM rollouts").fetchall()[0][0]

    planned = cli("run", other, "--stage", "bridge", "--plan")
    warmup, bridge = (line.split() for line in planned.out.splitlines()[2:4])
    assert planned.code == 0 and (warmup[4], bridge[4]) == ("1", "0")
    done = cli("run", other, "--stage", "bridge")
    assert done.code == 0, done.err
    assert "warmup: as tiny.warmup, with the same settings and inputs" in done.err
    assert policies(store) == [
        "slow.bridge.r000",
        "slow.bridge.r001",
        "tiny.bridge.r000",
        "tiny.bridge.r001",
        "tiny.warmup",
    ]
    # The warmup was sampled once; each bridge has rounds of its own.
    sampled = store.sql("SELECT count(*) FROM rollouts").fetchall()[0][0]
    assert sampled - rollouts == 2 * 4 * 2
    made = beside(store, "slow.warmup")
    assert (made["same_as"], made["policy"]) == ("tiny.warmup", "tiny.warmup")
    recorded = store.sql("SELECT recipe, status FROM runs WHERE run_id = 'slow.warmup'").fetchall()
    assert recorded == [("slow", "done")]

    # A third that is the same from end to end does nothing at all, nor does a repetition.
    third = sibling(file, "third")
    planned = cli("run", third, "--stage", "bridge", "--plan")
    assert "left to do: 0 updates" in planned.out, planned.out
    for _ in range(2):
        again = cli("run", third, "--stage", "bridge")
        assert again.code == 0 and "opd from" not in again.err, again.err
    assert "third" not in " ".join(policies(store))
    rounds = store.sql(queries.view("stages")).select("stage, rounds").fetchall()
    assert dict(rounds) == {"warmup": 1, "bridge": 4}, "what is taken over is counted once"
    assert beside(store, "third.bridge.r001")["policy"] == "tiny.bridge.r001"
    assert store.sql("SELECT count(*) FROM rollouts").fetchall()[0][0] == sampled


def test_a_name_in_the_recipe_may_be_another_policy_in_the_store(
    cli: Cli, recipe: Write, student_folder: Path, tmp_path: Path
) -> None:
    file = recipe("a")
    assert cli("run", file, "--stage", "warmup", "--quiet").code == 0
    small = save_tiny_model(tmp_path / "small", seed=7)
    student = f'student = "{student_folder}"'
    other = sibling(file, "small", (student, f'student = "{small}"'))
    assert cli("run", other, "--stage", "warmup", "--quiet").code == 0
    store = Store.open(file.parent / "store")
    parents = store.sql(
        "SELECT p.name, q.name FROM policies AS p "
        "JOIN policies AS q ON q.policy_id = p.parent_policy_id ORDER BY 1"
    ).fetchall()
    assert parents == [("small.warmup", "small.student"), ("tiny.warmup", "student")]
    # The same model under another name in the recipe keeps the name that the store has.
    renamed = sibling(
        file, "renamed", (student, f'pupil = "{student_folder}"'), ('"student"', '"pupil"')
    )
    assert cli("run", renamed, "--stage", "warmup", "--quiet").code == 0
    assert store.sql("SELECT count(*) FROM policies WHERE name = 'pupil'").fetchall() == [(0,)]


def test_a_stage_is_done_again_as_a_new_attempt_and_the_old_one_stays(
    cli: Cli, recipe: Write
) -> None:
    file = recipe("a")
    assert cli("run", file, "--stage", "longer", "--quiet").code == 0
    store = Store.open(file.parent / "store")
    changed = ("run", file, "--stage", "longer", "--set", "stage.warmup.train.lr=1e-4")
    planned = cli(*changed, "--plan")
    assert planned.code == 1 and planned.out.startswith("recipe tiny: store ")
    assert "  with --set stage.warmup.train.lr=1e-4\n" in planned.out
    assert "[stage.warmup]: tiny.warmup was begun with other settings" in planned.err
    assert "why: train.lr was 0.001, is 0.0001\n" in planned.err
    assert "do the stage again (--redo warmup)" in planned.err
    refused = cli(*changed)
    assert refused.code == 1 and refused.err == planned.err.replace(", as it stands,", "")

    before = policies(store)
    assert before == ["tiny.longer", "tiny.warmup"]
    done = cli(*changed, "--redo", "warmup")
    assert done.code == 0, done.err
    # What trains on the stage's rollouts is done again, too.
    assert policies(store) == [*before[:1], "tiny.longer.a1", "tiny.warmup", "tiny.warmup.a1"]
    attempts = store.sql(
        "SELECT run_id, attempt FROM runs WHERE kind = 'round' ORDER BY run_id"
    ).fetchall()
    assert attempts == [
        ("tiny.longer", 0),
        ("tiny.longer.a1", 1),
        ("tiny.warmup", 0),
        ("tiny.warmup.a1", 1),
    ]
    assert beside(store, "tiny.warmup.a1")["laid_over"] == ["--set stage.warmup.train.lr=1e-4"]
    # From now on that attempt is the stage.
    rows = store.sql("SELECT count(*) FROM rollouts").fetchall()
    again = cli(*changed)
    assert again.code == 0 and "warmup from" not in again.err, again.err
    assert store.sql("SELECT count(*) FROM rollouts").fetchall() == rows
    assert "no such stage is to be carried out" in cli("run", file, "--redo", "wramup").err
