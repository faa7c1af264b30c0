"""The view tokens: one row per response token and scorer, against NumPy and a real tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from s2d_store.encoding import topk
from s2d_store.encoding.token_text import decoded
from s2d_store.encoding.topk import TopK
from s2d_store.encoding.topk_summary import summarize
from s2d_store.store import Store
from tests.support import synthetic
from tests.support.dataset_rows import Made, add_policies, add_prompts, add_rollouts, policy_id
from tests.support.synthetic import NOW, VOCABULARY, policy, random_topk

K = 5


def add_vocabulary(store: Store, tokens: list[str]) -> None:
    rows = [
        {"tokenizer_fingerprint": "tok", "token_id": i, "token": token}
        for i, token in enumerate(tokens)
    ]
    store.commit({"vocabularies": synthetic.table("vocabularies", rows)}, fresh=True)


def add_topk(store: Store, rollout: str, scorer: str, support: str, entry: TopK) -> None:
    columns = {
        "rollout_id": [rollout],
        "scorer_policy_id": [policy_id(scorer)],
        "support": [support],
        **topk.to_columns([entry]),
        "run_id": ["score"],
        "created_at": pa.array([NOW], pa.timestamp("us", tz="UTC")),
    }
    store.commit({"topk": pa.table(columns)}, fresh=True)


@pytest.fixture
def sampled(store: Store) -> tuple[Store, str, np.ndarray]:
    """A rollout of five tokens, the third not the policy's; its own top-k and two scorers'."""
    add_prompts(store, 1)
    add_policies(store, policy("student"), policy("teacher"), policy("other"))
    add_vocabulary(store, [f"Ġw{i}" if i else "Ġ" for i in range(VOCABULARY)])
    mask = [True, True, False, True, True]
    logprobs = [-1.0, -0.5, None, -2.0, -0.25]
    (rollout,) = add_rollouts(
        store, "gen", "student", [Made(0, tokens=5)], response_mask=mask,
        response_logprobs=logprobs, sampled_tokens=4,
    )  # fmt: skip
    (tokens,) = store.sql("SELECT response_token_ids FROM rollouts").fetchall()[0]
    return store, rollout, np.array(tokens)


def rows_of(store: Store, rollout: str) -> list[dict[str, Any]]:
    found = store.sql(
        "SELECT * FROM tokens WHERE rollout_id = $id ORDER BY scorer, position", {"id": rollout}
    )
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def test_a_rollout_that_nobody_scored(sampled: tuple[Store, str, np.ndarray]) -> None:
    store, rollout, tokens = sampled
    rows = rows_of(store, rollout)
    assert [r["position"] for r in rows] == [0, 1, 2, 3, 4]
    assert [r["token_id"] for r in rows] == tokens.tolist()
    assert [r["token"] for r in rows] == [f" w{i}" if i else " " for i in tokens]
    assert [r["sampled"] for r in rows] == [True, True, False, True, True]
    assert [r["logprob"] for r in rows] == [-1.0, -0.5, None, -2.0, -0.25]
    assert {r["policy"] for r in rows} == {"student"} and {r["scorer"] for r in rows} == {None}
    empty = ("policy_entropy", "policy_top", "scorer_logprob", "scorer_top", "kl")
    assert all(r[name] is None for r in rows for name in empty)


def test_policy_and_scorers_side_by_side(sampled: tuple[Store, str, np.ndarray]) -> None:
    store, rollout, tokens = sampled
    rng = np.random.default_rng(0)
    entries = {name: random_topk(rng, tokens, K) for name in ("student", "teacher", "other")}
    for name, entry in entries.items():
        add_topk(store, rollout, name, "own", entry)
    # A smaller k, and the same scorer's logprobs at other ids, do not count beside its own top k.
    add_topk(store, rollout, "teacher", "own", random_topk(rng, tokens, 2))
    add_topk(store, rollout, "teacher", "policy", random_topk(rng, tokens, K))
    rows = rows_of(store, rollout)
    assert [(r["scorer"], r["position"]) for r in rows] == [
        (name, i) for name in ("other", "teacher") for i in range(5)
    ]
    for row in rows:
        i = row["position"]
        for side, name in (("policy", "student"), ("scorer", row["scorer"])):
            logprobs = entries[name].logprobs[i].astype(float)
            p = np.exp(logprobs)
            assert row[f"{side}_entropy"] == pytest.approx(-(p * logprobs).sum())
            assert row[f"{side}_tail"] == pytest.approx(1 - p.sum())
            best = entries[name].token_ids[i][logprobs.argmax()]
            assert row[f"{side}_top"] == (f" w{best}" if best else " ")
        scored = entries[row["scorer"]].sampled_logprobs[i]
        assert row["scorer_logprob"] == pytest.approx(scored)
        expected = None if row["logprob"] is None else pytest.approx(row["logprob"] - scored)
        assert row["kl"] == expected


def test_every_rollout_has_its_tokens(store: Store) -> None:
    synthetic.fill(store, n_prompts=5, n=4, k=3)
    found = store.sql(
        "SELECT (SELECT count(*) FROM tokens), (SELECT count(*) FROM tokens WHERE token IS NULL), "
        "sum(response_tokens) FROM rollouts"
    )
    ((rows, without, tokens),) = found.fetchall()
    assert rows == without == tokens, "no vocabulary is stored here"
    assert store.sql("SELECT bool_and(policy_tail BETWEEN 0 AND 1) FROM tokens").fetchall() == [
        (True,)
    ]


def test_the_share_of_a_token_adds_up_to_the_estimate_of_the_kl(
    sampled: tuple[Store, str, np.ndarray],
) -> None:
    store, rollout, tokens = sampled
    add_topk(store, rollout, "teacher", "own", random_topk(np.random.default_rng(1), tokens, K))
    ((by_token, n),) = store.sql("SELECT sum(kl), count(kl) FROM tokens").fetchall()
    ((estimate, counted),) = store.sql("SELECT kl, tokens FROM sampled_kl(false)").fetchall()
    assert n == counted == 4, "the token of a tool is not the policy's"
    assert by_token / n == pytest.approx(estimate)


@given(st.text())
def test_byte_level_tokens_are_what_the_tokenizer_decodes(text: str) -> None:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = [piece for piece, _ in byte_level.pre_tokenize_str(text)]
    assert decoded("".join(pieces), True) == text


@given(st.lists(st.integers(0, 255), min_size=1, max_size=6))
def test_parts_of_characters_are_replaced_as_the_tokenizer_does(values: list[int]) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [alphabet[value] for value in values]
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(alphabet)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    assert decoded("".join(tokens), True) == tokenizer.decode(values)


@pytest.mark.parametrize(
    ("token", "byte_level", "text"),
    [
        ("ĠHello", True, " Hello"),
        ("Ċ", True, "\n"),
        ("Ã©", True, "é"),
        ("ðŁ", True, "�"),
        ("<|im_end|>", True, "<|im_end|>"),
        ("two words", True, "two words"),
        ("中文", True, "中文"),
        ("▁Hello", False, " Hello"),
        ("<0x0A>", False, "\n"),
        ("é", False, "é"),
        ("Ġ", False, "Ġ"),
        ("", False, ""),
    ],
)
def test_spellings(token: str, byte_level: bool, text: str) -> None:
    assert decoded(token, byte_level) == text


def test_a_summary_of_certain_and_of_impossible_entries() -> None:
    logprobs = np.array([[0.0, -np.inf], [-np.log(2), -np.log(2)]], np.float32)
    found = summarize(np.array([[7, 8], [3, 4]], np.int32), logprobs)
    assert found.top.tolist() == [7, 3]
    np.testing.assert_allclose(found.entropy, [0, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(found.tail, [0, 0], atol=1e-7)
    assert [len(column) for column in summarize(np.empty((0, 2), np.int32), logprobs[:0])] == [
        0
    ] * 3
