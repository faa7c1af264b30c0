"""open-instruct: `<run>_rollouts_NNNNNN.jsonl`, with `<run>_metadata.jsonl` beside.

Its files have no mask: a row with tool calls mixes the tool's tokens with the model's, and is
held back. An empty answer is padded with an end of sequence whose logprob is NaN.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from s2d_store.importers import files
from s2d_store.importers.files import Line, records
from s2d_store.importers.record import Asked, Read, Record, Reject, Reward, Sampler, reason
from s2d_store.importers.registry import Head, Importer

_HELD = {"step", "prompt_tokens", "response_tokens", "reward", "advantage", "finish_reason"}
_HELD |= {"dataset", "ground_truth", "logprobs"}


def _read(path: Path, name: str) -> Iterator[Read]:
    run = re.sub(r"_rollouts_\d+\.jsonl.*$", "", path.name)
    beside = path.parent / f"{run}_metadata.jsonl"
    about = files.first_record(beside) if beside.is_file() else {}
    return records(path, name, partial(_make, about))


def _make(about: Mapping[str, Any], line: Line) -> Iterator[Read]:
    row = line.value
    if (row.get("request_info") or {}).get("num_calls"):
        why = "tool calls without a mask: the tool's tokens stand among the model's"
        yield Reject(line.file, line.number, why)
        return
    dataset = row.get("dataset")
    dataset = dataset[0] if isinstance(dataset, list) and len(dataset) == 1 else dataset
    source = dataset if isinstance(dataset, str) else ""
    held = _HELD if source else _HELD - {"dataset"}
    yield Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        group=(about.get("run_name"), row["step"], row["prompt_idx"]),
        asked=Asked(answer=row.get("ground_truth"), source=source),
        sampler=Sampler(model=about.get("model_name"), version=row["step"]),
        prompt_token_ids=row["prompt_tokens"],
        response_token_ids=row["response_tokens"],
        logprobs=row.get("logprobs"),
        finish_reason=reason(row.get("finish_reason")),
        rewards=[Reward("reward", row["reward"], metrics={"advantage": row.get("advantage")})],
        rest={name: value for name, value in row.items() if name not in held},
    )


def _claims(head: Head) -> bool:
    return head.keys >= {"prompt_tokens", "response_tokens", "prompt_idx", "reward"}


IMPORTER = Importer(
    "open-instruct",
    "e6c3044a",
    "rollout records of GRPO",
    _claims,
    _read,
    {
        "prompt": "prompt_tokens; stored prompts of equal tokens with --tokenizer",
        "answer": "ground_truth",
        "prompt_token_ids, response_token_ids": "prompt_tokens, response_tokens",
        "sampler_logprobs": "logprobs; NaN becomes null",
        "policy": "metadata's model_name; version: step, of training, not of sampling",
        "group_id": "run, step and prompt_idx",
        "rewards": "reward, on its verifier's scale; advantage among the metrics",
    },
    (
        "rows with tool calls: the file has no mask of the tool's tokens",
        "messages and sampling settings: not in the file",
    ),
    beside=lambda head: head.path.name.endswith("_metadata.jsonl"),
)
