"""Rollouts of several turns with a tool, from their rows to the tokens that a trainer trains on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from s2d_store import ids
from s2d_store.datasets.read import LockedDataset, UpdateRows
from s2d_store.messages import from_stored, to_stored
from s2d_store.rollouts.sequences import Turn, columns
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import synthetic
from tests.support.synthetic import policy, table

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 20}'}}
ASKED = {"role": "user", "content": "What is 20 + 22?"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "hm"}
TOLD = {"role": "tool", "content": "42", "tool_call_id": "c1"}
SAID = {"role": "assistant", "content": "It is 42."}
CUT = {"role": "assistant", "content": "It"}
BEFORE, AFTER = policy("student", tokenizer="t"), policy("student-next", tokenizer="t")

# The template opens each message: 1 the user's, 2 the assistant's, 3 the tool's.
QUESTION = Turn("user", [1, 10, 11], message=ASKED)


def spoken(ids_: Sequence[int], reason: str, message: dict[str, Any]) -> Turn:
    """A sampled turn: the template's opening, then the policy's tokens."""
    flags = [False] + [True] * len(ids_)
    logprobs = [None, *(-0.01 * token for token in ids_)]
    return Turn("assistant", [2, *ids_], flags, logprobs, logprobs, reason, message)


CALLING = [QUESTION, spoken([20, 21], "tool_calls", CALLED)]
ANSWERED = Turn("tool", [3, 30, 31], message=TOLD)
CONVERSATIONS = {
    # Called the tool and answered.
    "whole": [*CALLING, ANSWERED, spoken([22, 23, 24], "stop", SAID)],
    # Branched off behind the tool's tokens, and was cut off.
    "branch": [*CALLING, ANSWERED, spoken([25, 26], "length", CUT)],
    # Ended with a call that nobody answered.
    "calling": [QUESTION, spoken([20, 27], "tool_calls", CALLED)],
    # One turn of another agent of the same episode, aborted.
    "other": [QUESTION, spoken([28], "aborted", {"role": "assistant", "content": ""})],
}
REWARDS = {"whole": 2.5, "branch": 0.0, "calling": -1.0, "other": 0.5}
# Response tokens and which of them the policy sampled: the first opening belongs to the prompt.
EXPECTED = {
    "whole": ([20, 21, 3, 30, 31, 2, 22, 23, 24], [1, 1, 0, 0, 0, 0, 1, 1, 1]),
    "branch": ([20, 21, 3, 30, 31, 2, 25, 26], [1, 1, 0, 0, 0, 0, 1, 1]),
    "calling": ([20, 27], [1, 1]),
    "other": ([28], [1]),
}


@pytest.fixture
def tooled(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with one group of four rollouts, which commands take by default."""
    tools = json.dumps(TOOLS)
    prompt_id = ids.prompt_id([to_stored(ASKED)], tools)
    prompt = synthetic.PROMPT | {
        "prompt_id": prompt_id,
        "messages": [to_stored(ASKED)],
        "tools": tools,
        "task": json.dumps({"environment": "adding", "key": 7}),
        "answer": "42",
    }
    rollouts, rewards = [], []
    for index, (name, turns) in enumerate(CONVERSATIONS.items()):
        rollouts.append(
            synthetic.ROLLOUT
            | columns(name, turns)
            | {
                "rollout_id": name,
                "role": "student",
                "run_id": "env",
                "prompt_id": prompt_id,
                "policy_id": BEFORE["policy_id"],
                "sample_index": index,
                "origin": "imported",
                "source": json.dumps({"importer": "made", "line": index}),
                "episode_id": "episode-1",
                "agent": "helper" if name == "other" else "solver",
                "parent_rollout_id": "whole" if name == "branch" else None,
                "parent_tokens": 6 if name == "branch" else None,
                # The weights changed while the tool ran.
                "policy_spans": [
                    {"start": 0, "policy_id": BEFORE["policy_id"]},
                    {"start": 6, "policy_id": AFTER["policy_id"]},
                ]
                if name == "whole"
                else None,
            }
        )
        rewards.append(
            synthetic.REWARD
            | {"rollout_id": name, "verifier": "imported-reward", "reward": REWARDS[name]}
            | {"outcome": "reported", "metrics": json.dumps({"steps": len(turns)})}
        )
    store.commit(
        {
            "policies": table("policies", [BEFORE, AFTER]),
            "prompts": table("prompts", [prompt]),
            "rollouts": table("rollouts", rollouts),
            "rewards": table("rewards", rewards),
        }
    )
    monkeypatch.setenv("S2D_STORE", str(store.root))
    return store


def rows_of(store: Store, cli: Cli, query: str, *params: str) -> UpdateRows:
    """The only update of a dataset that `s2d dataset build` made."""
    options = [item for param in ("policy=student", *params) for item in ("--param", param)]
    result = cli("dataset", "build", query, "--query", query, *options)
    assert result.code == 0, result.err
    (update,) = LockedDataset.open(store.folder / "datasets" / query).updates()
    return update


def lists(update: UpdateRows, name: str) -> list[list[Any]]:
    values, offsets = update.lists[name]
    return [part.tolist() for part in np.split(values, offsets[1:-1])]


def test_the_rows_say_what_happened(tooled: Store) -> None:
    found = (
        tooled.sql("SELECT * EXCLUDE (created_at) FROM rollouts ORDER BY sample_index")
        .to_arrow_table()
        .to_pylist()
    )
    for row, (name, (tokens, mask)) in zip(found, EXPECTED.items(), strict=True):
        assert row["rollout_id"] == name and row["prompt_token_ids"] == [1, 10, 11, 2]
        assert row["response_token_ids"] == tokens
        flags = [bool(flag) for flag in mask]
        assert row["response_mask"] == (None if all(flags) else flags)
        for which in ("response_logprobs", "sampler_logprobs"):
            assert row[which] == [
                pytest.approx(-0.01 * token) if flag else None
                for token, flag in zip(tokens, flags, strict=True)
            ]
        assert (row["response_tokens"], row["sampled_tokens"]) == (len(tokens), sum(mask))
        said = [turn.message for turn in CONVERSATIONS[name]]
        assert json.loads(row["messages"]) == said
        assert [json.loads(turn["message"]) for turn in row["turns"]] == said[1:]
    whole, branch, calling, other = found
    assert [row["finish_reason"] for row in found] == ["stop", "length", "tool_calls", "aborted"]
    reasons = [turn["finish_reason"] for turn in whole["turns"]]
    assert reasons == ["tool_calls", None, "stop"]
    assert [span["start"] for span in whole["policy_spans"]] == [0, 6]
    shared = branch["parent_tokens"]
    assert branch["parent_rollout_id"] == whole["rollout_id"]
    assert branch["response_token_ids"][:shared] == whole["response_token_ids"][:shared]
    assert len({row["group_id"] for row in found}) == len({row["episode_id"] for row in found}) == 1
    assert {row["agent"] for row in (whole, branch, calling)} == {"solver"} != {other["agent"]}
    (prompt,) = tooled.sql("SELECT messages, tools, task, answer FROM prompts").fetchall()
    assert [from_stored(message) for message in prompt[0]] == [ASKED]
    assert (json.loads(prompt[1]), json.loads(prompt[2])["key"], prompt[3]) == (TOOLS, 7, "42")


@pytest.mark.parametrize(
    ("query", "params"),
    [
        ("sft", ("correct_only=false", "finished_only=false")),
        ("grpo", ("verifier=imported-reward",)),
    ],
)
def test_trained_are_the_sampled_tokens_alone(
    tooled: Store, cli: Cli, query: str, params: tuple[str, ...]
) -> None:
    pytest.importorskip("torch")
    from trainers.batches import micro_batches, trained_lengths

    update = rows_of(tooled, cli, query, *params)
    names = update.scalars["rollout_id"].tolist()
    assert sorted(names) == sorted(EXPECTED)
    assert lists(update, "response_token_ids") == [EXPECTED[name][0] for name in names]
    assert lists(update, "response_mask") == [
        [bool(flag) for flag in EXPECTED[name][1]] for name in names
    ]
    assert trained_lengths(update).tolist() == [sum(EXPECTED[name][1]) for name in names]
    (batch,) = micro_batches(update, 1000, "packed")
    sampled = [
        [token for token, flag in zip(*EXPECTED[names[row]], strict=True) if flag]
        for row in batch.rows.tolist()
    ]
    assert batch.targets.tolist() == [token for row in sampled for token in row]
    whole = sum(4 + len(tokens) for tokens, _ in EXPECTED.values())
    assert batch.input_ids.numel() == whole, "a tool's tokens are context"


def test_grpo_compares_the_group_and_keeps_the_sampled_logprobs(tooled: Store, cli: Cli) -> None:
    update = rows_of(tooled, cli, "grpo", "verifier=imported-reward")
    names = update.scalars["rollout_id"].tolist()
    rewards = np.array([REWARDS[name] for name in names])
    wanted = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)
    assert update.scalars["advantage"].tolist() == pytest.approx(wanted.tolist())
    for name, logprobs in zip(names, lists(update, "response_logprobs"), strict=True):
        tokens, mask = EXPECTED[name]
        assert logprobs == pytest.approx([-0.01 * t * m for t, m in zip(tokens, mask, strict=True)])


def test_sft_takes_finished_rollouts_unless_told(tooled: Store, cli: Cli) -> None:
    update = rows_of(tooled, cli, "sft", "correct_only=false")
    assert update.scalars["rollout_id"].tolist() == ["whole"]


def test_a_policy_s_logprob_that_is_missing_is_refused_by_grpo_alone(
    tooled: Store, cli: Cli
) -> None:
    """Null at a tool's token is as it should be; null at a sampled one is a gap."""
    (row,) = (
        tooled.sql("SELECT * FROM rollouts WHERE rollout_id = 'whole'").to_arrow_table().to_pylist()
    )
    gap = [None, *row["response_logprobs"][1:]]
    lacking = row | {"rollout_id": "gap", "sample_index": 4, "response_logprobs": gap}
    reward = synthetic.REWARD | {"rollout_id": "gap", "verifier": "imported-reward"}
    tooled.commit({"rollouts": table("rollouts", [lacking]), "rewards": table("rewards", [reward])})
    options = ("--param", "policy=student", "--param", "verifier=imported-reward")
    result = cli("dataset", "build", "g", "--query", "grpo", *options)
    assert result.code != 0
    assert "1 rollouts that query grpo selects lack logprobs of tokens" in result.err
    assert "gap" in result.err
    update = rows_of(tooled, cli, "sft", "correct_only=false")
    assert sorted(update.scalars["rollout_id"].tolist()) == ["gap", "whole"]


def test_audits_compare_the_sampled_tokens_of_a_policy_of_unknown_vocabulary(
    tooled: Store, cli: Cli
) -> None:
    """Rows with nulls and rows without any lie in one chunk of the query that compares them."""
    outside = policy("outside") | {"kind": "outside", "vocab_size": None, "location": None}
    rows = tooled.sql("SELECT * FROM rollouts").to_arrow_table().to_pylist()
    scores, again = [], []
    for row in rows:
        again.append(
            row
            | {"rollout_id": f"{row['rollout_id']}-outside", "policy_id": outside["policy_id"]}
            | {"run_id": "elsewhere"}
        )
        tokens = row["response_token_ids"]
        scores.append(
            {
                "rollout_id": again[-1]["rollout_id"],
                "scorer_policy_id": outside["policy_id"],
                "support": "given",
                "k": 1,
                "token_ids": tokens,
                "logprobs": [-0.01 * token for token in tokens],
                "sampled_logprobs": [-0.01 * token for token in tokens],
                "run_id": "elsewhere",
                "created_at": row["created_at"],
            }
        )
    nothing = again[0] | {"rollout_id": "scored alone", "sampled_tokens": 0}
    again.append(nothing | {"response_mask": [False] * nothing["response_tokens"]})
    scores.append(scores[0] | {"rollout_id": "scored alone"})
    written = list(scores[0])
    tooled.commit(
        {
            "policies": table("policies", [outside]),
            "rollouts": table("rollouts", again),
            "topk": table("topk", scores).select(written),
        }
    )
    for audit in ("topk_alignment", "topk_consistency"):
        result = cli("audit", audit)
        assert result.code == 0, result.out + result.err
        assert "5" in result.out
    wrong = scores[2] | {"rollout_id": again[2]["rollout_id"], "k": 2, "token_ids": [20, 1, 27, 1]}
    wrong |= {"logprobs": [-2.0, -3.0, -2.0, -3.0], "sampled_logprobs": [-2.0, -2.0]}
    tooled.commit({"topk": table("topk", [wrong]).select(written)})
    result = cli("audit", "topk_alignment")
    assert result.code == 1 and "the policy disagrees with its own logprobs" in result.out
