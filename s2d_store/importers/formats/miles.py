"""miles: `dashboard_columns/rollout_N.parquet`. Its `.pt` files are slime's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from s2d_store.errors import InputError
from s2d_store.importers.files import Line, records, step_of
from s2d_store.importers.record import Asked, Read, Record, Reward, reason
from s2d_store.importers.registry import Head, Importer

_HELD = {"tokens", "loss_mask", "rollout_log_probs", "total_length", "reward", "status"}


def _read(path: Path, name: str) -> Iterator[Read]:
    return records(path, name, partial(_make, step_of(path.stem)))


def _make(rollout: int | None, line: Line) -> Iterator[Read]:
    row = line.value
    tokens = row["tokens"][: row["total_length"]]
    mask = [bool(flag) for flag in row["loss_mask"]]
    n_prompt = len(tokens) - len(mask)
    if n_prompt < 0:
        raise InputError(f"{len(mask)} places of a mask for {len(tokens)} tokens")
    logprobs = row["rollout_log_probs"]
    pairs = None if logprobs is None else zip(logprobs, mask, strict=True)
    group = row.get("group_index")
    yield Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        group=(rollout, tokens[:n_prompt] if group is None else group),
        asked=Asked(),
        prompt_token_ids=tokens[:n_prompt],
        response_token_ids=tokens[n_prompt:],
        response_mask=None if all(mask) else mask,
        logprobs=None if pairs is None else [x if flag else None for x, flag in pairs],
        finish_reason=reason(row.get("status")),
        rewards=[] if row.get("reward") is None else [Reward("reward", row["reward"])],
        rest={name: value for name, value in row.items() if name not in _HELD},
    )


def _claims(head: Head) -> bool:
    named = {"tokens", "loss_mask", "rollout_log_probs", "total_length"}
    return head.kind == ".parquet" and head.keys >= named


IMPORTER = Importer(
    "miles",
    "1",
    "columns of rollouts",
    _claims,
    _read,
    {
        "prompt_token_ids, response_token_ids": "tokens; the response is as long as loss_mask",
        "response_mask": "loss_mask",
        "sampler_logprobs": "rollout_log_probs where the mask is 1",
        "group_id": "the file's number and group_index, else equal prompt",
        "rewards": "reward, where the file has it",
    },
    ("other columns: kept in column source", "sampling settings: not in the file"),
)
