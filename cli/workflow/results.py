"""What a finished recipe gave: the evaluations, and what each policy cost, lineage included."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import queries
from cli.eval_output import print_report
from cli.output import print_rows
from cli.progress import shown
from cli.workflow.order import Task
from cli.workflow.rounds import Work, generate_config, made_by, n_rounds, policy_of
from s2d_store import evaluation, params, sql
from s2d_store.evaluation import EvalConfig
from s2d_store.store import Store

COSTS = ("labels", "generated_tokens", "scored_tokens", "trained_tokens", "updates", "flops")


def run_eval(work: Work, task: Task) -> None:
    """Sample, grade and compare an eval stage's policies; print the report."""
    stage, recipe = task.stage, work.recipe
    names = {ref: policy_of(work.store, work.tasks, task, ref) for ref in stage.policies}
    settings = generate_config(
        recipe, task, policy="", role="student", purpose="eval", verifier=recipe.verifier
    )
    config = EvalConfig(
        policies=tuple(dict.fromkeys(names.values())),
        settings=settings,
        k=tuple({1, stage.generate.n}),
        baseline=names.get(stage.baseline, ""),
    )
    found = evaluation.evaluate(work.store, config, partial(shown, quiet=work.quiet))
    print(f"\n{task.name}")
    print_report(found, "table")


def print_costs(store: Store, tasks: Sequence[Task], by_name: dict[str, Task]) -> None:
    """Print what each trained policy cost, teachers and parents included."""
    lineage = queries.find("lineage")
    assert lineage is not None, "lineage is a shipped query"
    rows: list[tuple[Any, ...]] = []
    con = store.connect()
    for task in tasks:
        if task.stage.kind == "eval":
            continue
        name = made_by(store, by_name, task, n_rounds(by_name, task) - 1)
        policy_id, _ = params.policy(con, name)
        with sql.errors():
            costs = con.execute(
                f"SELECT {', '.join(COSTS)} FROM ({lineage.sql}\n) WHERE level = 'all'",
                {"policy": policy_id, "purpose": "train"},
            ).fetchall()[0]
        rows.append((name, task.stage.kind, *costs))
    print("\nwhat each policy cost in all, its parents and teachers included")
    print_rows(["policy", "kind", *COSTS], rows)
