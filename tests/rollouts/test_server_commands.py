"""`s2d generate` and `s2d score` through servers: what is stored, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s2d_store.audits import audit
from s2d_store.engines.registry import open_engine
from s2d_store.policies import registry
from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support import made_stores
from tests.support.inference_server import serving


@pytest.fixture(scope="module")
def model(teacher_folder: Path) -> Iterator[Any]:
    engine = open_engine("transformers", str(teacher_folder), device="cpu", dtype="float32")
    yield engine
    engine.close()


@pytest.fixture
def store(tmp_path: Path, questions: Path, teacher_folder: Path) -> Store:
    return made_stores.make(tmp_path / "store", made_stores.read(questions), teacher_folder)


def generate(cli: Cli, store: Store, url: str, *options: object) -> Result:
    usual = ("--role", "teacher", "--engine", "server", "--url", url, "--max-tokens", 8)
    return cli("generate", *usual, *options, "--store", store.root)


def test_weights_behind_a_server_sample_what_they_sample_here(
    cli: Cli, store: Store, model: Any, teacher_folder: Path
) -> None:
    with serving("vllm", model) as server:
        options = ("--policy", teacher_folder, "-n", 2, "--top-logprobs", 3)
        done = generate(cli, store, server.url, *options)
        again = generate(cli, store, server.url, *options)
    assert done.code == 0, done.err
    assert "16 rollouts stored" in done.out and "16 were stored before" in again.out
    here = cli(
        *("generate", "--policy", teacher_folder, "--role", "teacher", "-n", 2),
        *("--max-tokens", 8, "--store", store.root),
    )
    assert here.code == 0, here.err
    rows = store.sql(
        "SELECT count(*), count(DISTINCT response_token_ids), any_value(engine_version) "
        "FILTER (engine = 'server'), any_value(endpoint) FROM rollouts "
        "GROUP BY prompt_id, sample_index"
    ).fetchall()
    assert rows == [(2, 1, "vllm 0.32.0", server.url)] * 16
    facts = "server, model_name, logprobs_kind, max_logprobs, spread_nats < 1e-3, run_id"
    ((server_, name, kind, most, close, run),) = store.sql(
        f"SELECT {facts} FROM endpoints"
    ).fetchall()
    assert (server_, name, kind, most, close) == ("vllm", "tiny", "raw", 50, True)
    runs = store.sql("SELECT DISTINCT run_id FROM rollouts WHERE engine = 'server'").fetchall()
    assert runs == [(run,)]


def test_a_served_policy_samples_and_scores(
    cli: Cli, store: Store, model: Any, teacher_folder: Path
) -> None:
    added = cli(
        *("policies", "add", "judge", "--served", "--tokenizer", teacher_folder),
        *("--store", store.root),
    )
    assert added.code == 0, added.err
    with serving("sglang", model, given_ids="positions") as server:
        done = generate(cli, store, server.url, "--policy", "judge", "--top-logprobs", 4)
        assert done.code == 0, done.err
        scored = cli(
            *("score", "--teacher", "judge", "--engine", "server", "--url", server.url),
            *("--support", "policy", "--store", store.root),
        )
    assert scored.code == 0, scored.err
    assert "8 rollouts scored" in scored.out
    apart = store.sql(
        "SELECT max(abs(a - b)) FROM (SELECT unnest(o.logprobs) AS a, unnest(p.logprobs) AS b "
        "FROM topk AS o JOIN topk AS p USING (rollout_id) "
        "WHERE o.support = 'own' AND p.support = 'policy')"
    ).fetchall()
    assert apart[0][0] < 1e-4
    kinds = store.sql("SELECT kind, n_parameters FROM policies WHERE name = 'judge'").fetchall()
    assert kinds == [("served", None)]


def test_a_served_policy_stays_one_model(
    cli: Cli, store: Store, model: Any, teacher_folder: Path
) -> None:
    registry.register_without_weights(store, "judge", kind="served", tokenizer=str(teacher_folder))
    with serving("vllm", model) as server:
        assert generate(cli, store, server.url, "--policy", "judge", "--limit", 2).code == 0
    with serving("vllm", model, model="newer") as server:
        refused = generate(cli, store, server.url, "--policy", "judge")
    assert refused.code == 1
    assert "serves 'newer', not what it is to be: policy 'judge' was 'tiny'" in refused.err
    assert store.sql("SELECT count(*) FROM rollouts").fetchall() == [(2,)]


def test_what_a_server_cannot_give_is_null_and_said_first(
    cli: Cli, store: Store, model: Any
) -> None:
    registry.register_without_weights(store, "api", kind="served")
    with serving("openai", model) as server:
        done = generate(cli, store, server.url, "--policy", "api", "--quiet")
    assert done.code == 0, done.err
    assert "note: the server returns text alone" in done.err
    rows = store.sql(
        "SELECT DISTINCT tokens_from, prompt_token_ids, response_token_ids, response_logprobs, "
        "response_tokens, response_text[:6], finish_reason FROM rollouts"
    ).fetchall()
    assert rows == [("none", None, None, None, None, "heard:", "stop")]
    for name in ("topk_consistency", "tokenizers", "degenerate_rollouts"):
        assert cli("audit", name, "--store", store.root).code == 0


def test_a_rollout_without_an_answer_is_counted_and_comes_with_the_next_run(
    cli: Cli, store: Store, model: Any, teacher_folder: Path
) -> None:
    bad: set[int] = set()

    def fault(path: str, body: dict[str, Any], answer: Any) -> Any:
        seed = body.get("seed")
        if path != "/v1/completions" or body.get("logprobs") is None or seed in (None, 0, 1):
            return None
        if len(bad) < 2:
            bad.add(seed)
        return {"choices": []} if seed in bad else None

    with serving("vllm", model, fault=fault) as server:
        options = ("--policy", teacher_folder, "--engine-arg", "in_flight=1")
        done = generate(cli, store, server.url, *options)
        assert done.code == 0, done.err
        assert "6 rollouts stored" in done.out and "2 rollouts left out" in done.out
        server.behaviour.fault = None
        again = generate(cli, store, server.url, *options)
    assert "2 rollouts stored" in again.out and "6 were stored before" in again.out
    counts = "SELECT count(*), count(DISTINCT (prompt_id, sample_index)) FROM rollouts"
    assert store.sql(counts).fetchall() == [(8, 8)]


def test_no_key_is_stored(
    cli: Cli, store: Store, model: Any, teacher_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S2D_API_KEY", "a-key-of-the-tests-alone")
    with serving("vllm", model, key="a-key-of-the-tests-alone") as server:
        done = generate(cli, store, server.url, "--policy", teacher_folder, "--limit", 1)
    assert done.code == 0, done.err
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"a-key-of-the-tests-alone" in path.read_bytes()]


def test_a_served_policy_needs_the_server_engine(cli: Cli, store: Store) -> None:
    registry.register_without_weights(store, "api", kind="served")
    done = cli("generate", "--policy", "api", "--role", "teacher", "--store", store.root)
    assert done.code == 1 and "--engine server --url URL" in done.err


def test_policies_add_takes_one_kind(cli: Cli, store: Store, teacher_folder: Path) -> None:
    both = cli("policies", "add", "x", teacher_folder, "--served", "--store", store.root)
    assert both.code == 1 and "no two of them" in both.err
    lone = cli(
        "policies", "add", "x", "--outside", "--tokenizer", teacher_folder, "--store", store.root
    )
    assert lone.code == 1 and "not served" in lone.err


def test_the_audit_finds_a_server_that_has_other_weights(
    cli: Cli, store: Store, model: Any, teacher_folder: Path, student_folder: Path
) -> None:
    assert "skip  server_agrees" in cli("audit", "server_agrees", "--store", store.root).out
    options = ("--policy", teacher_folder, "--top-logprobs", 3)
    with serving("vllm", model) as server:
        assert generate(cli, store, server.url, *options).code == 0
        sound = cli("audit", "server_agrees", "--store", store.root)
        assert sound.code == 0 and "pass  server_agrees" in sound.out, sound.out
    student = open_engine("transformers", str(student_folder), device="cpu", dtype="float32")
    with serving("vllm", student) as server:
        scored = cli(
            *("score", "--teacher", teacher_folder, "--engine", "server", "--url", server.url),
            *("--top-logprobs", 5, "--store", store.root),
        )
    assert scored.code == 0, scored.err
    (found,) = audit(store, ["server_agrees"], sample=20)
    assert (found.status, found.offending) == ("failed", 8)
    assert {row["made"] for row in found.sample} == {"scored"}
    assert all(row["mean_nats"] > 0.1 for row in found.sample)
    wide = audit(store, ["server_agrees"], params={"tolerance": 100})
    assert wide[0].status == "passed" and wide[0].figures[0]["examined"] == 16
