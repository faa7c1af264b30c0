"""One task, round by round: sample, verify or score, build, train, each through the store.

Every step continues where it was stopped and does nothing the second time. A round is a run of its
own in the store, with the settings that it was done with: done, it is passed over; with other
settings, refused.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cli.recipes import launch
from cli.recipes.schema import Recipe
from cli.recipes.stage_kind import (
    is_by_teacher,
    is_graded,
    is_on_policy,
    is_scored,
    query_of,
    trainer_of,
)
from cli.recipes.tasks import Task, trainer_config
from s2d_store.config_identity import defaults, diff_settings
from s2d_store.datasets.build import build
from s2d_store.datasets.lock_file import read_lock
from s2d_store.engines.base import SamplingParams
from s2d_store.engines.cache import EngineCache
from s2d_store.errors import InputError, NotFoundError
from s2d_store.maintenance.compact import compact
from s2d_store.rollouts.generate import generate
from s2d_store.rollouts.generate_config import GenerateConfig
from s2d_store.rollouts.progress import OnProgress
from s2d_store.rollouts.score import ScoreConfig, score
from s2d_store.rollouts.settings import ModelLoading, PromptUse
from s2d_store.runs import record
from s2d_store.schema import TABLES
from s2d_store.sql import connection, parameters
from s2d_store.store import Store
from s2d_store.verifiers.cache import PoolCache
from s2d_store.verifiers.registry import verifier_name
from trainers.config import OPERATIONAL

Watch = Callable[[str], AbstractContextManager[OnProgress]]
# Small files of a table before a round's end compacts it.
MAX_FILES = 64


@dataclass(frozen=True)
class Work:
    """What every step works with.

    Attributes:
        recipe: the recipe.
        store: its store.
        tasks: every task by name.
        engines, pools: kept from step to step.
        watch: given what is being done, a context whose value follows its progress.
        updates: planned optimizer updates of each task, over all its rounds.
        quiet: print nothing on the way.
    """

    recipe: Recipe
    store: Store
    tasks: Mapping[str, Task]
    engines: EngineCache
    pools: PoolCache
    watch: Watch
    updates: Mapping[str, int]
    quiet: bool

    def say(self, text: str) -> None:
        """One line of progress."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def n_rounds(tasks: Mapping[str, Task], task: Task) -> int:
    """Rounds of a task; a control has as many as its treatment."""
    if task.stage.treatment:
        return tasks[task.tasks[task.stage.treatment]].stage.rounds
    return task.stage.rounds


def label(task: Task, round_: int) -> str:
    """Name of a round's dataset and policy."""
    many = is_on_policy(task.stage) or task.stage.treatment
    return f"{task.name}.r{round_:03d}" if many else task.name


def labels(tasks: Mapping[str, Task], task: Task) -> list[str]:
    """Names of all rounds, in order."""
    return [label(task, round_) for round_ in range(n_rounds(tasks, task))]


def policy_of(store: Store, tasks: Mapping[str, Task], task: Task, ref: str) -> str:
    """The registered policy that a task's reference means: a stage's is its last round's."""
    if ref in task.policies:
        return task.policies[ref]
    made = tasks[task.tasks[ref]]
    return policy_after_round(store, tasks, made, n_rounds(tasks, made) - 1)


def policy_after_round(store: Store, tasks: Mapping[str, Task], task: Task, round_: int) -> str:
    """The policy that a round made; where it changed no weight, the one that it started from."""
    name = label(task, round_)
    known = store.sql("SELECT count(*) FROM policies WHERE name = $name", {"name": name})
    if known.fetchall() == [(1,)]:
        return name
    if round_ > 0:
        return policy_after_round(store, tasks, task, round_ - 1)
    return policy_of(store, tasks, task, task.stage.start)


def run_task(work: Work, task: Task) -> None:
    """Carry out every round of a training task that is not done yet.

    Raises:
        S2DError: of the step that failed; what was committed stays.
    """
    start = policy_of(work.store, work.tasks, task, task.stage.start)
    for round_, name in enumerate(labels(work.tasks, task)):
        done = _Round(work, task, round_, name, start).carry_out()
        before, start = start, policy_after_round(work.store, work.tasks, task, round_)
        # Where the round changed nothing, the one before is what the next goes on from.
        own = round_ > 0 and before == label(task, round_ - 1) != start
        if own and not done and work.recipe.keep_rounds == "last":
            _delete_weights(Path(work.recipe.output) / before)
        if not done:
            _compact_small_files(work.store)


def _compact_small_files(store: Store) -> None:
    """Compact tables to which many rounds have added a few rows each: every step reads them."""
    files = store.snapshot().files
    crowded = [n for n, t in TABLES.items() if not t.partition_by and len(files[n]) > MAX_FILES]
    if crowded:
        for _ in compact(store, crowded):
            pass


def is_done(
    store: Store,
    run_id: str,
    name: str,
    identity: Mapping[str, Any],
    unless: Mapping[str, Any],
) -> bool:
    """Whether a round of these settings, which have those defaults, was finished.

    Raises:
        InputError: it was begun with other settings.
    """
    found = store.sql(
        "SELECT config, status FROM runs WHERE run_id = $run", {"run": run_id}
    ).fetchall()
    if not found:
        return False
    other = diff_settings(json.loads(found[0][0]), identity, unless)
    if other:
        raise InputError(
            f"{name} was begun with other settings",
            "; ".join(f"{key} was {was!r}, is {now!r}" for key, (was, now) in other.items()),
            "restore them, or give the stage another name (or the recipe another store)",
        )
    return bool(found[0][1] == "done")


def round_run(recipe: Recipe, name: str) -> str:
    """The id of a round's run."""
    return f"{recipe.name}.{name}"


@dataclass(frozen=True)
class _Round:
    """One round of a task, starting from the policy of that name."""

    work: Work
    task: Task
    index: int
    name: str
    start: str

    def carry_out(self) -> bool:
        """Do what is not done; True where nothing was left."""
        work, store = self.work, self.work.store
        run_id, identity = round_run(work.recipe, self.name), self._identity()
        unless = self._defaults()
        if is_done(store, run_id, self.name, identity, unless):
            return True
        work.say(f"{self.name}: {self.task.stage.kind} from {self.start}")
        stage = self.task.name
        with record.record_run(store, run_id, "round", identity, stage=stage, defaults=unless):
            if not self.task.stage.treatment and not self.task.stage.rollouts_of:
                self._sample()
            self._build()
            self._train()
        return False

    def _identity(self) -> dict[str, Any]:
        """Everything that decides the round's rollouts, dataset and weights."""
        recipe, stage, work = self.work.recipe, self.task.stage, self.work
        teacher = (
            policy_of(work.store, work.tasks, self.task, stage.teacher) if stage.teacher else ""
        )
        config = self._trainer_config("dataset", "student", "output")
        train = {k: v for k, v in config.identity().items() if k not in OPERATIONAL}
        return {
            "kind": stage.kind,
            "query": query_of(stage).sql if stage.query else "",
            "trainer": stage.trainer,
            "start": self._policy_id(self.start),
            "teacher": self._policy_id(teacher) if teacher else "",
            "prompts": stage.prompts,
            "prompts_per_round": stage.prompts_per_round,
            "rollouts_of": stage.rollouts_of,
            "replays": [read_lock(work.store, n)["dataset_id"] for n in self._replayed()],
            "generate": {k: v for k, v in asdict(stage.generate).items() if k != "chunk"},
            "score": asdict(stage.score),
            "dataset": dict(stage.dataset),
            "train": {k: v for k, v in train.items() if k != "student"},
            "seed": self.task.seed,
            "engine": [recipe.engine.name, recipe.engine.dtype],
            "verifier": recipe.verifier if is_graded(stage) else "",
        }

    def _defaults(self) -> dict[str, Any]:
        """Those of `_identity`."""
        stage = self.task.stage
        return defaults(type(stage)) | {
            "generate": defaults(type(stage.generate)),
            "score": defaults(type(stage.score)),
            "train": defaults(trainer_of(stage).config),
        }

    def _policy_id(self, name: str) -> str:
        return parameters.policy(self.work.store.connect(text="policies"), name)[0]

    def _generate_run(self) -> str:
        stage = self.task.stage
        sampled = stage.rollouts_of and self.task.tasks[stage.rollouts_of]
        name = label(self.work.tasks[sampled], 0) if sampled else self.name
        return f"{round_run(self.work.recipe, name)}.generate"

    def _sample(self) -> None:
        work, stage, recipe = self.work, self.task.stage, self.work.recipe
        by_teacher = is_by_teacher(stage)
        ref = stage.teacher if by_teacher else ""
        config = generate_config(
            recipe,
            self.task,
            policy=policy_of(work.store, work.tasks, self.task, ref) if ref else self.start,
            role="teacher" if by_teacher else stage.role,
            stage=self.task.name,
            run=self._generate_run(),
            round=self.index,
            verifier=recipe.verifier if is_graded(stage) else "",
        )
        with work.watch(f"  {self.name} generate") as progress:
            done = generate(work.store, config, progress, work.engines, work.pools)
        graded = f", pass rate {done.reward / done.graded:.3f}" if done.graded else ""
        if done.stored:
            work.say(f"  {done.stored} rollouts, {done.tokens:,} tokens{graded}")
        if is_scored(stage):
            self._score()

    def _score(self) -> None:
        work, stage, engine = self.work, self.task.stage, self.work.recipe.engine
        name = stage.score.engine or engine.name
        config = ScoreConfig(
            policy_of(work.store, work.tasks, self.task, stage.teacher),
            k=stage.score.top_logprobs,
            support=stage.score.support,
            where=f"run_id = {connection.literal(self._generate_run())}",
            engine=name,
            engine_args=tuple(engine.args.items()) if name == engine.name else (),
            **_of(ModelLoading, engine),
            chunk_rows=stage.generate.chunk,
            budget=work.recipe.budget,
        )
        with work.watch(f"  {self.name} score") as progress:
            score(work.store, config, progress, work.engines)

    def _replayed(self) -> list[str]:
        """Datasets that a bridge continuation draws from; none: those on its treatment's line."""
        tasks = self.work.tasks
        return [
            name
            for ref in self.task.stage.bridge
            for name in labels(tasks, tasks[self.task.tasks[ref]])
        ]

    def _build(self) -> None:
        work, stage, task = self.work, self.task.stage, self.task
        query = query_of(stage)
        if control := query.traits.control:
            treatment = label(work.tasks[task.tasks[stage.treatment]], self.index)
            filled = {control: treatment}
            if stage.bridge:
                filled["bridge"] = ",".join(self._replayed())
        else:
            filled = {"runs": self._generate_run(), "student": self.start, "policy": self.start}
            if stage.teacher:
                filled["teacher"] = policy_of(work.store, work.tasks, task, stage.teacher)
            if is_by_teacher(stage):
                filled["policy"] = filled["teacher"]
            if is_scored(stage):
                filled["support"] = stage.score.support
            if is_graded(stage):
                filled["verifier"] = verifier_name(work.recipe.verifier)
        given = {param.name: filled[param.name] for param in query.params if param.name in filled}
        given |= {key: _text(value) for key, value in stage.dataset.items()}
        # Another order, and another choice of stored rollouts, in every round.
        seed = task.seed * 1000 + self.index
        recipe = work.recipe
        lock = build(
            work.store, self.name, query, given, seed, recipe.budget, copy_rows=recipe.materialise
        )
        counts = lock["counts"]
        work.say(f"  {counts['rows']} rows in {counts['updates']} updates")

    def _trainer_config(self, dataset: str, student: str, output: str) -> Any:
        return trainer_config(
            f"[stage.{self.task.name}]",
            self.task.stage,
            dataset,
            student,
            output,
            continue_optimizer=self.index > 0 and self.start == label(self.task, self.index - 1),
            schedule_updates=self.work.updates[self.task.name],
        )

    def _train(self) -> None:
        work, trainer = self.work, trainer_of(self.task.stage)
        output = Path(work.recipe.output) / self.name
        config = self._trainer_config(self.name, self.start, str(output))
        given = ("dataset", "student", "output")
        settings = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in given}
        last: dict[str, Any] = {}
        launch.train(
            work.store,
            trainer,
            settings,
            launcher=work.recipe.launcher,
            dataset=self.name,
            student=self.start,
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


def generate_config(recipe: Recipe, task: Task, **given: Any) -> GenerateConfig:
    """What a stage samples, with what the caller adds."""
    how, engine = task.stage.generate, recipe.engine
    return GenerateConfig(
        params=SamplingParams(**_of(SamplingParams, how)),
        seed=task.sampling_seed,
        where=task.stage.prompts,
        prompts_per_round=task.stage.prompts_per_round,
        engine=engine.name,
        engine_args=tuple(engine.args.items()),
        chat_template=_template(how.chat_template),
        chat_template_kwargs=tuple(how.chat_template_kwargs.items()),
        chunk_rows=how.chunk,
        verify_workers=launch.workers(recipe.verify_workers),
        verify_deadline_s=recipe.verify_deadline,
        budget=recipe.budget,
        **_of(PromptUse, how),
        **_of(ModelLoading, engine),
        **given,
    )


def _of(shared: type, table: Any) -> dict[str, Any]:
    """What a table of the recipe says of the settings that it shares with a command."""
    return {field.name: getattr(table, field.name) for field in fields(shared)}


def _template(file: str) -> str:
    if not file:
        return ""
    if not Path(file).is_file():
        raise NotFoundError(f"no chat template file {file}", fix="correct generate.chat_template")
    return Path(file).read_text(encoding="utf-8")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _delete_weights(folder: Path) -> None:
    """Delete the weights and checkpoints of a round that another one has gone on from."""
    for heavy in (*folder.glob("checkpoint-*"), folder / "final"):
        shutil.rmtree(heavy, ignore_errors=True)
