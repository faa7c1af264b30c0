"""A rollout as any system may have written it: what every importer yields, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from s2d_store.rollouts.sequences import Turn

Message = Mapping[str, Any]
# plain: the text as a person wrote it; templated: rendered by the chat template, special tokens
# kept; decoded: rendered, then decoded without special tokens.
TextForm = Literal["plain", "templated", "decoded"]
LogprobsKind = Literal["raw", "processed"]


@dataclass(slots=True, kw_only=True)
class Asked:
    """What was asked: as messages, as text, or as token ids alone.

    Attributes:
        messages: chat messages; None where only a text or ids are known.
        text: the prompt as one text; see `form`.
        form: what that text is.
        answer: gold answer: text, number, or a list of accepted ones.
        tools: tool definitions that the template rendered.
        task: environment and key of the task.
        meta: other facts about the prompt.
        source: name of the data set; empty: the command's.
        split: empty: the command's.
    """

    messages: Sequence[Message] | None = None
    text: str | None = None
    form: TextForm = "plain"
    answer: Any = None
    tools: Sequence[Mapping[str, Any]] | None = None
    task: Mapping[str, Any] | None = None
    meta: Mapping[str, Any] | None = None
    source: str = ""
    split: str = ""


@dataclass(slots=True, kw_only=True)
class Sampler:
    """Who sampled, as far as the file says.

    Attributes:
        model: its system's name of the model.
        version: training step or weight version; None where the file names none.
        fingerprint: what it declares of its weights.
        revision: hub revision.
        n_parameters: parameters.
    """

    model: str | None = None
    version: int | str | None = None
    fingerprint: str | None = None
    revision: str | None = None
    n_parameters: int | None = None


@dataclass(slots=True, kw_only=True)
class Sampling:
    """Sampling settings; None where the file does not say. `extra`: all others."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    seed: int | None = None
    extra: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Reward:
    """One reward as its system reported it.

    Attributes:
        name: of the reward function.
        value: a number; None where the function did not apply.
        extracted: the answer that it read.
        metrics: components and whatever else came with it.
    """

    name: str
    value: Any
    extracted: str = ""
    metrics: Mapping[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class TopEntries:
    """Top-k logprobs at each response token, k alike; row-major by token.

    Attributes:
        support: own (ranked, the sampler's top k) or given.
        k: entries per token.
        token_ids: T * k ids.
        logprobs: T * k raw logprobs.
        sampled: T raw logprobs of the response's own tokens.
        scorer: who gave them; None: the policy that sampled.
    """

    support: str
    k: int
    token_ids: Sequence[int]
    logprobs: Sequence[float]
    sampled: Sequence[float]
    scorer: Sampler | None = None


@dataclass(slots=True, kw_only=True)
class Record:
    """One rollout of a file.

    Attributes:
        file: the file, as errors and column `source` name it.
        line: its line or row there, from 0.
        content: what tells it from other rollouts: a hash or text. Copies have the same one.
        part: 0, 1, ... of the rollouts of one record of the file.
        view: where a file tells one rollout several times, as by filter: which time this is.
        key: the system's own unique id, under which no other content may stand; empty for none.
        group: the system's own name of what was sampled together.
        asked: its prompt.
        sampler: its policy.
        spans: (start, version) where the policy's version changed; start None: at a token unknown.
        sampling: its settings.
        index: its place in its group; None: by the order of the file.
        prompt_token_ids: as the model saw them.
        response_token_ids: T ids.
        response_mask: T flags, None where the policy sampled everything.
        logprobs: T, null where none is known.
        logprobs_kind: raw (temperature 1, whole vocabulary) or processed; None: the format's.
        turns: the whole conversation with its tokens, in place of the five above.
        messages: prompt and response as messages, with tool calls; None where only text is known.
        text: the response's text.
        text_form: what that text is.
        n_tokens: tokens of prompt and response together, where a file of texts counts them.
        finish_reason: stop, length, tool_calls, aborted, error, or None.
        rewards: as reported.
        top: top-k logprobs that came with it.
        parent: part of the rollout of the same record that it branched off from.
        parent_tokens: response tokens that it shares with it.
        purpose: train or eval.
        episode_id, agent, endpoint, engine, engine_version, created_at: as in table rollouts.
        rest: what no column holds; kept in column `source`.
        size: bytes that it took in the file, for chunks.
    """

    file: str
    line: int
    content: str
    asked: Asked
    part: int = 0
    view: str = ""
    key: str = ""
    group: Any = None
    sampler: Sampler = field(default_factory=Sampler)
    spans: Sequence[tuple[int | None, int | str]] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    index: int | None = None
    prompt_token_ids: Sequence[int] | None = None
    response_token_ids: Sequence[int] | None = None
    response_mask: Sequence[bool] | None = None
    logprobs: Sequence[float | None] | None = None
    logprobs_kind: LogprobsKind | None = None
    turns: Sequence[Turn] | None = None
    messages: Sequence[Message] | None = None
    text: str | None = None
    text_form: TextForm = "plain"
    n_tokens: int | None = None
    finish_reason: str | None = None
    rewards: Sequence[Reward] = ()
    top: TopEntries | None = None
    parent: int | None = None
    parent_tokens: int | None = None
    purpose: str = "train"
    episode_id: str | None = None
    agent: str | None = None
    endpoint: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    created_at: datetime | None = None
    rest: Any = None
    size: int = 1000

    @property
    def where(self) -> str:
        """As errors name it."""
        return f"{self.file} line {self.line + 1}"


@dataclass(slots=True)
class Reject:
    """A row that cannot be held: where it stands, why (the same words for the same cause), and what
    is particular to it.
    """

    file: str
    line: int
    reason: str
    detail: str = ""


Read = Record | Reject


_REASONS = {
    "stop": ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "completed"),
    "length": ("length", "max_tokens", "model_length", "truncated"),
    "tool_calls": ("tool_calls", "function_call", "tool_use"),
    "aborted": ("abort", "aborted", "content_filter", "cancelled"),
    "error": ("error", "failed"),
}
_REASON_OF = {word: reason for reason, words in _REASONS.items() for word in words}


def reason(word: Any) -> str | None:
    """A finish reason as table rollouts has it; None for a word that is not known."""
    return _REASON_OF.get(word) if isinstance(word, str) else None


def moment(seconds: float | None) -> datetime | None:
    """A time in UTC; None for none."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def without(value: Any, paths: Iterable[str]) -> Any:
    """A record without what stands at these paths, else unchanged; the record itself stays.

    Args:
        value: a mapping or list.
        paths: names joined by dots; `*` is every place of a list or name of a mapping. In a list,
            null stands in the place of what is left out.
    """
    tree: dict[str, Any] = {}
    for path in paths:
        branch = tree
        for name in path.split("."):
            branch = branch.setdefault(name, {})
    return _pruned(value, tree)


def _pruned(value: Any, tree: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_kept(item, _branch(tree, str(i))) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, item in value.items():
        branch = _branch(tree, name)
        if branch is None:
            found[name] = item
        elif branch:
            found[name] = _pruned(item, branch)
    return found


def _kept(item: Any, branch: Mapping[str, Any] | None) -> Any:
    """A list's place: null stands where it is left out."""
    if branch is None:
        return item
    return _pruned(item, branch) if branch else None


def _branch(tree: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """What is left out below a name: of its own and of every name's; empty: all of it."""
    own, every = tree.get(name), tree.get("*")
    if own is None or every is None:
        return every if own is None else own
    return _both(own, every)


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    if not one or not other:
        return {}
    names = one.keys() | other.keys()
    return {
        name: _both(one[name], other[name])
        if name in one and name in other
        else one.get(name, other.get(name))
        for name in names
    }
