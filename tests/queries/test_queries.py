"""Named queries, views and macros: each runs, says what it gives, and gives it."""

from __future__ import annotations

import math
from typing import Any

import duckdb
import pytest

import queries
from s2d_store.sql import connection, parameters
from s2d_store.store import Store
from tests.support import audit_rows, synthetic


@pytest.fixture
def filled(store: Store) -> Store:
    synthetic.fill(store, n_prompts=3, n=4, k=5)
    locked = {"dataset_id": "d", "name": "d", "query": "warmup", "fingerprint": "f", "lock": "{}"}
    rows = [locked | {"created_at": synthetic.NOW}]
    store.commit({"datasets": synthetic.table("datasets", rows)})
    return store


@pytest.mark.parametrize("name", queries.catalog())
def test_every_query_gives_the_columns_it_declares(filled: Store, name: str) -> None:
    query = queries.catalog()[name]
    con = filled.connect()
    (rollout,) = filled.sql("SELECT min(rollout_id) FROM rollouts").fetchall()[0]
    ready = {"ROLLOUT": rollout, "DATASET": "d"}
    given = {p.name: ready.get(p.type, "teacher") for p in query.params if p.default is None}
    values = parameters.resolve(query, given, con) | {"seed": 0}
    connection.prepare(con, query.sql)
    relation = con.sql(query.sql, params=parameters.bind(query, values))
    assert tuple(relation.columns) == query.columns
    relation.fetchall()


def test_a_header_without_its_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks '-- grain"):
        queries.parse("q", "user", "-- question: what?\n-- columns: a\nSELECT 1 AS a")
    with pytest.raises(ValueError, match="is not 'name: TYPE = default"):
        queries.parse(
            "q", "user", "-- question: a\n-- grain: b\n-- params:\n--   x is what\n-- columns: a\n"
        )


def test_empty_stores_answer_too(store: Store) -> None:
    assert store.sql("FROM graded_rollouts").fetchall() == []
    assert store.sql(queries.catalog()["spent"].sql, {"purpose": None}).fetchall() == [
        (0, 0, 0, 0, 0, 0, 0.0, 0)
    ]


@pytest.mark.parametrize("n", [1, 4, 10])
def test_pass_at_k_is_unbiased(store: Store, n: int) -> None:
    rows = store.sql(
        "SELECT c, k, pass_at_k($n, c, k) FROM range($n + 1) AS _(c), range(1, $n + 1) AS _(k)",
        {"n": n},
    ).fetchall()
    assert len(rows) == (n + 1) * n
    for c, k, value in rows:
        assert value == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k))
    assert store.sql("SELECT pass_at_k(2, 1, 3)").fetchall() == [(None,)]


def test_avg_at_k_uses_the_first_k(filled: Store) -> None:
    one = filled.sql("SELECT prompts, unjudged, avg_at_k FROM avg_at_k(1)").fetchall()
    assert one == [(3, 0, 1.0)], "sample 0 is right, sample 1 wrong"
    assert filled.sql("SELECT avg_at_k FROM avg_at_k(2)").fetchall() == [(0.5,)]
    assert filled.sql("FROM avg_at_k(5)").fetchall() == []


def test_pass_at_k_keeps_sampling_settings_apart(filled: Store) -> None:
    """The same prompts again at another temperature; one of those rollouts timed out."""
    prompts = [row[0] for row in filled.sql("SELECT prompt_id FROM prompts ORDER BY 1").fetchall()]
    cool = audit_rows.add_rollouts(filled, "cool", "teacher", prompts, n=2, temperature=0.5)
    audit_rows.grade(filled, cool[1:], [1.0] * (len(cool) - 1))
    late = synthetic.REWARD | {"rollout_id": cool[0], "outcome": "timeout", "reward": None}
    filled.commit({"rewards": synthetic.table("rewards", [late])}, fresh=True)
    query = queries.catalog()["pass_at_k"]
    con = filled.connect()
    connection.prepare(con, query.sql)

    def at(k: int) -> list[dict[str, Any]]:
        found = con.execute(query.sql, {"k": k}).fetchall()
        return [dict(zip(query.columns, row, strict=True)) for row in found]

    shown = [(r["temperature"], r["prompts"], r["left_out"], r["pass_at_k"]) for r in at(2)]
    half_right = 1 - math.comb(2, 2) / math.comb(4, 2)
    assert shown == [(0.5, 2, 1, 1.0), (1.0, 3, 0, pytest.approx(half_right, abs=1e-4))]
    assert [(r["prompts"], r["left_out"]) for r in at(3)] == [(0, 3), (3, 0)]
    with pytest.raises(duckdb.Error, match=r"k = 5, the most are 4"):
        at(5)
    ((unjudged, mean),) = filled.sql(
        "SELECT unjudged, avg_at_k FROM avg_at_k(2) WHERE temperature = 0.5"
    ).fetchall()
    assert (unjudged, mean) == (1, 1.0), "the one that timed out is not wrong"


def test_a_rollouts_topk_unnests_in_order(filled: Store) -> None:
    rollout, ids, logprobs, sampled = filled.sql(
        "SELECT rollout_id, token_ids, logprobs, sampled_logprobs FROM topk ORDER BY 1 LIMIT 1"
    ).fetchall()[0]
    rows = filled.sql(f"FROM topk_of('{rollout}')").fetchall()
    assert [r[5] for r in rows] == ids
    assert [r[7] for r in rows] == logprobs
    assert [r[4] for r in rows[:6]] == [1, 2, 3, 4, 5, 1]
    assert [r[3] for r in rows[::5]] == sampled
    assert {r[0] for r in rows} == {"teacher"}


def test_response_tokens_in_order_with_their_text(filled: Store) -> None:
    filled.commit(
        {
            "vocabularies": synthetic.table(
                "vocabularies",
                [
                    {"tokenizer_fingerprint": "tok", "token_id": i, "token": f"<{i}>"}
                    for i in range(synthetic.VOCABULARY)
                ],
            )
        }
    )
    rollout, ids = filled.sql("SELECT rollout_id, response_token_ids FROM rollouts").fetchall()[0]
    rows = filled.sql(f"SELECT token_id, token FROM response_tokens_of('{rollout}')").fetchall()
    assert rows == [(i, f"<{i}>") for i in ids]


def test_newest_verifier_version_counts(filled: Store) -> None:
    from datetime import timedelta

    rows = filled.sql("SELECT * FROM raw.rewards").to_arrow_table().to_pylist()
    later = [
        r
        | {
            "verifier_version": "2",
            "reward": 1.0,
            "outcome": "correct",
            "created_at": synthetic.NOW + timedelta(hours=1),
        }
        for r in rows
    ]
    filled.commit({"rewards": synthetic.table("rewards", later)})
    assert filled.sql("SELECT count(*) FROM rewards").fetchall() == [(24,)]
    assert filled.sql("SELECT avg(reward), count(*) FROM graded_rollouts").fetchall() == [(1.0, 12)]


def test_spent_counts_labels_only_of_updates_that_were_taken(filled: Store) -> None:
    from s2d_store.datasets.build import build

    lock = build(
        filled, "w", queries.catalog()["warmup"], {"teacher": "teacher", "rows_per_update": "2"}
    )
    update = {
        "run_id": "train",
        "update": 1,
        "dataset_id": lock["dataset_id"],
        "rows": 2,
        "prompt_tokens": 6,
        "response_tokens": 11,
        "labels": 2,
        "loss": 1.0,
        "kl": 1.0,
        "entropy": 1.0,
        "topk_mass": 0.5,
        "grad_norm": 1.0,
        "lr": 0.1,
        "seconds": 0.1,
    }
    trained = synthetic.policy("student", parent=synthetic.policy("teacher")["policy_id"])
    filled.commit(
        {
            "updates": synthetic.table("updates", [update]),
            "policies": synthetic.table("policies", [trained | {"run_id": "train", "update": 1}]),
        }
    )
    prompts = {
        r[0] for r in filled.sql("SELECT prompt_id FROM dataset_rows WHERE update = 1").fetchall()
    }
    row = filled.sql(queries.catalog()["spent"].sql, {"purpose": "train"}).fetchall()[0]
    generated = filled.sql("SELECT sum(response_tokens) FROM rollouts").fetchall()[0][0]
    assert row[:6] == (len(prompts), 3, generated, 0, 11, 1)
    flops = 2 * 1000 * (generated + 3 * 12) + 6 * 1000 * 17
    assert row[6] == pytest.approx(flops)
