"""Conversations as rows of table rollouts: masks, spans, counts, and what does not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_store.errors import InputError
from s2d_store.messages import from_stored, to_stored
from s2d_store.rollouts.sequences import Turn, check_row, columns, sampled_mask
from s2d_store.schema import TABLES
from s2d_store.store import Store
from tests.support import synthetic

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
ASKED = {"role": "user", "content": "1+1?"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOLD = {"role": "tool", "content": "2", "tool_call_id": "c1"}
SAID = {"role": "assistant", "content": "It is 2.", "reasoning_content": "hm"}
# 1 2 | 3(template) 4 5 | 6 7 | 8(template) 9
TURNS = [
    Turn("user", [1, 2], message=ASKED),
    Turn(
        "assistant",
        [3, 4, 5],
        sampled=[False, True, True],
        logprobs=[None, -0.5, -0.25],
        sampler_logprobs=[None, -0.1, -0.2],
        finish_reason="tool_calls",
        message=CALLED,
    ),
    Turn("tool", [6, 7], message=TOLD),
    Turn("assistant", [8, 9], sampled=[False, True], finish_reason="stop", message=SAID),
]


def test_a_conversation_with_a_tool_is_one_row() -> None:
    row = columns("x line 1", TURNS)
    assert row["prompt_token_ids"] == [1, 2, 3]
    assert row["response_token_ids"] == [4, 5, 6, 7, 8, 9]
    assert row["response_mask"] == [True, True, False, False, False, True]
    assert row["response_logprobs"] == [-0.5, -0.25, None, None, None, None]
    assert row["sampler_logprobs"] == [-0.1, -0.2, None, None, None, None]
    assert (row["prompt_tokens"], row["response_tokens"], row["sampled_tokens"]) == (3, 6, 3)
    assert (row["finish_reason"], row["tokens_from"]) == ("stop", "sampled")
    assert json.loads(row["messages"]) == [ASKED, CALLED, TOLD, SAID]
    spans = [(s["start"], s["length"], s["role"], s["finish_reason"]) for s in row["turns"]]
    assert spans == [
        (0, 2, "assistant", "tool_calls"),
        (2, 2, "tool", None),
        (4, 2, "assistant", "stop"),
    ]
    assert [json.loads(s["message"]) for s in row["turns"]] == [CALLED, TOLD, SAID]
    assert [from_stored(to_stored(m)) for m in (ASKED, CALLED, TOLD, SAID)] == json.loads(
        row["messages"]
    )


def test_the_row_is_stored_and_read_as_it_is(store: Store) -> None:
    row = columns("x", TURNS)
    whole = synthetic.ROLLOUT | {
        "rollout_id": "r",
        "role": "student",
        "run_id": "import",
        "prompt_id": "p",
        "policy_id": "o",
        "sample_index": 0,
        "origin": "sampled",
        "policy_spans": [{"start": 0, "policy_id": "o"}, {"start": 4, "policy_id": "o2"}],
        "response_text": None,
    }
    store.commit({"rollouts": synthetic.table("rollouts", [whole | row])})
    names = ", ".join(name for name in row if name in TABLES["rollouts"].column_names)
    found = store.sql(f"SELECT {names} FROM rollouts").to_arrow_table().to_pylist()[0]
    for name, value in found.items():
        if name.endswith("logprobs"):
            assert value == [None if x is None else pytest.approx(x) for x in row[name]]
        else:
            assert value == row[name], name
    spent = "SELECT generated_tokens FROM spent WHERE kind = 'generate'"
    assert store.sql(spent).fetchall() == [(3,)], "budgets count what the policy sampled"


def test_one_sampled_turn_needs_no_mask() -> None:
    row = columns("x", [Turn("user", [1]), Turn("assistant", [2, 3], sampled=True)])
    assert (row["response_mask"], row["response_logprobs"], row["messages"]) == (None, None, None)
    assert row["response_token_ids"] == [2, 3] and sampled_mask(row) == [True, True]


def test_text_alone_has_messages_and_no_tokens() -> None:
    turns = [Turn("user", None, message=ASKED), Turn("assistant", None, True, message=SAID)]
    row = columns("x", turns)
    assert row["tokens_from"] == "none" and json.loads(row["messages"]) == [ASKED, SAID]
    assert row["response_token_ids"] is row["turns"] is row["sampled_tokens"] is None
    assert row.keys() == columns("x", TURNS).keys()


@pytest.mark.parametrize(
    ("turns", "says"),
    [
        ([Turn("user", [1])], "sampled no token"),
        ([Turn("assistant", [1, 2], sampled=[True])], "turn 0 has 1 flags"),
        ([Turn("assistant", [1], True, logprobs=[-1.0, -1.0])], "turn 0 has 2 logprobs for 1"),
        ([Turn("user", None), Turn("assistant", [1], True)], "turn 0 (user) has no token ids"),
        ([Turn("assistant", [1], True, finish_reason="eos")], "finish reason 'eos' is unknown"),
        ([Turn("assistant", [1], True, logprobs=[0.5])], "token 0 is 0.5, not at most 0"),
        ([Turn("assistant", [-1], True)], "token id -1 is outside"),
        (
            [Turn("assistant", [1], True), Turn("tool", [2], sampler_logprobs=[-1.0])],
            "sampler_logprobs of token 1 is -1.0, though the policy did not sample it",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(turns: list[Turn], says: str) -> None:
    with pytest.raises(InputError) as raised:
        columns("f.jsonl line 7", turns)
    assert raised.value.what.startswith("f.jsonl line 7: ") and says in str(raised.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"response_mask": [True]}, "response_mask has 1 entries for 6 tokens"),
        ({"sampled_tokens": 6}, "sampled_tokens is 6, its lists say 3"),
        ({"prompt_tokens": 2}, "prompt_tokens is 2, its lists say 3"),
        ({"response_logprobs": [float("nan")] * 6}, "token 0 is nan"),
        ({"turns": [{"start": 4, "length": 3}]}, "turns[0] covers [4, 7) of 6 tokens"),
        ({"turns": [{"start": 2, "length": 2}, {"start": 3, "length": 1}]}, "turns[1] covers"),
        ({"policy_spans": [{"start": 7, "policy_id": "o"}]}, "policy_spans[0]"),
        ({"parent_tokens": 7}, "parent_tokens is 7"),
        ({"response_token_ids": None}, "response_mask is there, response_token_ids is not"),
    ],
)
def test_a_row_of_somebody_elses_is_checked(change: dict[str, Any], says: str) -> None:
    row = columns("x", TURNS)
    check_row("x", row, vocab_size=10)
    with pytest.raises(InputError) as raised:
        check_row("x", row | change)
    assert says in raised.value.what
    with pytest.raises(InputError, match="token id 9 is outside"):
        check_row("x", row, vocab_size=9)


def test_the_token_where_the_weights_changed_may_be_unknown() -> None:
    spans = [{"start": 0, "policy_id": "o"}, {"start": None, "policy_id": "o2"}]
    check_row("x", columns("x", TURNS) | {"policy_spans": spans})


tokens = st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=6)


@given(st.lists(tokens, min_size=1, max_size=6))
def test_nothing_is_lost_or_moved(conversation: list[list[tuple[int, bool]]]) -> None:
    turns = [
        Turn("r", [t for t, _ in turn], [s for _, s in turn], [-float(t) for t, _ in turn])
        for turn in conversation
    ]
    flat = [pair for turn in conversation for pair in turn]
    if not any(sampled for _, sampled in flat):
        with pytest.raises(InputError):
            columns("x", turns)
        return
    row = columns("x", turns)
    assert row["prompt_token_ids"] + row["response_token_ids"] == [t for t, _ in flat]
    split = row["prompt_tokens"]
    assert sampled_mask(row) == [s for _, s in flat[split:]] and sampled_mask(row)[0]
    assert not any(s for _, s in flat[:split])
    assert row["response_logprobs"] == [-float(t) for t, _ in flat[split:]]
    assert sum(span["length"] for span in row["turns"]) == row["response_tokens"]
