"""Rows of format 2 as rows of format 3: every column has its place, and nothing is invented."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from s2d_store import ids
from s2d_store.maintenance import format2_topk
from s2d_store.schema import FLOAT64, INT32, MESSAGES

# Outcomes that format 2 stored with reward 0, though nobody judged.
_UNJUDGED = ("timeout", "error")
_SAMPLING = ("temperature", "top_p", "top_k", "max_tokens")


def upgraded(name: str, rows: pa.Table) -> pa.Table:
    """Rows of a table of format 2, partition columns included, with what format 3 adds.

    Columns that stay null are left out; topk comes with plain logprobs, as callers commit it.
    """
    change = _CHANGES.get(name)
    return change(rows) if change else rows


def _prompts(rows: pa.Table) -> pa.Table:
    messages = pa.array(
        [[{**m, "extra": None} for m in prompt] for prompt in rows.column("messages").to_pylist()],
        MESSAGES,
    )
    rows = rows.set_column(rows.column_names.index("messages"), "messages", messages)
    kinds = pc.if_else(rows.column("answer").is_null(), "none", "text")
    return rows.append_column("answer_type", kinds)


def _policies(rows: pa.Table) -> pa.Table:
    return rows.append_column("kind", _repeated("weights", rows))


def _rollouts(rows: pa.Table) -> pa.Table:
    together = ("run_id", "prompt_id", "policy_id", "round", *_SAMPLING)
    groups = [
        ids.group_id(
            row["run_id"],
            row["prompt_id"],
            row["policy_id"],
            row["round"],
            {name: _shortest(row[name]) for name in _SAMPLING},
        )
        for row in rows.select(list(together)).to_pylist()
    ]
    rows = rows.append_column("group_id", pa.array(groups, pa.string()))
    for name in ("origin", "tokens_from"):
        rows = rows.append_column(name, _repeated("sampled", rows))
    return rows.append_column("sampled_tokens", rows.column("response_tokens"))


def _rewards(rows: pa.Table) -> pa.Table:
    judged = pc.invert(pc.is_in(rows.column("outcome"), pa.array(_UNJUDGED)))
    reward = pc.if_else(judged, rows.column("reward").cast(FLOAT64), pa.scalar(None, FLOAT64))
    rows = rows.set_column(rows.column_names.index("reward"), "reward", reward)
    return rows.append_column("attempt", pa.array([0] * rows.num_rows, INT32))


def _topk(rows: pa.Table) -> pa.Table:
    return format2_topk.decode(rows)


def _runs(rows: pa.Table) -> pa.Table:
    configs = [
        json.dumps(_config(json.loads(text)), sort_keys=True)
        for text in rows.column("config").to_pylist()
    ]
    rows = rows.set_column(rows.column_names.index("config"), "config", pa.array(configs))
    return rows.append_column("attempt", pa.array([0] * rows.num_rows, INT32))


def _config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings under today's names; that nothing was rounded goes without saying."""
    names = {"keep_top_k": "top_logprobs"}
    return {names.get(name, name): value for name, value in config.items() if name != "lossy_nats"}


def _updates(rows: pa.Table) -> pa.Table:
    rows = rows.append_column("trained_tokens", rows.column("response_tokens"))
    return rows.append_column("label_visits", rows.column("labels"))


def _shortest(value: float | int) -> float | int:
    """A float32 as the shortest decimal that gives it, which is what was asked for."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _repeated(text: str, rows: pa.Table) -> pa.Array:
    return pa.repeat(pa.scalar(text), rows.num_rows)


_CHANGES: Mapping[str, Callable[[pa.Table], pa.Table]] = {
    "prompts": _prompts,
    "policies": _policies,
    "rollouts": _rollouts,
    "rewards": _rewards,
    "topk": _topk,
    "runs": _runs,
    "updates": _updates,
}
