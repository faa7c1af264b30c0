"""Dumps of text alone: Inspect, lm-eval, verifiers v0, verl and TRL."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from s2d_store import ids
from tests.support.dump_rows import Entry, Facts, Format, Record, Rows, Stored, without

# As Inspect's own value_to_float reads a score.
INSPECT_VALUES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
INSPECT_REASONS = {"stop": "stop", "max_tokens": "length", "model_length": "length"}


def lines(folder: Path, pattern: str) -> list[Entry]:
    """One entry per line of every JSONL file that a pattern finds."""
    return [
        Entry(str(path.relative_to(folder)), number, json.loads(line))
        for path in sorted(folder.glob(pattern))
        for number, line in enumerate(path.read_text().splitlines())
    ]


def _inspect_read(folder: Path) -> tuple[list[Entry], Record]:
    entries, about = list[Entry](), dict[str, Any]()
    for path in sorted(folder.glob("*.eval")):
        with zipfile.ZipFile(path) as log:
            parts = {name: json.loads(log.read(name)) for name in log.namelist()}
        samples = [name for name in parts if name.startswith("samples/")]
        entries += [Entry(path.name, i, parts[name]) for i, name in enumerate(samples)]
        about[path.name] = {"samples": samples} | {
            name: part for name, part in parts.items() if name not in samples
        }
    return entries, about


def _inspect_facts(record: Record) -> Facts:
    facts: Facts = {
        "id": lambda s: json.loads(s[0].prompt["task"])["id"],
        "epoch": lambda s: s[0].rollout["sample_index"] + 1,
        "input": lambda s: s[0].prompt_messages[-1]["content"],
        "target": lambda s: s[0].prompt["answer"],
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


def _inspect_add(rows: Rows, entry: Entry, about: Record) -> None:
    record, header = entry.record, about[entry.file]["header.json"]
    *before, answer = record["messages"]
    task = {"dataset": header["eval"]["dataset"]["name"], "id": record["id"]}
    rollout = rows.rollout(
        entry,
        without(record, _inspect_facts(record)),
        group=(header["eval"]["run_id"], record["id"]),
        prompt=rows.prompt(
            before,
            answer=record["target"],
            task=json.dumps(task),
            meta=json.dumps(record["metadata"]),
        ),
        policy=rows.policy(header["eval"]["model"], fingerprint=record["output"]["model"]),
        purpose="eval",
        sample_index=record["epoch"] - 1,
        temperature=header["plan"]["config"].get("temperature"),
        messages=json.dumps(record["messages"]),
        response_text=answer["content"],
        finish_reason=INSPECT_REASONS[record["output"]["choices"][0]["stop_reason"]],
    )
    for name, score in record["scores"].items():
        value = score["value"]
        number = INSPECT_VALUES[value] if isinstance(value, str) else value
        rows.reward(rollout, name, number, extracted=score["answer"], metrics={"value": value})


INSPECT = Format(
    "inspect",
    "2",
    _inspect_read,
    _inspect_add,
    _inspect_facts,
    frozenset({"output.usage", "output.time", "scores", "store", "events", "model_usage"})
    | {"attachments"},
)


def _lm_eval_read(folder: Path) -> tuple[list[Entry], Record]:
    (results,) = folder.glob("results_*.json")
    return lines(folder, "samples_*.jsonl"), json.loads(results.read_text())


def _lm_eval_facts(record: Record) -> Facts:
    settings = "arguments.gen_args_0.arg_1"
    return {
        "doc_id": lambda s: json.loads(s[0].prompt["task"])["doc_id"],
        "doc": lambda s: json.loads(s[0].prompt["meta"]),
        "target": lambda s: s[0].prompt["answer"],
        "arguments.gen_args_0.arg_0": lambda s: s[0].prompt_messages[0]["content"],
        f"{settings}.until": lambda s: json.loads(s[0].rollout["sampling_extra"])["until"],
        f"{settings}.do_sample": lambda s: json.loads(s[0].rollout["sampling_extra"])["do_sample"],
        f"{settings}.temperature": lambda s: s[0].number("temperature"),
        f"{settings}.max_gen_toks": lambda s: s[0].rollout["max_tokens"],
        "resps.0.0": lambda s: s[0].rollout["response_text"],
        "filtered_resps.0": lambda s: s[0].rewards["imported-exact_match"]["extracted"],
        "filter": lambda s: s[0].metrics("exact_match")["filter"],
        "exact_match": lambda s: s[0].reward("exact_match"),
    }


def _lm_eval_add(rows: Rows, entry: Entry, about: Record) -> None:
    record, config = entry.record, about["config"]
    asked = record["arguments"]["gen_args_0"]
    settings = asked["arg_1"]
    task = entry.file.removeprefix("samples_").rpartition("_")[0]
    rollout = rows.rollout(
        entry,
        without(record, _lm_eval_facts(record)),
        group=(task, record["doc_id"]),
        prompt=rows.prompt(
            [{"role": "user", "content": asked["arg_0"]}],
            answer=record["target"],
            split="test",
            task=json.dumps({"task": task, "doc_id": record["doc_id"]}),
            meta=json.dumps(record["doc"]),
        ),
        policy=rows.policy(
            about["model_name"],
            revision=config["model_revision"],
            fingerprint=config["model_sha"],
            n_parameters=config["model_num_parameters"],
        ),
        purpose="eval",
        temperature=settings["temperature"],
        max_tokens=settings["max_gen_toks"],
        sampling_extra=json.dumps({name: settings[name] for name in ("until", "do_sample")}),
        engine="transformers",
        engine_version=about["transformers_version"],
        response_text=record["resps"][0][0],
    )
    rows.reward(
        rollout,
        "exact_match",
        record["exact_match"],
        extracted=record["filtered_resps"][0],
        metrics={"filter": record["filter"]},
    )


LM_EVAL = Format(
    "lm_eval",
    "0.4.9.2",
    _lm_eval_read,
    _lm_eval_add,
    _lm_eval_facts,
    frozenset({"metrics", "doc_hash", "prompt_hash", "target_hash"}),
)


def _verifiers_read(folder: Path) -> tuple[list[Entry], Record]:
    return lines(folder, "*.jsonl"), json.loads((folder / "metadata.json").read_text())


def _verifiers_facts(record: Record) -> Facts:
    def response(stored: list[Stored]) -> list[Record]:
        return stored[0].messages[len(stored[0].prompt["messages"]) :]

    facts: Facts = {
        "example_id": lambda s: json.loads(s[0].prompt["task"])["example_id"],
        "prompt": lambda s: s[0].prompt_messages,
        "completion": response,
        "answer": lambda s: s[0].prompt["answer"],
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


def _verifiers_add(rows: Rows, entry: Entry, about: Record) -> None:
    record = entry.record
    sampling = about["sampling_args"] if entry.file == "results.jsonl" else {}
    tools = json.dumps(record["tool_defs"]) if "tool_defs" in record else None
    steps = record.get("trajectory")
    rollout = rows.rollout(
        entry,
        without(record, _verifiers_facts(record)),
        group=(entry.file, record["example_id"]),
        prompt=rows.prompt(
            record["prompt"],
            tools=tools,
            answer=record["answer"],
            task=json.dumps({"env": about["env_id"], "example_id": record["example_id"]}),
            meta=json.dumps(record["info"]),
        ),
        policy=rows.policy(about["model"]),
        purpose="eval",
        temperature=sampling.get("temperature"),
        max_tokens=sampling.get("max_tokens"),
        seed=record.get("sampler_seed"),
        episode_id=steps[0]["trajectory_id"] if steps else None,
        messages=json.dumps(record["prompt"] + record["completion"]),
        response_text=record["completion"][-1]["content"],
        finish_reason="length" if record["is_truncated"] else "stop",
    )
    rows.reward(rollout, "reward", record["reward"], metrics=record["metrics"])


VERIFIERS = Format(
    "verifiers_v0",
    "0",
    _verifiers_read,
    _verifiers_add,
    _verifiers_facts,
    frozenset({"timing", "is_completed", "error", "stop_condition", "token_usage"})
    | {"dataset_split", "judge_notes", "sandbox_id", "trajectory.*.response.id"}
    | {f"trajectory.*.{name}" for name in ("tokens", "reward", "advantage", "is_truncated")}
    | {"trajectory.*.extras"},
)


def _verl_read(folder: Path) -> tuple[list[Entry], Record]:
    return lines(folder, "*/*.jsonl"), {}


def _verl_facts(record: Record) -> Facts:
    facts: Facts = {
        "input": lambda s: s[0].prompt_messages[0]["content"],
        "output": lambda s: s[0].rollout["response_text"],
        "gts": lambda s: s[0].prompt["answer"],
        "score": lambda s: s[0].reward("score"),
        "step": lambda s: s[0].policy["update"],
        "acc": lambda s: s[0].metrics("score")["acc"],
    }
    if "request_id" in record:
        facts["pred"] = lambda s: s[0].rewards["imported-score"]["extracted"]
    else:
        facts["reward"] = lambda s: s[0].reward("reward")
    return facts


def _verl_add(rows: Rows, entry: Entry, _: Record) -> None:
    record = entry.record
    evaluation = entry.file.startswith("validation")
    rollout = rows.rollout(
        entry,
        without(record, _verl_facts(record)),
        group=(entry.file, record["input"]),
        prompt=rows.prompt([{"role": "user", "content": record["input"]}], answer=record["gts"]),
        policy=rows.policy(None, record["step"]),
        purpose="eval" if evaluation else "train",
        response_text=record["output"],
    )
    extracted = record.get("pred", "")
    rows.reward(
        rollout, "score", record["score"], extracted=extracted, metrics={"acc": record["acc"]}
    )
    if "reward" in record:
        rows.reward(rollout, "reward", record["reward"])


VERL = Format("verl", "0.9.0", _verl_read, _verl_add, _verl_facts, frozenset({"request_id"}))


def _trl_read(folder: Path) -> tuple[list[Entry], Record]:
    entries = list[Entry]()
    for path in sorted(folder.glob("*.parquet")):
        records = pq.read_table(path).to_pylist()
        # Files of later logging steps may hold the same rows.
        rows = ids.content_id([without(record, ["step"]) for record in records])
        entries += [
            Entry(path.name, i, record, ids.content_id(rows, i)) for i, record in enumerate(records)
        ]
    return entries, {}


def _trl_facts(_: Record) -> Facts:
    return {
        "step": lambda s: s[0].policy["update"],
        "prompt": lambda s: s[0].prompt_messages,
        "completion": lambda s: s[0].messages[len(s[0].prompt["messages"]) :],
        "exact": lambda s: s[0].reward("exact"),
        "advantage": lambda s: s[0].metrics("exact")["advantage"],
    }


def _trl_add(rows: Rows, entry: Entry, _: Record) -> None:
    record = entry.record
    rollout = rows.rollout(
        entry,
        without(record, _trl_facts(record)),
        changes={"step": record["step"]},
        group=(entry.file, record["prompt"]),
        prompt=rows.prompt(record["prompt"]),
        policy=rows.policy(None, record["step"]),
        messages=json.dumps(record["prompt"] + record["completion"]),
        response_text=record["completion"][-1]["content"],
    )
    rows.reward(rollout, "exact", record["exact"], metrics={"advantage": record["advantage"]})


TRL = Format("trl", "1.16.0", _trl_read, _trl_add, _trl_facts, frozenset())

TEXTS = (INSPECT, LM_EVAL, VERIFIERS, VERL, TRL)
