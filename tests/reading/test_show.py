"""`s2d show`, `sample`, `runs` and `watch`: what a person reads in a terminal."""

from __future__ import annotations

import json

import pytest

from s2d_store.runs.record import record_run
from s2d_store.schema import TABLES
from s2d_store.store import Store
from tests.cli.test_output import on_a_terminal
from tests.conftest import Cli
from tests.support import two_policies


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("compared") / "store")
    two_policies.fill(store)
    return store


def test_a_rollout_is_read_whole(cli: Cli, compared: Store) -> None:
    done = cli("show", "gen-after-002-1", "--store", compared.root)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == ("rollout gen-after-002-1-0: after, student, eval, round 0, run gen-after")
    assert "system: Answer." in lines and "user: What is 2 + 2? ☃" in lines
    words = "".join(row["token"] for row in compared.rollout("gen-after-002-1").of_scorer())
    assert f"response: {words}".rstrip() in [line.rstrip() for line in lines]
    assert "8 tokens, finished by stop; gold answer 1" in lines
    rows = compared.rollout("gen-after-002-1").of_scorer()
    total = sum(row["kl"] for row in rows)
    assert f"KL to teacher along the response: {total:.4f} nats over 8 tokens" in lines
    (verdict,) = [line.split() for line in lines if line.startswith("math-verify")]
    assert verdict[:4] == ["math-verify", "1", "0", "wrong"] and verdict[-1] == "yes"


def test_tokens_are_shaded_on_a_terminal(compared: Store) -> None:
    words = ("show", "gen-after-002-1", "--shade", "logprob", "--store", str(compared.root))
    assert "\x1b[48;5;" in on_a_terminal(*words)
    plain = on_a_terminal(*words, NO_COLOR="1")
    assert "\x1b" not in plain and "[w" in plain


def test_the_topk_of_a_token_side_by_side(cli: Cli, compared: Store) -> None:
    done = cli("show", "gen-after-002-1", "--token", 3, "--store", compared.root)
    lines = done.out.splitlines()
    assert lines[0].startswith("rollout gen-after-002-1-0, token 3 of 8: 'w")
    assert lines[1].split()[:3] == ["rank", "teacher", "(own)"]
    assert [line.split()[0] for line in lines[2:6]] == ["1", "2", "3", "tail"]
    done = cli("show", "gen-before-002-1", "--token", 3, "--store", compared.root)
    assert "no top-k is stored for it" in done.out


def test_show_as_json(cli: Cli, compared: Store) -> None:
    done = cli("show", "gen-after-002-1", "--format", "json", "--store", compared.root)
    found = json.loads(done.out)
    assert found["rollout_id"] == "gen-after-002-1-0" and len(found["tokens"]) == 8


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nope",), "no rollout 'nope' in this store"),
        (("gen",), "several rollouts begin with 'gen'"),
        (("gen-after-002-1", "--token", 8), "has no token 8"),
        (("gen-after-002-1", "--shade", "kll"), "signal 'kll' is unknown; did you mean 'kl'?"),
        (("gen-after-002-1", "--scorer", "before"), "'before' has not scored rollout"),
        (("gen-after-002-1", "--format", "yaml"), "output format 'yaml' is unknown"),
    ],
)
def test_a_mistake_is_one_clear_error(
    cli: Cli, compared: Store, words: tuple[object, ...], says: str
) -> None:
    done = cli("show", *words, "--store", compared.root)
    assert (done.code, done.out) == (1, "") and says in done.err


def test_five_rollouts_that_meet_a_condition(cli: Cli, compared: Store) -> None:
    at = ("--store", compared.root)
    where = "policy = 'before' AND outcome = 'wrong'"
    done = cli("sample", "-n", 3, "--where", where, "--format", "json", *at)
    rows = json.loads(done.out)
    assert len(rows) == 3 and {(r["policy"], r["outcome"]) for r in rows} == {("before", "wrong")}
    text = cli("sample", "-n", 3, "--where", where, *at).out
    assert [line.split()[0] for line in text.splitlines() if "before, eval" in line] == [
        r["rollout_id"] for r in rows
    ]
    assert "(no rollouts)" in cli("sample", "--where", "reward > 1", *at).out
    done = cli("sample", "--where", "true) OR (true", *at)
    assert done.code == 1 and "the query failed" in done.err


def test_runs_say_how_they_ended(cli: Cli, store: Store) -> None:
    at = ("--store", store.root)
    with record_run(store, "gen-1", "generate", {}, stage="warmup"):
        shown = json.loads(cli("runs", "--format", "json", *at).out)
        assert [(r["run"], r["status"]) for r in shown] == [("gen-1", "running")]
    with pytest.raises(ValueError), record_run(store, "gen-2", "generate", {}, stage="bridge"):
        raise ValueError
    with record_run(store, "round", "round", {}, stage="bridge"):
        pass
    # A run that a killed process left behind.
    killed = store.sql("SELECT * FROM raw.runs WHERE run_id = 'gen-1' LIMIT 1").to_arrow_table()
    killed = killed.set_column(0, "run_id", [["gen-3"]])
    place = killed.column_names.index("status")
    killed = killed.set_column(place, "status", [["running"]])
    store.commit({"runs": killed.cast(TABLES["runs"].schema)})
    shown = json.loads(cli("runs", "--format", "json", *at).out)
    assert {r["run"]: r["status"] for r in shown} == {
        "gen-1": "done", "gen-2": "failed", "gen-3": "stopped",
    }  # fmt: skip
    (only,) = json.loads(cli("runs", "--kind", "round", "--format", "json", *at).out)
    assert only["run"] == "round"
    assert "gen-2" in cli("runs", "--stage", "bridge", *at).out
    assert "1 of 3 runs" in cli("runs", "-n", 1, *at).out


def test_watch_looks_as_often_as_told(cli: Cli, compared: Store) -> None:
    done = cli("watch", "--times", 2, "--every", 0.1, "--store", compared.root)
    assert done.code == 0
    assert done.out.count("16 rollouts, 16 rewards, 8 topk") == 2
