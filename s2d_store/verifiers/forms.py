"""The forms a verifier may have, each as one: a name, a version, what it needs, and `grade`.

A class with `grade(item)` or `verify(response, answer)`; a plain function of an item, of a response
and an answer, of verl's signature, or of TRL's. Which one it is shows in its parameters' names.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from s2d_store.errors import InputError
from s2d_store.ids import check_name
from s2d_store.verifiers import settings
from s2d_store.verifiers.base import Item, Needs, Verdict, needs_of, version_of_source

FORMS = (
    "grade(item)",
    "verify(response, answer)",
    "compute_score(data_source, solution_str, ground_truth, extra_info)",
    "reward(completions, **columns)",
)
_GOLD_COLUMNS = ("answer", "solution", "ground_truth", "target")
"""Names under which reward functions of TRL's form ask for the gold answer."""


@dataclass(frozen=True)
class Loaded:
    """A verifier of any form.

    Attributes:
        name: stored with every reward.
        version: stored with every reward.
        needs: what it is given of an item.
        judge: the item's verdict, or what stands for one: see `as_verdict`. May be awaitable.
        description: what else of it is stored with a run that graded by it, as JSON values.
    """

    name: str
    version: str
    needs: Needs
    judge: Callable[[Item], Any]
    description: Mapping[str, Any] = field(default_factory=dict)

    def grade(self, item: Item) -> Verdict:
        """Grade one item; waits where the verifier is asynchronous.

        Raises:
            Exception: whatever the verifier raises.
            TypeError: it returned what is no verdict.
        """
        found = self.judge(item)
        if inspect.isawaitable(found):
            found = _loop().run_until_complete(found)
        return as_verdict(found)


def adapt(found: Any, spec: str, given: Mapping[str, str] | None = None) -> Loaded:
    """A verifier of whatever form, as `Loaded`.

    Args:
        found: what `spec` names: a class (created here, with its settings) or a function.
        spec: `module:Class` or `module:function`, for errors and for a function's name.
        given: settings of a class.

    Raises:
        InputError: it has none of the forms, its name cannot be a folder's, or it does not take
            these settings.
        Exception: whatever the class raises when it is created.
    """
    if inspect.isclass(found):
        loaded = _adapt_class(settings.create(found, spec, given or {}), spec)
    elif given:
        raise InputError(
            f"{spec} is a function and takes no settings", f"given: {', '.join(given)}"
        )
    else:
        loaded = _adapt_function(found, spec)
    check_name(loaded.name, "verifier")
    return loaded


def as_verdict(found: Any) -> Verdict:
    """A verifier's result as a verdict.

    A number is a reward of outcome `scored`; None says that the verifier does not judge this item.
    A mapping with `score` (verl) is its reward, the other entries its metrics; of a list or tuple
    the first entry counts.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(found, Verdict):
        return found
    if found is None:
        return Verdict(None, "error", detail="the verifier returned None: it does not judge this")
    if isinstance(found, Mapping):
        rest = {str(key): value for key, value in found.items() if key != "score"}
        extracted = rest.pop("pred", "")
        scored = as_verdict(found.get("score"))
        return Verdict(
            scored.reward, scored.outcome, str(extracted or ""), scored.detail, rest or None
        )
    if isinstance(found, list | tuple) and found:
        return as_verdict(found[0])
    try:
        if isinstance(found, str | bytes):
            raise TypeError
        reward = float(found)
    except (TypeError, ValueError):
        name = type(found).__name__
        raise TypeError(f"the verifier returned {name}, not a Verdict or a number") from None
    if isinstance(found, int) and not isinstance(found, bool) and int(reward) != found:
        raise TypeError(f"the reward {found} is no float64: it would be stored as {reward!r}")
    return Verdict(reward, "scored")


def _adapt_class(made: Any, spec: str) -> Loaded:
    name, version = (getattr(made, field, None) for field in ("name", "version"))
    if not all(isinstance(text, str) and text for text in (name, version)):
        raise _not_a_verifier(spec, "it needs non-empty texts `name` and `version`")
    needs = needs_of(made)
    if callable(getattr(made, "grade", None)):
        described = dict(getattr(made, "description", {}))
        return Loaded(str(name), str(version), needs, made.grade, described)
    if callable(getattr(made, "verify", None)):
        return Loaded(
            str(name), str(version), _of_texts(needs), lambda item: _each_gold(made.verify, item)
        )
    raise _not_a_verifier(spec, "it needs a method `grade(item)` or `verify(response, answer)`")


def _adapt_function(found: Any, spec: str) -> Loaded:
    if not callable(found):
        raise _not_a_verifier(spec, f"it is {type(found).__name__}, neither a class nor a function")
    module, _, function = spec.partition(":")
    name = getattr(found, "verifier_name", f"{module}.{function}")
    version = getattr(found, "verifier_version", "") or _version(found, spec)
    parameters = inspect.signature(found).parameters
    needs = needs_of(found)
    if "solution_str" in parameters:
        return Loaded(name, version, needs, lambda item: _call_verl(found, item))
    if "completions" in parameters or "completion_ids" in parameters:
        asks_gold = any(column in parameters for column in _GOLD_COLUMNS)
        answer = bool(getattr(found, "needs_answer", asks_gold))
        needs = Needs(answer, True, needs.tokens or "completion_ids" in parameters)
        return Loaded(name, version, needs, lambda item: _call_trl(found, item, parameters))
    required = [p for p in parameters.values() if p.default is p.empty and p.kind in _POSITIONAL]
    if len(required) == 2:
        return Loaded(name, version, _of_texts(needs), lambda item: _each_gold(found, item))
    if len(required) == 1:
        return Loaded(name, version, needs, found)
    raise _not_a_verifier(spec, f"its parameters are ({', '.join(parameters)})")


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _of_texts(needs: Needs) -> Needs:
    return Needs(needs.answer, context=False, tokens=False)


def _version(found: Any, spec: str) -> str:
    try:
        return version_of_source(found)
    except (OSError, TypeError) as error:
        raise _not_a_verifier(
            spec, f"it states no `verifier_version`, and its source cannot be found: {error}"
        ) from error


def _each_gold(judge: Callable[[str, str], Any], item: Item) -> Verdict:
    """The verdict against any accepted answer: correct if one is, unjudged if one could not be."""
    verdicts = []
    for answer in item.accepted or ("",):
        verdict = as_verdict(judge(item.response, answer))
        if verdict.outcome == "correct":
            return verdict
        verdicts.append(verdict)
    unjudged = [verdict for verdict in verdicts if not verdict.judged]
    if unjudged:
        return unjudged[0]
    return max(verdicts, key=lambda v: v.reward if v.reward is not None else -math.inf)


def _gold(item: Item) -> Any:
    """The gold answer as training frameworks hold it: a text, or a list of accepted texts."""
    return list(item.answers) if item.answers else item.answer


def _call_verl(function: Callable[..., Any], item: Item) -> Any:
    extra = {
        **item.fields(),
        "rollout_id": item.rollout_id,
        "prompt": [dict(message) for message in item.messages],
    }
    return function(
        data_source=item.source,
        solution_str=item.response,
        ground_truth=_gold(item),
        extra_info=extra,
    )


def _call_trl(
    function: Callable[..., Any], item: Item, parameters: Mapping[str, inspect.Parameter]
) -> Any:
    """Call with a batch of one, and take its only reward."""
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    columns = _columns(item, as_text=_wants_texts(parameters))
    if item.token_ids is not None:
        columns["completion_ids"] = list(item.token_ids)
    given = {name: [value] for name, value in columns.items() if takes_any or name in parameters}
    result = function(**given)
    return _only(result) if not inspect.isawaitable(result) else _await_only(result)


def _columns(item: Item, *, as_text: bool) -> dict[str, Any]:
    prompt = [dict(message) for message in item.messages]
    gold = dict.fromkeys(_GOLD_COLUMNS, _gold(item)) if item.accepted else {}
    return gold | {
        **item.fields(),
        "data_source": item.source,
        "rollout_id": item.rollout_id,
        "prompts": "\n".join(str(m.get("content") or "") for m in prompt) if as_text else prompt,
        "completions": (
            item.response if as_text else [{"role": "assistant", "content": item.response}]
        ),
    }


def _wants_texts(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether `completions` is annotated as a list of texts; else it is one of messages."""
    found = parameters.get("completions")
    annotation = "" if found is None or found.annotation is found.empty else found.annotation
    text = annotation if isinstance(annotation, str) else str(annotation)
    return text.replace("typing.", "").lower() in ("list[str]", "sequence[str]")


def _only(rewards: Any) -> Any:
    values = list(rewards)
    if len(values) != 1:
        raise TypeError(f"the reward function returned {len(values)} rewards for one completion")
    return values[0]


async def _await_only(rewards: Any) -> Any:
    return _only(await rewards)


def _not_a_verifier(spec: str, why: str) -> InputError:
    return InputError(
        f"{spec} is not a verifier",
        why=why,
        fix=f"give it one of the forms {'; '.join(FORMS)} (docs/verifiers.md)",
    )


_event_loop: asyncio.AbstractEventLoop | None = None


def _loop() -> asyncio.AbstractEventLoop:
    """The process's one event loop, so that a verifier's client may stay open between items."""
    global _event_loop
    if _event_loop is None or _event_loop.is_closed():
        _event_loop = asyncio.new_event_loop()
    return _event_loop
