"""`s2d view --demo` without a quickstart: a store whose pages have something to show."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2d_store import audits
from s2d_store.store import Store
from tests.support import viewed
from viewer import demo


@pytest.fixture(scope="module")
def store(demo_store: Store) -> Store:
    return demo_store


def test_every_part_of_the_pages_has_something_to_show(store: Store) -> None:
    client = viewed.client(store)
    data = client.get("/index.json?stage=stage3").json()
    rounds = {box["name"]: box["rounds"] for box in data["boxes"]}
    assert rounds == {s.name: s.rounds for s in demo.STAGES} | {"teacher": 0, "student": 0}
    assert all(box["score"] for box in data["boxes"] if box["rounds"])
    assert {edge["relation"] for edge in data["edges"]} == {"start", "rollouts, teacher", "teacher"}
    assert len(data["curves"]["steps"]) == 24 and "pass_rate" in data["curves"]["figures"]
    assert all(client.get("/compare.json").json()["counts"].values())
    rollout = store.sql("SELECT min(rollout_id) FROM tokens WHERE scorer IS NOT NULL").fetchall()
    shown = client.get(f"/rollout/{rollout[0][0]}.json").json()
    assert len(shown["topk"]["sides"]) == 2 and shown["cumulative_kl"]
    assert "<math" in client.get(f"/rollout/{rollout[0][0]}").text


def test_it_is_the_same_every_time(store: Store, tmp_path: Path) -> None:
    again = demo.make(tmp_path / "store")
    text = "SELECT rollout_id, response_text, reward FROM graded_rollouts ORDER BY ALL"
    assert again.sql(text).fetchall() == store.sql(text).fetchall()


def test_no_audit_has_anything_against_it(store: Store) -> None:
    assert [r.name for r in audits.audit(store) if r.status == "failed"] == []
