"""What a recipe costs at most: tokens, FLOPs, GPU hours and disk, from its plan alone.

FLOPs are counted as the books count them (view `spent`): 2 N per token of a forward pass, 6 N per
token that training reads, N the parameters that a token uses. Prompts are taken to have a token per
four characters. Bytes per stored token are those that benchmarks/RESULTS.md measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.recipes.base_policies import Base
from cli.recipes.estimate import Line
from cli.recipes.schema import EVAL, Rates, Recipe
from cli.recipes.stage_kind import is_by_teacher, is_scored, reference_of
from cli.recipes.tasks import Task, source_policy

# Of a token without top-k, and of each entry of its top-k; copies beside a lock hold floats.
TOKEN_BYTES, ENTRY_BYTES, COPY = 12.0, 2.1, 1.3
# Weights in float32 and two moments of AdamW, per parameter of a checkpoint.
CHECKPOINT_BYTES, WEIGHT_BYTES = 12, 4
HOUR = 3600.0


@dataclass(frozen=True)
class Price:
    """What a task costs at most.

    Attributes:
        sampled, scored, trained: tokens, prompts not counted in the first.
        flops: None where the size of a policy is unknown.
        gpu_hours: at the recipe's rates; None where it gives none.
        store_bytes: rollouts, top-k and copies beside locks.
        policy_bytes: weights and checkpoints.
    """

    sampled: float
    scored: float
    trained: float
    flops: float | None
    gpu_hours: float | None
    store_bytes: float
    policy_bytes: float | None


def prices(
    recipe: Recipe, lines: Sequence[Line], tasks: Mapping[str, Task], bases: Mapping[str, Base]
) -> dict[str, Price]:
    """The price of every task, all its rounds counted, by name."""
    return {line.task.name: _price(recipe, line, tasks, bases) for line in lines}


def total(prices: Sequence[Price]) -> Price:
    """The sum; what is unknown of one is unknown of all."""

    def added(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    return Price(
        sum(price.sampled for price in prices),
        sum(price.scored for price in prices),
        sum(price.trained for price in prices),
        added([price.flops for price in prices]),
        added([price.gpu_hours for price in prices]),
        sum(price.store_bytes for price in prices),
        added([price.policy_bytes for price in prices]),
    )


def _price(
    recipe: Recipe, line: Line, tasks: Mapping[str, Task], bases: Mapping[str, Base]
) -> Price:
    task, stage, rates = line.task, line.task.stage, recipe.rates

    def size(ref: str) -> float | None:
        base = bases.get(source_policy(tasks, task, ref))
        return base.n_parameters if base else None

    # What it trains on was sampled by another stage, where it names one.
    of = stage.rollouts_of or stage.treatment
    sampler_of = tasks[task.tasks[of]].stage if of else stage
    response = sampler_of.generate.max_tokens * rates.response_share
    prompts = line.prompt_chars / 4
    sampled = line.rollouts * response
    if stage.kind == EVAL:
        # As many rollouts of each policy.
        each = [size(ref) for ref in stage.policies]
        forward = (sampled + prompts * line.rollouts) / max(1, len(each))
        flops = None if None in each else sum(2 * (n or 0) * forward for n in each)
        hours = _hours(rates, sampled, 0, 0)
        return Price(sampled, 0, 0, flops, hours, sampled * TOKEN_BYTES, 0)
    student = size(stage.start)
    sampler = size(stage.teacher) if is_by_teacher(stage) else student
    # A union is of two forward passes, whose scores are stored beside it.
    united = is_scored(stage) and stage.score.support == "union"
    by = [stage.teacher] * (is_scored(stage) + united) + [reference_of(stage)]
    sizes = [size(scorer) for scorer in by if scorer]
    scored = sampled * len(sizes)
    scorers = None if None in sizes else sum(n or 0 for n in sizes)
    trained = line.trained_rows * response
    read = prompts * line.rollouts
    parts = (
        None if sampler is None else 2 * sampler * (sampled + read),
        None if scorers is None else 2 * scorers * (sampled + read),
        None if student is None else 6 * student * (trained + prompts * line.trained_rows),
    )
    known = [part for part in parts if part is not None]
    flops = sum(known) if len(known) == len(parts) else None
    hours = None if flops is None else _hours(rates, sampled, known[1], known[2])
    held = stage.generate.top_logprobs
    # The rows of a union have the entries of both passes, which are stored as well.
    union = held + stage.score.top_logprobs if united else 0
    entries = held + (2 * union or held * is_scored(stage)) + bool(reference_of(stage))
    stored = sampled * (TOKEN_BYTES + ENTRY_BYTES * entries)
    if recipe.materialise:
        stored += trained * (TOKEN_BYTES + ENTRY_BYTES * (union or held)) * COPY
    finals = line.rounds if recipe.keep_rounds == "all" else 1
    kept = int(stage.train.get("keep_checkpoints", 2)) * finals
    weights = None
    if student is not None:
        weights = student * (WEIGHT_BYTES * finals + CHECKPOINT_BYTES * kept)
    return Price(sampled, scored, trained, flops, hours, stored, weights)


def _hours(rates: Rates, sampled: float, score_flops: float, train_flops: float) -> float | None:
    if not rates.sampled_tokens_per_second or not rates.flops_per_second:
        return None
    seconds = sampled / rates.sampled_tokens_per_second
    return (seconds + (score_flops + train_flops) / rates.flops_per_second) / HOUR
