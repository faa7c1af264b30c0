"""`[served]`: policies of a recipe that an endpoint alone has."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.recipes.parse import read_recipe
from s2d_store.engines.registry import open_engine
from s2d_store.errors import S2DError
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support.inference_server import serving
from tests.support.tiny_recipe import Write

OPD = 'start = "warmup"\nteacher = "teacher"\nrounds = 3\nprompts_per_round = 4'
ALONE = 'start = "student"\nteacher = "judge"\nrounds = 1\nprompts_per_round = 2'
SERVER = 'generate.top_logprobs = 4\nscore.engine = "server"\ndataset.rows_per_update'
USUAL = "generate.top_logprobs = 4\ndataset.rows_per_update"


def served(tokenizer: Path, url: str) -> tuple[str, str]:
    return "[policies]", f'[served]\njudge = "{tokenizer}"\n[engine]\nurl = "{url}"\n[policies]'


@pytest.mark.slow
def test_a_served_teacher_scores_and_its_student_is_trained(
    cli: Cli, recipe: Write, teacher_folder: Path
) -> None:
    model = open_engine("transformers", str(teacher_folder), device="cpu", dtype="float32")
    with serving("sglang", model, given_ids="positions") as server:
        file = recipe("a", (OPD, ALONE), (USUAL, SERVER), served(teacher_folder, server.url))
        done = cli("run", file, "--stage", "bridge", "--quiet")
        assert done.code == 0, done.err
        again = cli("run", file, "--stage", "bridge", "--plan")
    model.close()
    assert "judge" in again.out and "left to do: 0 updates" in again.out
    store = Store.open(file.parent / "store")
    scorers = store.sql(
        "SELECT DISTINCT p.name, p.kind, t.support FROM topk AS t "
        "JOIN policies AS p ON t.scorer_policy_id = p.policy_id WHERE p.name <> 'student'"
    )
    assert scorers.fetchall() == [("judge", "served", "policy")]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([(USUAL, SERVER), ('start = "warmup"', 'start = "judge"')],
         "needs the weights of 'judge', which is served why: training starts from weights"),
        ([(OPD, ALONE)],
         "needs the weights of 'judge', which is served why: engine transformers loads them"),
        ([("judge = ", "teacher = ")], "[served] and [policies] both have 'teacher'"),
        ([(OPD, ALONE), (USUAL, SERVER), ("judge = ", "judgy = ")],
         "names 'judge', which is neither a stage nor a policy"),
    ],
)  # fmt: skip
def test_where_weights_are_needed_it_is_refused(
    recipe: Write, teacher_folder: Path, changes: list[tuple[str, str]], says: str
) -> None:
    file = recipe("a", served(teacher_folder, "http://127.0.0.1:1"), *changes)
    with pytest.raises(S2DError) as refused:
        read_recipe(file)
    assert says in " ".join(str(refused.value).split())
