"""What a finished recipe gave: the evaluations, and what each policy cost, lineage included."""

from __future__ import annotations

from collections.abc import Sequence

from cli.eval_output import print_report
from cli.output import print_rows
from cli.recipes.names import n_rounds
from cli.recipes.run_stage import Work
from cli.recipes.sampling import eval_config
from cli.recipes.tasks import Task
from s2d_store.accounting import policy_cost
from s2d_store.evaluation import evaluate


def run_eval(work: Work, task: Task) -> None:
    """Sample, grade and compare an eval stage's policies; print the report."""
    config = eval_config(work.experiment, task)
    assert config is not None, "stages that others need come first"
    found = evaluate.evaluate(work.store, config, work.watch)
    print(f"\n{task.name}")
    print_report(found, "table")


def print_costs(work: Work, tasks: Sequence[Task]) -> None:
    """Print what each trained policy cost, teachers and parents included."""
    ledger, by_name = work.experiment.ledger, work.experiment.tasks
    trained = [task for task in tasks if task.stage.kind != "eval"]
    names = [ledger.policy_after(task, n_rounds(by_name, task) - 1) or "" for task in trained]
    found = policy_cost.policy_costs(work.store, names)
    rows = [
        (name, task.stage.kind, *spent.values())
        for name, task, spent in zip(names, trained, found, strict=True)
    ]
    print("\nwhat each policy cost in all, its parents and teachers included")
    print_rows(["policy", "kind", *policy_cost.COSTS], rows)
