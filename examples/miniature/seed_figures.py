"""Write one seed's figures of one task to a small file: results/TASK/seed-N.json.

    python examples/miniature/seed_figures.py TASK SEED --store STORE

Accuracies come from errors.sql, costs from query `lineage` (the policy's whole line, teachers
included), what was matched from `s2d audit`. report.py makes the page from these files.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from make_models import (
    BATCH_SIZE,
    GUESS_RATE,
    LEARNING_RATE,
    SIZES,
    SLIPS,
    SPLITS,
    WARMUP_STEPS,
)

from cli.recipes.base_policies import find_bases
from cli.recipes.document import read_document
from cli.recipes.ledger import Ledger
from cli.recipes.names import label, n_rounds
from cli.recipes.parse import read_recipe
from cli.recipes.schema import Recipe
from cli.recipes.tasks import Task, policy_names, tasks
from s2d_store import ids
from s2d_store.accounting.policy_cost import policy_costs
from s2d_store.audits.run import audit
from s2d_store.mistakes import Mistakes
from s2d_store.store import Store

HERE = Path(__file__).parent
# Routes whose RL before and after the bridge must not share a label.
SPLIT_ROUTES = {
    "R2": ("rl-teacher", "stage3-sample-sft"),
    "R5": ("rl-teacher", "stage3"),
    "R6": ("sft-teacher", "stage3-sft"),
    "R8": ("rl-teacher", "stage3-opd-only"),
}
WHOLE_STORE = ("contamination_exact", "staleness", "tokenizers", "topk_alignment")


def settings_id(task: str) -> str:
    """An id of what decides a task's figures: its recipe as written, and its models."""
    values = read_document(HERE / f"{task}.toml", (), ()).values
    said = {key: values[key] for key in ("name", "engine", "defaults", "stage")}
    splits = {name: {**table, "file": ""} for name, table in values["prompts"].items()}
    models = [SPLITS, BATCH_SIZE, LEARNING_RATE, WARMUP_STEPS, SLIPS, GUESS_RATE]
    content = [said, splits, models, [asdict(model) for model in SIZES["demo"]]]
    return ids.content_id(json.dumps(content, sort_keys=True))


def figures(recipe: Recipe, seed: int, store: Store) -> dict[str, Any]:
    """Everything that the page needs of one seed."""
    by_name = {task.name: task for task in tasks(recipe)}
    bases = find_bases(store, recipe.name, policy_names(recipe), Mistakes())
    ledger = Ledger(store, recipe.name, by_name, bases)
    evaluation = by_name["eval"]
    policies = {arm: ledger.policy_of(evaluation, arm) or "" for arm in evaluation.stage.policies}
    arms = _accuracies(store, policies)
    costs = policy_costs(store, [*policies.values()])
    for arm, cost in zip(policies, costs, strict=True):
        arms[arm] |= {name: int(value) for name, value in cost.items()}
    for file in ("closeness", "signal"):
        for row in _rows(store, file):
            arms.get(row.pop("stage"), {}).update(row)
    return {
        "task": recipe.name,
        "seed": seed,
        "settings": settings_id(recipe.name),
        **_circumstances(store),
        "audits": _audits(store, recipe, by_name, policies),
        "arms": arms,
    }


def _accuracies(store: Store, policies: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found = {
        row.pop("policy"): row
        for row in _rows(store, "errors", {"teacher": policies["rl-teacher"]})
    }
    return {arm: dict(found[policy]) for arm, policy in policies.items()}


def _circumstances(store: Store) -> dict[str, Any]:
    """When, with what and how long."""
    ((began, code, versions, seconds),) = store.sql(
        "SELECT min(started_at)::DATE::VARCHAR, max(code_version), "
        "arg_max(versions, entered_at) FILTER (WHERE kind = 'train'), "
        "sum(epoch(entered_at - started_at)) FILTER "
        "(WHERE kind = 'round' OR (kind = 'generate' AND stage IS NULL)) FROM runs"
    ).fetchall()
    return {
        "date": began,
        "code_version": code,
        "versions": json.loads(versions),
        "seconds": round(seconds),
    }


def _audits(
    store: Store, recipe: Recipe, by_name: Mapping[str, Task], policies: Mapping[str, str]
) -> dict[str, str]:
    """Status of each audit; of those that look at one route or control, by its name, too."""

    def datasets(*stages: str) -> list[str]:
        return [
            f"{recipe.name}.{label(by_name[stage], index)}"
            for stage in stages
            for index in range(n_rounds(by_name, by_name[stage]))
        ]

    found = {result.name: result.status for result in audit(store, WHOLE_STORE)}
    for route, stages in SPLIT_ROUTES.items():
        if not policies.keys() >= set(stages):
            continue
        (result,) = audit(store, ["label_splits"], datasets=datasets(*stages))
        found[f"label_splits {route}"] = result.status
    for name, task in by_name.items():
        if task.stage.treatment and name in policies:
            (result,) = audit(store, ["replay_matched"], datasets=datasets(name))
            found[f"replay_matched {name}"] = result.status
    shaped = {"policy": policies["rl-teacher"], "before": policies["teacher"], "purpose": "eval"}
    (result,) = audit(store, ["teacher_reward_shaped"], params={**shaped, "errors": 2})
    return found | {"teacher_reward_shaped": result.status}


def _rows(store: Store, file: str, given: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """A query file's rows, numbers rounded to six digits."""
    found = store.sql((HERE / f"{file}.sql").read_text(encoding="utf-8"), given)
    names = found.columns
    return [
        {k: round(v, 6) if isinstance(v, float) else v for k, v in zip(names, row, strict=True)}
        for row in found.fetchall()
    ]


def write(found: Mapping[str, Any], path: Path) -> None:
    """Write figures, one arm per line."""
    lines = [f'  "{k}": {json.dumps(v)},' for k, v in found.items() if k not in ("arms", "audits")]
    for table in ("audits", "arms"):
        body = [f'    "{name}": {json.dumps(row)}' for name, row in found[table].items()]
        lines.append(f'  "{table}": {{\n' + ",\n".join(body) + "\n  }" + "," * (table != "arms"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + "\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    """Read a seed's store, write its file."""
    parser = argparse.ArgumentParser(description="Write one seed's figures.")
    parser.add_argument("task")
    parser.add_argument("seed", type=int)
    parser.add_argument("--store", required=True)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    args = parser.parse_args()
    recipe = read_recipe(HERE / f"{args.task}.toml", (), [f"seeds=[{args.seed}]"])
    path = args.results / args.task / f"seed-{args.seed}.json"
    write(figures(recipe, args.seed, Store.open(args.store)), path)
    print(path)


if __name__ == "__main__":
    main()
