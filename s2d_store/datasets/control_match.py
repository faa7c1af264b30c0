"""Match a control to its treatment, and check it: updates, rows, tokens, no labels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import queries
from queries import Query
from s2d_store.datasets.match_lengths import assign
from s2d_store.errors import DatasetError, NotFoundError
from s2d_store.sql import connection
from s2d_store.sql import parameters as query_params

DEFAULT_TOLERANCE = 0.02
# A control's query that numbers its rows by this gives candidates to choose from, not the rows.
SLOT = "slot"
Counts = NDArray[np.int64]
Amounts = tuple[Counts, Counts, Counts]


def match(
    con: duckdb.DuckDBPyConnection, values: Mapping[str, Any], candidates: pa.Table
) -> pa.Table:
    """The rows of a control: those of the treatment, each with a candidate of nearly its length.

    Where there are fewer candidates than rows, each has its own row and the rest are left out,
    which `check` refuses.

    Args:
        con: a connection to the snapshot that the query ran on.
        values: the query's parameters; `treatment` is a dataset's name or id.
        candidates: slot, rollout_id, scorer_policy_id, support, k, response_tokens, by slot.
    """
    with connection.errors():
        targets = con.sql(
            queries.internal("control_targets"),
            params={"treatment": values.get("treatment"), "seed": values.get("seed", 0)},
        ).to_arrow_table()
    targets = targets.slice(0, candidates.num_rows)
    candidates = candidates.sort_by("slot")
    slots = assign(
        targets.column("response_tokens").to_numpy().astype(np.int64),
        targets.column("update").to_numpy().astype(np.int64),
        targets.column("chance").to_numpy(),
        candidates.column("response_tokens").to_numpy().astype(np.int64),
    )
    found = candidates.take(pa.array(slots)).drop_columns(["slot", "response_tokens"])
    rows = {name: targets.column(name) for name in ("row", "update")}
    rows |= {name: found.column(name) for name in found.column_names}
    rows.setdefault("labelled", pa.array(np.zeros(len(slots), np.bool_)))
    rows["treatment_tokens"] = targets.column("response_tokens")
    return pa.table(rows)


def follow(
    con: duckdb.DuckDBPyConnection, query: Query, values: Mapping[str, Any]
) -> dict[str, Any]:
    """A control's parameters, with those of its treatment where its header says `follows`.

    Args:
        con: a connection to the snapshot that the query runs on.
        query: a dataset query.
        values: its parameters; what is null is filled in.

    Raises:
        NotFoundError: no such treatment.
        DatasetError: one is given that is not the treatment's.
    """
    filled = dict(values)
    if not query.traits.follows:
        return filled
    name = str(values.get(query.traits.control) or "")
    _treatment(con, query, name)
    with connection.errors():
        ((lock,),) = con.execute(
            "SELECT lock FROM datasets WHERE dataset_id = dataset_named($dataset)",
            {"dataset": name},
        ).fetchall()
    stated = json.loads(lock).get("params", {})
    grpo = queries.find("grpo")
    assert grpo is not None, "grpo is a shipped query"
    usual = query_params.defaults(grpo)
    for param in query.traits.follows:
        wanted = stated.get(param, usual.get(param))
        if filled.get(param) is not None and filled[param] != wanted:
            raise DatasetError(
                f"parameter {param} of control query {query.name} is {filled[param]}",
                f"the treatment {name} has {wanted}; a matched control has the same",
                f"leave --param {param} out, which takes over the treatment's",
            )
        filled[param] = wanted
    return filled


def check_labels(
    con: duckdb.DuckDBPyConnection, query: Query, values: Mapping[str, Any], spent: Set[str]
) -> None:
    """Refuse a control that would spend a label which its line had not spent before.

    Args:
        con: a connection to the snapshot that the query ran on.
        query: a dataset query; only controls are looked at.
        values: its parameters.
        spent: prompts whose labels its rows spend.

    Raises:
        DatasetError: with how many are new, or that its kind uses none at all.
    """
    if not query.traits.control or not spent:
        return
    if query.traits.labels == "none":
        raise DatasetError(
            f"control query {query.name} uses {len(spent):,} labels",
            f"a control of kind {query.kind} uses none: its query reads rewards, or rewards had "
            "chosen its rows, as correct_only does",
            "draw from datasets that no reward had chosen, e.g. --param bridge=opd",
        )
    text = "SELECT prompt_id FROM spent_on_line(coalesce($policy, start_of(dataset_named($of))))"
    given = {"policy": values.get("policy"), "of": str(values.get(query.traits.control))}
    if query.traits.rollouts != "own":
        given["policy"] = None
    with connection.errors():
        connection.prepare(con, text)
        old = {prompt for (prompt,) in con.execute(text, given).fetchall()}
    new = sorted(spent - old)
    if new:
        raise DatasetError(
            f"control query {query.name} would spend {len(new):,} new labels",
            f"e.g. that of prompt {new[0]}: nothing that the start policy was made from has spent "
            "it; a control visits labels again and spends none",
            'sample prompts whose labels are spent: s2d generate --where "prompt_id IN (FROM '
            "spent_on_line('POLICY'))\"",
        )


def check(
    con: duckdb.DuckDBPyConnection, query: Query, values: Mapping[str, Any], rows: pa.Table
) -> None:
    """Refuse a control's rows that do not match the treatment that its parameter names.

    Stored rollouts match in rows and response tokens. Where a control samples anew, tokens come as
    its policy writes them: then rows match, and of a query with rewards the prompts.

    Args:
        con: a connection to the snapshot that the query ran on.
        query: a dataset query whose kind is a control.
        values: its parameters; the one that `control` names (`treatment`) is a dataset's name or
            id, `tolerance` the largest relative difference of response tokens in an update and in
            all.
        rows: what it gave, with rollout_id and update.

    Raises:
        NotFoundError: no such treatment.
        DatasetError: it cannot be matched; says what is missing and which parameter helps.
    """
    name = str(values.get(query.traits.control) or "")
    treated = _treatment(con, query, name)
    control = _control(con, rows, len(treated[0]))
    tolerance = float(values.get("tolerance", DEFAULT_TOLERANCE))
    if query.traits.policy == "on":
        _check_sampled(query, name, tolerance, treated, control)
        return
    _check_rows(query, values, name, treated[0], control[0], control[1], treated[1])
    _check_tokens(name, tolerance, treated[1], control[1])
    if "labelled" in rows.column_names and query.traits.labels == "none":
        labelled = int(np.count_nonzero(rows.column("labelled").to_numpy()))
        if labelled:
            raise DatasetError(
                f"{labelled} rows of control query {query.name} are labelled",
                f"a control of kind {query.kind} uses no label: rewards had chosen these rows, as "
                "correct_only does",
                "draw from datasets that no reward had chosen, e.g. --param bridge=opd",
            )


def _check_sampled(
    query: Query, name: str, tolerance: float, treated: Amounts, control: Amounts
) -> None:
    """Compare the rows and, where rewards make the rows, the prompts of each update."""
    places = (0, 2) if query.traits.labels == "derived" else (0,)
    for place in places:
        wanted, got = treated[place], control[place]
        what = "prompts" if place else "rows"
        last = int(np.flatnonzero(got)[-1]) + 1 if got.any() else 0
        if last != len(wanted):
            raise DatasetError(
                f"control query {query.name} has {last:,} updates, its treatment {len(wanted):,}",
                f"it found {got.sum():,} {what}, dataset {name} has {wanted.sum():,}",
                "sample as many prompts as the treatment's, with as many rollouts each; "
                "keep_equal=true keeps groups of equal rewards on both sides",
            )
        off = np.abs(got - wanted) / np.maximum(wanted, 1)
        if off.max() > tolerance:
            update = int(off.argmax())
            raise DatasetError(
                f"update {update + 1} of control query {query.name} has {got[update]:,} {what}",
                f"dataset {name} has {wanted[update]:,} there; tolerance {tolerance:.1%}",
                "sample as the treatment was, with keep_equal=true on both sides; or accept it: "
                f"--param tolerance={math.ceil(off.max() * 1000) / 1000:g}",
            )


def _treatment(con: duckdb.DuckDBPyConnection, query: Query, name: str) -> Amounts:
    """Rows, response tokens and prompts of each update, int64 (U,) each."""
    if not name:
        raise DatasetError(
            f"control query {query.name} has no parameter {query.traits.control}",
            "a control is checked against the dataset that it stands beside",
            f"--   {query.traits.control}: VARCHAR -- the dataset to match",
        )
    with connection.errors():
        counts = con.execute(queries.internal("dataset_amounts"), {"dataset": name}).fetchall()
        if not counts:
            locked = con.execute(queries.internal("dataset_names")).fetchall()
            raise NotFoundError(
                f"no dataset {name!r} to match in this store",
                f"locked: {', '.join(row[0] for row in locked) or 'none'}",
                "build the treatment first, then its control: --param treatment=NAME",
            )
    rows, tokens, prompts = np.array(counts, np.int64).reshape(-1, 3).T
    return rows, tokens, prompts


def _control(con: duckdb.DuckDBPyConnection, rows: pa.Table, updates: int) -> Amounts:
    """Rows, response tokens and prompts of each update, int64 (at least `updates`,) each."""
    con.register("_control", rows.select(["update", "rollout_id"]))
    with connection.errors():
        counts = con.execute(queries.internal("control_amounts")).fetchall()
    con.unregister("_control")
    size = max([updates, *(row[0] for row in counts)])
    result = np.zeros((3, size), np.int64)
    for update, n, tokens, prompts in counts:
        result[:, update - 1] = n, tokens, prompts
    return result[0], result[1], result[2]


def _check_rows(
    query: Query,
    values: Mapping[str, Any],
    name: str,
    wanted: Counts,
    got: Counts,
    tokens: Counts,
    wanted_tokens: Counts,
) -> None:
    needed, found, bridge = int(wanted.sum()), int(got.sum()), values.get("bridge")
    if found == 0:
        raise DatasetError(
            f"no bridge rollouts to match dataset {name} with",
            f"it needs {needed:,} rows; query {query.name} found none with top-k "
            + (f"in bridge={bridge}" if bridge else "on the line of its start policy"),
            "s2d dataset list, then --param bridge=NAME; or score the rollouts of a bridge first",
        )
    if found < needed:
        passes = int(values.get("passes", 1))
        raise DatasetError(
            f"{needed - found:,} bridge rollouts are missing to match dataset {name}",
            f"it has {needed:,} rows and {wanted_tokens.sum():,} response tokens; "
            f"{found // passes:,} rollouts used at most {passes} times give {found:,} rows and "
            f"{tokens.sum():,} response tokens",
            f"--param passes={math.ceil(needed * passes / found)} uses each more often; or widen "
            "--param bridge=..., or generate and score more",
        )
    if not np.array_equal(wanted, got):
        size = max(len(wanted), len(got))
        wanted, got = (np.pad(a, (0, size - len(a))) for a in (wanted, got))
        update = int(np.argmax(wanted != got))
        raise DatasetError(
            f"update {update + 1} of control query {query.name} has {got[update]:,} rows",
            f"dataset {name} has {wanted[update]:,} there; a control has the same rows per update",
            "give each row the `row` and `update` of the treatment's",
        )


def _check_tokens(name: str, tolerance: float, wanted: Counts, got: Counts) -> None:
    off = np.abs(got - wanted) / np.maximum(wanted, 1)
    total_off = abs(int(got.sum()) - int(wanted.sum())) / max(int(wanted.sum()), 1)
    worst = float(max(off.max(), total_off))
    if worst <= tolerance:
        return
    update = int(off.argmax())
    short = int(np.maximum(wanted - got, 0).sum())
    excess = int(np.maximum(got - wanted, 0).sum())
    # Rounded up, so that the value that is shown is accepted.
    accepted = math.ceil(worst * 1000) / 1000
    raise DatasetError(
        f"the bridge rollouts do not match the response tokens of dataset {name}",
        f"update {update + 1} would have {got[update]:,} against {wanted[update]:,} "
        f"({off[update]:.1%} off, tolerance {tolerance:.1%}); {np.count_nonzero(off > tolerance)} "
        f"of {len(off)} updates are off, {short:,} tokens are missing and {excess:,} too many; in "
        f"all {got.sum():,} against {wanted.sum():,}",
        "raise --param passes=... so that rollouts of fitting length serve more often, widen "
        f"--param bridge=..., or accept it: --param tolerance={accepted:g}",
    )
