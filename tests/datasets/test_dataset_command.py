"""`s2d dataset`: build, show, verify, diff, list, drop and export, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from s2d_store.store import Store
from tests.conftest import Cli
from tests.support.dataset_rows import Made, add_policies, add_prompts, add_rollouts, read
from tests.support.synthetic import policy


@pytest.fixture
def filled(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """40 rollouts of 10 prompts, half of them right; commands find the store by themselves."""
    add_prompts(store, 10)
    add_policies(store, policy("teacher"))
    made = [Made(p, s, 4 + p + s, float(s % 2 == 0)) for p in range(10) for s in range(4)]
    add_rollouts(store, "gen", "teacher", made, role="teacher", scorer="teacher")
    monkeypatch.setenv("S2D_STORE", str(store.root))
    return store


def build(cli: Cli, name: str, *params: str, query: str = "warmup", seed: int = 0) -> None:
    options = [item for param in params for item in ("--param", param)]
    result = cli("dataset", "build", name, "--query", query, "--seed", seed, *options)
    assert result.code == 0, result.err


def test_build_prints_what_it_locked(filled: Store, cli: Cli) -> None:
    result = cli("dataset", "build", "w", "--query", "warmup", "-p", "teacher=teacher")
    assert result.code == 0
    tokens = filled.sql(
        "SELECT sum(response_tokens) FROM dataset_rows JOIN rollouts USING (rollout_id)"
    ).fetchall()[0][0]
    assert "dataset w locked: kind warmup, fingerprint " in result.out
    assert f"20 rows in 1 updates, 60 prompt and {tokens} response tokens, 10 labels" in result.out


def test_show(filled: Store, cli: Cli) -> None:
    # A limit on pass rates reads rewards; without one, the rows of wrong rollouts hold none.
    params = ("teacher=teacher", "correct_only=false", "min_pass_rate=0", "rows_per_update=3")
    build(cli, "w", *params)
    result = cli("dataset", "show", "w", "--format", "json")
    shown = json.loads(result.out)
    rows = read(filled.folder / "datasets" / "w")
    sizes = np.array([len(r) for r in rows.column("response_token_ids").to_pylist()])
    updates = rows.column("update").to_numpy()
    stats = shown["stats"]
    assert shown["lock"] == json.loads((filled.root / "datasets/w/lock.json").read_text())
    assert stats["distinct"] == {"prompts": 10, "rollouts": 40}
    assert stats["response_tokens"]["mean"] == pytest.approx(sizes.mean())
    assert stats["response_tokens"]["p50"] == np.median(sizes)
    assert (stats["response_tokens"]["min"], stats["response_tokens"]["max"]) == (4, 16)
    assert stats["reward"]["mean"] == 0.5 and stats["reward"]["nulls"] == 0
    assert len(stats["updates"]) == 14
    rewards = rows.column("reward").to_numpy()
    for record in stats["updates"]:
        inside = updates == record["update"]
        assert record["rows"] == inside.sum()
        assert record["response_tokens"] == sizes[inside].sum()
        assert record["longest_response"] == sizes[inside].max()
        assert record["mean_reward"] == pytest.approx(rewards[inside].mean())
        prompts = set(np.array(rows.column("prompt_id").to_pylist())[inside])
        assert record["prompts"] == record["labels"] == len(prompts)


def test_show_limits_its_table(filled: Store, cli: Cli) -> None:
    build(cli, "w", "teacher=teacher", "rows_per_update=1")
    some = cli("dataset", "show", "w", "--updates", "4").out
    numbers = [int(line.split()[0]) for line in some.splitlines() if line[:6].strip().isdigit()]
    assert numbers == [1, 2, 19, 20]
    assert "4 of 20 updates, the first and the last; --updates all" in some
    every = cli("dataset", "show", "w", "--updates", "all").out
    numbers = [int(line.split()[0]) for line in every.splitlines() if line[:6].strip().isdigit()]
    assert numbers == list(range(1, 21))
    assert "--param correct_only=true" in every
    assert "20 rows in 20 updates: 20 rollouts of 10 prompts" in every
    for wrong in ("some", "-1"):
        result = cli("dataset", "show", "w", f"--updates={wrong}")
        assert result.code == 1 and f"--updates '{wrong}' is not a number" in result.err
    result = cli("dataset", "show", "w", "--format", "xml")
    assert result.code == 1 and "output format 'xml' is unknown" in result.err


def test_verify_says_what_differs(filled: Store, cli: Cli) -> None:
    build(cli, "w", "teacher=teacher")
    result = cli("dataset", "verify", "w")
    assert result.code == 0 and "dataset w matches its lock" in result.out
    path = filled.root / "datasets" / "w" / "lock.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    result = cli("dataset", "verify", "w")
    assert result.code == 1
    assert result.err.startswith("error: the lock of dataset w was changed after it was written")
    assert result.err.count("error:") == 1 and "Traceback" not in result.err


def test_diff(filled: Store, cli: Cli) -> None:
    build(cli, "a", "teacher=teacher", "rows_per_update=4")
    build(cli, "b", "teacher=teacher", "rows_per_update=4", "correct_only=false", "passes=2")
    found = json.loads(cli("dataset", "diff", "a", "b", "--format", "json").out)
    assert found["same"] is False
    measures = {name: tuple(m.values()) for name, m in found["measures"].items()}
    assert measures["updates"] == (5, 20, None)
    assert measures["rows"] == (20, 80, 20)
    assert measures["rollouts"] == (20, 40, 20)
    assert measures["prompts"] == (10, 10, 10)
    assert measures["labels"] == (10, 0, 0)
    first, second, shared = measures["response_tokens"]
    assert shared == first < second
    changed = {k: tuple(v.values()) for k, v in found["settings"].items() if k.startswith("param")}
    assert changed == {"param correct_only": (True, False), "param passes": (1, 2)}
    text = cli("dataset", "diff", "a", "b").out
    assert "param passes" in text and "the rows are not the same" in text


def test_diff_of_rows_in_place(filled: Store, cli: Cli) -> None:
    build(cli, "a", "teacher=teacher", "rows_per_update=4")
    build(cli, "cut", "teacher=teacher", "rows_per_update=4", "updates=2")
    build(cli, "same", "teacher=teacher", "rows_per_update=4")
    build(cli, "seeded", "teacher=teacher", "rows_per_update=4", seed=1)
    in_place = {}
    for other in ("cut", "same", "seeded"):
        found = json.loads(cli("dataset", "diff", "a", other, "--format", "json").out)
        in_place[other] = found["measures"]["rows in place"]["shared"]
        assert found["same"] == (other == "same")
        assert ("seed" in found["settings"]) == (other == "seeded")
    assert in_place["cut"] == 8 and in_place["same"] == 20 and in_place["seeded"] < 8


def test_list_and_drop(filled: Store, cli: Cli) -> None:
    build(cli, "w", "teacher=teacher")
    build(cli, "s", "policy=teacher", query="sft")
    lines = cli("dataset", "list").out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["s", "sft", "20"], ["w", "warmup", "20"]]
    assert cli("dataset", "drop", "w").code == 0
    assert "warmup" not in cli("dataset", "list").out
    result = cli("dataset", "show", "w")
    assert result.code == 1 and "no dataset 'w' in this store" in result.err
    assert "built: s" in result.err


def test_export(filled: Store, cli: Cli, tmp_path: Path) -> None:
    build(cli, "w", "teacher=teacher")
    path = tmp_path / "w.jsonl"
    result = cli("dataset", "export", "w", "--format", "trl-sft", "--output", path)
    assert result.code == 0 and f"{path}: 20 rows of dataset w as trl-sft" in result.out
    assert len(path.read_text().splitlines()) == 20
    result = cli("dataset", "export", "w", "--format", "arrow", "--output", path)
    assert result.code == 1 and "export format 'arrow' is unknown" in result.err


MINE = """-- question: which rollouts are long?
-- grain: one row per rollout
-- kind: sft
-- params:
--   tokens: BIGINT -- shortest
--   order: long|short = long -- which come first
-- columns: row, update, rollout_id
SELECT
    row_number() OVER (
        ORDER BY CASE $order WHEN 'long' THEN -response_tokens ELSE response_tokens END, rollout_id
    ) - 1 AS row,
    row // 5 + 1 AS update,
    rollout_id
FROM rollouts
WHERE response_tokens >= $tokens
"""


def test_a_users_own_query(filled: Store, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.sql"
    path.write_text(MINE)
    build(cli, "long", "tokens=12", query=str(path))
    rows = read(filled.folder / "datasets" / "long")
    sizes = [len(r) for r in rows.column("response_token_ids").to_pylist()]
    assert sizes == sorted(sizes, reverse=True) and min(sizes) == 12
    lock = json.loads((filled.root / "datasets/long/lock.json").read_text())
    assert (lock["kind"], lock["query"], lock["query_sql"]) == ("sft", "mine", MINE)
    path.unlink()
    assert cli("dataset", "verify", "long").code == 0, "the lock holds the text"


def test_wrong_parameters(filled: Store, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.sql"
    path.write_text(MINE)
    for params, message in (
        ([], "query mine needs parameter 'tokens'"),
        (["tokens=few"], "parameter tokens='few' of query mine is not a BIGINT"),
        (["tokens=1", "order=up"], "parameter order='up' of query mine is not one of long, short"),
        (["tokens=1", "ordr=long"], "no parameter 'ordr'; did you mean 'order'?"),
        (["tokens=999"], "query mine selects no rows"),
    ):
        options = [item for param in params for item in ("--param", param)]
        result = cli("dataset", "build", "x", "--query", path, *options)
        assert result.code == 1 and message in result.err and result.err.count("error:") == 1
        assert not (filled.root / "datasets" / "x").exists()
    path.write_text("SELECT 1")
    result = cli("dataset", "build", "x", "--query", path)
    assert result.code == 1 and "has no header" in result.err
