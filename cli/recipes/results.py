"""What a finished recipe gave: the evaluations, and what each policy cost, lineage included."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cli.eval_output import print_report
from cli.output import print_rows
from cli.recipes.names import n_rounds
from cli.recipes.run_stage import Work
from cli.recipes.sampling import eval_config
from cli.recipes.tasks import Task
from s2d_store.accounting import policy_cost
from s2d_store.evaluation import evaluate
from s2d_store.evaluation.figures import Report
from s2d_store.evaluation.methods import PLACE, Members, is_method
from s2d_store.rollouts.selection import select_prompts


def run_eval(work: Work, task: Task) -> Report:
    """Sample, grade and compare an eval stage's policies; print the report and return it."""
    config = eval_config(work.experiment, task)
    assert config is not None, "stages that others need come first"
    found = evaluate.evaluate(work.store, config, work.watch)
    print(f"\n{task.name}")
    print_report(found, "table")
    return found


def print_over_seeds(work: Work, reports: Mapping[str, Report]) -> None:
    """Compare what each eval stage evaluates over the recipe's training seeds, paired by seed.

    A policy that all seeds share is no method, and stands in the tables of the seeds alone.

    Args:
        work: the recipe, its store and tasks.
        reports: of eval tasks, by the task's name.
    """
    by_stage: dict[str, list[Task]] = {}
    for name in reports:
        task = work.experiment.tasks[name]
        by_stage.setdefault(task.key, []).append(task)
    for key, tasks in by_stage.items():
        stage, config = tasks[0].stage, eval_config(work.experiment, tasks[0])
        found = {ref: _members(work, tasks, ref) for ref in stage.policies}
        members = {ref: method for ref, method in found.items() if method is not None}
        if len(tasks) < 2 or not members or config is None:
            continue
        prompts = select_prompts(work.store, config.settings.where)
        compared = evaluate.across_seeds(
            work.store,
            [reports[task.name] for task in tasks],
            list(members.values()),
            [prompt.prompt_id for prompt in prompts],
            members[stage.baseline].name if stage.baseline in members else "",
        )
        print(f"\n{key}, over training seeds {', '.join(str(task.seed) for task in tasks)}")
        print_report(compared, "table")


def _members(work: Work, tasks: Sequence[Task], ref: str) -> Members | None:
    """A reference's policies by seed; None where their names differ by more than the seed."""
    policies = {str(task.seed): work.experiment.ledger.policy_of(task, ref) or "" for task in tasks}
    names = {re.sub(rf"(?<=\.s){seed}(?=\.|$)", PLACE, name) for seed, name in policies.items()}
    name = names.pop()
    return Members(name, policies) if is_method(name) and not names else None


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
