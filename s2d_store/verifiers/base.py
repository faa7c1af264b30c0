"""The verifier protocol: an item (prompt, response, gold answer) in, a graded outcome out."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from s2d_store.messages import Message

Outcome = Literal["correct", "wrong", "unparseable", "scored", "reported", "timeout", "error"]
OUTCOMES: tuple[Outcome, ...] = (
    "correct",
    "wrong",
    "unparseable",
    "scored",
    "reported",
    "timeout",
    "error",
)
UNJUDGED: tuple[Outcome, ...] = ("timeout", "error")
"""Outcomes that are no judgement: their reward is None, and `s2d verify --retry` tries again."""


@dataclass(frozen=True)
class Verdict:
    """What a verifier said of one response.

    Attributes:
        reward: a finite float64; None where nothing was judged. Rule-based verifiers return 1.0
            or 0.0.
        outcome: `correct`, `wrong` or `unparseable` (no answer could be read) judge the answer;
            `scored` is a reward that is neither right nor wrong; `timeout` and `error` judge
            nothing. `reported` is for imported rewards alone.
        extracted: the answer that was read from the response, as text; empty when none was.
        detail: the error or reason, as text; empty when there is none.
        metrics: components and further measures, as JSON values.
        cost: what the verdict cost, as JSON values: `tokens`, `seconds`, `model`.
    """

    reward: float | None
    outcome: Outcome
    extracted: str = ""
    detail: str = ""
    metrics: Mapping[str, Any] | None = None
    cost: Mapping[str, Any] | None = None

    @property
    def judged(self) -> bool:
        """Whether the outcome is a judgement, and the reward a number."""
        return self.outcome not in UNJUDGED


@dataclass(frozen=True)
class Item:
    """One response to grade, with everything that is known of its prompt.

    Attributes:
        rollout_id: the rollout.
        response: text as the policy wrote it, special tokens left out.
        answer: gold answer as text; None where the prompt has none.
        answer_type: `text`, `number` (plain decimal), `list` or `none`.
        answers: every accepted answer, where `answer_type` is `list`.
        messages: the prompt's chat messages in order.
        source: where the prompt came from, e.g. `gsm8k` (verl's `data_source`).
        task: environment and key of a task beyond question and answer.
        meta: the source row's other fields.
        token_ids: T response token ids, or None: see `response_token_ids`.
    """

    rollout_id: str
    response: str
    answer: str | None = None
    answer_type: str = "text"
    answers: tuple[str, ...] = ()
    messages: Sequence[Message] = ()
    source: str = ""
    task: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    token_ids: Sequence[int] | None = None

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every gold answer that counts as right; empty for a prompt without one."""
        if self.answers:
            return self.answers
        return () if self.answer is None else (self.answer,)

    @property
    def response_token_ids(self) -> Sequence[int]:
        """T response token ids, in the order that the model saw them.

        Raises:
            LookupError: none are stored, or the verifier does not set `needs_tokens = True`
                (they are read and sent to workers only then).
        """
        if self.token_ids is None:
            raise LookupError(
                "no token ids: set needs_tokens = True on the verifier; a rollout imported as "
                "text has none"
            )
        return self.token_ids

    def fields(self) -> dict[str, Any]:
        """What else a task says of this item: `meta`, and over it `task`, as one mapping."""
        return {**self.meta, **self.task}


@dataclass(frozen=True)
class Needs:
    """What a verifier is given of an item, so that nothing else is read and sent.

    Attributes:
        answer: it grades nothing without a gold answer.
        context: messages, source, task and meta.
        tokens: the response's token ids.
    """

    answer: bool = True
    context: bool = True
    tokens: bool = False

    def __or__(self, other: Needs) -> Needs:
        """What two verifiers need together."""
        return Needs(
            self.answer or other.answer,
            self.context or other.context,
            self.tokens or other.tokens,
        )


class Verifier(Protocol):
    """A verifier runs inside a worker process and may hang or crash: the pool guards against it.

    Register one under the entry-point group `s2d.verifiers`, or name it as `module:Class`; the
    class is created once in every worker, with the settings behind its name if any. Four attributes
    are optional: `needs_answer` (False grades prompts without a gold answer too; default True),
    `needs_tokens` (True sends token ids; default False), `needs_context` (False leaves messages,
    source, task and meta out; default True) and `description` (JSON values that are stored with
    the run). docs/verifiers.md has other forms: a method `verify(response, answer)`, and plain
    functions.

    Attributes:
        name: stored with every reward, e.g. `math-verify`.
        version: stored with every reward; change it whenever verdicts can change. Versions that
            begin with a number, as `1.2`, are ordered by their numbers, others by first use.
    """

    name: str
    version: str

    def grade(self, item: Item) -> Verdict | Awaitable[Verdict]:
        """Grade one item; may be `async def`."""
        ...


def needs_of(verifier: Any) -> Needs:
    """What a verifier declares that it needs; see `Verifier`."""
    return Needs(
        answer=bool(getattr(verifier, "needs_answer", True)),
        context=bool(getattr(verifier, "needs_context", True)),
        tokens=bool(getattr(verifier, "needs_tokens", False)),
    )


def version_of_source(*objects: object) -> str:
    """A version for code that states none: `src-` and a hash of the files that define it.

    Raises:
        OSError, TypeError: the source of one cannot be found.
    """
    from s2d_store.ids import content_id

    files = [inspect.getsourcefile(found) for found in objects]  # type: ignore[arg-type]
    texts = []
    for path in files:
        if path is None:
            raise OSError("no source file")
        with open(path, encoding="utf-8") as file:
            texts.append(file.read())
    return f"src-{content_id(*texts)[:12]}"
