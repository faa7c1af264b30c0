"""AReaL: `logs/.../{rollout,eval-rollout}/<version>/<task_id>.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s2d_store.importers.files import Line, records
from s2d_store.importers.record import Asked, Read, Record, Reward, Sampler
from s2d_store.importers.registry import Head, Importer

_HELD = {"task_id", "sample_idx", "head_version", "reward", "original_reward", "prompt"}
_HELD |= {"completion"}
_ROLES = {"prompt": "user", "gen": "assistant", "context": "tool"}


def _read(path: Path, name: str) -> Iterator[Read]:
    evaluation = "eval-rollout" in path.resolve().parts

    def make(line: Line) -> Iterator[Read]:
        row = line.value
        segments = row.get("segments") or ()
        normalised = "original_reward" in row
        head: Any = row.get("head_version")
        tail: Any = row.get("tail_version")
        yield Record(
            file=line.file,
            line=line.number,
            content=line.content,
            size=line.size,
            group=(evaluation, row["task_id"], row["prompt"]),
            index=row.get("sample_idx"),
            asked=Asked(text=row["prompt"], form="templated"),
            sampler=Sampler(version=head),
            # The counts per version are of tokens, which the file does not have.
            spans=None if head in (None, tail) else [(0, head), (None, tail)],
            messages=[_message(segment) for segment in segments] if len(segments) > 2 else None,
            text=row["completion"],
            text_form="templated",
            n_tokens=row.get("seqlen"),
            rewards=[
                Reward(
                    "reward",
                    row["original_reward"] if normalised else row["reward"],
                    metrics={"normalised": row["reward"]} if normalised else None,
                )
            ],
            purpose="eval" if evaluation else "train",
            rest={n: v for n, v in row.items() if n not in _HELD},
        )

    return records(path, name, make)


def _message(segment: dict[str, Any]) -> dict[str, Any]:
    return {"role": _ROLES.get(segment["role"], segment["role"]), "content": segment["text"]}


def _claims(head: Head) -> bool:
    return head.kind == ".jsonl" and head.keys >= {"task_id", "sample_idx", "prompt", "completion"}


IMPORTER = Importer(
    "areal",
    "1",
    "rollout logs",
    _claims,
    _read,
    {
        "prompt": "prompt, matched with stored prompts",
        "messages": "segments, where there are several turns",
        "response_text": "completion, special tokens kept unless --tokenizer is given",
        "policy version": "head_version; tail_version as policy_spans",
        "group_id": "task_id and prompt; index: sample_idx",
        "rewards": "original_reward where rewards were normalised, else reward",
    },
    (
        "token ids and logprobs: AReaL writes texts; re-tokenised ones are kept where their number "
        "is seqlen",
    ),
)
