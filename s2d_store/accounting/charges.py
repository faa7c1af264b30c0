"""What each command is about to spend, in the terms of a budget; one function a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

import queries
from queries import kinds
from s2d_store.accounting.flops import Lengths, forward_flops, training_flops
from s2d_store.accounting.guard import Guard, Meter, PlannedSpend
from s2d_store.policies.registry import Registered
from s2d_store.sql import connection
from s2d_store.store import Store


def recorded_stage(store: Store, run: str) -> str:
    """The stage that a run was labelled with before; empty for none."""
    rows = store.sql("SELECT stage FROM runs WHERE run_id = $run", {"run": run}).fetchall()
    return rows[0][0] or "" if rows else ""


def before_sampling(guard: Guard, charge: PlannedSpend, graded_prompts: Iterable[str]) -> Meter:
    """A meter for generate, which knows its tokens only as they come.

    Args:
        guard: the budget's.
        charge: run, stage, role and purpose of the rollouts.
        graded_prompts: labelled prompts that it will grade as it samples.

    Raises:
        BudgetError: nothing is left, or the graded prompts would go over.
    """
    what = f"generate run {charge.run}"
    graded = {"graded_labels": sorted(set(graded_prompts))}
    guard.check(
        what, [PlannedSpend(charge.run, charge.stage, charge.role, charge.purpose, {}, graded)]
    )
    return guard.meter(what, charge, ("generated_tokens", "flops"))


def before_scoring(
    guard: Guard, con: duckdb.DuckDBPyConnection, run: str, scorer: Registered, pending: pa.Table
) -> None:
    """Refuse a score command that would go over.

    Args:
        guard: the budget's.
        con: a connection to the store.
        run: the score run.
        scorer: the policy that scores.
        pending: one row per scoring, with rollout_id, prompt_tokens and response_tokens.

    Raises:
        BudgetError: with the figures.
    """
    if not guard.limits(("scored_tokens", "flops")):
        return
    con.register("_to_score", pending.select(["rollout_id", "prompt_tokens", "response_tokens"]))
    with connection.errors():
        groups = con.execute(queries.internal("charged_scores")).fetchall()
    con.unregister("_to_score")
    charges = []
    for stage, role, purpose, prompts, scored, squared in groups:
        lengths = Lengths(int(prompts), int(scored), squared)
        amounts = {"scored_tokens": int(scored), "flops": forward_flops(scorer, lengths)}
        charges.append(PlannedSpend(run, stage or "", role, purpose, amounts))
    guard.check(f"score run {run}", charges)


def before_verifying(guard: Guard, con: duckdb.DuckDBPyConnection, run: str) -> None:
    """Refuse a verify command that would grade more labels than are left.

    Args:
        guard: the budget's.
        con: a connection whose table `_pending` holds what is to be graded: rollout_id, and whether
            its prompt is labelled.
        run: the verify run.

    Raises:
        BudgetError: with the figures.
    """
    if not guard.limits(("graded_labels",)):
        return
    with connection.errors():
        groups = con.execute(queries.internal("charged_verdicts")).fetchall()
    charges = [
        PlannedSpend(run, stage or "", role, purpose, {}, {"graded_labels": prompts})
        for stage, role, purpose, prompts in groups
    ]
    guard.check(f"verify run {run}", charges)


def before_building(
    guard: Guard,
    name: str,
    kind: str,
    rows: pa.Table,
    labels: Iterable[str],
    labelled: pa.ChunkedArray,
) -> None:
    """Refuse a dataset whose training would go over what its kind's stage and the experiment have.

    FLOPs and the role wait for the training run: they depend on the student.

    Args:
        guard: the budget's.
        name: the dataset's.
        kind: its kind, which is the default name of the stage that trains on it.
        rows: its rows with update, prompt_id and response_tokens.
        labels: prompts whose labels it spends.
        labelled: bool (N,), whether a reward chose or weighs each row.

    Raises:
        BudgetError: with the figures.
    """
    amounts = {
        "trained_tokens": pc.sum(rows.column("response_tokens"), min_count=0).as_py(),
        "updates": pc.max(rows.column("update")).as_py() or 0,
        "label_visits": rows.select(["update", "prompt_id"])
        .filter(labelled)
        .group_by(["update", "prompt_id"])
        .aggregate([])
        .num_rows,
    }
    charge = PlannedSpend("", kind, "", "train", amounts, {"labels": sorted(labels)})
    guard.check(f"training on dataset {name}", [charge])


def before_training(
    guard: Guard,
    store: Store,
    run: str,
    stage: str,
    lock: Mapping[str, Any],
    start: Registered,
    *,
    checkpointing: bool,
) -> None:
    """Refuse a training run whose remaining updates would go over.

    Args:
        guard: the budget's.
        store: the store.
        run: the training run; updates that it has recorded already are not counted again.
        stage: stage that it counts for.
        lock: its dataset's lock.
        start: the policy that it starts from.
        checkpointing: its layers run twice to save memory.

    Raises:
        BudgetError: with the figures.
    """
    if not guard.limits(("labels", "label_visits", "trained_tokens", "updates", "flops")):
        return
    con = store.connect(text="updates dataset_rows dataset_labels rollouts")
    with connection.errors():
        done = con.execute(queries.internal("run_trained"), {"run": run}).fetchall()[0]
        labels = con.execute(
            "SELECT prompt_id FROM dataset_labels WHERE dataset_id = $dataset",
            {"dataset": lock["dataset_id"]},
        ).fetchall()
        ((squared, visits),) = con.execute(
            queries.internal("dataset_left"), {"dataset": lock["dataset_id"], "run": run}
        ).fetchall()
        role = con.execute(
            queries.internal("dataset_role"), {"dataset": lock["dataset_id"]}
        ).fetchone()
    counts = lock["counts"]
    response = counts["response_tokens"] - int(done[1])
    lengths = Lengths(counts["prompt_tokens"] - int(done[2]), response, squared)
    amounts = {
        "updates": counts["updates"] - done[0],
        "trained_tokens": response,
        "label_visits": visits,
        "flops": training_flops(start, lengths, checkpointing=checkpointing),
    }
    # The same rule as view training_runs.
    own_rollouts = kinds.of(lock["kind"], lock["query_sql"]).rollouts == "own"
    own = role[0] if role and own_rollouts else "student"
    prompts = {"labels": [prompt for (prompt,) in labels]}
    guard.check(f"training run {run}", [PlannedSpend(run, stage, own, "train", amounts, prompts)])
