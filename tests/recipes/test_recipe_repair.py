"""A recipe's rows that the doctor drops: the recipe, run again, makes them again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from s2d_store.store import Store
from tests.conftest import Cli
from tests.maintenance.test_doctor import contents, damage_column, files
from tests.support.tiny_recipe import Write

pytestmark = pytest.mark.slow


def test_a_round_that_lost_rollouts_is_carried_out_again(
    cli: Cli, recipe: Write, tmp_path: Path
) -> None:
    path = recipe()
    run = ("run", path, "--stage", "warmup", "--quiet")
    assert cli(*run).code == 0
    store = Store.open(tmp_path / "a" / "store")
    rows = store.sql("SELECT recipe, argv, kind FROM runs ORDER BY kind").fetchall()
    assert {kind for *_, kind in rows} == {"generate", "round", "train"}
    assert {(name, tuple(argv)) for name, argv, _ in rows} == {("tiny", ("s2d", *map(str, run)))}
    before = contents(store)
    for damaged in files(store, "rollouts"):
        damage_column(damaged, "response_token_ids")
    dropped = cli("doctor", "--drop-damaged", "--yes", "--store", store.root)
    assert dropped.code == 0, dropped.err
    commands = dropped.out.partition("now run, in this order:\n")[2].splitlines()
    assert commands[0] == "  s2d " + " ".join(map(str, run)), "a recipe names its store itself"
    assert contents(store)["rollouts"] == []
    statuses = "SELECT run_id, status FROM runs WHERE kind = 'round'"
    assert store.sql(statuses).fetchall() == [("tiny.warmup", "interrupted")]
    for command in commands:
        ran = cli(*shlex.split(command)[1:])
        assert ran.code == 0, (command, ran.err)
    assert contents(store)["rollouts"] == before["rollouts"]
    assert store.sql(statuses).fetchall() == [("tiny.warmup", "done")]
    assert cli("dataset", "verify", "tiny.warmup", "--store", store.root).code == 0
