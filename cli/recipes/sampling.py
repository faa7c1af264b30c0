"""What a stage of a recipe samples, as settings of `s2d generate` and `s2d eval`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from cli.recipes.engines import engine_choice
from cli.recipes.launch import workers
from cli.recipes.prompt_sets import own_prompts
from cli.recipes.round_identity import Experiment
from cli.recipes.schema import Recipe
from cli.recipes.tasks import Task
from s2d_store.engines.base import SamplingParams
from s2d_store.errors import NotFoundError
from s2d_store.evaluation.eval_config import EvalConfig
from s2d_store.rollouts.generate_config import GenerateConfig
from s2d_store.rollouts.settings import PromptUse


def generate_config(recipe: Recipe, task: Task, **given: Any) -> GenerateConfig:
    """What a stage samples, with what the caller adds."""
    how = task.stage.generate
    return GenerateConfig(
        params=SamplingParams(**of_table(SamplingParams, how)),
        seed=task.sampling_seed,
        where=own_prompts(recipe.prompts, task.stage.prompts),
        prompts_per_round=task.stage.prompts_per_round,
        chat_template=_template(how.chat_template),
        chat_template_kwargs=tuple(how.chat_template_kwargs.items()),
        chunk_rows=how.chunk,
        verify_workers=workers(recipe.verify_workers),
        verify_deadline_s=recipe.verify_deadline,
        budget=recipe.budget,
        **of_table(PromptUse, how),
        **engine_choice(recipe),
        **given,
    )


def of_table(shared: type, table: Any) -> dict[str, Any]:
    """What a table of the recipe says of the settings that it shares with a command."""
    return {field.name: getattr(table, field.name) for field in fields(shared)}


def _template(file: str) -> str:
    if not file:
        return ""
    if not Path(file).is_file():
        raise NotFoundError(f"no chat template file {file}", fix="correct generate.chat_template")
    return Path(file).read_text(encoding="utf-8")


def eval_config(experiment: Experiment, task: Task) -> EvalConfig | None:
    """What an eval stage asks; None while one of its policies is not made."""
    stage, recipe = task.stage, experiment.recipe
    names = {ref: experiment.ledger.policy_of(task, ref) for ref in stage.policies}
    made = {ref: name for ref, name in names.items() if name is not None}
    if len(made) < len(names):
        return None
    settings = generate_config(
        recipe, task, policy="", role="student", purpose="eval", verifier=recipe.verifier
    )
    return EvalConfig(
        policies=tuple(dict.fromkeys(made.values())),
        settings=settings,
        k=tuple({1, stage.generate.n}),
        baseline=made.get(stage.baseline, ""),
    )
