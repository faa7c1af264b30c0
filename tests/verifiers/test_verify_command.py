"""`s2d verify` on real rollouts, with math-verify and with verifiers of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support import made_stores

pytestmark = pytest.mark.slow

Verify = Callable[..., Result]

LENGTH_VERIFIER = '''
from s2d_store.verifiers.base import Verdict

class Length:
    """Rewards long responses; dies on demand."""
    name = "length"
    version = "1"

    def verify(self, response, answer):
        if answer == "die":
            raise RuntimeError("told to")
        return Verdict(len(response) / 10, "correct" if response else "wrong", response[:3])

class Nameless:
    def verify(self, response, answer):
        return Verdict(1.0, "correct")
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Store:
    """16 rollouts of 8 prompts: 6 with a number as gold, one without, one that nobody can read."""
    golds = ["1", "2", "3", "4", "5", "6", None, "not a number at all ("]
    records = [{"question": f"q{i}", "answer": gold} for i, gold in enumerate(golds)]
    root = tmp_path_factory.mktemp("made") / "store"
    return made_stores.make(root, records, teacher_folder, role="teacher", n=2)


@pytest.fixture
def generated(made: Store, tmp_path: Path) -> Store:
    return made_stores.copy(made, tmp_path / "generated")


@pytest.fixture
def verify(cli: Cli, tmp_path: Path) -> Verify:
    def run(*options: object, root: Path = tmp_path / "generated") -> Result:
        return cli("verify", "--n-workers", 1, *options, "--store", root)

    return run


def test_outcomes_are_stored_once(generated: Store, verify: Verify) -> None:
    done = verify("--quiet")
    assert (done.code, done.err) == (0, "")
    first, left_out, outcomes, unreadable, problem = done.out.splitlines()
    assert left_out == "  2 rollouts left out: their prompts have no gold answer"
    assert ": 14 rollouts graded, pass rate 0." in first
    assert "error 2" in outcomes
    assert unreadable == "  1 gold answers cannot be read, so nobody is judged on them: 2 rollouts"
    assert "cannot read the gold answer 'not a nu" in problem
    rows = generated.sql(
        "SELECT outcome, reward, answer, detail FROM rewards JOIN rollouts USING (rollout_id) "
        "JOIN prompts USING (prompt_id)"
    ).fetchall()
    assert len(rows) == 14
    for outcome, reward, answer, detail in rows:
        assert answer is not None
        assert (outcome == "error") == answer.startswith("not a") == bool(detail)
        assert reward == {"correct": 1.0, "error": None}.get(outcome, 0.0)
        assert outcome in ("correct", "wrong", "unparseable", "error")
    version = generated.snapshot().versions["rewards"]
    done = verify()
    assert done.code == 0 and "nothing left to grade" in done.out
    assert generated.snapshot().versions["rewards"] == version
    statuses = generated.sql("SELECT status FROM runs WHERE kind = 'verify'").fetchall()
    assert statuses == [("done",)]


def test_a_refused_command_leaves_its_run_as_it_was(generated: Store, verify: Verify) -> None:
    assert verify().code == 0
    refused = verify("--where", "round = 7")
    assert refused.code == 1 and "no rollouts to verify" in refused.err
    statuses = generated.sql("SELECT status FROM runs WHERE kind = 'verify'").fetchall()
    assert statuses == [("done",)]


def test_limit_and_chunks_continue_where_they_stopped(generated: Store, verify: Verify) -> None:
    assert "5 rollouts graded" in verify("--limit", 5).out
    assert "9 rollouts graded" in verify("--chunk", 4).out
    assert generated.snapshot().versions["rewards"] == 1 + 3
    assert generated.sql("SELECT count(DISTINCT rollout_id) FROM rewards").fetchall() == [(14,)]


def test_another_verifier_adds_its_own_rows(
    generated: Store, verify: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_verifiers.py").write_text(LENGTH_VERIFIER)
    monkeypatch.syspath_prepend(tmp_path)
    verify("--where", "answer = '1'")
    done = verify("--verifier", "my_verifiers:Length")
    assert "run verify-length-" in done.out and ": 14 rollouts graded" in done.out
    counts = generated.sql("SELECT verifier, count(*) FROM rewards GROUP BY 1 ORDER BY 1")
    assert counts.fetchall() == [("length", 14), ("math-verify", 2)]
    rewards = generated.sql(
        "SELECT reward, response_text, extracted FROM rollout_rewards WHERE verifier = 'length'"
    ).fetchall()
    assert all(r == pytest.approx(len(t) / 10) and x == t[:3] for r, t, x in rewards)
    assert "nothing left to grade" in verify("--verifier", "my_verifiers:Length").out
    for name, says in (
        ("my_verifiers:Nameless", "my_verifiers:Nameless is not a verifier"),
        ("my_verifiers:Missing", "cannot import my_verifiers:Missing"),
        ("no_such_module:V", "cannot import no_such_module:V"),
        ("my verifiers:V", "does not name a verifier class"),
        ("maths-verify", "no verifier is named 'maths-verify'; available: choice"),
    ):
        done = verify("--verifier", name)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: ") and says in done.err


def test_a_verifier_that_raises_is_an_error_outcome(
    generated: Store, verify: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raising_verifiers.py").write_text(LENGTH_VERIFIER.replace('"die"', '"2"'))
    monkeypatch.syspath_prepend(tmp_path)
    done = verify("--verifier", "raising_verifiers:Length")
    assert done.code == 0 and "error 2" in done.out
    assert "RuntimeError: told to" in done.out
    rows = generated.sql("SELECT detail FROM rewards WHERE outcome = 'error'").fetchall()
    assert len(rows) == 2 and all("told to" in row[0] for row in rows)


def test_where_chooses_rollouts(generated: Store, verify: Verify) -> None:
    done = verify("--where", "sample_index = 0 AND answer < '3'")
    assert ": 2 rollouts graded" in done.out
    done = verify("--where", "outcomes = 'wrong'")
    assert done.code == 1
    assert "error: --where \"outcomes = 'wrong'\" does not work on graded_rollouts" in done.err
    assert "DESCRIBE graded_rollouts" in done.err
    done = verify("--where", "sample_index = 9")
    assert done.code == 1 and "no rollouts to verify" in done.err
    assert "0 rollouts match 'sample_index = 9'" in done.err


def test_unlabelled_prompts_cannot_be_verified(generated: Store, verify: Verify) -> None:
    done = verify("--where", "answer IS NULL")
    assert done.code == 1
    assert "no rollouts to verify: none of their prompts has an answer" in done.err
    assert "--answer-field" in done.err


def test_a_store_without_rollouts_says_what_to_do(store: Store, verify: Verify) -> None:
    done = verify(root=store.root)
    assert (done.code, done.out) == (1, "")
    assert "error: no rollouts to verify" in done.err and "s2d generate" in done.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--limit", -1), "--limit -1 is not usable"),
        (("--chunk", 0), "--chunk 0 is not usable"),
        (("--deadline", 0), "deadline_s = 0.0 must be positive"),
    ],
)
def test_bad_settings_are_refused(
    made: Store, verify: Verify, options: tuple[object, ...], says: str
) -> None:
    done = verify(*options, root=made.root)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ") and says in done.err


RETRIED = '''
import pathlib, time
from s2d_store.verifiers.base import Verdict

class Flaky:
    """Errs on one answer and is late with another until a file stands beside it."""
    name, version = "flaky", "1"

    def grade(self, item):
        if not pathlib.Path(__file__).with_name("mended").exists():
            if item.answer == "1":
                raise RuntimeError("not yet")
            if item.answer == "2":
                time.sleep(60)
        return Verdict(1.0, "correct", metrics={"prompt": item.messages[-1]["content"]})

class Broken:
    name, version = "broken", "1"
    def grade(self, item):
        raise ImportError("no such model")

def length(completions, **kwargs):
    return [float(len(completion[0]["content"])) for completion in completions]
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "retried_verifiers.py").write_text(RETRIED)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_what_nobody_judged_is_graded_again_as_another_attempt(
    generated: Store, verify: Verify, own: Path
) -> None:
    flaky = ("--verifier", "retried_verifiers:Flaky", "--deadline", 1.5)
    first = verify(*flaky)
    assert first.code == 0 and "correct 10, error 2, timeout 2" in first.out
    unjudged = generated.sql("SELECT DISTINCT reward FROM rewards WHERE outcome <> 'correct'")
    assert unjudged.fetchall() == [(None,)]
    assert "nothing left to grade" in verify(*flaky).out
    (own / "mended").touch()
    assert "4 rollouts graded, pass rate 1.000" in verify(*flaky, "--retry").out
    attempts = generated.sql("SELECT attempt, count(*) FROM rewards GROUP BY 1 ORDER BY 1")
    assert attempts.fetchall() == [(0, 14), (1, 4)]
    counted = generated.sql("SELECT count(*), min(reward) FROM current_rewards").fetchall()
    assert counted == [(14, 1.0)]
    metrics = generated.sql("SELECT DISTINCT metrics ->> '$.prompt' FROM rewards").fetchall()
    assert ("q0",) in metrics
    assert "nothing left to grade" in verify(*flaky, "--retry").out


def test_a_verifier_that_errs_on_all_first_rollouts_stores_nothing(
    generated: Store, verify: Verify, own: Path
) -> None:
    done = verify("--verifier", "retried_verifiers:Broken")
    assert (done.code, done.out) == (1, "")
    assert "verifier broken judged none of the first 14 rollouts" in done.err
    assert "ImportError: no such model" in done.err and "Traceback" not in done.err
    assert generated.sql("SELECT count(*) FROM rewards").fetchall() == [(0,)]


def test_a_verifier_without_need_of_gold_grades_every_prompt(
    generated: Store, verify: Verify, own: Path
) -> None:
    done = verify("--verifier", "retried_verifiers:length")
    assert "16 rollouts graded, mean reward" in done.out and "left out" not in done.out
    rows = generated.sql("SELECT DISTINCT verifier, outcome FROM rewards").fetchall()
    assert rows == [("retried_verifiers.length", "scored")]
    # A prompt without a gold answer has no label to count.
    labels = generated.sql("SELECT count(DISTINCT prompt_id) FROM graded_labels").fetchall()
    assert labels == [(7,)]


def test_a_withdrawn_version_grades_nothing(generated: Store, verify: Verify, cli: Cli) -> None:
    assert verify("--limit", 1).code == 0
    ((version,),) = generated.sql("SELECT verifier_version FROM rewards").fetchall()
    at = ("--store", generated.root)
    assert cli("verifiers", "withdraw", "math-verify", version, "--reason", "wrong", *at).code == 0
    refused = verify()
    assert refused.code == 1 and f"math-verify {version} was withdrawn: wrong" in refused.err


def test_another_place_of_the_answer_is_another_verifier(
    generated: Store, verify: Verify, cli: Cli
) -> None:
    assert verify("--quiet").code == 0
    done = verify("--quiet", "--answer-from", "box")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("run verify-math-verify.box-")
    found = generated.sql(
        "SELECT verifier, count(*), any_value(verifier_version) FROM current_rewards GROUP BY 1"
    ).fetchall()
    assert {(name, count) for name, count, _ in found} == {
        ("math-verify", 14),
        ("math-verify.box", 14),
    }, "the verdicts of both rules stand side by side"
    assert dict((n, v) for n, _, v in found)["math-verify.box"].endswith(".box")
    assert "nothing left to grade" in verify("--verifier", "math-verify(answer_from=box)").out
    done = verify("--answer-from", "boxes")
    assert done.code == 1 and "'boxes' is no place of an answer" in done.err
