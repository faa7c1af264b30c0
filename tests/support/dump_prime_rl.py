"""Episodes as prime-rl writes them: graphs of messages with tokens, a mask and logprobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.dump_rows import Entry, Facts, Format, Record, Stored
from tests.support.dump_texts import lines


def _prime_read(folder: Path) -> list[Entry]:
    return lines(folder, "rollouts/step_*/*/*/traces.jsonl")


def _prime_task(stored: Stored) -> Record:
    """The task again: its data's prompt and answer have columns of their own."""
    task: Record = json.loads(stored.prompt["task"])
    task["data"] |= {
        "prompt": stored.prompt_messages[0]["content"],
        "answer": stored.answer,
    }
    return task


def _prime_facts(record: Record) -> Facts:
    work = "run.work.policy"
    facts: Facts = {
        "id": lambda s: s[0].rollout["episode_id"],
        "task": lambda s: _prime_task(s[0]),
        f"{work}.start": lambda s: s[0].policy["update"],
        f"{work}.end": lambda s: s[0].policies[s[0].rollout["policy_spans"][-1]["policy_id"]][
            "update"
        ],
    }
    for place, trace in enumerate(record["traces"]):
        facts |= _trace_facts(f"traces.{place}", place, trace)
    return facts


def _trace_facts(path: str, part: int, trace: Record) -> Facts:
    facts: Facts = {
        f"{path}.task": lambda s: _prime_task(s[part]),
        f"{path}.agent.name": lambda s: s[part].rollout["agent"],
        f"{path}.calls.0.model": lambda s: s[part].policy["location"],
        f"{path}.calls.0.sampling.temperature": lambda s: s[part].number("temperature"),
        f"{path}.calls.0.sampling.max_tokens": lambda s: s[part].rollout["max_tokens"],
        f"{path}.calls.0.endpoint": lambda s: s[part].rollout["endpoint"],
        f"{path}.calls.0.finish_reason": lambda s: s[part].rollout["turns"][0]["finish_reason"],
        f"{path}.metrics": lambda s: s[part].metrics("reward")["metrics"],
        f"{path}.info.advantage": lambda s: s[part].metrics("reward")["advantage"],
        f"{path}.timing.start": lambda s: s[part].rollout["created_at"].timestamp(),
    }
    for node in range(len(trace["nodes"])):
        facts |= _node_facts(f"{path}.nodes.{node}", part, node)
    for name in trace["rewards"]:
        facts |= _reward_facts(f"{path}.rewards.{name}", part, name)
    return facts


def _reward_facts(path: str, part: int, name: str) -> Facts:
    return {
        f"{path}.score": lambda s: s[part].reward(name),
        f"{path}.weight": lambda s: s[part].metrics(name)["weight"],
    }


def _node_facts(path: str, part: int, node: int) -> Facts:
    """Node 0 is the prompt, node i > 0 turn i - 1 of the response."""

    def cut(stored: list[Stored], column: str) -> list[Any]:
        row = stored[part].rollout
        turn = row["turns"][node - 1]
        return list(row[column][turn["start"] : turn["start"] + turn["length"]])

    def mask(stored: list[Stored]) -> list[bool]:
        row = stored[part].rollout
        if node == 0:
            return [False] * row["prompt_tokens"]
        if row["response_mask"] is None:
            return [True] * row["turns"][node - 1]["length"]
        return cut(stored, "response_mask")

    return {
        f"{path}.message": lambda s: s[part].messages[node],
        f"{path}.token_ids": lambda s: (
            cut(s, "response_token_ids") if node else s[part].rollout["prompt_token_ids"]
        ),
        f"{path}.mask": mask,
        f"{path}.sampled": lambda s: any(mask(s)),
        f"{path}.logprobs": lambda s: (
            [x for x in cut(s, "sampler_logprobs") if x is not None] if node else []
        ),
    }


PRIME_TRACE = "version id verifiers agent.config agent.trainable tools mm_token_type_id_map errors"
PRIME_TRACE += " extra_usage is_completed ok stop_condition request_rewrites response_rewrites"

PRIME_RL = Format(
    "prime_rl",
    "prime-rl",
    _prime_read,
    _prime_facts,
    frozenset({"env", "group", "ok", "errors"})
    | {f"run.{name}" for name in ("type", "id", "name", "work.type", "work.step")}
    | {f"traces.*.{name}" for name in PRIME_TRACE.split()}
    | {f"traces.*.calls.*.{name}" for name in ("node", "time")}
    | {f"traces.*.nodes.*.{name}" for name in ("parent", "timestamp", "is_content", "advantages")}
    | {f"traces.*.timing.{name}" for name in ("boot", "setup", "agent", "finalize", "scoring")},
)
