"""The pages of stages, comparisons, datasets, books and SQL: their figures are the store's own."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import queries
from s2d_store.accounting.budget_file import spending
from s2d_store.audits import audit
from s2d_store.datasets.build import build
from s2d_store.store import Store
from tests.support import audit_rows, made_stores, viewed
from tests.support.synthetic import table
from viewer import text as view_text
from viewer.pages import PAGES
from viewer.pages.compare import first_difference


@pytest.fixture
def pages(sound: Store) -> TestClient:
    return viewed.client(sound)


def a_path(store: Store, path: str) -> str:
    """A page's path with the first that the store has."""
    ids = store.sql("SELECT min(rollout_id) FROM tokens WHERE scorer IS NOT NULL").fetchall()
    dataset = store.sql("SELECT min(dataset_id) FROM datasets").fetchall()
    named = {"rollout_id": ids[0][0], "position": "0", "dataset_id": dataset[0][0]}
    return path.format(**named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_is_html_and_the_same_as_json(sound: Store, page: object) -> None:
    path = a_path(sound, page.path)  # type: ignore[attr-defined]
    client = viewed.client(sound)
    html = client.get(path)
    assert html.status_code == 200 and html.text.startswith("<!doctype html>")
    assert " style=" not in html.text and "<script>" not in html.text  # what the headers forbid
    stem = path.rstrip("/") or "/index"
    whole, again = client.get(f"{stem}.json"), client.get(f"{path}?format=json")
    assert whole.status_code == 200
    # The same but for clocks.
    unclocked = [re.sub(r'"seconds":[\d.e-]+', "", answer.text) for answer in (whole, again)]
    assert unclocked[0] == unclocked[1]


def test_an_empty_store_has_every_page(tmp_path: Path) -> None:
    client = viewed.client(Store.init(tmp_path / "empty"))
    for page in PAGES:
        if "{" not in page.path:
            answer = client.get(page.path)
            assert answer.status_code == 200, (page.name, answer.text)


def test_the_experiment_is_what_the_books_say(spent: Store) -> None:
    data = viewed.client(spent).get("/index.json").json()
    rows = spending(spent.connect(), "train")
    stages = {row["name"]: row for row in rows if row["scope"] == "stage"}
    boxes = {box["name"]: box for box in data["boxes"] if box["rounds"]}
    assert boxes and set(boxes) <= set(stages)
    for name, box in boxes.items():
        assert (box["labels"], box["updates"]) == (stages[name]["labels"], stages[name]["updates"])
    names = {box["name"] for box in data["boxes"]}
    assert {edge["relation"] for edge in data["edges"]} >= {"start"}
    assert all({e["source"], e["target"]} <= names for e in data["edges"])
    books = viewed.client(spent).get("/books.json").json()
    experiment = next(row for row in rows if row["scope"] == "experiment")
    assert books["total"]["labels"] == experiment["labels"]
    assert {r["name"]: r["flops"] for r in books["by_stage"]} == {
        name: row["flops"] for name, row in stages.items()
    }


def test_the_stages_are_there_before_their_figures(spent: Store) -> None:
    client = viewed.client(spent, patience_s=0.0)
    first = client.get("/")
    assert first.status_code == 200 and 'http-equiv="refresh"' in first.text
    whole = client.get("/index.json").json()  # who asks for data waits
    assert whole["pending"] is False and whole["total"]["updates"]
    assert all(box["name"] in first.text for box in whole["boxes"])
    deadline = time.monotonic() + 60
    while 'http-equiv="refresh"' in client.get("/").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "training FLOPs" in client.get("/").text
    books = viewed.client(spent, patience_s=0.0)
    assert 'http-equiv="refresh"' in books.get("/books").text
    assert books.get("/books.json").json()["total"]["updates"]
    while 'http-equiv="refresh"' in books.get("/books").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "labels spent" in books.get("/books").text


def test_a_stage_opens_its_curves_over_one_step(sound: Store, pages: TestClient) -> None:
    stage = pages.get("/index.json").json()["boxes"][-1]["name"]
    data = pages.get(f"/index.json?stage={stage}").json()
    count = sound.sql(
        "SELECT count(*) FROM updates SEMI JOIN (SELECT run_id FROM runs WHERE stage = $stage) "
        "USING (run_id)",
        {"stage": stage},
    ).fetchall()[0][0]
    assert data["curves"]["steps"] == list(range(1, count + 1))
    assert len(data["curves"]["figures"]["loss"]) == count
    wrong = pages.get("/?stage=nope")
    assert wrong.status_code == 400 and "stage=&#39;nope&#39; is unknown" in wrong.text


def test_a_stage_that_runs_says_how_long_it_still_takes(spent: Store, tmp_path: Path) -> None:
    store = made_stores.copy(spent, tmp_path / "store")
    begun = datetime.now(UTC) - timedelta(seconds=100)
    stage = viewed.client(store).get("/index.json").json()["boxes"][-1]
    planned = 2 * stage["updates"]
    row = {"run_id": "live", "kind": "round", "stage": stage["name"], "status": "running"}
    row |= {"config": f'{{"kind": "grpo", "train": {{"schedule_updates": {planned}}}}}'}
    row |= {"code_version": "1", "parents": [], "entered_at": begun, "attempt": 0}
    store.commit({"runs": table("runs", [row])})
    client = viewed.client(store)
    box = next(b for b in client.get("/index.json").json()["boxes"] if b["name"] == stage["name"])
    assert box["running"] == 1
    assert box["left_seconds"] == pytest.approx(box["seconds"])
    assert f"{stage['name']} runs, about" in client.get("/").text


def test_audits_are_those_of_the_command(sound: Store, pages: TestClient) -> None:
    shown = {row["name"]: row for row in pages.get("/audits.json").json()["audits"]}
    left_out = pages.get("/audits.json").json()["left_out"]
    assert {"locks_rebuild", "server_agrees"} <= set(left_out) and len(shown) > 10
    assert not set(left_out) & set(shown)
    for name in ("label_splits", "staleness", "tokenizers"):
        (result,) = audit(sound, [name])
        assert (shown[name]["status"], shown[name]["offending"]) == (
            result.status,
            result.offending,
        )


def test_policies_are_compared_pair_by_pair(sound: Store, tmp_path: Path) -> None:
    store = made_stores.copy(sound, tmp_path / "store")
    prompts = [audit_rows.add_prompt(store, f"sum {i}", split="test") for i in range(4)]
    for name, rewards in (("teacher", [1, 1, 0, 0]), ("student-opd", [1, 0, 1, 1])):
        rollouts = audit_rows.add_rollouts(
            store, f"eval-{name}", name, prompts, n=1, purpose="eval"
        )
        audit_rows.grade(store, rollouts, rewards)
    client = viewed.client(store)
    asked = "/compare.json?a=teacher&b=student-opd&purpose=eval"
    counts = client.get(asked).json()["counts"]
    assert counts == {"both": 1, "first": 1, "second": 2, "neither": 0}
    pairs = client.get(f"{asked}&cell=second").json()["pairs"]
    assert {pair["prompt_id"] for pair in pairs} == set(prompts[2:])
    pair = pairs[0]
    at = pair["differs_at"]
    assert pair["left"]["texts"][:at] == pair["right"]["texts"][:at]
    two = client.get(f"/compare.json?left={pair['left_id']}&right={pair['right_id']}").json()
    assert two["pairs"][0]["differs_at"] == at
    assert client.get("/compare?left=nope&right=nope").status_code == 404


def test_verifiers_are_compared(sound: Store, tmp_path: Path) -> None:
    store = made_stores.copy(sound, tmp_path / "store")
    graded = store.sql(
        "SELECT rollout_id, reward FROM current_rewards WHERE verifier = 'math-verify' "
        "ORDER BY rollout_id LIMIT 3"
    ).fetchall()
    audit_rows.grade(
        store, [r for r, _ in graded], [1 - reward for _, reward in graded], verifier="other"
    )
    tables = viewed.client(store).get("/compare.json?what=verifiers").json()["tables"]
    squares = {(square["a"], square["b"]): square["counts"] for square in tables}
    assert squares["exact 1", "math-verify 1"]["first"] == 0  # they agree
    differing = squares["math-verify 1", "other 1"]
    assert differing["first"] + differing["second"] == 3
    disagree = viewed.client(store).get("/rollouts.json?ready=disagree").json()
    assert {row["rollout_id"] for row in disagree["rows"]} == {r for r, _ in graded}
    assert all(len(row["verdicts"]) >= 2 for row in disagree["rows"])


@pytest.mark.parametrize(
    ("left", "right", "at"),
    [
        (["a"], ["b"], 0),
        (["a", "b"], ["a"], 1),
        (["a"], ["a"], -1),
        (["a"], None, -1),
        ([], [], -1),
    ],
)
def test_first_difference(left: list[str], right: list[str] | None, at: int) -> None:
    assert first_difference(left, right) == at


def test_a_dataset_is_verified_and_compared(sound: Store, tmp_path: Path) -> None:
    store = made_stores.copy(sound, tmp_path / "store")
    given = {"teacher": "teacher", "rows_per_update": "4"}
    build(store, "wider", queries.catalog()["warmup"], given)
    pages = viewed.client(store)
    listed = pages.get("/datasets.json").json()["datasets"]
    first, second = (row for row in listed if row["built"])
    data = pages.get(f"/datasets/{first['name']}.json").json()
    assert data["dataset_id"] == first["dataset_id"] and data["verified"] is None
    assert data["lock"]["fingerprint"] == first["fingerprint"]
    assert len(data["updates"]) == first["updates"]
    labels = store.sql(
        "SELECT count(DISTINCT prompt_id) FROM dataset_rows WHERE dataset_id = $id AND labelled",
        {"id": first["dataset_id"]},
    ).fetchall()[0][0]
    assert (data["labels"][0]["labels"] if data["labels"] else 0) == labels
    both = f"/datasets/{first['dataset_id']}.json?verify=1&other={second['name']}"
    data = pages.get(both).json()
    assert data["verified"]["matches"] is True
    assert {row["measure"] for row in data["diff"]["measures"]} >= {"rows", "labels"}
    assert pages.get("/datasets/nope").status_code == 404


def test_a_dropped_dataset_is_still_read(sound: Store, tmp_path: Path) -> None:
    store = made_stores.copy(sound, tmp_path / "store")
    client = viewed.client(store)
    name = client.get("/datasets.json").json()["datasets"][0]["name"]
    made_stores.command("dataset", "drop", name, store)
    data = client.get(f"/datasets/{name}.json").json()
    assert data["built"] is False and data["rows"]


def test_a_budget_and_what_is_left(spent: Store, tmp_path: Path) -> None:
    store = made_stores.copy(spent, tmp_path / "store")
    (tmp_path / "store" / "budget.toml").write_text("[experiment]\nupdates = 1\n")
    data = viewed.client(store).get("/books.json").json()
    (limit,) = data["budget"]["limits"]
    assert limit["over"] and limit["spent"] == data["total"]["updates"]
    assert "over" in viewed.client(store).get("/books").text


def test_sql_is_that_of_the_command(sound: Store, pages: TestClient) -> None:
    asked = {"sql": "SELECT role, count(*) AS n FROM rollouts GROUP BY ALL ORDER BY role"}
    data = pages.get("/sql.json", params=asked).json()["result"]
    assert [tuple(row) for row in data["rows"]] == sound.sql(asked["sql"]).fetchall()
    assert (data["columns"], data["more"]) == (["role", "n"], False)
    assert data["chart"] | {"numbers": [], "kinds": []} == {
        "kind": "bars",
        "x": "role",
        "y": "n",
        "numbers": [],
        "kinds": [],
    }
    many = pages.get("/sql.json", params={"sql": "SELECT * FROM range(5000)"}).json()["result"]
    assert len(many["rows"]) == 1000 and many["more"] is True
    names = pages.get("/sql.json").json()["views"]
    assert "kl" in [c["name"] for v in names if v["name"] == "tokens" for c in v["columns"]]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM rollouts",
        "COPY (SELECT 1) TO 'stolen.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SET memory_limit = '1TB'",
        "SELECT nope FROM rollouts",
    ],
)
def test_sql_stays_in_its_box(pages: TestClient, sql: str) -> None:
    data = pages.get("/sql.json", params={"sql": sql}).json()
    assert data["result"] is None and data["error"]["what"]
    html = pages.get("/sql", params={"sql": sql}).text
    assert sql.replace("'", "&#39;") in html  # it is still there to be changed
    assert not Path("stolen.csv").exists()


def test_a_shipped_query_takes_its_parameters(sound: Store, pages: TestClient) -> None:
    data = pages.get("/sql.json?name=pass_rate&p.purpose=train").json()
    rows = data["result"]["rows"]
    assert rows and {row[1] for row in rows} == {"train"}
    asked = pages.get("/sql.json?name=lineage").json()
    assert asked["result"] is None and asked["query"]["params"][0]["name"] == "policy"
    wrong = pages.get("/sql.json?name=pass_rate&p.purpose=trian").json()
    assert "did you mean 'train'?" in wrong["error"]["what"]
    assert pages.get("/sql?name=pass_raet").status_code == 400


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "\u2013"), (True, "yes"), (0, "0"), (1234567, "1,234,567"), (2.5e12, "2.5 T")],
)
def test_numbers_are_read_by_people(value: object, said: str) -> None:
    assert view_text.number(value) == said
