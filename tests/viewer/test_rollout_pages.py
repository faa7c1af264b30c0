"""The pages of rollouts: one, many, and what was thought at a token."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from s2d_store.store import Store
from tests.support import audit_rows, made_stores, viewed


@pytest.fixture
def pages(sound: Store) -> TestClient:
    return viewed.client(sound)


def scored(store: Store) -> str:
    """A student's rollout that a teacher scored."""
    text = "SELECT min(rollout_id) FROM tokens WHERE scorer IS NOT NULL"
    return str(store.sql(text).fetchall()[0][0])


def test_tokens_are_those_of_the_view(sound: Store, pages: TestClient) -> None:
    rollout = scored(sound)
    data = pages.get(f"/rollout/{rollout}.json").json()
    text = "SELECT token_id, kl, scorer FROM tokens WHERE rollout_id = $id ORDER BY position"
    rows = sound.sql(text, {"id": rollout}).fetchall()
    assert data["scorer"] == rows[0][2] and data["signal"] == "kl"
    assert data["tokens"]["ids"] == [row[0] for row in rows]
    assert data["tokens"]["values"] == pytest.approx([row[1] for row in rows])
    total = data["cumulative_kl"][data["scorer"]][-1]
    assert total == pytest.approx(sum(row[1] for row in rows))
    html = pages.get(f"/rollout/{rollout}").text
    assert html.count("aria-current") >= 1 and "Cumulative KL" in html


def test_topk_at_a_token_is_that_of_the_macro(sound: Store, pages: TestClient) -> None:
    rollout = scored(sound)
    text = (
        "SELECT scorer, token_id, logprob FROM topk_of($id) WHERE position = 7 "
        "ORDER BY scorer, logprob DESC, rank"
    )
    rows = sound.sql(text, {"id": rollout}).fetchall()
    data = pages.get(f"/rollout/{rollout}/topk/7.json").json()
    assert rows
    for side in data["topk"]["sides"]:
        expected = [(t, p) for scorer, t, p in rows if scorer == side["scorer"]]
        assert [(e["token_id"], e["logprob"]) for e in side["entries"]] == expected
        mass = sum(math.exp(p) for _, p in expected)
        assert side["tail"] == pytest.approx(max(0, 1 - mass))
    html = pages.get(f"/rollout/{rollout}?at=7").text
    assert "Token 7" in html


def test_a_group_its_advantage_and_what_consumed_it(sound: Store, pages: TestClient) -> None:
    text = (
        "SELECT rollout_id, reward - avg(reward) OVER (PARTITION BY group_id) "
        "FROM graded_rollouts WHERE reward IS NOT NULL AND rollout_id IN "
        "(SELECT rollout_id FROM consumed_rows WHERE labelled) ORDER BY 1 LIMIT 1"
    )
    rollout, advantage = sound.sql(text).fetchall()[0]
    data = pages.get(f"/rollout/{rollout}.json").json()
    assert data["rollout"]["advantage"] == pytest.approx(advantage)
    uses = "SELECT run_id, update FROM consumed_rows WHERE rollout_id = $id ORDER BY ALL"
    assert [(u["run_id"], u["update"]) for u in data["uses"]] == sound.sql(
        uses, {"id": rollout}
    ).fetchall()
    assert rollout in [sibling["rollout_id"] for sibling in data["siblings"]]
    shaded = pages.get(f"/rollout/{rollout}.json?signal=advantage").json()
    assert set(shaded["tokens"]["values"]) == {data["rollout"]["advantage"]}


def test_superseded_verdicts_are_shown_and_do_not_count(sound: Store, tmp_path: Path) -> None:
    store = made_stores.copy(sound, tmp_path / "store")
    rollout = str(store.sql("SELECT min(rollout_id) FROM current_rewards").fetchall()[0][0])
    audit_rows.grade(store, [rollout], [0.0], version="2")
    data = viewed.client(store).get(f"/rollout/{rollout}.json").json()
    assert [(v["verifier_version"], v["counts"]) for v in data["verdicts"]] == [
        ("2", True),
        ("1", False),
    ]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/rollout/nope", "no rollout &#39;nope&#39;"),
        ("/rollout/{id}?signal=klx", "did you mean &#39;kl&#39;?"),
        ("/rollout/{id}?at=99999", "at=&#39;99999&#39; is not a whole number from 0 to"),
        ("/rollouts?where=foo%3D1", "the filter &#39;foo=1&#39; does not work"),
        ("/rollouts?where=true)%20OR%20(true", "does not work"),
        ("/rollouts?where=1;DROP%20TABLE%20listed", "does not work"),
        ("/rollouts?offset=-1", "offset=&#39;-1&#39; is not a whole number"),
        ("/rollouts?ready=flip", "did you mean &#39;flipped&#39;?"),
        ("/nowhere", "there is no such page"),
    ],
)
def test_mistakes_are_said_in_words(sound: Store, pages: TestClient, path: str, said: str) -> None:
    answer = pages.get(path.replace("{id}", scored(sound)))
    assert answer.status_code in (400, 404)
    assert said in answer.text


def test_the_table_pages_sorts_and_filters(sound: Store, pages: TestClient) -> None:
    total = sound.sql("SELECT count(*) FROM rollouts").fetchall()[0][0]
    seen: list[str] = []
    while len(seen) < total:
        part = pages.get(f"/rollouts.json?part=rows&rows=7&offset={len(seen)}&order=best").json()
        assert part["total"] == total and part["rows"]
        seen += [row["rollout_id"] for row in part["rows"]]
    assert len(set(seen)) == total
    wanted = sound.sql(
        "SELECT rollout_id FROM graded_rollouts ORDER BY -reward NULLS LAST, rollout_id"
    ).fetchall()
    assert seen == [row[0] for row in wanted]
    # Columns that the table does not hold are asked of the whole store.
    for where in ("role = 'teacher'", "response_text LIKE 'the%' AND role = 'teacher'"):
        answer = pages.get("/rollouts.json", params={"where": where}).json()
        count = sound.sql(f"SELECT count(*) FROM graded_rollouts WHERE {where}").fetchall()[0][0]
        assert answer["total"] == count and where in answer["sql"]
        assert {row["role"] for row in answer["rows"]} <= {"teacher"}


def test_bars_are_filters_that_choose_what_they_count(pages: TestClient) -> None:
    data = pages.get("/rollouts.json").json()
    bars = [bar for part in data["histograms"] for bar in part["bins"]]
    bars += [bar for part in data["counts"] for bar in part["words"]]
    assert len(bars) > 4
    for bar in bars:
        chosen = pages.get("/rollouts.json", params={"where": bar["condition"], "part": "rows"})
        assert chosen.json()["total"] == bar["count"], bar


def test_ready_filters_are_sql_that_can_be_copied(sound: Store, pages: TestClient) -> None:
    names = pages.get("/rollouts.json").json()["ready_filters"]
    # With a condition over the table's columns; one of them alone, and with one over others.
    asks = [{"ready": name, "where": "round = 0"} for name in names]
    asks += [{"ready": "loops", "where": where} for where in ("", "length(response_text) > 0")]
    for asked in asks:
        answer = pages.get("/rollouts.json", params=asked).json()
        assert len(sound.sql(answer["sql"]).fetchall()) == answer["total"], asked


def test_a_page_follows_what_is_committed(sound: Store, tmp_path: Path) -> None:
    store = made_stores.copy(sound, tmp_path / "store")
    pages = viewed.client(store)
    before = pages.get("/rollouts.json").json()["total"]
    prompt = store.sql("SELECT min(prompt_id) FROM prompts").fetchall()[0][0]
    added = audit_rows.add_rollouts(store, "later", "student", [prompt], n=3)
    assert pages.get("/rollouts.json").json()["total"] == before + 3
    assert pages.get(f"/rollout/{added[0]}").status_code == 200


def test_a_query_that_takes_too_long_is_stopped(sound: Store) -> None:
    endless = "(SELECT count(*) FROM range(100000000) a, range(100000000) b) > 0"
    answer = viewed.client(sound, limit_s=0.3).get("/rollouts.json", params={"where": endless})
    assert answer.status_code == 400
    assert "longer than 0.3 seconds" in answer.json()["error"] + answer.json()["why"]
