"""A recipe's plan as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence

from cli.output import print_rows
from cli.recipes.estimate import Line
from cli.recipes.schema import Recipe

COLUMNS = ("stage", "kind", "from", "teacher", "done", "rounds", "rollouts", "tokens, at most")


def print_plan(recipe: Recipe, lines: Sequence[Line]) -> None:
    """Print what every task would do and spend, and what is left of it."""
    print(f"recipe {recipe.name}: store {recipe.store}, policies in {recipe.output}")
    for option in recipe.laid_over:
        print(f"  with {option}")
    print_rows([*COLUMNS, "updates", "labels"], [_row(line) for line in lines])
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
