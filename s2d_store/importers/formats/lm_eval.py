"""lm-eval 0.4: `samples_<task>_<date>.jsonl`, with `results_<date>.json` beside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from s2d_store import ids
from s2d_store.importers import files
from s2d_store.importers.files import Line, records
from s2d_store.importers.record import (
    Asked,
    Read,
    Record,
    Reject,
    Reward,
    Sampler,
    Sampling,
    without,
)
from s2d_store.importers.registry import Head, Importer

_HELD = ("doc_id", "doc", "target", "arguments.gen_args_0.arg_0", "resps")
_SETTINGS = {"temperature": "temperature", "top_p": "top_p", "max_gen_toks": "max_tokens"}
# A filter that leaves one response of several says which: that is the first, or a vote.
_OF_ALL = "reward of all tries together"


def _read(path: Path, name: str) -> Iterator[Read]:
    stem = path.name
    for packed in files.PACKED:
        stem = stem.removesuffix(packed)
    task, _, date = stem.removesuffix(".jsonl").removeprefix("samples_").rpartition("_")
    results = path.parent / f"results_{date}.json"
    about = files.json_file(results) if results.is_file() else {}
    return records(path, name, partial(_make, about, task))


def _make(about: Mapping[str, Any], task: str, line: Line) -> Iterator[Read]:
    row = line.value
    tries, asked = row["resps"][0], row["arguments"]["gen_args_0"]
    if not all(isinstance(text, str) for text in tries):
        yield Reject(line.file, line.number, "a log-likelihood request: nothing was sampled")
        return
    said = asked["arg_1"] if isinstance(asked.get("arg_1"), dict) else {}
    extra = {name: value for name, value in said.items() if name not in _SETTINGS}
    sampling = {column: said.get(name) for name, column in _SETTINGS.items()}
    config = about.get("config") or {}
    hf = about.get("model_source") == "hf"
    # Each filter writes the rows of a task again: the rollouts are the same, the rewards not.
    told = [row["doc_id"], *(row.get(f"{n}_hash") for n in ("doc", "prompt", "target")), tries]
    content = ids.content_id(task, told)
    rewards = _rewards(row, len(tries))
    held = (*_HELD, *(f"arguments.gen_args_0.arg_1.{name}" for name in said))
    held += ("filter", "filtered_resps", *row.get("metrics", ())) if rewards else ()
    for part, text in enumerate(tries):
        yield Record(
            file=line.file,
            line=line.number,
            content=content,
            view=str(row.get("filter")),
            part=part,
            size=line.size // len(tries),
            group=(task, content),
            index=part,
            asked=Asked(
                **_prompt(asked["arg_0"]),
                answer=row["target"],
                task={"task": task, "doc_id": row["doc_id"]},
                meta=row["doc"] if isinstance(row["doc"], dict) else {"doc": row["doc"]},
                split="test",
            ),
            sampler=Sampler(
                model=about.get("model_name"),
                revision=config.get("model_revision") or None,
                fingerprint=config.get("model_sha") or None,
                n_parameters=config.get("model_num_parameters"),
            ),
            sampling=Sampling(**sampling, extra=extra or None),
            text=text,
            engine="transformers" if hf else about.get("model_source"),
            engine_version=about.get("transformers_version") if hf else None,
            rewards=rewards,
            purpose="eval",
            rest=None if part else without(row, held),
        )


def _rewards(row: Mapping[str, Any], n_tries: int) -> list[Reward]:
    """Of one try: a reward per metric; of several, metrics are of all together and stay in rest."""
    if n_tries > 1:
        return []
    chosen, name = row["filtered_resps"][0], row.get("filter")
    read = chosen if isinstance(chosen, str) else json.dumps(chosen)
    return [
        Reward(
            metric if name in (None, "none") else f"{metric},{name}",
            row[metric],
            read,
            {"filter": name},
        )
        for metric in row.get("metrics", ())
    ]


def _prompt(text: str) -> dict[str, Any]:
    """Messages where a chat template was applied (then it is JSON of them), else the text."""
    if text.startswith("[{"):
        try:
            messages = json.loads(text)
        except ValueError:
            return {"text": text}
        if all(isinstance(m, dict) and "role" in m for m in messages):
            return {"messages": messages}
    return {"text": text}


def _claims(head: Head) -> bool:
    return head.kind == ".jsonl" and head.keys >= {"doc_id", "resps", "filtered_resps"}


IMPORTER = Importer(
    "lm-eval",
    "0.4.9",
    "samples of generation tasks",
    _claims,
    _read,
    {
        "prompt": "arguments' text or messages, few-shot examples with it; doc as meta",
        "answer": "target",
        "response_text": "resps: one rollout per try",
        "policy": "results.json: model, revision, hash",
        "sampling settings": "arguments; stop texts in sampling_extra",
        "group_id": "task and document",
        "rewards": "each metric, under its filter's name; filtered_resps as what was read",
    },
    (
        "rows of log-likelihood tasks: nothing was sampled",
        "metrics of several tries together: kept in column source, they are no rollout's reward",
        "token ids, logprobs and finish reasons: lm-eval does not write them",
    ),
    beside=lambda head: head.path.name.startswith("results_"),
)
