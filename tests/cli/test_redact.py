"""Secrets never stand in a run's configuration, a reward's detail, an error or a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from s2d_store.engines.registry import open_engine
from s2d_store.errors import InputError, S2DError
from s2d_store.redact import redact, redacted
from s2d_store.runs import record
from s2d_store.store import Store
from s2d_store.verifiers.base import Item, Verdict
from s2d_store.verifiers.registry import load_verifier
from s2d_store.verifiers.worker import grade, to_wire
from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
MASKED = {
    "s3://AKIAX:se/cr+et@bucket/x": "s3://***@bucket/x",
    "no store at /data/s3:/user:secret@bucket": "no store at /data/s3:/***@bucket",
    "https://user:secret@host/a?b=c": "https://***@host/a?b=c",
    "https://secret@host:80/a": "https://***@host:80/a",
    "/x?token=secret&sig=secret2": "/x?token=***&sig=***",
    "{'hf_token': 'secret', 'dtype': 'auto'}": "{'hf_token': ***, 'dtype': 'auto'}",
    '{"api_key": "sec\\"ret", "a": 1}': '{"api_key": ***, "a": 1}',
    "api-key=secret, x": "api-key=***, x",
    "AWS_SECRET_ACCESS_KEY=secret": "AWS_SECRET_ACCESS_KEY=***",
    "db_password: secret": "db_password: ***",
    "Authorization: Basic c2VjcmV0": "Authorization: ***",
    "sent Bearer abcdefghijklmnopqrst": "sent Bearer ***",
    "hf_abcdefghijklmnopqrstuvwxyz": "***",
    "key sk-abcdefghijklmnopqrstuvwxyz!": "key ***!",
    "glpat-abcdefghijklmnopqrst and AIzaSyA-abcdefghijklmnopqrst": "*** and ***",
    "xoxb-123456789012-abcdefgh": "***",
    "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl.": "jwt ***.",
    "s2d x --api-key secret --hf-token 's e' -n 4": "s2d x --api-key *** --hf-token *** -n 4",
    "DB_PASS=secret MYSECRETS=secret PGPASSWORD=secret": "DB_PASS=*** MYSECRETS=*** PGPASSWORD=***",
    "API_KEYS: secret; db-pwd=secret": "API_KEYS: ***; db-pwd=***",
}
KEPT = [
    "eos_token: '</s>', pad_token=3, max_tokens: 512",
    "token id 17: '7' vs '8'; tokens: 5",
    "the secret of basic arithmetic",
    "its seal signature: 12ab",
    "http://localhost:8000/v1 a@b.c user@host:path",
    "run generate-teacher-1a2b3c4d, key: 5",
    "disk-abcdefghijklmnopqrstuvwxyz",
    "pass=3 of 4, bypass: 7, compass=north, --eos-token </s>, --max-tokens 512",
    "eyJustAName.x and hf_model",
]


@pytest.mark.parametrize("text", MASKED)
def test_secrets_are_masked_by_their_form(text: str) -> None:
    assert redact(text) == MASKED[text]
    assert redact(MASKED[text]) == MASKED[text]


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_values_of_the_environment_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *("HF_TOKEN", "WANDB_API_KEY", "MY_SECRET", "db_password", "KEY"),
        *("DB_PASS", "MYSECRETS", "PGPASSWORD", "API_KEYS", "MYSQL_PWD", "GITHUB_PAT"),
    ):
        monkeypatch.setenv(name, f"value-of-{name}")
        assert redact(f"at value-of-{name}.") == "at ***."
    monkeypatch.setenv("HF_TOKEN", "another-value")
    assert redact("another-value, value-of-HF_TOKEN") == "***, value-of-HF_TOKEN"
    monkeypatch.setenv("X_KEY", "short")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "not-a-secret")
    monkeypatch.setenv("MONKEYS", "also-no-secret")
    monkeypatch.setenv("PWD", "/a-folder")
    monkeypatch.setenv("BYPASS", "no-secret-either")
    text = "short not-a-secret also-no-secret /a-folder no-secret-either"
    assert redact(text) == text


def test_values_under_a_secrets_name_are_masked() -> None:
    config = {
        "hf_token": "abc",
        "engine": {"api_key": 17, "eos_token": "</s>", "password": ""},
        "urls": ["https://u:p@host", ("x", None)],
        "token": "abc",
        "lr": 1e-5,
    }
    assert redacted(config) == {
        "hf_token": "***",
        "engine": {"api_key": "***", "eos_token": "</s>", "password": ""},
        "urls": ["https://***@host", ("x", None)],
        "token": "***",
        "lr": 1e-5,
    }


def test_a_run_stores_its_configuration_masked_and_continues(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter2-hunter2")
    config = {"endpoint": "https://me:hunter2@host/v1", "note": "hunter2-hunter2", "n": 2}
    for _ in range(2):
        with record.record_run(store, "r", "generate", config):
            pass
    ((stored, n),) = store.sql(
        "SELECT any_value(config), count(DISTINCT config) FROM runs"
    ).fetchall()
    assert n == 1
    assert json.loads(stored) == {"endpoint": "https://***@host/v1", "note": "***", "n": 2}
    for path in store.folder.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


def test_every_error_of_ours_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2-hunter2")
    error = S2DError("https://u:hunter2@h", "password=hunter2", "run hunter2-hunter2")
    for text in (str(error), repr(error), error.what, error.why, error.fix, str(error.args)):
        assert "hunter2" not in text
    with pytest.raises(InputError) as refused:
        open_engine("transformers", "x", engine_args={"hf_token": "hunter2", "n": 1})
    assert "'hf_token': ***, 'n': 1" in str(refused.value)
    with pytest.raises(InputError) as no_place:
        Store.open("s3://key:hunter2@bucket/store")
    assert "s3://***@bucket/store" in str(no_place.value)


def test_the_command_line_shows_none(cli: Cli, tmp_path: Path) -> None:
    asked = ("generate", "--policy", "p", "--role", "teacher", "--store", tmp_path)
    twice = ("--engine-arg", "hf_token=hunter2", "--engine-arg", "hf_token=hunter3")
    done = cli(*asked, *twice)
    assert done.code == 1 and "hf_token is given twice" in done.err and "hunter" not in done.err
    for command in (
        ("policies", "add", "p", "https://me:hunter2@host/model"),
        ("prompts", "add", "https://me:hunter2@host/x.jsonl"),
    ):
        Store.init(tmp_path / "store")
        done = cli(*command, "--store", tmp_path / "store")
        assert done.code == 1 and "***@host" in done.err and "hunter2" not in done.err


def test_an_unforeseen_exception_is_masked_in_its_traceback() -> None:
    code = (
        "import cli.main as m\n"
        "def fail():\n    raise RuntimeError('GET https://me:hunter2@host failed')\n"
        "m.app = fail\nm.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1 and "Traceback" in done.stderr and "in fail" in done.stderr
    assert "RuntimeError: GET https://***@host failed" in done.stderr
    assert "hunter2" not in done.stderr


class Judge:
    """A verifier that names its key, when it fails and when it does not."""

    name, version = "judge", "1"

    def verify(self, response: str, answer: str) -> Verdict:
        if not response:
            raise ConnectionError("401 for api_key=hunter2")
        return Verdict(1.0, "correct", detail="asked with api_key=hunter2")


def test_a_grading_detail_is_masked() -> None:
    judge = load_verifier("tests.cli.test_redact:Judge")
    verdict, _ = grade(judge, json.dumps(to_wire(Item("r", "", "1"), judge.needs)).encode())
    assert verdict.detail == "ConnectionError: 401 for api_key=***"
    verdict, _ = grade(judge, json.dumps(to_wire(Item("r", "1", "1"), judge.needs)).encode())
    assert verdict == Verdict(1.0, "correct", detail="asked with api_key=***")
