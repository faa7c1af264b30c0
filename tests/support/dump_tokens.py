"""Dumps with token ids: NeMo Gym, open-instruct and slime."""

from __future__ import annotations

import math
from pathlib import Path

from s2d_store.rollouts import sequences
from tests.support.dump_rows import Entry, Fact, Facts, Format, Record, Stored
from tests.support.dump_texts import lines


def _gym_read(folder: Path) -> list[Entry]:
    return lines(folder, "*.jsonl")


GYM_TASK = ("competition_id", "problem_id", "subtask", "name")
GYM_METRICS = (
    *("id", "subtask_score", "num_tests_run"),
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
    return facts | {name: _metric(name) for name in GYM_METRICS}


def _metric(name: str) -> Fact:
    return lambda s: s[0].metrics("reward")[name]


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
    "nemo-gym",
    _gym_read,
    _gym_facts,
    frozenset({"_ng_task_index", "details", *GYM_TASK})
    | {f"responses_create_params.{name}" for name in GYM_ASKED.split()}
    | {f"response.{name}" for name in GYM_SAID.split()}
    | {f"response.output.*.{name}" for name in GYM_ITEM.split()},
)


def _open_read(folder: Path) -> list[Entry]:
    return lines(folder, "*_rollouts_*.jsonl")


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
        "ground_truth": lambda s: s[0].answer,
    }


OPEN_INSTRUCT = Format(
    "open_instruct",
    "open-instruct",
    _open_read,
    _open_facts,
    frozenset({"sample_idx", "prompt_idx", "request_info"}),
)


SLIME_REASONS = {"completed": "stop", "truncated": "length", "aborted": "aborted"}
SLIME_REASONS |= {"failed": "error"}


def _slime_read(folder: Path) -> list[Entry]:
    import torch

    entries = list[Entry]()
    for path in sorted(folder.glob("*.pt")):
        dump = torch.load(path, weights_only=True)
        entries += [Entry(path.name, i, sample) for i, sample in enumerate(dump["samples"])]
    return entries


def _slime_facts(_: Record) -> Facts:
    status = {reason: name for name, reason in SLIME_REASONS.items()}
    return {
        "prompt": lambda s: s[0].prompt_messages[0]["content"],
        "response": lambda s: s[0].messages[-1]["content"],
        "tokens": lambda s: s[0].rollout["prompt_token_ids"] + s[0].rollout["response_token_ids"],
        "response_length": lambda s: s[0].rollout["response_tokens"],
        "label": lambda s: s[0].answer,
        "reward": lambda s: s[0].reward("reward"),
        "loss_mask": lambda s: [int(flag) for flag in sequences.sampled_mask(s[0].rollout)],
        "weight_versions": lambda s: [
            str(s[0].policies[span["policy_id"]]["update"]) for span in s[0].rollout["policy_spans"]
        ],
        "rollout_log_probs": lambda s: s[0].rollout["sampler_logprobs"],
        "status": lambda s: status[s[0].rollout["finish_reason"]],
        "session_id": lambda s: s[0].rollout["episode_id"],
    }


SLIME_REST = "group_index index rollout_id apply_chat_template_kwargs multimodal_inputs"
SLIME_REST += " multimodal_train_inputs multimodal_train_input_id rollout_top_p_token_ids metadata"
SLIME_REST += " rollout_top_p_token_offsets rollout_routed_experts remove_sample teacher_log_probs"
SLIME_REST += " generate_function_path custom_rm_path train_metadata non_generation_time spec_info"
SLIME_REST += " prefix_cache_info"

SLIME = Format(
    "slime",
    "slime",
    _slime_read,
    _slime_facts,
    frozenset(SLIME_REST.split()),
)

TOKENS = (NEMO_GYM, OPEN_INSTRUCT, SLIME)
