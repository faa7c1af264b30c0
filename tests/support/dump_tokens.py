"""Dumps with token ids: NeMo Gym, open-instruct and slime."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from s2d_store import ids
from s2d_store.rollouts import sequences
from tests.support.dump_rows import Entry, Facts, Format, Record, Rows, Stored, moment, without
from tests.support.dump_texts import lines


def _gym_read(folder: Path) -> tuple[list[Entry], Record]:
    return lines(folder, "*.jsonl"), {}


GYM_TASK = ("competition_id", "problem_id", "subtask", "name", "id")
GYM_METRICS = (
    *("subtask_score", "details", "num_tests_run"),
    *("total_test_execution_time_s", "mean_test_execution_time_s"),
)


def _gym_facts(_: Record) -> Facts:
    asked, said = "responses_create_params", "response.output.1"
    facts: Facts = {
        f"{asked}.input": lambda s: s[0].prompt_messages[0]["content"],
        f"{asked}.temperature": lambda s: s[0].number("temperature"),
        f"{asked}.top_p": lambda s: s[0].number("top_p"),
        f"{asked}.max_output_tokens": lambda s: s[0].rollout["max_tokens"],
        "response.model": lambda s: s[0].policy["location"],
        "response.created_at": lambda s: s[0].rollout["created_at"].timestamp(),
        "response.output.0.summary.0.text": lambda s: s[0].messages[-1]["reasoning_content"],
        f"{said}.role": lambda s: s[0].messages[-1]["role"],
        f"{said}.content.0.text": lambda s: s[0].messages[-1]["content"],
        f"{said}.prompt_token_ids": lambda s: s[0].rollout["prompt_token_ids"],
        f"{said}.generation_token_ids": lambda s: s[0].rollout["response_token_ids"],
        f"{said}.generation_log_probs": lambda s: s[0].rollout["sampler_logprobs"],
        "response.usage.input_tokens": lambda s: s[0].rollout["prompt_tokens"],
        "response.usage.output_tokens": lambda s: s[0].rollout["response_tokens"],
        "reward": lambda s: s[0].reward("reward"),
        "agent_ref.name": lambda s: s[0].rollout["agent"],
        "_ng_rollout_index": lambda s: s[0].rollout["sample_index"],
    }
    for name in GYM_METRICS:
        facts[name] = lambda s, name=name: s[0].metrics("reward")[name]
    for name in GYM_TASK:
        facts[name] = lambda s, name=name: json.loads(s[0].prompt["task"])[name]
    return facts


def _gym_add(rows: Rows, entry: Entry, _: Record) -> None:
    record = entry.record
    asked, response = record["responses_create_params"], record["response"]
    thought, said = response["output"]
    question = {"role": "user", "content": asked["input"]}
    answer = {
        "role": said["role"],
        "content": said["content"][0]["text"],
        "reasoning_content": thought["summary"][0]["text"],
    }
    rollout = rows.rollout(
        entry,
        without(record, _gym_facts(record)),
        group=record["_ng_task_index"],
        prompt=rows.prompt([question], task=json.dumps({name: record[name] for name in GYM_TASK})),
        policy=rows.policy(response["model"]),
        sample_index=record["_ng_rollout_index"],
        agent=record["agent_ref"]["name"],
        temperature=asked["temperature"],
        top_p=asked["top_p"],
        max_tokens=asked["max_output_tokens"],
        prompt_token_ids=said["prompt_token_ids"],
        response_token_ids=said["generation_token_ids"],
        sampler_logprobs=said["generation_log_probs"],
        messages=json.dumps([question, answer]),
        created_at=moment(response["created_at"]),
    )
    metrics = {name: record[name] for name in GYM_METRICS}
    rows.reward(rollout, "reward", record["reward"], metrics=metrics)


# Of the Responses API: in request and response both, in either, in an item of the output.
GYM_BOTH = "background instructions max_tool_calls metadata parallel_tool_calls prompt reasoning"
GYM_BOTH += " previous_response_id service_tier text tool_choice tools top_logprobs truncation user"
GYM_ASKED = f"{GYM_BOTH} include model store stream"
GYM_SAID = f"{GYM_BOTH} conversation error id incomplete_details max_output_tokens object status"
GYM_SAID += " prompt_cache_key safety_identifier temperature top_p usage.total_tokens"
GYM_SAID += " usage.input_tokens_details usage.output_tokens_details"
GYM_ITEM = "id type status encrypted_content summary.*.type content.*.type content.*.annotations"
GYM_ITEM += " content.*.logprobs"

NEMO_GYM = Format(
    "nemo_gym",
    "unknown",
    _gym_read,
    _gym_add,
    _gym_facts,
    frozenset({"_ng_task_index"})
    | {f"responses_create_params.{name}" for name in GYM_ASKED.split()}
    | {f"response.{name}" for name in GYM_SAID.split()}
    | {f"response.output.*.{name}" for name in GYM_ITEM.split()},
)


def _open_read(folder: Path) -> tuple[list[Entry], Record]:
    (about,) = lines(folder, "*_metadata.jsonl")
    return lines(folder, "*_rollouts_*.jsonl"), about.record


def _open_facts(_: Record) -> Facts:
    def logprobs(stored: list[Stored]) -> list[float]:
        # The writer pads an empty answer with a NaN, and null never is in its files.
        return [math.nan if x is None else x for x in stored[0].rollout["sampler_logprobs"]]

    return {
        "step": lambda s: s[0].policy["update"],
        "prompt_tokens": lambda s: s[0].rollout["prompt_token_ids"],
        "response_tokens": lambda s: s[0].rollout["response_token_ids"],
        "logprobs": logprobs,
        "reward": lambda s: s[0].reward("reward"),
        "advantage": lambda s: s[0].metrics("reward")["advantage"],
        "finish_reason": lambda s: s[0].rollout["finish_reason"],
        "dataset": lambda s: s[0].prompt["source"],
        "ground_truth": lambda s: s[0].prompt["answer"],
    }


def _open_add(rows: Rows, entry: Entry, about: Record) -> None:
    record = entry.record
    rollout = rows.rollout(
        entry,
        without(record, _open_facts(record)),
        group=(record["step"], record["prompt_idx"]),
        prompt=rows.prompt(
            [],
            prompt_id=ids.content_id("prompt tokens", record["prompt_tokens"]),
            source=record["dataset"],
            answer=record["ground_truth"],
        ),
        policy=rows.policy(about["model_name"], record["step"]),
        prompt_token_ids=record["prompt_tokens"],
        response_token_ids=record["response_tokens"],
        sampler_logprobs=[None if math.isnan(x) else x for x in record["logprobs"]],
        finish_reason=record["finish_reason"],
    )
    rows.reward(rollout, "reward", record["reward"], metrics={"advantage": record["advantage"]})


OPEN_INSTRUCT = Format(
    "open_instruct",
    "e6c3044a",
    _open_read,
    _open_add,
    _open_facts,
    frozenset({"sample_idx", "prompt_idx", "request_info"}),
)


SLIME_REASONS = {"completed": "stop", "truncated": "length", "aborted": "aborted"}
SLIME_REASONS |= {"failed": "error"}


def _slime_read(folder: Path) -> tuple[list[Entry], Record]:
    import torch

    entries, about = list[Entry](), dict[str, Any]()
    for path in sorted(folder.glob("*.pt")):
        dump = torch.load(path, weights_only=True)
        entries += [Entry(path.name, i, sample) for i, sample in enumerate(dump.pop("samples"))]
        about[path.name] = dump
    return entries, about


def _slime_facts(_: Record) -> Facts:
    status = {reason: name for name, reason in SLIME_REASONS.items()}
    return {
        "prompt": lambda s: s[0].prompt_messages[0]["content"],
        "response": lambda s: s[0].messages[-1]["content"],
        "tokens": lambda s: s[0].rollout["prompt_token_ids"] + s[0].rollout["response_token_ids"],
        "response_length": lambda s: s[0].rollout["response_tokens"],
        "label": lambda s: s[0].prompt["answer"],
        "reward": lambda s: s[0].reward("reward"),
        "loss_mask": lambda s: [int(flag) for flag in sequences.sampled_mask(s[0].rollout)],
        "weight_versions": lambda s: [
            str(s[0].policies[span["policy_id"]]["update"]) for span in s[0].rollout["policy_spans"]
        ],
        "rollout_log_probs": lambda s: s[0].rollout["sampler_logprobs"],
        "status": lambda s: status[s[0].rollout["finish_reason"]],
        "session_id": lambda s: s[0].rollout["episode_id"],
    }


def _slime_add(rows: Rows, entry: Entry, _: Record) -> None:
    record = entry.record
    prompt = {"role": "user", "content": record["prompt"]}
    n_prompt = len(record["tokens"]) - record["response_length"]
    (version,) = record["weight_versions"]
    policy = rows.policy(None, int(version))
    mask = [bool(flag) for flag in record["loss_mask"]]
    rollout = rows.rollout(
        entry,
        without(record, _slime_facts(record)),
        group=record["group_index"],
        prompt=rows.prompt([prompt], answer=record["label"]),
        policy=policy,
        policy_spans=[{"start": 0, "policy_id": policy}],
        episode_id=record["session_id"],
        prompt_token_ids=record["tokens"][:n_prompt],
        response_token_ids=record["tokens"][n_prompt:],
        response_mask=None if all(mask) else mask,
        sampled_tokens=sum(mask),
        sampler_logprobs=record["rollout_log_probs"],
        messages=json.dumps([prompt, {"role": "assistant", "content": record["response"]}]),
        finish_reason=SLIME_REASONS[record["status"]],
    )
    rows.reward(rollout, "reward", record["reward"])


SLIME_REST = "group_index index rollout_id apply_chat_template_kwargs multimodal_inputs"
SLIME_REST += " multimodal_train_inputs multimodal_train_input_id rollout_top_p_token_ids metadata"
SLIME_REST += " rollout_top_p_token_offsets rollout_routed_experts remove_sample teacher_log_probs"
SLIME_REST += " generate_function_path custom_rm_path train_metadata non_generation_time spec_info"
SLIME_REST += " prefix_cache_info"

SLIME = Format(
    "slime",
    "624b824a",
    _slime_read,
    _slime_add,
    _slime_facts,
    frozenset(SLIME_REST.split()),
)

TOKENS = (NEMO_GYM, OPEN_INSTRUCT, SLIME)
