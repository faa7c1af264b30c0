"""Audit of servers: do the logprobs that they gave agree with the weights, where these are here?"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

import queries
from queries import Param, Query
from s2d_store.audits.base import Found, Scope
from s2d_store.engines.base import ScoreRequest
from s2d_store.engines.cache import open_once
from s2d_store.policies import registry
from s2d_store.sql import connection

SERVER_AGREES = Query(
    "server_agrees",
    "audits",
    "do the logprobs that servers gave agree with the weights that they are to serve?",
    "one row per rollout whose logprobs are further apart than that on average",
    (
        Param("rollouts", "BIGINT", "16", "most rollouts to score of each policy"),
        Param("tolerance", "DOUBLE", "0.1", "nats per token, on average over a rollout"),
        Param(
            "weights",
            "VARCHAR",
            queries.NULL,
            "folder with the weights of the served policies; NULL: those of policies with weights",
        ),
        Param("dtype", "VARCHAR", "auto", "that the weights are computed in"),
    ),
    ("rollout_id", "policy", "made", "endpoint", "mean_nats", "largest_nats"),
    "",
)
TEXT = queries.internal("served_logprobs")


def agreement(scope: Scope) -> Found:
    """Score a sample of each policy's served rollouts by the transformers engine, and compare."""
    values = scope.values
    with connection.errors():
        found = scope.con.sql(TEXT, params={"rollouts": values["rollouts"]}).to_arrow_table()
    rows = found.to_pylist()
    offending: list[dict[str, Any]] = []
    figures = []
    for policy_id, group in groupby(rows, key=lambda row: row["policy_id"]):
        served = list(group)
        location = _location(scope, policy_id, served[0]["kind"])
        if location is None:
            continue
        apart = _apart(location, served, values["dtype"])
        for row, nats in zip(served, apart, strict=True):
            if not float(nats.mean()) <= values["tolerance"]:
                offending.append(
                    {
                        "rollout_id": row["rollout_id"],
                        "policy": row["policy"],
                        "made": row["made"],
                        "endpoint": row["endpoint"],
                        "mean_nats": float(nats.mean()),
                        "largest_nats": float(nats.max()),
                    }
                )
        every = np.concatenate(apart)
        figures.append(
            {
                "policy": served[0]["policy"],
                "examined": len(served),
                "mean_nats": float(every.mean()),
                "largest_nats": float(every.max()),
            }
        )
    examined = sum(figure["examined"] for figure in figures)
    return Found(len(offending), offending[: scope.sample], figures, examined)


def _location(scope: Scope, policy_id: str, kind: str) -> str | None:
    """Where a policy's weights are; None where they are not here."""
    if kind == "served":
        weights = scope.values["weights"]
        return None if weights is None else str(weights)
    location = registry.recorded(scope.store, policy_id).location
    return location if location and Path(location).is_dir() else None


def _apart(location: str, served: list[dict[str, Any]], dtype: str) -> list[Any]:
    """|server - weights| at each token of each rollout, in nats."""
    with open_once("transformers", location, dtype=dtype) as engine:
        requests = [
            ScoreRequest(
                str(i),
                row["prompt_token_ids"],
                np.array(row["response_token_ids"], dtype=np.int32),
            )
            for i, row in enumerate(served)
        ]
        found = dict(engine.score(requests, 0))
    return [
        np.abs(np.array(row["logprobs"], dtype=np.float64) - found[str(i)].sampled_logprobs)
        for i, row in enumerate(served)
    ]
