"""SkyRL: `dumped_evals/global_step_N_evals/<source>.jsonl`. `dumped_data/*.pkl` is never opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from s2d_store.importers.files import Line, records, step_of
from s2d_store.importers.record import Asked, Read, Record, Reward, Sampler, reason
from s2d_store.importers.registry import Head, Importer

_HELD = {"input_prompt", "output_response", "score", "stop_reason", "env_class", "env_extras"}


def _read(path: Path, name: str) -> Iterator[Read]:
    folder = path.resolve().parent.name
    step = step_of(folder) if folder.startswith("global_step_") else None

    def make(line: Line) -> Iterator[Read]:
        row = line.value
        told = row.get("env_extras")
        extras = told if isinstance(told, dict) else {"env_extras": told}
        yield Record(
            file=line.file,
            line=line.number,
            content=line.content,
            size=line.size,
            group=(step, row.get("data_source"), row["input_prompt"]),
            asked=Asked(
                text=row["input_prompt"],
                form="templated",
                task={"env_class": row.get("env_class"), **extras},
                source=str(row.get("data_source") or ""),
            ),
            sampler=Sampler(version=step),
            text=row["output_response"],
            text_form="templated",
            finish_reason=reason(row.get("stop_reason")),
            rewards=[Reward("score", row["score"])],
            purpose="eval",
            rest={n: v for n, v in row.items() if n not in _HELD},
        )

    return records(path, name, make)


def _claims(head: Head) -> bool:
    return head.kind == ".jsonl" and head.keys >= {"input_prompt", "output_response", "score"}


IMPORTER = Importer(
    "skyrl",
    "1",
    "dumped evaluations",
    _claims,
    _read,
    {
        "prompt": "input_prompt, matched with stored prompts; env_class and env_extras as task",
        "response_text": "output_response, special tokens kept unless --tokenizer is given",
        "policy version": "the folder's global step",
        "finish_reason": "stop_reason",
        "group_id": "equal prompt of a step and data source",
        "rewards": "score; of one per token their sum, and the list among the metrics",
    },
    ("token ids and logprobs: SkyRL writes texts alone", "dumped_data: pickles are never opened"),
)
