"""Every table's columns, declared once: Arrow schemas, docs and append checks come from here.

A table's key identifies a fact: appending a row whose key is already stored adds nothing.
`format_version` in a store's `s2d.json` changes whenever a declaration here does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

FORMAT_VERSION = 2

STRING, INT32, INT64, FLOAT32, FLOAT64, BOOL = (
    pa.string(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
)
TIMESTAMP = pa.timestamp("us", tz="UTC")
INT32_LIST = pa.list_(pa.int32())
FLOAT32_LIST = pa.list_(pa.float32())
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@dataclass(frozen=True)
class Column:
    """One column: name, Arrow type, what it holds, whether null is allowed."""

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """One Delta table: its grain, key, hive partition columns and columns."""

    name: str
    doc: str
    key: tuple[str, ...]
    partition_by: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, columns in declared order."""
        return pa.schema([pa.field(c.name, c.type, c.nullable) for c in self.columns])

    @property
    def column_names(self) -> list[str]:
        """Column names in declared order."""
        return [c.name for c in self.columns]


def _table(
    name: str,
    doc: str,
    key: tuple[str, ...],
    partition_by: tuple[str, ...],
    *columns: tuple[str, pa.DataType, str] | tuple[str, pa.DataType, str, bool],
) -> Table:
    return Table(name, doc, key, partition_by, tuple(Column(*c) for c in columns))


PROMPTS = _table(
    "prompts",
    "one row per prompt",
    ("prompt_id",),
    (),
    ("prompt_id", STRING, "hash of the messages"),
    ("source", STRING, "where it came from, e.g. gsm8k"),
    ("split", STRING, "train, test, or any name of the user's"),
    ("messages", MESSAGES, "chat messages, in order"),
    ("answer", STRING, "gold answer that a verifier reads; null = unlabelled", True),
    ("meta", STRING, "the source row's other fields, as JSON"),
    ("created_at", TIMESTAMP, "when it was added"),
)

POLICIES = _table(
    "policies",
    "one row per policy: a model at one moment of its training",
    ("policy_id",),
    (),
    ("policy_id", STRING, "fingerprint of weights, config and tokenizer"),
    ("name", STRING, "unique name that commands take"),
    ("location", STRING, "folder or hub id it was read from"),
    ("revision", STRING, "hub revision", True),
    ("tokenizer_fingerprint", STRING, "hash of the ordered id -> token map"),
    ("vocab_size", INT32, "size of the output distribution"),
    ("n_parameters", INT64, "parameters, tied heads counted once"),
    ("parent_policy_id", STRING, "the policy it was trained from", True),
    ("run_id", STRING, "the training run that made it", True),
    ("update", INT32, "optimizer updates of that run behind it", True),
    ("created_at", TIMESTAMP, "when it was registered"),
)

VOCABULARIES = _table(
    "vocabularies",
    "one row per token of a registered tokenizer",
    ("tokenizer_fingerprint", "token_id"),
    (),
    ("tokenizer_fingerprint", STRING, "which tokenizer"),
    ("token_id", INT32, "the id"),
    ("token", STRING, "the token as the tokenizer spells it"),
)

ROLLOUTS = _table(
    "rollouts",
    "one row per sampled response",
    ("rollout_id",),
    ("role", "run_id"),
    ("rollout_id", STRING, "hash of run, prompt, policy, sample_index, round"),
    ("role", STRING, "teacher or student"),
    ("run_id", STRING, "the generate run"),
    ("prompt_id", STRING, "the prompt"),
    ("policy_id", STRING, "the policy that sampled it"),
    ("purpose", STRING, "train or eval"),
    ("round", INT32, "on-policy round, 0 where there is only one"),
    ("sample_index", INT32, "0 .. n-1 within a prompt"),
    ("temperature", FLOAT32, "sampling temperature"),
    ("top_p", FLOAT32, "nucleus mass"),
    ("top_k", INT32, "sampling top-k, 0 = off"),
    ("max_tokens", INT32, "limit on response tokens"),
    ("seed", INT64, "this rollout's own seed"),
    ("engine", STRING, "transformers or vllm"),
    ("engine_version", STRING, "version of that library"),
    ("prompt_token_ids", INT32_LIST, "as fed to the model, chat template included"),
    ("response_token_ids", INT32_LIST, "sampled tokens, T of them"),
    ("response_logprobs", FLOAT32_LIST, "T logprobs of the policy, temperature 1, full vocabulary"),
    ("response_text", STRING, "the decoded response without special tokens"),
    ("finish_reason", STRING, "stop or length"),
    ("prompt_tokens", INT32, "length of prompt_token_ids"),
    ("response_tokens", INT32, "T"),
    ("created_at", TIMESTAMP, "when it was sampled"),
)

REWARDS = _table(
    "rewards",
    "one row per verdict of one verifier version on one rollout",
    ("rollout_id", "verifier", "verifier_version"),
    ("verifier",),
    ("rollout_id", STRING, "the rollout"),
    ("verifier", STRING, "name of the verifier"),
    ("verifier_version", STRING, "its version"),
    ("reward", FLOAT32, "the reward"),
    ("outcome", STRING, "correct, wrong, unparseable, timeout or error"),
    ("extracted", STRING, "the answer read from the response"),
    ("detail", STRING, "error text or reason"),
    ("seconds", FLOAT32, "time the verdict took"),
    ("run_id", STRING, "the run that verified it"),
    ("created_at", TIMESTAMP, "when it was verified"),
)

TOPK = _table(
    "topk",
    "one row per rollout, scorer and support: top-k logprobs at every response token",
    ("rollout_id", "scorer_policy_id", "support", "k"),
    ("scorer_policy_id",),
    ("rollout_id", STRING, "the rollout"),
    ("scorer_policy_id", STRING, "the policy whose logprobs these are"),
    ("support", STRING, "own: the scorer's top k; policy: the sampling policy's top-k ids"),
    ("k", INT32, "entries per token"),
    ("token_ids", INT32_LIST, "T*k ids, row-major by token"),
    (
        "logprobs",
        FLOAT32_LIST,
        "T*k logprobs, aligned with token_ids; in files null where the steps below give them",
        True,
    ),
    ("sampled_logprobs", FLOAT32_LIST, "T: the scorer's logprob of the sampled token"),
    ("run_id", STRING, "the run that scored it"),
    ("created_at", TIMESTAMP, "when it was scored"),
    (
        "top_logprobs",
        FLOAT32_LIST,
        "T: the greatest of each token's logprobs; in files alone",
        True,
    ),
    (
        "logit_steps",
        INT32_LIST,
        "T*k: how far each entry lies below the greatest, in units; in files alone",
        True,
    ),
    (
        "logit_unit",
        FLOAT32,
        "nats per step, a power of two, above 2^-12 where rounded; in files alone",
        True,
    ),
)

RUNS = _table(
    "runs",
    "one row per change of a run's status; the view runs shows the latest",
    ("run_id", "status", "entered_at"),
    (),
    ("run_id", STRING, "the run"),
    ("kind", STRING, "generate, score, verify or train"),
    ("stage", STRING, "stage of the experiment that it counts for, e.g. warmup", True),
    ("status", STRING, "running, done, interrupted or failed"),
    ("config", STRING, "full configuration, as JSON"),
    ("code_version", STRING, "version of s2d, and its git commit where known"),
    ("parents", pa.list_(pa.string()), "runs and datasets it builds on"),
    ("entered_at", TIMESTAMP, "when the status was entered"),
)

UPDATES = _table(
    "updates",
    "one row per optimizer update",
    ("run_id", "update"),
    (),
    ("run_id", STRING, "the training run"),
    ("update", INT32, "1-based optimizer update"),
    ("dataset_id", STRING, "the locked dataset it consumed"),
    ("rows", INT32, "dataset rows in it"),
    ("prompt_tokens", INT64, "prompt tokens in it"),
    ("response_tokens", INT64, "response tokens trained on"),
    ("labels", INT32, "distinct labelled prompts whose reward the rows depend on"),
    ("loss", FLOAT64, "objective per response token"),
    ("kl", FLOAT64, "KL per response token, nats", True),
    ("entropy", FLOAT64, "policy entropy per response token, nats", True),
    ("clip_fraction", FLOAT64, "share of tokens whose importance ratio was clipped", True),
    ("topk_mass", FLOAT64, "the student's probability on the stored support", True),
    ("grad_norm", FLOAT64, "before clipping"),
    ("lr", FLOAT64, "learning rate"),
    ("seconds", FLOAT64, "wall time"),
)

DATASETS = _table(
    "datasets",
    "one row per locked dataset; stays when its files are dropped",
    ("dataset_id",),
    (),
    ("dataset_id", STRING, "hash of name, query, parameters, versions and fingerprint"),
    ("name", STRING, "the folder under datasets/"),
    ("query", STRING, "name of the query"),
    ("fingerprint", STRING, "hash over the ordered rows"),
    ("lock", STRING, "the whole lock, as JSON"),
    ("created_at", TIMESTAMP, "when it was built"),
)

DATASET_ROWS = _table(
    "dataset_rows",
    "one row per row of a locked dataset, without its tokens",
    ("dataset_id", "row"),
    ("dataset_id",),
    ("dataset_id", STRING, "the dataset"),
    ("row", INT64, "position in training order"),
    ("update", INT32, "1-based optimizer update it feeds"),
    ("rollout_id", STRING, "the rollout"),
    ("prompt_id", STRING, "its prompt"),
    ("labelled", BOOL, "whether a reward from the prompt's gold answer chose or weighs this row"),
)

# Columns that the files have and SQL does not: its logprobs are computed from them.
FILES_ALONE = {"topk": ("top_logprobs", "logit_steps", "logit_unit")}

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        PROMPTS,
        POLICIES,
        VOCABULARIES,
        RUNS,
        ROLLOUTS,
        REWARDS,
        TOPK,
        DATASETS,
        DATASET_ROWS,
        UPDATES,
    )
}


def declared(name: str, format_version: int) -> Table:
    """A table as stores of that format have it: version 1 kept every logprob as it is."""
    table = TABLES[name]
    if format_version > 1 or name not in FILES_ALONE:
        return table
    columns = (c for c in table.columns if c.name not in FILES_ALONE[name])
    return replace(table, columns=tuple(replace(c, nullable=False) for c in columns))
