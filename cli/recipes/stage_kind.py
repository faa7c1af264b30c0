"""What a stage's kind means for it: its dataset query, the kind that this declares, its trainer."""

from __future__ import annotations

from pathlib import Path

import queries
from cli.recipes.schema import Stage
from queries import Query
from queries.kinds import Kind
from s2d_store.errors import InputError, NotFoundError, S2DError
from trainers import registry
from trainers.registry import Trainer


def read_query(path: Path) -> Query:
    """A dataset query of the user's own.

    Raises:
        NotFoundError: there is no such file.
        InputError: its header lacks a line, or has a wrong one.
    """
    try:
        return queries.parse(path.stem, "user", path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFoundError(
            f"no SQL file {path}", error.strerror or "", "correct query = FILE.sql"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path}: {error}", fix="start the file as queries/datasets/sft.sql does"
        ) from error


def query_of(stage: Stage) -> Query:
    """The query that makes a training stage's datasets: its own, or the shipped one of its kind."""
    found = read_query(Path(stage.query)) if stage.query else queries.find(stage.kind)
    assert found is not None, "the recipe was checked"
    return found


def kind_of(stage: Stage) -> Kind:
    """What that query declares."""
    return query_of(stage).traits


def is_on_policy(stage: Stage) -> bool:
    """Whether the stage samples from its newest policy, round by round."""
    return kind_of(stage).policy == "on"


def is_scored(stage: Stage) -> bool:
    """Whether a teacher scores the rollouts of each round."""
    return is_on_policy(stage) and kind_of(stage).has_topk


def reference_of(stage: Stage) -> str:
    """The policy or stage that the KL term of a stage's loss is to; empty without such a term."""
    if kind_of(stage).labels != "derived" or not stage.train.get("kl_coefficient"):
        return ""
    return stage.reference or stage.start


def is_graded(stage: Stage) -> bool:
    """Whether rewards choose, weigh or enter the rows."""
    return kind_of(stage).labels != "none"


def is_by_teacher(stage: Stage) -> bool:
    """Whether the stage's teacher samples, and not the policy that is trained."""
    return kind_of(stage).rollouts == "teacher" and not stage.treatment


def is_sampled(stage: Stage) -> bool:
    """Whether the stage samples rollouts, and does not take stored ones."""
    return not stage.rollouts_of and (not stage.treatment or is_on_policy(stage))


def trainer_of(stage: Stage) -> Trainer:
    """The stage's trainer: as it says, else that of its kind.

    Raises:
        NotFoundError: there is none of that name.
        InputError: the stage says none, and no trainer has the name of its kind.
    """
    try:
        return registry.find(stage.trainer or registry.of_kind(stage.kind))
    except S2DError as error:
        if stage.trainer:
            raise
        raise InputError(
            f"no trainer is named {stage.kind!r}",
            "a kind of your own does not say who trains on it",
            'trainer = "NAME", one of ' + ", ".join(registry.names()),
        ) from error
