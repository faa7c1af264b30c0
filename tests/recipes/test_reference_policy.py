"""GRPO stages with a KL term: the reference policy scores each round's rollouts."""

from __future__ import annotations

import pytest

from cli.recipes.parse import read_recipe
from s2d_store.datasets.open import open_dataset
from s2d_store.errors import S2DError
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support.tiny_recipe import Write

STAGE3 = '[stage.stage3]\nkind = "grpo"\n'
WITH_KL = f"{STAGE3}train.kl_coefficient = 5e-4\n"


@pytest.mark.slow
def test_the_kl_term_is_to_the_policy_that_the_stage_starts_from(cli: Cli, recipe: Write) -> None:
    file = recipe(
        "a", (STAGE3, WITH_KL), ('start = "bridge"\nprompts', 'start = "student"\nprompts')
    )
    assert read_recipe(file).stage["stage3"].start == "student"
    done = cli("run", file, "--stage", "stage3", "--quiet")
    assert done.code == 0, done.err
    store = Store.open(file.parent / "store")
    for round_ in ("r000", "r001"):
        assert "ref_logprobs" in open_dataset(store, f"tiny.stage3.{round_}").columns
    scorers = store.sql(
        "SELECT DISTINCT p.name FROM topk AS t "
        "JOIN policies AS p ON t.scorer_policy_id = p.policy_id"
    )
    assert scorers.fetchall() == [("student",)]


def test_a_reference_without_a_kl_term_is_refused(recipe: Write) -> None:
    file = recipe("a", (STAGE3, f'{STAGE3}reference = "student"\n'))
    with pytest.raises(S2DError, match="has the reference 'student' and no KL term"):
        read_recipe(file)


def test_a_reference_is_named_by_the_recipe(recipe: Write) -> None:
    file = recipe("a", (STAGE3, f'{WITH_KL}reference = "studnet"\n'))
    with pytest.raises(S2DError, match="names 'studnet', which is neither a stage nor a policy"):
        read_recipe(file)
