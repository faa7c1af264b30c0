"""One neutral record as rows of the store's tables: the one place that maps and checks.

Ids come from content. A rollout is told by its format, its policy's name, what it is (`content`,
`part`), and its place among equal ones of its file; so a file that is read again, and a copy of its
rows in another file, add nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from s2d_store import ids
from s2d_store.errors import InputError
from s2d_store.importers.files import OTHER_SHAPE
from s2d_store.importers.policies import Policies, Unnamed, safe_name
from s2d_store.importers.prompts import Found, Prompts
from s2d_store.importers.record import Record, Reject, Reward
from s2d_store.importers.registry import Importer
from s2d_store.importers.settings import ImportConfig
from s2d_store.importers.tokens import TokenUse
from s2d_store.rollouts import sequences

Row = dict[str, Any]
_TABLES = ("policies", "prompts", "rollouts", "rewards", "topk")
_SETTINGS = ("temperature", "top_p", "top_k", "max_tokens")
_INT32, _INT64 = 1 << 31, 1 << 63
_NAMES = ("episode_id", "agent", "endpoint", "engine", "engine_version")
_TEXTS = ("response_text", *_NAMES)
# The largest that a column holds; None: any number.
_NUMBERS = {"temperature": None, "top_p": None, "top_k": _INT32, "max_tokens": _INT32}
_NUMBERS |= {"seed": _INT64, "sample_index": _INT32}
# A prepared encoder: json.dumps makes one for each call with options.
_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
# Names and groups that are looked up again before they are made anew.
_CACHED = 65_536
_IN_KEYS = (str, int, type(None))
_MASKED = ("response_logprobs", "sampler_logprobs")


@dataclass
class Rows:
    """Rows of the next commit, and what an import has seen so far.

    Attributes:
        run_id: the import's run.
        stored: rollouts that the store has, or that stand in this import already.
        sizes: rollouts of each group so far.
        origin: imported or captured.
        copies: rollouts that stood in the store or above.
        notes: what was noticed, by kind.
    """

    importer: Importer
    config: ImportConfig
    run_id: str
    policies: Policies
    prompts: Prompts
    tokens: TokenUse | None
    stored: set[int]
    sizes: dict[str, int]
    origin: str = "imported"
    copies: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    tables: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in _TABLES})
    _now: datetime = field(default_factory=lambda: datetime.now(UTC))
    _file: str = ""
    _once: set[int] = field(default_factory=set)
    _again: dict[int, int] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)
    _groups: dict[Any, str] = field(default_factory=dict)
    _verifiers: dict[str, str] = field(default_factory=dict)
    _told: str = ""
    _to_compare: list[tuple[Record, Sequence[int]]] = field(default_factory=list)

    def add(self, record: Record) -> Reject | None:
        """Take one record; a reject where it cannot be held."""
        try:
            return self._add(record)
        except Unnamed as error:
            return Reject(record.file, record.line, str(error))
        except InputError as error:
            return Reject(record.file, record.line, "a record that does not fit", str(error))
        except OTHER_SHAPE as error:
            what = f"{type(error).__name__}: {error}"
            return Reject(record.file, record.line, "a record that does not fit", what)

    def take(self) -> dict[str, list[Row]]:
        """The rows since the last commit.

        Raises:
            InputError: the tokenizer reads their ids as another text than the file has.
        """
        if self.tokens is not None:
            self.tokens.check_texts(self._to_compare)
        self._to_compare = []
        rows, self.tables = self.tables, {name: [] for name in _TABLES}
        rows["policies"], rows["prompts"] = self.policies.take_new(), self.prompts.take_new()
        return rows

    def _add(self, record: Record) -> Reject | None:
        base = self.policies.base(record.sampler)
        if record.file != self._file:
            self._start(record.file)
        if record.key and self._keys.setdefault(record.key, record.content) != record.content:
            reason = "an id that stands above with other content"
            return Reject(record.file, record.line, reason, record.key)
        rollout_id = self._id(record, base)
        rewards = self._rewards(record, rollout_id)
        number = int(rollout_id, 16)
        if number in self.stored:
            self.copies += 1
            self.tables["rewards"] += rewards
            return None
        tokens = self._token_columns(record)
        found = self.prompts.find(record)
        tokens |= self._retokenised(record, found, tokens)
        group_id = self._group(record, base)
        policy_id = self.policies.find(record.sampler)
        row = self._columns(record, rollout_id, policy_id, group_id, found, tokens)
        vocabulary = self.tokens.vocab_size if self.tokens else _INT32
        sequences.check_row(record.where, row, vocabulary)
        _check_types(row)
        top = self._top(record, row)
        self.stored.add(number)
        self.sizes[group_id] = max(self.sizes.get(group_id, 0), row["sample_index"] + 1)
        self.tables["rollouts"].append(row)
        self.tables["rewards"] += rewards
        self.tables["topk"] += top
        return None

    def _start(self, file: str) -> None:
        """What is counted within a file begins anew."""
        self._file, self._once, self._again = file, set(), {}
        self._groups.clear()
        importer = {"importer": self.importer.name, "version": self.importer.version}
        self._told = _json(importer | {"file": file})[:-1]

    def _id(self, record: Record, base: str) -> str:
        told = f"{record.content}/{record.part}"
        return self._rollout_id(base, told, self._twin(f"{told}/{record.view}"))

    def _twin(self, told: str) -> int:
        """How often a file has told the same before: memory of a number per row."""
        seen = hash(told)
        if seen not in self._once:
            self._once.add(seen)
            return 0
        self._again[seen] = self._again.get(seen, 0) + 1
        return self._again[seen]

    def _rollout_id(self, base: str, told: str, twin: int) -> str:
        whole = f"imported/{self.importer.name}/{base}/{told}/{twin}"
        return hashlib.blake2b(whole.encode(), digest_size=ids.ID_BYTES).hexdigest()

    def _group(self, record: Record, base: str) -> str:
        told = record.group
        # A tuple of these is a key like its JSON; 1 and True would be one key.
        plain = type(told) is tuple and all(type(part) in _IN_KEYS for part in told)
        key = base, told if plain else _json(told)
        known = self._groups.get(key)
        if known is None:
            if len(self._groups) > _CACHED:
                self._groups.clear()
            known = ids.content_id("group", self.importer.name, base, _json(told))
            self._groups[key] = known
        return known

    def _columns(
        self,
        record: Record,
        rollout_id: str,
        policy_id: str,
        group_id: str,
        found: Found,
        tokens: Row,
    ) -> Row:
        sampling = record.sampling
        index = self.sizes.get(group_id, 0) if record.index is None else record.index
        row: Row = {
            "rollout_id": rollout_id,
            "role": self.config.role,
            "run_id": self.run_id,
            "group_id": group_id,
            "origin": self.origin,
            "source": self._source(record, found),
            "prompt_id": found.prompt_id,
            "policy_id": policy_id,
            "purpose": self.config.purpose or record.purpose,
            "round": 0,
            "sample_index": index,
            "seed": sampling.seed,
            "sampling_extra": _json(sampling.extra) if sampling.extra else None,
            "finish_reason": record.finish_reason,
            "created_at": record.created_at or self._now,
        }
        for name in _SETTINGS:
            told = getattr(sampling, name)
            row[name] = getattr(self.config, name) if told is None else told
        for name in _NAMES:
            if (told := getattr(record, name)) is not None:
                row[name] = told
        if record.spans:
            row["policy_spans"] = self._spans(record)
        if record.parent is not None:
            told = f"{record.content}/{record.parent}"
            twin = self._again.get(hash(f"{told}/{record.view}"), 0)
            base = self.policies.base(record.sampler)
            row["parent_rollout_id"] = self._rollout_id(base, told, twin)
            row["parent_tokens"] = record.parent_tokens
        if record.messages is not None:
            row["messages"] = _json(list(record.messages))
        row["response_text"] = self._text(record, tokens)
        row |= {name: value for name, value in tokens.items() if value is not None}
        row.setdefault("tokens_from", "none")
        if record.turns is None and row.get("response_token_ids") is not None:
            mask = row.get("response_mask")
            row["response_tokens"] = len(row["response_token_ids"])
            row["sampled_tokens"] = row["response_tokens"] if mask is None else sum(mask)
            if row.get("prompt_token_ids") is not None:
                row["prompt_tokens"] = len(row["prompt_token_ids"])
        return row

    def _source(self, record: Record, found: Found) -> str:
        told = f'{self._told}, "line": {record.line}, "part": {record.part}'
        told += f', "rest": {_json(record.rest)}'
        if found.answer is not None:
            told += f', "answer": {_json(found.answer)}'
        if not found.exact:
            form = f"a {record.asked.form} text, not the messages that were asked"
            told += f', "prompt": "{form}"'
        return told + "}"

    def _spans(self, record: Record) -> list[Row]:
        told = record.sampler
        spans = []
        for start, version in record.spans or ():
            sampler = type(told)(model=told.model, version=version, fingerprint=told.fingerprint)
            spans.append({"start": start, "policy_id": self.policies.find(sampler)})
        return spans

    def _token_columns(self, record: Record) -> Row:
        """Ids, mask and logprobs as the file has them."""
        kind = self.config.logprobs or record.logprobs_kind or self.importer.logprobs
        if record.turns is not None:
            row = sequences.columns(record.where, record.turns)
            if kind == "raw" and row["response_logprobs"] is None:
                row["response_logprobs"] = row.pop("sampler_logprobs")
            return row
        if record.response_token_ids is None:
            return {}
        column = _MASKED[kind != "raw"]
        logprobs = None if record.logprobs is None else _known(record.logprobs)
        if logprobs is not None and all(value is None for value in logprobs):
            # An empty answer's only entry may be unknown: the list then says so.
            self._note("logprobs that are not numbers: null")
        return {
            "tokens_from": "sampled",
            "prompt_token_ids": record.prompt_token_ids,
            "response_token_ids": record.response_token_ids,
            "response_mask": record.response_mask,
            column: logprobs,
        }

    def _text(self, record: Record, tokens: Mapping[str, Any]) -> str | None:
        """The response's text; with a tokenizer, of the ids that the policy sampled."""
        sampled = tokens.get("response_token_ids")
        if self.tokens is None or sampled is None:
            return record.text
        mask = tokens.get("response_mask")
        if mask is not None:
            sampled = [token for token, flag in zip(sampled, mask, strict=True) if flag]
        if tokens["tokens_from"] == "sampled":
            self._to_compare.append((record, sampled))
        several = record.turns is not None and sum(map(_sampled, record.turns)) > 1
        plain = record.text is not None and record.text_form == "plain"
        return record.text if plain or several else self.tokens.text_of(sampled)

    def _retokenised(self, record: Record, found: Found, tokens: Row) -> Row:
        """Ids of a text that has none, where a tokenizer is given and one turn was sampled."""
        use = self.tokens
        if use is None or tokens.get("response_token_ids") is not None or record.text is None:
            return {}
        said = list(record.messages or ())[len(record.asked.messages or ()) :]
        if record.messages is not None and len(said) != 1:
            self._note("several turns as text: not re-tokenised")
            return {}
        prompt = self._prompt_ids(record, found)
        if prompt is None:
            self._note("a decoded prompt that matches no stored one: not re-tokenised")
            return {}
        response = use.ids_of_text(record.text)
        if record.finish_reason == "stop" and use.end is not None and response[-1:] != [use.end]:
            response.append(use.end)
        if record.n_tokens not in (None, len(prompt) + len(response)):
            self._note("texts of another number of tokens than the file counts: not re-tokenised")
            return {}
        return {
            "tokens_from": "retokenised",
            "prompt_token_ids": prompt,
            "response_token_ids": response,
        }

    def _prompt_ids(self, record: Record, found: Found) -> list[int] | None:
        use, asked = self.tokens, record.asked
        assert use is not None, "asked for where a tokenizer is given"
        known = use.ids_of_prompt(found.prompt_id)
        if known is not None:
            return known
        if asked.form == "templated" and asked.text is not None:
            return use.ids_of_text(asked.text)
        if not found.exact:
            return None
        messages = asked.messages or [{"role": "user", "content": asked.text}]
        return use.ids_of_messages(messages, asked.tools)

    def _top(self, record: Record, row: Row) -> list[Row]:
        top = record.top
        if top is None:
            return []
        n_tokens = len(row["response_token_ids"])
        sizes = (len(top.token_ids), len(top.logprobs), len(top.sampled))
        if sizes != (n_tokens * top.k, n_tokens * top.k, n_tokens):
            raise InputError(f"top-k of {sizes} entries for {n_tokens} tokens and k {top.k}")
        scorer = row["policy_id"] if top.scorer is None else self.policies.find(top.scorer)
        vocabulary = self.tokens.vocab_size if self.tokens else math.inf
        for token, logprob in zip(top.token_ids, top.logprobs, strict=True):
            if not 0 <= token < vocabulary or not logprob <= 1e-3:
                raise InputError(f"top-k entry of token {token} has logprob {logprob}")
        return [
            {
                "rollout_id": row["rollout_id"],
                "scorer_policy_id": scorer,
                "support": top.support,
                "k": top.k,
                "token_ids": top.token_ids,
                "logprobs": top.logprobs,
                "sampled_logprobs": top.sampled,
                "run_id": self.run_id,
                "created_at": self._now,
            }
        ]

    def _rewards(self, record: Record, rollout_id: str) -> list[Row]:
        return [row for reward in record.rewards for row in self._reward(reward, rollout_id)]

    def _reward(self, reward: Reward, rollout_id: str) -> list[Row]:
        value = reward.value
        metrics = dict(reward.metrics) if reward.metrics else None
        if isinstance(value, list):  # one per token
            metrics = {**(metrics or {}), "per_token": value}
            value = sum(value)
        number = isinstance(value, int | float)
        if value is not None and not (number and math.isfinite(value)):
            self._note("rewards that are no numbers: kept among the metrics")
            metrics = {**(metrics or {}), "value": value}
        row = {
            "rollout_id": rollout_id,
            "verifier": self._verifier(reward.name),
            "verifier_version": self.importer.version,
            "attempt": 0,
            "reward": float(value) if number and math.isfinite(value) else None,
            "outcome": "reported",
            "extracted": reward.extracted if isinstance(reward.extracted, str) else "",
            "detail": "",
            "metrics": None if metrics is None else _json(metrics),
            "run_id": self.run_id,
            "created_at": self._now,
        }
        return [row]

    def _verifier(self, name: str) -> str:
        if name not in self._verifiers:
            self._verifiers[name] = f"imported-{safe_name(name)}"
        return self._verifiers[name]

    def _note(self, text: str) -> None:
        self.notes[text] = self.notes.get(text, 0) + 1


def _check_types(row: Row) -> None:
    """Refuse a value that its column cannot hold.

    Raises:
        InputError: names the column and the value.
    """
    for name in _TEXTS:
        if (value := row.get(name)) is not None and not isinstance(value, str):
            raise InputError(f"{name} is {value!r:.60}, which is no text")
    for name, most in _NUMBERS.items():
        if (value := row.get(name)) is None:
            continue
        whole = most is not None
        if not isinstance(value, int if whole else int | float):
            raise InputError(f"{name} is {value!r:.60}, which is no{' whole' * whole} number")
        if most is not None and not -most <= value < most:
            raise InputError(f"{name} is {value}, which is too large")


def _sampled(turn: sequences.Turn) -> bool:
    return turn.sampled is True or (turn.sampled is not False and any(turn.sampled))


def _known(logprobs: Sequence[float | None]) -> Sequence[float | None]:
    """The logprobs with null for NaN; most lists have none, which their sum tells."""
    known = [value for value in logprobs if value is not None]
    total = sum(known)
    return logprobs if total == total else [None if x != x else x for x in logprobs]


def _json(value: Any) -> str:
    """JSON text; numbers that it does not have (NaN, Infinity) as their names."""
    if value is None:
        return "null"
    if value == {}:
        return "{}"
    try:
        return _ENCODE(value)
    except (TypeError, ValueError):
        return _ENCODE(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
