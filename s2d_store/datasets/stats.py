"""What a locked dataset holds, and how two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import queries
from s2d_store.datasets.folders import local_folder
from s2d_store.datasets.lock_file import read_lock
from s2d_store.datasets.read import LockedDataset
from s2d_store.sql import connection
from s2d_store.store import Store

QUANTILES = {"min": 0.0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "max": 1.0}
# Columns that say how rows were judged, where a dataset has them.
_FIGURES = ("reward", "advantage", "lag", "pass_rate")
Record = dict[str, Any]


def describe(store: Store, name: str) -> Record:
    """Counts, lengths, rewards and a table by update of a dataset.

    Returns:
        distinct (prompts and rollouts), response_tokens, prompt_tokens and, where the dataset has
        such columns, reward, advantage, lag and pass_rate (each: mean, min, p10, p50, p90, max,
        nulls), and updates (one record each: update, rows, prompts, prompt_tokens,
        response_tokens, longest_response, labels, and mean_reward where there are rewards).

    Raises:
        NotFoundError: there is none of that name.
        DatasetError: its lock or files were changed.
    """
    lock = read_lock(store, name)
    dataset = LockedDataset.open(local_folder(store, name))
    figures = [column for column in _FIGURES if column in dataset.columns]
    light = dataset.light(["update", *figures])
    con = store.connect(
        text=queries.texts("dataset_lengths", "dataset_distinct", "dataset_updates")
    )
    wanted = {"dataset": lock["dataset_id"]}
    with connection.errors():
        lengths = con.execute(queries.internal("dataset_lengths"), wanted).fetchnumpy()
        distinct = con.execute(queries.internal("dataset_distinct"), wanted).fetchall()
        ((prompts, rollouts),) = distinct
        updates = con.sql(queries.catalog()["dataset_updates"].sql, params=wanted)
        by_update = [dict(zip(updates.columns, row, strict=True)) for row in updates.fetchall()]
    if "reward" in figures:
        means = _means(light.column("update").to_numpy(), _floats(light.column("reward")))
        for record in by_update:
            record["mean_reward"] = means[record["update"]]
    return {
        "distinct": {"prompts": prompts, "rollouts": rollouts},
        **{name: summary(lengths[name].astype(float)) for name in lengths},
        **{name: summary(_floats(light.column(name))) for name in figures},
        "updates": by_update,
    }


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Values as floats, NaN for null."""
    values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    return values


def _means(updates: NDArray[np.int64], values: NDArray[np.float64]) -> list[float | None]:
    """Mean of the known values by update; index 0 is unused."""
    known = ~np.isnan(values)
    sums = np.bincount(updates[known], values[known], minlength=updates.max() + 1)
    counts = np.bincount(updates[known], minlength=updates.max() + 1)
    return [float(s / n) if n else None for s, n in zip(sums, counts, strict=True)]


def summary(values: NDArray[np.float64]) -> Record:
    """Mean and quantiles of the known values, and how many are not known."""
    known = values[~np.isnan(values)]
    nulls = len(values) - len(known)
    if not len(known):
        return {"mean": None, **dict.fromkeys(QUANTILES), "nulls": nulls}
    quantiles = np.quantile(known, list(QUANTILES.values())).tolist()
    return {
        "mean": float(known.mean()),
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "nulls": nulls,
    }


@dataclass(frozen=True)
class Difference:
    """How two datasets differ.

    Attributes:
        same: whether their fingerprints are equal.
        measures: a record each for updates, rows, rows in place, rollouts, prompts, labels,
            prompt_tokens and response_tokens: first, second, and what they share.
        settings: what they were asked to be, where it differs: name -> (first, second).
    """

    same: bool
    measures: list[Record]
    settings: Mapping[str, tuple[Any, Any]]


def diff(store: Store, first: str, second: str) -> Difference:
    """Compare two datasets of the store.

    Raises:
        NotFoundError: there is none of a name.
    """
    locks = [read_lock(store, name) for name in (first, second)]
    given = {"first": locks[0]["dataset_id"], "second": locks[1]["dataset_id"]}
    with connection.errors():
        text = queries.texts("dataset_diff")
        relation = store.connect(text=text).sql(text, params=given)
        rows = relation.fetchall()
    measures = [dict(zip(relation.columns, row, strict=True)) for row in rows]
    a, b = (_settings(lock) for lock in locks)
    settings = {
        key: (a.get(key), b.get(key)) for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)
    }
    same = locks[0]["fingerprint"] == locks[1]["fingerprint"]
    return Difference(same, measures, settings)


def _settings(lock: Mapping[str, Any]) -> Record:
    shown = ("kind", "query", "query_sql", "seed", "code_version", "tokenizer_fingerprint")
    versions = {f"version of {table}": v for table, v in lock["versions"].items()}
    params = {f"param {name}": value for name, value in lock["params"].items()}
    return {**{key: lock[key] for key in shown}, **params, **versions}
