"""NeMo RL: `train_data_stepN.jsonl` (tokens) and `val_data_stepN.jsonl` (messages).

Every value of a training row is a list of one. Ids are padded to their batch's longest; logprobs
are 0.0 wherever the policy did not sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError
from s2d_store.importers.files import Line, records, step_of
from s2d_store.importers.record import Asked, Read, Record, Reward, Sampler
from s2d_store.importers.registry import Head, Importer
from s2d_store.messages import text_of

_METRICS: tuple[str, ...] = ("filtered_rewards", "sample_loss_mask", "idx")
_HELD = {"token_ids", "input_lengths", "token_loss_mask", "generation_logprobs", "rewards"}


def _read(path: Path, name: str) -> Iterator[Read]:
    return records(path, name, partial(_make, step_of(path.name.split(".")[0])))


def _make(step: int | None, line: Line) -> Iterator[Read]:
    if "token_ids" not in line.value:
        yield _evaluated(step, line, line.value)
        return
    row = {name: _one(name, value) for name, value in line.value.items()}
    length = row["input_lengths"]
    tokens, flags = row["token_ids"][:length], row["token_loss_mask"][:length]
    sampled = [bool(flag) for flag in flags]
    if True not in sampled:
        raise InputError("nothing of the row was sampled: its mask is 0 everywhere")
    start = sampled.index(True)
    mask = sampled[start:]
    pairs = zip(row["generation_logprobs"][start:length], mask, strict=True)
    metrics = {name: row[name] for name in _METRICS if name in row}
    yield Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        group=(step, tokens[:start]),
        asked=Asked(),
        sampler=Sampler(version=step),
        prompt_token_ids=tokens[:start],
        response_token_ids=tokens[start:],
        response_mask=None if all(mask) else mask,
        logprobs=[value if flag else None for value, flag in pairs],
        rewards=[Reward("reward", row["rewards"], metrics=metrics or None)],
        rest={n: v for n, v in line.value.items() if n not in _HELD and n not in metrics},
    )


def _one(name: str, value: Any) -> Any:
    if not isinstance(value, list) or (len(value) != 1 and name != "content"):
        raise InputError(f"{name} is no list of one", "every value of this format's rows is")
    return value[0] if len(value) == 1 else value


def _evaluated(step: int | None, line: Line, row: dict[str, Any]) -> Record:
    said, reward = row["content"], row["rewards"]
    said = said[0] if len(said) == 1 and isinstance(said[0], list) else said
    if not all(isinstance(m, dict) and "role" in m for m in said):
        raise InputError("content is no list of messages")
    split = next((i for i, m in enumerate(said) if m["role"] == "assistant"), len(said))
    return Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        group=(step, said[:split]),
        asked=Asked(messages=said[:split]),
        sampler=Sampler(version=step),
        messages=said,
        text=text_of(said[-1]) if said[-1]["role"] == "assistant" else None,
        rewards=[Reward("reward", reward[0] if isinstance(reward, list) else reward)],
        purpose="eval",
        rest={n: v for n, v in row.items() if n not in ("content", "rewards")},
    )


def _claims(head: Head) -> bool:
    train = head.keys >= {"token_ids", "token_loss_mask", "generation_logprobs", "input_lengths"}
    evaluated = head.path.name.startswith("val_data") and head.keys >= {"content", "rewards"}
    return head.kind == ".jsonl" and (train or evaluated)


IMPORTER = Importer(
    "nemo-rl",
    "1",
    "training and validation data",
    _claims,
    _read,
    {
        "prompt": "the tokens before the mask; of validation the messages",
        "prompt_token_ids, response_token_ids, response_mask": "token_ids without their padding, "
        "and token_loss_mask",
        "sampler_logprobs": "generation_logprobs where the mask is 1",
        "policy version": "the step in the file's name",
        "group_id": "equal prompt of a step",
        "rewards": "rewards; filtered_rewards among the metrics",
    },
    (
        "advantages per token, prev_logprobs and texts without roles: kept in column source",
        "sampling settings and finish reasons: not in the file",
    ),
)
