"""What a store knows of a recipe: its rounds, what they made, and where each stage's policy is.

It is read once and kept up as rounds end, so that a recipe of hundreds of rounds asks the store a
few times in all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import queries
from cli.recipes.base_policies import Base
from cli.recipes.names import full_name, label, n_rounds
from cli.recipes.tasks import Task
from s2d_store.config_identity import INVOCATION
from s2d_store.datasets.lock_file import read_lock
from s2d_store.store import Store


@dataclass(frozen=True)
class Round:
    """One round of a recipe, as recorded.

    Attributes:
        run_id: its name.
        recipe: the recipe's name.
        stage: the stage's, with its seed.
        attempt: 0, or higher where the stage was done again.
        status: running, done, interrupted or failed.
        config: the settings that it was done with.
        made: what it left: `policy`, `dataset`, `round`, `inputs`, and `same_as` where another
            recipe's round was found to be the same. Empty before it was done, and where an older
            version did it.
    """

    run_id: str
    recipe: str
    stage: str
    attempt: int
    status: str
    config: Mapping[str, Any]
    made: Mapping[str, Any]

    @property
    def is_done(self) -> bool:
        """Whether it ended well."""
        return self.status == "done"

    @property
    def origin(self) -> str:
        """The round that did the work: this one, or the other recipe's that was the same."""
        return str(self.made.get("same_as") or self.run_id)

    @property
    def generate_run(self) -> str:
        """The generate run that holds its rollouts."""
        return f"{self.origin}.generate"


class Ledger:
    """The rounds and policies of one store, from one recipe's view."""

    def __init__(
        self, store: Store | None, recipe: str, tasks: Mapping[str, Task], bases: Mapping[str, Base]
    ) -> None:
        """Read a store.

        Args:
            store: the store; None where there is none yet.
            recipe: the recipe's name.
            tasks: every task by name.
            bases: the policies that it brings along, by their name in the recipe.
        """
        self._store, self._recipe, self._tasks, self._bases = store, recipe, tasks, bases
        self._redone: dict[str, int] = {}
        self._dataset_ids: dict[str, str] = {}
        self.rounds: dict[str, Round] = {}
        self.policy_ids: dict[str, str] = {}
        self.read()

    def read(self) -> None:
        """Read the store anew."""
        self.policy_ids = {base.name: base.policy_id for base in self._bases.values()}
        if self._store is None:
            return
        con = self._store.connect(text="runs policies")
        self.policy_ids |= dict(con.execute("SELECT name, policy_id FROM policies").fetchall())
        self.rounds = {}
        for run_id, recipe, stage, attempt, status, text in con.execute(
            queries.internal("rounds")
        ).fetchall():
            config = json.loads(text)
            made = config.pop(INVOCATION, {})
            self.rounds[run_id] = Round(
                run_id, recipe or "", stage or "", attempt or 0, status, config, made
            )

    def open(self, store: Store) -> None:
        """Read a store that was made meanwhile."""
        self._store = store
        self.read()

    def assume(self, task: Task, rounds: Sequence[Round]) -> None:
        """Let another recipe's rounds count as a task's own until the store is read anew."""
        for index, found in enumerate(rounds):
            name, made = self.name(task, index), {**found.made, "same_as": found.origin}
            self.rounds[name] = replace(found, run_id=name, recipe=self._recipe, made=made)

    def redo(self, task: Task) -> None:
        """From now on a task, and what depends on it, is carried out as another attempt."""
        self._redone[task.name] = self.attempt(task) + 1

    def attempt(self, task: Task) -> int:
        """A task's attempt: its newest, or that of a task that it depends on, if higher."""
        if task.name in self._redone:
            return self._redone[task.name]
        own = [
            found.attempt
            for found in self.rounds.values()
            if found.recipe == self._recipe and found.stage == task.name
        ]
        behind = [self.attempt(self._tasks[name]) for name in set(task.tasks.values())]
        return max([0, *own, *behind])

    def name(self, task: Task, round_: int) -> str:
        """Name of a round's run, and of the dataset and policy that it makes."""
        return full_name(self._recipe, task, round_, self.attempt(task))

    def round(self, task: Task, round_: int) -> Round | None:
        """A round, if it was begun."""
        return self.rounds.get(self.name(task, round_))

    def policy_of(self, task: Task, ref: str) -> str | None:
        """The registered policy that a reference means: a stage's is its last round's.

        None where the stage that makes it is not done.
        """
        if ref in task.policies:
            base = self._bases.get(task.policies[ref])
            return base.name if base else None
        made = self._tasks[task.tasks[ref]]
        return self.policy_after(made, n_rounds(self._tasks, made) - 1)

    def policy_after(self, task: Task, round_: int) -> str | None:
        """The policy that a round left: its own, or where it changed no weight its start."""
        found = self.round(task, round_)
        if found is None or not found.is_done:
            return None
        if "policy" in found.made:
            return str(found.made["policy"])
        for name in (found.run_id, label(task, round_)):  # the second as older versions named it
            if name in self.policy_ids:
                return name
        return (
            self.policy_after(task, round_ - 1)
            if round_
            else self.policy_of(task, task.stage.start)
        )

    def dataset_id(self, name: str) -> str:
        """The id of a locked dataset.

        Raises:
            NotFoundError: there is none of that name.
        """
        if name not in self._dataset_ids:
            assert self._store is not None, "a round was done"
            self._dataset_ids[name] = read_lock(self._store, name)["dataset_id"]
        return self._dataset_ids[name]

    def datasets_of(self, task: Task) -> list[str]:
        """The datasets that a task's rounds trained on, as far as they are done."""
        found = [self.round(task, i) for i in range(n_rounds(self._tasks, task))]
        names = [
            r.made.get("dataset", label(task, i)) for i, r in enumerate(found) if r and r.is_done
        ]
        return [name for name in names if name]
