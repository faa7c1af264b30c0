"""What decides a round's rollouts, dataset and weights: its settings and what it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from cli.recipes.ledger import Ledger
from cli.recipes.schema import Recipe
from cli.recipes.stage_kind import (
    is_by_teacher,
    is_graded,
    is_sampled,
    is_scored,
    query_of,
    reference_of,
    trainer_of,
)
from cli.recipes.tasks import Task
from cli.recipes.trainer_settings import PLACE_IN_SCHEDULE, trainer_config
from s2d_store.config_identity import defaults
from s2d_store.ids import content_id
from s2d_store.rollouts.selection import Prompt
from s2d_store.sql import connection
from s2d_store.store import Store
from s2d_store.verifiers.registry import verifier_name
from trainers.config import OPERATIONAL


@dataclass(frozen=True)
class Experiment:
    """A recipe with everything that was worked out of it.

    Attributes:
        recipe: the recipe.
        tasks: every task by name.
        ledger: what the store knows of it.
        updates: planned optimizer updates of each task, by round.
        prompts: condition on prompts -> the prompts that it selects, by id.
    """

    recipe: Recipe
    tasks: Mapping[str, Task]
    ledger: Ledger
    updates: Mapping[str, tuple[int, ...]]
    prompts: Mapping[str, Mapping[str, Prompt]]

    @cached_property
    def prompt_sets(self) -> dict[str, str]:
        """Condition on prompts -> content id of the prompts that it selects."""
        return {where: content_id(sorted(chosen)) for where, chosen in self.prompts.items()}


@dataclass(frozen=True)
class RoundPlan:
    """One round of a task that starts from the policy of that name."""

    experiment: Experiment
    task: Task
    index: int
    start: str

    @property
    def name(self) -> str:
        """Its run's, dataset's and policy's name."""
        return self.experiment.ledger.name(self.task, self.index)

    def identity(self) -> dict[str, Any]:
        """Everything that decides the round's rollouts, dataset and weights."""
        recipe, stage, ledger = self.experiment.recipe, self.task.stage, self.experiment.ledger
        config = self.trainer_config("dataset", "student", "output")
        # The place in the schedule follows from the plan, whose settings are all here.
        unsaid = OPERATIONAL | {"student", *PLACE_IN_SCHEDULE}
        train = {k: v for k, v in config.identity().items() if k not in unsaid}
        return {
            "kind": stage.kind,
            "query": query_of(stage).sql if stage.query else "",
            "trainer": stage.trainer,
            "start": ledger.policy_ids[self.start],
            "teacher": self._id_of(stage.teacher),
            "reference": self._id_of(reference_of(stage)),
            "prompts": stage.prompts,
            "prompts_per_round": stage.prompts_per_round,
            "rollouts_of": stage.rollouts_of,
            "replays": [ledger.dataset_id(name) for name in self.replayed()],
            "generate": {k: v for k, v in asdict(stage.generate).items() if k != "chunk"},
            "score": asdict(stage.score),
            "dataset": dict(stage.dataset),
            "train": train,
            "seed": self.task.seed,
            "engine": [recipe.engine.name, recipe.engine.dtype],
            "verifier": recipe.verifier if is_graded(stage) else "",
        }

    def defaults(self) -> dict[str, Any]:
        """Those of `identity`."""
        stage = self.task.stage
        return defaults(type(stage)) | {
            "generate": defaults(type(stage.generate)),
            "score": defaults(type(stage.score)),
            "train": defaults(trainer_of(stage).config),
        }

    def inputs(self) -> dict[str, Any]:
        """What it reads beside its policies: prompts, or what other rounds sampled and locked.

        A round of another recipe with the same identity, place and inputs is the same round.
        """
        stage = self.task.stage
        own = {} if self._generate_run_is_own() else {"sampled": self.generate_run()}
        if own or stage.treatment:
            return own | {"built": self._control()}
        return {"prompts": self.experiment.prompt_sets[stage.prompts]}

    def generate_run(self) -> str:
        """The generate run whose rollouts it trains on."""
        stage, ledger = self.task.stage, self.experiment.ledger
        if self._generate_run_is_own():
            return f"{self.name}.generate"
        found = ledger.round(self.experiment.tasks[self.task.tasks[stage.rollouts_of]], 0)
        assert found is not None, "stages that others need come first"
        return found.generate_run

    def _generate_run_is_own(self) -> bool:
        return not self.task.stage.rollouts_of

    def replayed(self) -> list[str]:
        """Datasets that a control draws from; none: those on its treatment's line."""
        ledger, tasks = self.experiment.ledger, self.experiment.tasks
        return [
            name
            for ref in self.task.stage.bridge
            for name in ledger.datasets_of(tasks[self.task.tasks[ref]])
        ]

    def control_prompts(self, store: Store) -> tuple[str, int]:
        """What a control samples: a condition on table prompts, and how many in this round.

        A query that learns from rewards takes as many as its treatment did, in turn, of the prompts
        whose labels were spent in making the policy that the stage starts from; another query takes
        those of its treatment's round.
        """
        task, ledger = self.task, self.experiment.ledger
        treated = ledger.round(self.experiment.tasks[task.tasks[task.stage.treatment]], self.index)
        began = ledger.policy_of(task, task.stage.start)
        assert treated is not None and began is not None, "stages that others need come first"
        run = connection.literal(treated.generate_run)
        sampled = f"SELECT DISTINCT prompt_id FROM rollouts WHERE run_id = {run}"
        if query_of(task.stage).traits.labels == "none":
            return f"prompt_id IN ({sampled})", 0
        ((size,),) = store.sql(f"SELECT count(*) FROM ({sampled})").fetchall()
        spent = connection.literal(ledger.policy_ids[began])
        return f"prompt_id IN (FROM spent_on_line({spent}))", int(size)

    def _control(self) -> dict[str, str]:
        """Parameters of a control's query: its treatment's dataset, and what it draws from."""
        stage, ledger, tasks = self.task.stage, self.experiment.ledger, self.experiment.tasks
        control = query_of(stage).traits.control
        if not control:
            return {}
        treatment = ledger.datasets_of(tasks[self.task.tasks[stage.treatment]])[self.index]
        given = {control: treatment}
        return given | ({"bridge": ",".join(self.replayed())} if stage.bridge else {})

    def query_params(self) -> dict[str, str]:
        """Parameters of its dataset's query: what it fills in itself, and what the stage says."""
        stage, query = self.task.stage, query_of(self.task.stage)
        filled = self._control()
        if is_sampled(stage) or stage.rollouts_of:
            filled |= {"runs": self.generate_run(), "student": self.start, "policy": self.start}
            if stage.teacher:
                filled["teacher"] = self.policy(stage.teacher)
            if reference_of(stage):
                filled["reference"] = self.policy(reference_of(stage))
            if is_by_teacher(stage):
                filled["policy"] = filled["teacher"]
            if is_scored(stage):
                filled["support"] = stage.score.support
            if is_graded(stage) and not stage.treatment:
                filled["verifier"] = verifier_name(self.experiment.recipe.verifier)
        given = {param.name: filled[param.name] for param in query.params if param.name in filled}
        return given | {key: _text(value) for key, value in stage.dataset.items()}

    def policy(self, ref: str) -> str:
        """The registered policy that a policy's or stage's name means."""
        found = self.experiment.ledger.policy_of(self.task, ref)
        assert found is not None, "stages that others need come first"
        return found

    def _id_of(self, ref: str) -> str:
        return self.experiment.ledger.policy_ids[self.policy(ref)] if ref else ""

    def trainer_config(self, dataset: str, student: str, output: str) -> Any:
        """The trainer's settings; a later round goes on with the optimizer of the one before."""
        began = self.experiment.ledger.policy_of(self.task, self.task.stage.start)
        planned = self.experiment.updates[self.task.name]
        return trainer_config(
            f"[stage.{self.task.name}]",
            self.task.stage,
            dataset,
            student,
            output,
            continue_optimizer=self.index > 0 and self.start != began,
            schedule_updates=sum(planned),
            schedule_start=sum(planned[: self.index]),
            schedule_span=planned[self.index],
        )


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
