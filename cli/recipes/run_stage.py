"""One task, round by round: sample, verify or score, build, train, each through the store.

Every step continues where it was stopped and does nothing the second time. A round is a run of its
own in the store, with the settings that it was done with: done, it is passed over; with other
settings, refused.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import queries
from cli.recipes import launch
from cli.recipes.engines import engine_choice
from cli.recipes.ledger import Round
from cli.recipes.names import n_rounds
from cli.recipes.round_identity import Experiment, RoundPlan
from cli.recipes.sampling import generate_config
from cli.recipes.schema import Recipe, Score
from cli.recipes.stage_kind import (
    is_by_teacher,
    is_graded,
    is_sampled,
    is_scored,
    query_of,
    reference_of,
    trainer_of,
)
from cli.recipes.standing import standing
from cli.recipes.tasks import Task
from s2d_store.datasets.build import build
from s2d_store.engines.cache import EngineCache
from s2d_store.maintenance.compact import compact
from s2d_store.policies import registry
from s2d_store.rollouts.generate import generate
from s2d_store.rollouts.progress import OnProgress
from s2d_store.rollouts.score import ScoreConfig, score
from s2d_store.runs import invocation, record
from s2d_store.schema import TABLES
from s2d_store.sql import connection
from s2d_store.store import Store
from s2d_store.verifiers.cache import PoolCache
from s2d_store.verifiers.registry import verifier_name

Watch = Callable[[str], AbstractContextManager[OnProgress]]
# Small files of a table before a round's end compacts it.
MAX_FILES = 64


@dataclass(frozen=True)
class Work:
    """What every step works with.

    Attributes:
        experiment: the recipe, its tasks and what the store knows of them.
        store: its store.
        engines, pools: kept from step to step.
        watch: given what is being done, a context whose value follows its progress.
        quiet: print nothing on the way.
    """

    experiment: Experiment
    store: Store
    engines: EngineCache
    pools: PoolCache
    watch: Watch
    quiet: bool

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.experiment.recipe

    def say(self, text: str) -> None:
        """One line of progress."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def run_task(work: Work, task: Task) -> None:
    """Carry out every round of a training task that is not done yet.

    Rounds that another recipe has done, with the same settings and inputs, are taken over.

    Raises:
        S2DError: of the step that failed; what was committed stays.
        InputError: a round was begun with other settings.
    """
    experiment, ledger = work.experiment, work.experiment.ledger
    found = standing(experiment, task)
    if found.refused:
        raise found.refused
    if found.shared:
        _take_over(work, task, found.shared)
        return
    start = ledger.policy_of(task, task.stage.start)
    if found.done:
        start = ledger.policy_after(task, found.done - 1)
    for index in range(found.done, n_rounds(experiment.tasks, task)):
        assert start is not None, "stages that others need come first"
        with invocation.invoked(attempt=ledger.attempt(task)):
            _Round(work, RoundPlan(experiment, task, index, start)).carry_out()
        ledger.read()
        before, start = start, ledger.policy_after(task, index)
        # Where the round changed nothing, the one before is what the next goes on from.
        own = index > 0 and before == ledger.name(task, index - 1) != start
        if own and work.recipe.keep_rounds == "last":
            _delete_weights(Path(work.recipe.output) / before)
        _compact_small_files(work.store)


def _take_over(work: Work, task: Task, rounds: Sequence[Round]) -> None:
    """Enter rounds of another recipe as this one's: what they made is used as it is."""
    experiment, ledger = work.experiment, work.experiment.ledger
    work.say(f"{task.name}: as {rounds[-1].run_id}, with the same settings and inputs")
    start, runs = ledger.policy_of(task, task.stage.start), []
    for index, found in enumerate(rounds):
        assert start is not None, "stages that others need come first"
        round_ = RoundPlan(experiment, task, index, start)
        runs.append(
            {
                "run_id": round_.name,
                "kind": "round",
                "stage": task.name,
                "config": round_.identity(),
                "beside": {**found.made, "same_as": found.origin},
                "parents": [found.origin],
            }
        )
        start = found.made["policy"]
    record.record_done(work.store, runs)
    ledger.read()


def _compact_small_files(store: Store) -> None:
    """Compact tables to which many rounds have added a few rows each: every step reads them."""
    files = store.snapshot().files
    crowded = [n for n, t in TABLES.items() if not t.partition_by and len(files[n]) > MAX_FILES]
    if crowded:
        for _ in compact(store, crowded):
            pass


@dataclass(frozen=True)
class _Round:
    """A round that is not done, with the means to do it."""

    work: Work
    plan: RoundPlan

    @property
    def name(self) -> str:
        """Its run's, dataset's and policy's name."""
        return self.plan.name

    @property
    def task(self) -> Task:
        """Its task."""
        return self.plan.task

    def carry_out(self) -> None:
        """Do what is not done."""
        work, plan, task = self.work, self.plan, self.plan.task
        work.say(f"{self.name}: {task.stage.kind} from {plan.start}")
        with record.record_run(
            work.store,
            self.name,
            "round",
            plan.identity(),
            stage=task.name,
            defaults=plan.defaults(),
            asked={"laid_over": work.recipe.laid_over} if work.recipe.laid_over else None,
        ) as made:
            if is_sampled(task.stage):
                self._sample()
            self._build()
            policy = self._train()
            made |= {
                "round": plan.index,
                "inputs": plan.inputs(),
                "dataset": self.name,
                "policy": policy,
            }

    def _sample(self) -> None:
        work, stage, recipe = self.work, self.task.stage, self.work.recipe
        by_teacher = is_by_teacher(stage)
        config = generate_config(
            recipe,
            self.task,
            policy=self.plan.policy(stage.teacher) if by_teacher else self.plan.start,
            role="teacher" if by_teacher else stage.role,
            stage=self.task.name,
            run=self.plan.generate_run(),
            round=self.plan.index,
            verifier=recipe.verifier if is_graded(stage) else "",
        )
        if stage.treatment:
            where, size = self.plan.control_prompts(work.store)
            config = replace(config, where=where, prompts_per_round=size)
        with work.watch(f"  {self.name} generate") as progress:
            done = generate(work.store, config, progress, work.engines, work.pools)
        graded = f", pass rate {done.reward / done.graded:.3f}" if done.graded else ""
        if done.stored:
            work.say(f"  {done.stored} rollouts, {done.tokens:,} tokens{graded}")
        if is_scored(stage):
            self._score(stage.teacher, stage.score)
        if reference_of(stage):
            # The loss takes the sampled tokens' logprobs alone.
            self._score(reference_of(stage), Score(support="own", top_logprobs=1))

    def _score(self, scorer: str, how: Score) -> None:
        if how.support == "union":
            # Both first, one after the other; then they are united.
            self._score(scorer, replace(how, support="own"))
            self._score(scorer, replace(how, support="policy", top_logprobs=0, mass=1.0))
        work, stage = self.work, self.task.stage
        config = ScoreConfig(
            self.plan.policy(scorer),
            k=how.top_logprobs,
            support=how.support,
            mass=how.mass,
            where=f"run_id = {connection.literal(self.plan.generate_run())}",
            **engine_choice(work.recipe, how.engine),
            chunk_rows=stage.generate.chunk,
            budget=work.recipe.budget,
        )
        with work.watch(f"  {self.name} score") as progress:
            score(work.store, config, progress, work.engines)

    def _build(self) -> None:
        work, plan, task = self.work, self.plan, self.task
        # Another order, and another choice of stored rollouts, in every round.
        seed = task.seed * 1000 + plan.index
        recipe, query = work.recipe, query_of(task.stage)
        given = plan.query_params()
        # Rewards that are all equal say nothing: such a round takes no step and is recorded.
        lock = build(
            work.store,
            self.name,
            query,
            given,
            seed,
            recipe.budget,
            copy_rows=recipe.materialise,
            may_be_empty=self._is_judged(),
        )
        counts = lock["counts"]
        work.say(f"  {counts['rows']} rows in {counts['updates']} updates")
        if not counts["rows"]:
            work.say("  no group whose rewards differ: a round without a step")

    def _is_judged(self) -> bool:
        """Whether the round learns from rewards, and some of its rollouts have one."""
        traits = query_of(self.task.stage).traits
        if traits.labels != "derived" or traits.policy != "on":
            return False
        verifier = verifier_name(self.work.recipe.verifier)
        given = {"run": self.plan.generate_run(), "verifier": verifier}
        ((judged,),) = self.work.store.sql(queries.internal("run_judged"), given).fetchall()
        return bool(judged)

    def _train(self) -> str:
        """Train; returns the name of the policy that the round leaves."""
        work, trainer = self.work, trainer_of(self.task.stage)
        output = Path(work.recipe.output) / self.name
        config = self.plan.trainer_config(self.name, self.plan.start, str(output))
        given = ("dataset", "student", "output")
        settings = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in given}
        last: dict[str, Any] = {}
        launch.train(
            work.store,
            trainer,
            settings,
            launcher=work.recipe.launcher,
            dataset=self.name,
            student=self.plan.start,
            output=output,
            name=self.name,
            stage=self.task.name,
            budget=work.recipe.budget,
            on_update=last.update,
        )
        figures = ("loss", "kl", "grad_norm", "clip_fraction")
        shown = ", ".join(f"{key} {last[key]:.4f}" for key in figures if key in last)
        if shown:
            work.say(f"  update {last['update']}: {shown}")
        # Known by another name where it changed no weight, or where another run made the same.
        return registry.find_or_register(work.store, self.name, str(output / "final")).name


def _delete_weights(folder: Path) -> None:
    """Delete the weights and checkpoints of a round that another one has gone on from."""
    for heavy in (*folder.glob("checkpoint-*"), folder / "final"):
        shutil.rmtree(heavy, ignore_errors=True)
