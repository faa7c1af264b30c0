"""Dumps of text alone: Inspect, lm-eval, verifiers v0, verl and TRL."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pyarrow.parquet as pq

from tests.support.dump_rows import Entry, Facts, Format, Record, Stored


def lines(folder: Path, pattern: str) -> list[Entry]:
    """One entry per line of every JSONL file that a pattern finds."""
    return [
        Entry(str(path.relative_to(folder)), number, json.loads(line))
        for path in sorted(folder.glob(pattern))
        for number, line in enumerate(path.read_text().splitlines())
    ]


def _inspect_read(folder: Path) -> list[Entry]:
    entries = list[Entry]()
    for path in sorted(folder.glob("*.eval")):
        with zipfile.ZipFile(path) as log:
            samples = [name for name in log.namelist() if name.startswith("samples/")]
            parts = [json.loads(log.read(name)) for name in samples]
        entries += [Entry(path.name, i, part) for i, part in enumerate(parts)]
    return entries


def _inspect_facts(record: Record) -> Facts:
    facts: Facts = {
        "id": lambda s: json.loads(s[0].prompt["task"])["id"],
        "epoch": lambda s: s[0].rollout["sample_index"] + 1,
        "input": lambda s: s[0].prompt_messages[-1]["content"],
        "target": lambda s: s[0].answer,
        "messages": lambda s: s[0].messages,
        "output.model": lambda s: s[0].policy["fingerprint"],
        "output.choices.0.message": lambda s: s[0].messages[-1],
        "output.choices.0.stop_reason": lambda s: s[0].rollout["finish_reason"],
        "metadata": lambda s: json.loads(s[0].prompt["meta"]),
    }
    for name in record["scores"]:
        facts |= _score_facts(name)
    return facts


def _score_facts(name: str) -> Facts:
    return {
        f"scores.{name}.value": lambda s: s[0].metrics(name)["value"],
        f"scores.{name}.answer": lambda s: s[0].rewards[f"imported-{name}"]["extracted"],
    }


INSPECT = Format(
    "inspect",
    "inspect",
    _inspect_read,
    _inspect_facts,
    frozenset({"output.usage", "output.time", "scores", "store", "events", "model_usage"})
    | {"attachments"},
)


def _lm_eval_read(folder: Path) -> list[Entry]:
    return lines(folder, "samples_*.jsonl")


def _lm_eval_facts(record: Record) -> Facts:
    settings = "arguments.gen_args_0.arg_1"
    return {
        "doc_id": lambda s: json.loads(s[0].prompt["task"])["doc_id"],
        "doc": lambda s: json.loads(s[0].prompt["meta"]),
        "target": lambda s: s[0].answer,
        "arguments.gen_args_0.arg_0": lambda s: s[0].prompt_messages[0]["content"],
        f"{settings}.until": lambda s: json.loads(s[0].rollout["sampling_extra"])["until"],
        f"{settings}.do_sample": lambda s: json.loads(s[0].rollout["sampling_extra"])["do_sample"],
        f"{settings}.temperature": lambda s: s[0].number("temperature"),
        f"{settings}.max_gen_toks": lambda s: s[0].rollout["max_tokens"],
        "resps": lambda s: [[part.rollout["response_text"] for part in s]],
        "filtered_resps": lambda s: [s[0].rewards["imported-exact_match"]["extracted"]],
        "filter": lambda s: s[0].metrics("exact_match")["filter"],
        "exact_match": lambda s: s[0].reward("exact_match"),
    }


LM_EVAL = Format(
    "lm_eval",
    "lm-eval",
    _lm_eval_read,
    _lm_eval_facts,
    frozenset({"metrics", "doc_hash", "prompt_hash", "target_hash"}),
)


def _verifiers_read(folder: Path) -> list[Entry]:
    return lines(folder, "*.jsonl")


def _verifiers_facts(record: Record) -> Facts:
    def response(stored: list[Stored]) -> list[Record]:
        return stored[0].messages[len(stored[0].prompt["messages"]) :]

    facts: Facts = {
        "example_id": lambda s: json.loads(s[0].prompt["task"])["example_id"],
        "prompt": lambda s: s[0].prompt_messages,
        "completion": response,
        "answer": lambda s: s[0].answer,
        "info": lambda s: json.loads(s[0].prompt["meta"]),
        "reward": lambda s: s[0].reward("reward"),
        "metrics": lambda s: s[0].metrics("reward"),
        "is_truncated": lambda s: s[0].rollout["finish_reason"] == "length",
    }
    if "trajectory" not in record:
        facts["sampler_seed"] = lambda s: s[0].rollout["seed"]
    if "trajectory" in record:
        facts["tool_defs"] = lambda s: json.loads(s[0].prompt["tools"])
    for step in range(len(record.get("trajectory", ()))):
        facts |= _step_facts(f"trajectory.{step}", step)
    return facts


def _step_facts(path: str, step: int) -> Facts:
    """A step is one sampled message and what came before it."""

    def place(stored: list[Stored]) -> int:
        said = [i for i, m in enumerate(stored[0].messages) if m["role"] == "assistant"]
        return said[step]

    return {
        f"{path}.prompt": lambda s: s[0].messages[: place(s)],
        f"{path}.completion": lambda s: s[0].messages[place(s) :][:1],
        f"{path}.trajectory_id": lambda s: s[0].rollout["episode_id"],
        f"{path}.response.model": lambda s: s[0].policy["location"],
    }


VERIFIERS = Format(
    "verifiers_v0",
    "verifiers-v0",
    _verifiers_read,
    _verifiers_facts,
    frozenset({"timing", "is_completed", "error", "stop_condition", "token_usage"})
    | {"dataset_split", "judge_notes", "sandbox_id", "trajectory.*.response.id"}
    | {f"trajectory.*.{name}" for name in ("tokens", "reward", "advantage", "is_truncated")}
    | {"trajectory.*.extras"},
)


def _verl_read(folder: Path) -> list[Entry]:
    return lines(folder, "*/*.jsonl")


def _verl_facts(record: Record) -> Facts:
    facts: Facts = {
        "input": lambda s: s[0].prompt_messages[0]["content"],
        "output": lambda s: s[0].rollout["response_text"],
        "gts": lambda s: s[0].answer,
        "score": lambda s: s[0].reward("score"),
        "step": lambda s: s[0].policy["update"],
        "acc": lambda s: s[0].metrics("score")["acc"],
    }
    if "request_id" in record:
        facts["pred"] = lambda s: s[0].rewards["imported-score"]["extracted"]
    else:
        facts["reward"] = lambda s: s[0].reward("reward")
    return facts


VERL = Format("verl", "verl", _verl_read, _verl_facts, frozenset({"request_id"}))


def _trl_read(folder: Path) -> list[Entry]:
    return [
        Entry(path.name, i, record)
        for path in sorted(folder.glob("*.parquet"))
        for i, record in enumerate(pq.read_table(path).to_pylist())
    ]


def _trl_facts(_: Record) -> Facts:
    return {
        "step": lambda s: s[0].policy["update"],
        "prompt": lambda s: s[0].prompt_messages,
        "completion": lambda s: s[0].messages[len(s[0].prompt["messages"]) :],
        "exact": lambda s: s[0].reward("exact"),
        "advantage": lambda s: s[0].metrics("exact")["advantage"],
    }


TRL = Format("trl", "trl", _trl_read, _trl_facts, frozenset())

TEXTS = (INSPECT, LM_EVAL, VERIFIERS, VERL, TRL)
