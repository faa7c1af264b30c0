"""The card of a dataset: README.md with the header that the Hub reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s2d_store.datasets.read import LockedDataset
from s2d_store.redact import redacted

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Config:
    """A part of a repository that the Hub's viewer shows by itself.

    Attributes:
        name: of the part.
        files: glob of its Parquet files.
    """

    name: str
    files: str


def header(configs: Sequence[Config], license: str) -> str:
    """The YAML that a card begins with: licence, tags and which files make which part."""
    lines = ["---", f"license: {license or UNKNOWN}", "tags:", "- s2d", "- rollouts", "configs:"]
    for config in configs:
        lines += [f"- config_name: {config.name}", "  data_files:"]
        lines += ["  - split: train", f"    path: {config.files}"]
    return "\n".join([*lines, "---"]) + "\n"


def of_dataset(dataset: LockedDataset, configs: Sequence[Config], license: str) -> str:
    """The card of one locked dataset."""
    return header(configs, license) + "\n" + body(dataset)


def body(dataset: LockedDataset) -> str:
    """What a locked dataset is, as Markdown."""
    lock = dataset.lock
    counts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in lock.counts.items())
    params = redacted(dict(lock.raw.get("params") or {}))
    given = [f"| `{name}` | `{value}` |" for name, value in params.items() if value is not None]
    rows = [
        f"# {lock.name}\n",
        f"A locked dataset of kind `{lock.kind}`: {counts}. Rows are in training order; `update` "
        "is the optimizer update that a row feeds.\n",
        "| | |\n| --- | --- |",
        f"| fingerprint | `{lock.fingerprint}` |",
        f"| dataset id | `{lock.raw.get('dataset_id', '')}` |",
        f"| tokenizer | `{lock.tokenizer_fingerprint}` |",
        f"| query | `{lock.raw.get('query', '')}`, seed {lock.raw.get('seed', 0)} |",
        f"| built | {lock.raw.get('built_at', '')} by s2d {lock.raw.get('code_version', '')} |",
        *given,
        "",
        "| column | what it holds |\n| --- | --- |",
        *(f"| `{name}` | {what} |" for name, what in COLUMNS.items() if _has(dataset, name)),
    ]
    return "\n".join(rows) + "\n"


def _has(dataset: LockedDataset, column: str) -> bool:
    return column in ALWAYS or column in dataset.columns


ALWAYS = frozenset(
    {"messages", "tools", "response_text", "input_ids", "labels", "loss_mask", "prompt_tokens"}
    | {"finish_reason", "row", "update", "rollout_id", "prompt_id"}
)
COLUMNS = {
    "messages": "the prompt: role, content, and other fields as JSON in extra",
    "tools": "tool definitions as JSON, where there are any",
    "response_text": "the decoded response without special tokens",
    "input_ids": "prompt and response tokens as sampled",
    "labels": "the id where the policy sampled it, else -100",
    "loss_mask": "1 where the policy sampled the token",
    "prompt_tokens": "how many of input_ids are the prompt's",
    "finish_reason": "stop: its end was sampled; length: cut off",
    "row": "place in training order",
    "update": "1-based optimizer update that the row feeds",
    "rollout_id": "the rollout",
    "prompt_id": "the prompt",
    "reward": "the reward that counts; null where nothing was judged",
    "advantage": "what GRPO weighs the row with",
    "response_logprobs": "the sampling policy's logprob of each response token, temperature 1",
    "sampled_logprobs": "the scorer's logprob of each response token",
    "ref_logprobs": "the reference policy's logprob of each response token",
    "topk_token_ids": "the scorer's top-k ids at each response token",
    "topk_logprobs": "their logprobs, temperature 1, whole vocabulary",
}
