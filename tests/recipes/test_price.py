"""`s2d run --plan`: what a recipe costs, counted by hand."""

from __future__ import annotations

import pytest

from cli.recipes.base_policies import Base
from cli.recipes.estimate import plan
from cli.recipes.parse import read_recipe
from cli.recipes.price import prices, total
from cli.recipes.tasks import tasks
from tests.conftest import Cli
from tests.support.tiny_recipe import Write

N_STUDENT, N_TEACHER = 1000, 3000
RATES = "[rates]\nsampled_tokens_per_second = 10.0\nflops_per_second = 1e6\n[defaults.train]"


def test_a_price_is_what_the_books_would_count(recipe: Write) -> None:
    found = read_recipe(recipe("a", ("[defaults.train]", RATES)))
    every = tasks(found)
    planned = plan(found, every)
    by_name = {task.name: task for task in every}
    bases = {
        name: Base(name, name, "", False, size)
        for name, size in (("student", N_STUDENT), ("teacher", N_TEACHER))
    }
    cost = prices(found, planned.lines, by_name, bases)
    chars = planned.lines[1].prompt_chars
    assert chars == 4, "0+1=, 1+2=, ..: one token by the rule of four"
    # The bridge: 3 rounds of 4 prompts, 2 rollouts each of at most 6 tokens, scored and trained on.
    bridge, rollouts = cost["bridge"], 3 * 4 * 2
    assert (bridge.sampled, bridge.scored, bridge.trained) == (rollouts * 6,) * 3
    read = rollouts * (6 + 1)
    assert bridge.flops == 2 * N_STUDENT * read + 2 * N_TEACHER * read + 6 * N_STUDENT * read
    seconds = rollouts * 6 / 10 + (2 * N_TEACHER + 6 * N_STUDENT) * read / 1e6
    assert bridge.gpu_hours == pytest.approx(seconds / 3600)
    # The warmup's teacher samples, and the longer one trains twice on the same rows.
    warmup, longer = cost["warmup"], cost["longer"]
    assert warmup.flops == 2 * N_TEACHER * 16 * 7 + 6 * N_STUDENT * 16 * 7
    assert (longer.sampled, longer.trained) == (0, 2 * warmup.trained)
    # A control trains on as many rows as its treatment.
    assert cost["control"].trained == cost["stage3"].trained == 2 * 4 * 4 * 6
    # With a KL term, the reference policy scores what is sampled.
    with_kl = read_recipe(
        recipe("kl", ('kind = "grpo"\n', 'kind = "grpo"\ntrain.kl_coefficient = 5e-4\n'))
    )
    every = tasks(with_kl)
    lines, by_name = plan(with_kl, every).lines, {task.name: task for task in every}
    stage3 = prices(with_kl, lines, by_name, bases)["stage3"]
    assert stage3.scored == stage3.sampled and stage3.flops and cost["stage3"].flops
    assert stage3.flops - cost["stage3"].flops == 2 * N_STUDENT * (stage3.sampled + 2 * 4 * 4)
    assert total([bridge, warmup]).flops == bridge.flops + warmup.flops
    unknown = prices(found, planned.lines, by_name, {"student": bases["student"]})
    assert unknown["bridge"].flops is None and unknown["stage3"].flops is not None
    assert total(list(unknown.values())).gpu_hours is None


def test_the_plan_prints_its_price(cli: Cli, recipe: Write) -> None:
    planned = cli("run", recipe("a", ("[defaults.train]", RATES)), "--plan")
    assert planned.code == 0, planned.err
    assert "in all, at most: 504 tokens sampled, 144 scored, " in planned.out
    assert "disk, about: " in planned.out and "GPU hours at the recipe's rates: " in planned.out
