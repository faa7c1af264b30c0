"""A model as the verifier, over a real HTTP server on loopback."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

import queries
from s2d_store.errors import InputError
from s2d_store.sql import connection
from s2d_store.store import Store
from s2d_store.verifiers import judge
from s2d_store.verifiers.base import Item
from s2d_store.verifiers.registry import load_verifier
from s2d_store.verifiers.settings import join
from tests.conftest import Cli
from tests.support import audit_rows as rows
from tests.support.judge_server import judge_server

EXAMPLE = Path(__file__).parents[2] / "examples" / "judge.txt"
ITEM = Item("r", "It is {answer}.", "4", messages=[{"role": "user", "content": "2 + 2?"}])


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    file = tmp_path / "judge.txt"
    file.write_text("Q: {question} R: {response} A: {answer} VERDICT: correct/wrong")
    return file


def spec(url: str, prompt: Path, **more: object) -> str:
    given = {"url": url, "model": "big", "prompt": prompt, **more}
    return join("judge", {key: str(value) for key, value in given.items()})


@pytest.mark.parametrize(
    ("reply", "outcome", "reward"),
    [
        ("It fits.\nVERDICT: correct", "correct", 1.0),
        ("**Verdict:** wrong.", "wrong", 0.0),
        ("VERDICT: wrong\nOn second thoughts:\nVERDICT: correct\n", "correct", 1.0),
        ("<think>VERDICT: correct</think>\nVERDICT: wrong", "wrong", 0.0),
        ("SCORE: 0.7", "scored", 0.7),
        ("score = -1e-1", "scored", -0.1),
        ("It is correct.", "error", None),
        ("VERDICT: not correct", "error", None),
        ("VERDICT: correct/wrong", "error", None),
        ("SCORE: 1.2.3", "error", None),
        ("", "error", None),
    ],
)
def test_a_reply_becomes_a_verdict(reply: str, outcome: str, reward: float | None) -> None:
    verdict = judge.as_verdict(reply, {"tokens": 1})
    assert (verdict.outcome, verdict.reward) == (outcome, reward)
    assert verdict.cost == {"tokens": 1}, "an unreadable reply is paid for, too"


def test_the_model_is_asked_with_the_prompt_of_the_file(
    prompt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-this-server")
    with judge_server(lambda text: (200, "VERDICT: correct")) as server:
        verdict = load_verifier(spec(server.url, prompt)).grade(ITEM)
        assert server.keys == [None]
        monkeypatch.setenv(judge.KEY_VARIABLE, "key-of-the-judge")
        load_verifier(spec(server.url, prompt)).grade(ITEM)
        assert server.keys[1] == "Bearer key-of-the-judge"
    assert (verdict.outcome, verdict.reward) == ("correct", 1.0)
    asked = server.asked[0]
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("big", 0, 1024)
    (message,) = asked["messages"]
    shown = "Q: 2 + 2? R: It is {answer}. A: 4 VERDICT: correct/wrong"
    assert message["content"] == shown, "what a response holds is no place to fill in"
    cost = dict(verdict.cost or {})
    assert cost.pop("seconds") >= 0
    assert cost == {"prompt_tokens": 7, "completion_tokens": 3, "tokens": 10, "model": "big"}


def test_a_busy_server_is_asked_again(prompt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "RETRY_AFTER_S", (0.01, 0.01))
    replies = iter([(503, {}), (429, {}), (200, "VERDICT: wrong")])
    with judge_server(lambda text: next(replies)) as server:
        assert load_verifier(spec(server.url, prompt)).grade(ITEM).outcome == "wrong"
    assert len(server.asked) == 3


def test_what_fails_is_no_judgement(prompt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "RETRY_AFTER_S", (0.01, 0.01))
    release = threading.Event()
    replies: dict[str, tuple[int, Any]] = {
        "refused": (401, {"error": "no key"}),
        "down": (500, {"error": "busy"}),
        "other": (200, {"error": "no choices"}),
    }

    def answer(text: str) -> tuple[int, Any]:
        name = text.split("R: ")[1].split()[0]
        if name == "slow":
            release.wait(20)
        return replies.get(name, (200, "VERDICT: correct"))

    with judge_server(answer) as server:
        asked = load_verifier(spec(server.url, prompt, timeout_s=0.3))
        found = {n: asked.grade(Item("r", n, "4")) for n in (*replies, "slow")}
        release.set()
    found["gone"] = load_verifier(spec(server.url, prompt)).grade(ITEM)
    assert {verdict.reward for verdict in found.values()} == {None}
    details = {name: (verdict.outcome, verdict.detail) for name, verdict in found.items()}
    assert details["refused"] == ("error", 'HTTP 401: {"error": "no key"}')
    assert details["down"] == ("error", 'HTTP 500: {"error": "busy"}')
    assert details["slow"] == ("timeout", "no reply within 0.3 s")
    assert details["other"][1].startswith("no chat completion: KeyError('choices')")
    assert details["gone"][1].startswith(f"{server.url} cannot be reached: ConnectError")


def test_another_prompt_or_model_is_another_version(prompt: Path) -> None:
    url = "http://127.0.0.1:9/v1"
    first = load_verifier(spec(url, prompt))
    assert load_verifier(spec("http://127.0.0.1:8/v1/", prompt)).version == first.version
    assert load_verifier(spec(url, prompt, temperature=1)).version != first.version
    prompt.write_text("Is {response} polite? SCORE: 0 to 1")
    other = load_verifier(spec(url, prompt, name="polite"))
    assert (first.name, other.name) == ("judge", "polite")
    assert other.version != first.version
    assert (first.needs.answer, other.needs.answer) == (True, False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "ftp://a/v1"}, "'ftp://a/v1' is no server's"),
        ({"url": "http://me:secret-of-mine@a/v1"}, r"without a user; a key comes from"),
        ({"prompt": "none.txt"}, "the judge's prompt none.txt cannot be read"),
        ({"max_tokens": "0"}, "max_tokens '0' is not usable"),
        ({"timeout_s": "soon"}, "timeout_s 'soon' is not usable"),
    ],
)
def test_settings_are_checked(prompt: Path, settings: dict[str, str], message: str) -> None:
    given = {"url": "http://a/v1", "prompt": prompt} | settings
    with pytest.raises(InputError, match=message) as error:
        load_verifier(spec(**given))  # type: ignore[arg-type]
    assert "secret-of-mine" not in str(error.value)
    empty = prompt.with_name("empty.txt")
    empty.write_text("Is {answer} right?")
    with pytest.raises(InputError, match="never shows the response"):
        load_verifier(spec("http://a/v1", empty))


def test_a_store_is_judged_and_verifiers_are_compared(store: Store, cli: Cli) -> None:
    """The example's prompt; the judge takes every response of the first prompt, none of others."""
    prompts = rows.add_prompts(store, ["first question", "second question", "third question"])
    rows.add_policy(store, "student")
    rollouts = rows.add_rollouts(store, "run", "student", prompts, n=4)
    rows.grade(store, rollouts, [1, 1, 1, 0] + [0] * 4 + [1, 0, 0, 0])

    def answer(text: str) -> tuple[int, str]:
        assert "the answer is 1" in text
        return 200, f"Well.\nVERDICT: {'correct' if 'first' in text else 'wrong'}"

    with judge_server(answer) as server:
        asked = ("--verifier", spec(server.url, EXAMPLE), "--deadline", 60, "--n-workers", 2)
        done = cli("verify", *asked, "--quiet", "--store", store.root)
        assert done.code == 0, done.err
        again = cli("verify", *asked, "--quiet", "--store", store.root)
        assert "nothing left to grade" in again.out
    assert len(server.asked) == 12
    ((count, model),) = store.sql(
        "SELECT count(*), any_value(cost ->> '$.model') FROM rewards WHERE verifier = 'judge'"
    ).fetchall()
    assert (count, model) == (12, "big")
    ((config,),) = store.sql("SELECT config FROM runs WHERE kind = 'verify'").fetchall()
    assert json.loads(config)["description"]["prompt"] == EXAMPLE.read_text()

    query = queries.catalog()["verifier_agreement"]
    con = store.connect()
    connection.prepare(con, query.sql)
    (found,) = con.execute(query.sql, {"verifier": None, "purpose": None}).fetchall()
    pair = dict(zip(query.columns, found, strict=True))
    assert (pair["verifier"], pair["other"], pair["rollouts"]) == ("judge", "math-verify", 12)
    counted = [pair[n] for n in ("both_right", "only_verifier", "only_other", "both_wrong")]
    assert counted == [3, 1, 1, 7]
    assert pair["agreement"] == pytest.approx(10 / 12, abs=1e-4)
    by_chance = (4 * 4 + 8 * 8) / 144
    assert pair["kappa"] == pytest.approx((10 / 12 - by_chance) / (1 - by_chance), abs=1e-4)
    assert pair["reward_correlation"] == pytest.approx(pair["kappa"], abs=1e-4), "0 and 1 alone"
    # Of the prompts 3, 4 and 3 of 4 rollouts agree: residuals around 10/3.
    error = (3 / 2 * ((1 / 3) ** 2 * 2 + (2 / 3) ** 2)) ** 0.5 / 12
    assert pair["standard_error"] == pytest.approx(error, abs=1e-4)
