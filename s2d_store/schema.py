"""Every table's columns, declared once: Arrow schemas, docs and append checks come from here.

A table's key identifies a fact: appending a row whose key is already stored adds nothing.
`format_version` in a store's `s2d.json` changes whenever a declaration here does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

FORMAT_VERSION = 3

STRING, INT32, INT64, FLOAT32, FLOAT64, BOOL, BINARY = (
    pa.string(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
    pa.binary(),
)
TIMESTAMP = pa.timestamp("us", tz="UTC")
INT32_LIST = pa.list_(pa.int32())
FLOAT32_LIST = pa.list_(pa.float32())
BOOL_LIST = pa.list_(pa.bool_())
STRING_LIST = pa.list_(pa.string())
MESSAGES = pa.list_(
    pa.struct([("role", pa.string()), ("content", pa.string()), ("extra", pa.string())])
)
EXACT_ENTRIES = pa.list_(pa.struct([("entry", pa.int32()), ("logprob", pa.float32())]))
# From response token `start` on, `policy_id` sampled; null: from a token unknown on.
SPANS = pa.list_(pa.struct([("start", pa.int32()), ("policy_id", pa.string())]))
# `length` response tokens from `start` on; `message` is JSON.
TURNS = pa.list_(
    pa.struct(
        [
            ("start", pa.int32()),
            ("length", pa.int32()),
            ("role", pa.string()),
            ("finish_reason", pa.string()),
            ("message", pa.string()),
        ]
    )
)


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
    (
        "prompt_id",
        STRING,
        "hash of the messages, and of the tools where there are any; else of what is known",
    ),
    ("source", STRING, "where it came from, e.g. gsm8k"),
    ("split", STRING, "train, test, or any name of the user's"),
    (
        "messages",
        MESSAGES,
        "chat messages in order; extra: other fields, as JSON; empty where only ids are known",
    ),
    ("tools", STRING, "tool definitions that the chat template renders, as JSON", True),
    ("answer", STRING, "gold answer as text; null = unlabelled", True),
    ("answer_type", STRING, "text, number (plain decimal), list or none"),
    ("answers", STRING_LIST, "every accepted answer, where answer_type is list", True),
    ("task", STRING, "environment and key of a task beyond question and answer, as JSON", True),
    ("meta", STRING, "the source row's other fields, as JSON"),
    ("created_at", TIMESTAMP, "when it was added"),
)

POLICIES = _table(
    "policies",
    "one row per policy: a model at one moment of its training",
    ("policy_id",),
    (),
    (
        "policy_id",
        STRING,
        "fingerprint of weights, config and tokenizer; else a hash of what is known",
    ),
    ("name", STRING, "unique name that commands take"),
    ("kind", STRING, "weights: a folder or hub id; served: an endpoint; outside: known by name"),
    (
        "location",
        STRING,
        "folder or hub id; relative paths start at the store; see relocations; served: of its "
        "tokenizer; outside: the name that its own system gave it",
        True,
    ),
    ("revision", STRING, "hub revision", True),
    ("fingerprint", STRING, "what a served or outside policy declares of its weights", True),
    ("tokenizer_fingerprint", STRING, "hash of the ordered id -> token map", True),
    ("tokenizer_hash", STRING, "hash of tokenizer.json", True),
    ("template_hash", STRING, "hash of the chat template", True),
    ("vocab_size", INT32, "size of the output distribution", True),
    ("n_parameters", INT64, "parameters, tied heads counted once", True),
    (
        "active_parameters",
        INT64,
        "parameters that one token uses: fewer in a mixture of experts",
        True,
    ),
    (
        "lookup_parameters",
        INT64,
        "of those, an input embedding that the output projection does not share",
        True,
    ),
    ("head_parameters", INT64, "of those, the output projection's", True),
    (
        "attention_width",
        INT64,
        "layers x heads x head size, of the layers whose tokens look at each other",
        True,
    ),
    ("parent_policy_id", STRING, "the policy it was trained from", True),
    ("run_id", STRING, "the training run that made it", True),
    ("update", INT32, "optimizer updates of that run behind it", True),
    ("created_at", TIMESTAMP, "when it was registered"),
)

RELOCATIONS = _table(
    "relocations",
    "one row per move of a policy's files; the newest says where they are",
    ("policy_id", "created_at"),
    (),
    ("policy_id", STRING, "the policy, checked by its fingerprint at the new place"),
    ("location", STRING, "folder or hub id; relative paths start at the store"),
    ("revision", STRING, "hub revision", True),
    ("created_at", TIMESTAMP, "when it was moved"),
)

ENDPOINTS = _table(
    "endpoints",
    "one row per probe of a served policy's endpoint",
    ("endpoint", "created_at"),
    (),
    ("endpoint", STRING, "base URL, secrets masked"),
    ("policy_id", STRING, "the served policy"),
    ("server", STRING, "vllm, sglang, trl or openai"),
    ("model_name", STRING, "the model that the server names"),
    ("server_version", STRING, "the version that it reports", True),
    ("tokenizer_fingerprint", STRING, "of the tokenizer behind it", True),
    ("logprobs_kind", STRING, "raw, or processed by temperature and truncation", True),
    ("max_logprobs", INT32, "largest k that it returned", True),
    ("scores_given_ids", BOOL, "whether it scores token ids that it is given", True),
    ("spread_nats", FLOAT64, "largest difference when one sequence is scored repeatedly", True),
    ("run_id", STRING, "the run that probed it", True),
    ("created_at", TIMESTAMP, "when it was probed"),
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
    "one row per sequence of tokens as a model saw it",
    ("rollout_id",),
    ("role", "run_id"),
    (
        "rollout_id",
        STRING,
        "hash of run, prompt, policy, sample_index, round; imported: of content",
    ),
    ("role", STRING, "teacher or student"),
    ("run_id", STRING, "the run that sampled, captured or imported it"),
    (
        "group_id",
        STRING,
        "hash of run, prompt, policy, round and sampling: what was drawn together",
    ),
    ("origin", STRING, "sampled by s2d, captured by its proxy, or imported"),
    ("source", STRING, "importer, its version, file, line, the system's own ids, as JSON", True),
    ("prompt_id", STRING, "the prompt"),
    ("policy_id", STRING, "the policy that sampled it"),
    ("purpose", STRING, "train or eval"),
    ("round", INT32, "on-policy round, 0 where there is only one"),
    ("sample_index", INT32, "0 .. n-1 within its group"),
    ("episode_id", STRING, "the episode that several rollouts belong to", True),
    ("parent_rollout_id", STRING, "the rollout that it branched off from", True),
    ("parent_tokens", INT32, "response tokens that it shares with its parent", True),
    ("agent", STRING, "which of several agents", True),
    ("temperature", FLOAT32, "sampling temperature", True),
    ("top_p", FLOAT32, "nucleus mass", True),
    ("top_k", INT32, "sampling top-k, 0 = off", True),
    ("max_tokens", INT32, "limit on response tokens", True),
    ("seed", INT64, "this rollout's own seed", True),
    ("sampling_extra", STRING, "further sampling parameters, as JSON", True),
    ("engine", STRING, "transformers, vllm, server, or the name of another", True),
    ("engine_version", STRING, "version of that library", True),
    ("endpoint", STRING, "base URL of the server that sampled it", True),
    ("tokens_from", STRING, "sampled: as the model saw them; retokenised from text; none"),
    ("prompt_token_ids", INT32_LIST, "as fed to the model, chat template included", True),
    ("response_token_ids", INT32_LIST, "T tokens after the prompt, in the order seen", True),
    ("response_mask", BOOL_LIST, "T: true where the policy sampled; null = everywhere", True),
    (
        "response_logprobs",
        FLOAT32_LIST,
        "T logprobs of the policy, temperature 1, full vocabulary; null where none is known",
        True,
    ),
    (
        "sampler_logprobs",
        FLOAT32_LIST,
        "T logprobs after temperature, truncation and penalties, as the sampler had them",
        True,
    ),
    (
        "policy_spans",
        SPANS,
        "where the policy's version changed within the response; start null: at a token unknown",
        True,
    ),
    ("turns", TURNS, "spans of the response by message", True),
    ("messages", STRING, "the conversation with tool calls, ids and names, as JSON", True),
    ("response_text", STRING, "the decoded response without special tokens", True),
    ("finish_reason", STRING, "stop, length, tool_calls, aborted or error", True),
    ("prompt_tokens", INT32, "length of prompt_token_ids", True),
    ("response_tokens", INT32, "T", True),
    ("sampled_tokens", INT32, "of T, those that the policy sampled", True),
    ("created_at", TIMESTAMP, "when it was sampled; where that is not known, imported"),
)

REWARDS = _table(
    "rewards",
    "one row per attempt of one verifier version at one rollout",
    ("rollout_id", "verifier", "verifier_version", "attempt"),
    ("verifier",),
    ("rollout_id", STRING, "the rollout"),
    ("verifier", STRING, "name of the verifier"),
    ("verifier_version", STRING, "its version"),
    ("attempt", INT32, "0, or higher where an earlier attempt judged nothing"),
    ("reward", FLOAT64, "the reward; null where nothing was judged", True),
    (
        "outcome",
        STRING,
        "correct, wrong, unparseable, scored (neither), reported (imported), timeout or error",
    ),
    ("extracted", STRING, "the answer read from the response"),
    ("detail", STRING, "error text or reason"),
    ("metrics", STRING, "components and further measures, as JSON", True),
    ("cost", STRING, "what the verdict cost: tokens, seconds, model, as JSON", True),
    ("seconds", FLOAT32, "time the verdict took", True),
    ("run_id", STRING, "the run that verified it"),
    ("created_at", TIMESTAMP, "when it was verified"),
)

WITHDRAWALS = _table(
    "withdrawals",
    "one row per verifier version whose verdicts no longer count",
    ("verifier", "verifier_version"),
    (),
    ("verifier", STRING, "name of the verifier"),
    ("verifier_version", STRING, "its version"),
    ("reason", STRING, "why its verdicts do not count"),
    ("created_at", TIMESTAMP, "when they were withdrawn"),
)

TOPK = _table(
    "topk",
    "one row per rollout, scorer and support: top-k logprobs at every response token",
    ("rollout_id", "scorer_policy_id", "support", "k"),
    ("scorer_policy_id",),
    ("rollout_id", STRING, "the rollout"),
    ("scorer_policy_id", STRING, "the policy whose logprobs these are"),
    (
        "support",
        STRING,
        "own: the scorer's top k; policy: the sampling policy's ids; given: ids that came with the "
        "request; union: own and policy's; sampled: the sampled token alone, k = 0",
    ),
    ("k", INT32, "entries per token, at most that many where counts says less"),
    ("counts", pa.list_(pa.int16()), "T: entries at each token; null = k each", True),
    ("token_ids", INT32_LIST, "ids, row-major by token; in files null, see rank_codes", True),
    (
        "logprobs",
        FLOAT32_LIST,
        "logprobs, aligned with token_ids; in files null where numbers hold them",
        True,
    ),
    (
        "sampled_logprobs",
        FLOAT32_LIST,
        "T: the scorer's logprob of the sampled token; in files null where sampled_steps hold it",
        True,
    ),
    ("run_id", STRING, "the run that scored it"),
    ("created_at", TIMESTAMP, "when it was scored"),
    ("ranks_id", STRING, "rank table of its ids; null: every id is its own rank", True),
    ("rank_codes", BINARY, "a byte for each entry: its rank, or the high part of it", True),
    ("rank_lows", BINARY, "low bytes of the ranks whose code is 64 to 254", True),
    ("far_ids", INT32_LIST, "ids without a rank, whose code is 255", True),
    (
        "top_logprobs",
        FLOAT32_LIST,
        "T: what a token's steps count from: its largest, or above",
        True,
    ),
    ("logit_unit", FLOAT32, "nats, a power of two: 2^-12 or 2^-18", True),
    ("unit_exponents", BINARY, "T bytes: a token's unit is logit_unit * 2^this", True),
    ("descending", BOOL, "numbers are gaps between entries, else steps below the top", True),
    ("numbers", BINARY, "a number for each entry: gaps of 2 bits, or steps of 8", True),
    ("large_numbers", INT32_LIST, "numbers that stand as 3 (2 bits) or 255 (8)", True),
    ("exact_entries", EXACT_ENTRIES, "entries that steps do not return bit for bit", True),
    ("sampled_steps", INT32_LIST, "T: the sampled token's steps below the top", True),
)

TOKEN_RANKS = _table(
    "token_ranks",
    "one row per rank table, with which the ids of top-k are written; none ever changes",
    ("ranks_id", "tokenizer_fingerprint"),
    (),
    ("ranks_id", STRING, "hash of token_ids"),
    ("tokenizer_fingerprint", STRING, "the tokenizer whose ids these are"),
    ("token_ids", INT32_LIST, "ids by rank, from the most frequent down"),
    ("created_at", TIMESTAMP, "when it was built"),
)

RUNS = _table(
    "runs",
    "one row per change of a run's status; the view runs shows the latest",
    ("run_id", "status", "entered_at"),
    (),
    ("run_id", STRING, "the run"),
    ("kind", STRING, "generate, import, score, verify or train"),
    ("stage", STRING, "stage of the experiment that it counts for, e.g. warmup", True),
    ("recipe", STRING, "the recipe that the stage belongs to", True),
    ("attempt", INT32, "0, or higher where a stage was done again"),
    ("status", STRING, "running, done, interrupted or failed"),
    ("config", STRING, "full configuration, as JSON"),
    ("argv", STRING_LIST, "the command line, secrets masked", True),
    ("versions", STRING, "version of each library that mattered, as JSON", True),
    ("code_version", STRING, "version of s2d, and its git commit where known"),
    ("parents", STRING_LIST, "runs and datasets it builds on"),
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
    ("response_tokens", INT64, "response tokens in it"),
    ("squared_tokens", INT64, "the squares of its rows' whole lengths, summed", True),
    ("trained_tokens", INT64, "of those, the tokens that the policy sampled"),
    ("labels", INT32, "distinct labelled prompts whose reward the rows depend on"),
    ("label_visits", INT32, "groups or rows that a reward chose or weighed"),
    ("loss", FLOAT64, "objective per response token"),
    ("kl", FLOAT64, "KL per response token, nats", True),
    ("reference_kl", FLOAT64, "KL to the reference policy per response token, nats", True),
    (
        "mismatch_kl",
        FLOAT64,
        "KL from the sampling policy to the one that was recomputed, per response token, nats",
        True,
    ),
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

# Columns that the files have and SQL does not: others, null in files, are computed from them.
FILES_ALONE = {
    "topk": (
        "ranks_id",
        "rank_codes",
        "rank_lows",
        "far_ids",
        "top_logprobs",
        "logit_unit",
        "unit_exponents",
        "descending",
        "numbers",
        "large_numbers",
        "exact_entries",
        "sampled_steps",
    )
}
ENCODED = {"topk": ("token_ids", "logprobs", "sampled_logprobs")}

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        PROMPTS,
        POLICIES,
        RELOCATIONS,
        ENDPOINTS,
        VOCABULARIES,
        RUNS,
        ROLLOUTS,
        REWARDS,
        WITHDRAWALS,
        TOPK,
        TOKEN_RANKS,
        DATASETS,
        DATASET_ROWS,
        UPDATES,
    )
}


def without_encoding(table: Table) -> Table:
    """A table as callers write it and SQL shows it: without the columns that only files have, and
    with none null for having been encoded.
    """
    hidden, encoded = FILES_ALONE.get(table.name, ()), ENCODED.get(table.name, ())
    shown = (column for column in table.columns if column.name not in hidden)
    columns = (replace(c, nullable=False) if c.name in encoded else c for c in shown)
    return replace(table, columns=tuple(columns))
