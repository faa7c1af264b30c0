"""The messages and response text of chosen rows, streamed in their order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2d_store.datasets.exports.base import Options, Written
from s2d_store.datasets.exports.rows import check_complete, facts
from s2d_store.datasets.exports.sampled_with import SampledWith
from s2d_store.datasets.locate import locate, locate_prompts, source
from s2d_store.datasets.read import LockedDataset
from s2d_store.messages import Message, from_stored, text_of
from s2d_store.store import Store
from s2d_store.tables.fetch_rows import Source, fetch_rows

# Bytes of a rollout's text per token, and of a prompt's messages: to size what is held in memory.
_TEXT_BYTES, _MESSAGES_BYTES = 14, 2_000
_ROLLOUT = ("response_text", "prompt_token_ids", "response_token_ids")
# Rows turned into Python objects at a time.
BATCH_ROWS = 1000


@dataclass(frozen=True)
class Text:
    """One row as messages.

    Attributes:
        row: its number in the dataset.
        run_id: the run that sampled it.
        prompt: plain messages.
        tools: tool definitions as JSON; None for none.
        response: the decoded response.
        token_ids: prompt and response tokens as sampled.
        prompt_tokens: how many of these are the prompt's.
    """

    row: int
    run_id: str
    prompt: list[Message]
    tools: str | None
    response: str
    token_ids: list[int]
    prompt_tokens: int


def usable(store: Store, dataset: LockedDataset, options: Options, written: Written) -> pa.Table:
    """Facts of the rows whose text says what was sampled; what is left out is counted.

    A rollout that was cut off ends in a text form with a token that nobody sampled, and one of
    several turns has no response text of its own: messages cannot say which part was sampled.
    """
    known = facts(store, dataset)
    turns = pc.fill_null(pc.less(known["sampled_tokens"], known["response_tokens"]), False)
    written.drop("several_turns", pc.sum(turns).as_py())
    known = known.filter(pc.invert(turns))
    if options.truncated == "keep":
        return known
    ended = pc.fill_null(pc.equal(known["finish_reason"], "stop"), False)
    written.drop("truncated", known.num_rows - pc.sum(ended).as_py() if known.num_rows else 0)
    return known.filter(ended)


def texts(store: Store, dataset: LockedDataset, chosen: pa.Table) -> Iterator[Text]:
    """The text of chosen rows, in the order given; see `text_tables`."""
    for table in text_tables(store, dataset, chosen):
        for first in range(0, table.num_rows, BATCH_ROWS):
            yield from map(_text, table.slice(first, BATCH_ROWS).to_pylist())


def text_tables(store: Store, dataset: LockedDataset, chosen: pa.Table) -> Iterator[pa.Table]:
    """Messages, tools, response text and tokens of chosen rows, in the order given.

    Args:
        store: the store.
        dataset: whose rows they are.
        chosen: row, rollout_id and run_id, as `facts` gives them, in any order.

    Returns:
        tables of row, run_id, response_text, prompt_token_ids, response_token_ids, messages, tools.

    Raises:
        DatasetError: the store lacks a rollout or prompt.
    """
    if not chosen.num_rows:
        return
    snap = store.snapshot()
    con = store.connect(snap, text="rollouts policies prompts")
    # Sources number rows from 0 in the order wanted.
    numbers = pa.array(np.arange(chosen.num_rows, dtype=np.int64))
    selected = pa.table({"row": numbers, "rollout_id": chosen.column("rollout_id")})
    located = locate(con, snap, selected, has_topk=False)
    prompts = locate_prompts(con, snap, located.select(["row", "prompt_id"]))
    check_complete(dataset, dataset.lock.counts["rows"] - chosen.num_rows + prompts.num_rows)
    sources: list[Source] = [
        source(located, "rollout", snap.files["rollouts"], _ROLLOUT),
        source(prompts, "prompt", snap.files["prompts"], ("messages", "tools")),
    ]
    tokens = pc.add(located.column("prompt_tokens"), located.column("response_tokens"))
    size = tokens.to_numpy().astype(np.int64) * _TEXT_BYTES + _MESSAGES_BYTES
    for start, fetched in fetch_rows(sources, size):
        names = chosen.select(["row", "run_id"]).slice(start, fetched.num_rows)
        yield pa.table({c: t[c] for t in (names, fetched) for c in t.column_names})


def _text(row: Mapping[str, Any]) -> Text:
    return Text(
        row=row["row"],
        run_id=row["run_id"],
        prompt=[from_stored(message) for message in row["messages"]],
        tools=row["tools"],
        response=row["response_text"] or "",
        token_ids=[*row["prompt_token_ids"], *row["response_token_ids"]],
        prompt_tokens=len(row["prompt_token_ids"]),
    )


def prompt_completion(text: Text, sampled: SampledWith) -> dict[str, Any]:
    """A row as TRL reads it: messages and the template's variables, or plain text where the prompt
    was sampled without a chat template.
    """
    if sampled.plain(text.run_id):
        return {"prompt": plain_prompt(text.prompt), "completion": text.response}
    line: dict[str, Any] = {
        "prompt": text.prompt,
        "completion": [{"role": "assistant", "content": text.response}],
    }
    if sampled.any_kwargs:
        line["chat_template_kwargs"] = sampled.kwargs(text.run_id)
    if sampled.any_tools:
        line["tools"] = text.tools
    return line


def plain_prompt(messages: list[Message]) -> str:
    """What was tokenized where no chat template was used: contents, an empty line between."""
    return "\n\n".join(text_of(message) for message in messages)


def as_json(line: Mapping[str, Any]) -> str:
    """One line of a JSONL file."""
    return json.dumps(line, ensure_ascii=False) + "\n"
