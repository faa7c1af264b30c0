"""A recipe's plan as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cli.output import print_rows
from cli.recipes.base_policies import Base
from cli.recipes.estimate import Line
from cli.recipes.price import Price, prices, total
from cli.recipes.schema import Recipe
from cli.recipes.tasks import Task

COLUMNS = ("stage", "kind", "from", "teacher", "done", "rounds", "rollouts", "tokens, at most")


def print_plan(
    recipe: Recipe,
    lines: Sequence[Line],
    tasks: Mapping[str, Task],
    bases: Mapping[str, Base],
    format_: str,
) -> None:
    """Print what every task would do and cost, and what is left of it.

    In a format other than `table` that is a row per task, and nothing else.
    """
    cost = prices(recipe, lines, tasks, bases)
    if format_ != "table":
        each = [(*_row(line), cost[line.task.name].flops) for line in lines]
        print_rows([*COLUMNS, "updates", "labels", "FLOPs"], each, format_)
        return
    print(f"recipe {recipe.name}: store {recipe.store}, policies in {recipe.output}")
    for option in recipe.laid_over:
        print(f"  with {option}")
    rows = [(*_row(line), _flops(cost[line.task.name])) for line in lines]
    print_rows([*COLUMNS, "updates", "labels", "FLOPs"], rows)
    _print_price(recipe, total(list(cost.values())))
    left = {prompt for line in lines for prompt in line.left}
    print(
        f"left to do: {sum(line.left_updates for line in lines):,} updates, "
        f"{len(left):,} labels at most"
    )


def _row(line: Line) -> tuple[object, ...]:
    stage, names = line.task.stage, {**line.task.policies, **line.task.tasks}
    return (
        line.task.name,
        stage.kind,
        names.get(stage.start, "") or "-",
        names.get(stage.teacher, "") or "-",
        line.done,
        line.rounds,
        line.rollouts,
        line.most_tokens,
        sum(line.updates),
        line.labels,
    )


def _flops(price: Price) -> str:
    return "-" if price.flops is None else f"{price.flops:.2e}"


def _print_price(recipe: Recipe, price: Price) -> None:
    flops = "FLOPs unknown" if price.flops is None else f"{price.flops:.3g} FLOPs"
    print(
        f"in all, at most: {price.sampled:,.0f} tokens sampled, {price.scored:,.0f} scored, "
        f"{price.trained:,.0f} trained on; {flops}"
    )
    weights = "unknown" if price.policy_bytes is None else _bytes(price.policy_bytes)
    print(f"disk, about: {_bytes(price.store_bytes)} in the store, {weights} of policies")
    if price.gpu_hours is not None:
        rate = recipe.rates.dollars_per_hour
        dollars = f", {price.gpu_hours * rate:,.0f} dollars" if rate else ""
        print(f"GPU hours at the recipe's rates: {price.gpu_hours:,.1f}{dollars}")


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
