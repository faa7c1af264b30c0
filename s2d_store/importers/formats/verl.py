"""verl: `<rollout_data_dir>/<step>.jsonl` and `<validation_data_dir>/<step>.jsonl` (0.9).

Prompt and output are decoded without special tokens: headers of the template stay as bare words,
the end of sequence and whether the output was cut are lost. Rows of a group are not contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from s2d_store.importers.files import Line, records
from s2d_store.importers.record import Asked, Read, Record, Reward, Sampler
from s2d_store.importers.registry import Head, Importer

_OWN = {"input", "output", "gts", "score", "step", "reward", "pred"}


def _make(line: Line) -> Iterator[Read]:
    row = line.value
    step, said = row["step"], row["input"]
    others = {name: row[name] for name in row if name not in _OWN}
    metrics = {n: v for n, v in others.items() if isinstance(v, bool | int | float)}
    pred = row.get("pred")
    rewards = [Reward("score", row["score"], pred if isinstance(pred, str) else "", metrics)]
    if "reward" in row:
        rewards.append(Reward("reward", row["reward"]))
    rest = {name: value for name, value in others.items() if name not in metrics}
    if pred is not None and not isinstance(pred, str):
        rest["pred"] = pred
    folders = line.file.lower().split("/")[:-1]
    evaluation = "reward" in row or any(folder.startswith("val") for folder in folders)
    purpose = "eval" if evaluation else "train"
    yield Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        group=(purpose, step, row.get("uid") or said),
        asked=Asked(text=said, form="decoded", answer=row.get("gts")),
        sampler=Sampler(version=step),
        text=row["output"],
        text_form="decoded",
        rewards=rewards,
        purpose=purpose,
        rest=rest,
    )


def _read(path: Path, name: str) -> Iterator[Read]:
    return records(path, name, _make)


def _claims(head: Head) -> bool:
    return head.kind == ".jsonl" and head.keys >= {"input", "output", "score", "step"}


IMPORTER = Importer(
    "verl",
    "0.9.0",
    "rollout and validation dumps",
    _claims,
    _read,
    {
        "prompt": "input, matched with stored prompts; else one user message",
        "answer": "gts",
        "response_text": "output",
        "policy version": "step",
        "group_id": "uid, else equal input of a step",
        "rewards": "score, reward; pred as what was read; number-like extras as metrics",
    },
    ("token ids, logprobs, finish reasons and sampling settings: verl does not write them",),
)
