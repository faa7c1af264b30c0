"""The pool of verifiers: what it does when a worker hangs, dies, or returns nonsense."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import starmap
from pathlib import Path

import pytest

from s2d_store.errors import InputError, S2DError
from s2d_store.verifiers.base import Item, Verdict
from s2d_store.verifiers.pool import IN_FLIGHT_PER_WORKER, VerifierPool
from tests.support.processes import REPOSITORY

SPEC = "tests.verifiers.test_verifier_pool:Obedient"


class Obedient:
    """Does what the response tells it to; the gold answer is its argument."""

    name, version = "obedient", "7"

    def verify(self, response: str, answer: str) -> Verdict:
        match response:
            case "hang":
                time.sleep(3600)
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                os._exit(3)
            case "raise":
                raise ValueError(answer)
            case "hog":
                bytearray(16 << 30)
            case "print":
                print("not a message")
                sys.stdin.read()
            case "bad outcome":
                return Verdict(0.0, "maybe")  # type: ignore[arg-type]
            case "nan":
                return Verdict(float("nan"), "correct")
            case "pid":
                return Verdict(0.0, "wrong", str(os.getpid()))
        return Verdict(0.5, "correct", f"{response}/{answer}")


class Unborn:
    name, version = "unborn", "1"

    def __init__(self) -> None:
        raise RuntimeError("no weights here")

    def verify(self, response: str, answer: str) -> Verdict:
        raise AssertionError("never created")


class Nameless:
    def verify(self, response: str, answer: str) -> Verdict:
        raise AssertionError("never accepted")


class ExitsAtBirth(Unborn):
    def __init__(self) -> None:
        os._exit(9)


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(SPEC, workers=2, deadline_s=2.0) as pool:
        yield pool


def outcomes(pool: VerifierPool, *responses: str) -> dict[str, Verdict]:
    graded = list(pool.grade_many(Item(text, text, "gold") for text in responses))
    assert sorted(key for key, _, _ in graded) == sorted(responses)
    assert all(seconds >= 0 for _, _, seconds in graded)
    return {key: verdict for key, verdict, _ in graded}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pids: list[int]) -> None:
    end = time.monotonic() + 20
    while any(map(alive, pids)):
        assert time.monotonic() < end, f"still alive: {[pid for pid in pids if alive(pid)]}"
        time.sleep(0.02)


def test_pool_grades_a_stream_and_attributes_by_key(pool: VerifierPool) -> None:
    assert (pool.name, pool.version) == ("obedient", "7")
    items = [(f"key{i}", f"response{i}", f"gold{i}") for i in range(700)]
    graded = {key: verdict for key, verdict, _ in pool.grade_many(starmap(Item, items))}
    assert graded == {
        key: Verdict(0.5, "correct", f"{response}/{answer}") for key, response, answer in items
    }
    assert list(pool.grade_many([])) == []


def test_pool_stuck_item_alone_times_out(pool: VerifierPool) -> None:
    others = [f"ok{i}" for i in range(100)]
    graded = outcomes(pool, *others[:50], "hang", *others[50:])
    assert graded.pop("hang").outcome == "timeout"
    assert {verdict.outcome for verdict in graded.values()} == {"correct"}


def test_pool_dead_worker_costs_one_item(pool: VerifierPool) -> None:
    graded = outcomes(pool, *"abcdefgh", "segfault", *"ijklmn", "exit", *"opqrst")
    segfault, left = graded.pop("segfault"), graded.pop("exit")
    assert segfault.outcome == left.outcome == "error"
    assert "SIGSEGV" in segfault.detail and "exit code 3" in left.detail
    assert {verdict.outcome for verdict in graded.values()} == {"correct"}


def test_pool_exceptions_and_memory_are_errors(pool: VerifierPool) -> None:
    graded = outcomes(pool, "raise", "hog", "print", "bad outcome", "nan", "ok")
    assert graded["raise"] == Verdict(None, "error", detail="ValueError: gold")
    assert graded["hog"].outcome == "error" and "memory" in graded["hog"].detail
    assert graded["print"].outcome == graded["ok"].outcome == "correct"
    assert "'maybe'" in graded["bad outcome"].detail and "nan" in graded["nan"].detail


def test_pool_item_too_large_to_be_read_is_alone_to_blame() -> None:
    with VerifierPool(SPEC, workers=1, memory_bytes=160 << 20) as pool:
        graded = outcomes(pool, "a", "b", "x" * (50 << 20), "c", "d")
    assert [verdict.outcome for verdict in graded.values()].count("error") == 1
    assert {graded[key].outcome for key in "abcd"} == {"correct"}


def test_pool_worker_that_dies_idle_costs_nothing() -> None:
    with VerifierPool(SPEC, workers=1) as pool:
        pid = int(outcomes(pool, "pid")["pid"].extracted)
        os.kill(pid, signal.SIGKILL)
        wait_until_gone([pid])
        assert outcomes(pool, "a")["a"].outcome == "correct"


def test_pool_sends_and_receives_more_than_a_pipe_holds(pool: VerifierPool) -> None:
    texts = [f"{i}" + "x" * 50_000 for i in range(100)]
    graded = outcomes(pool, *texts, "y" * 5_000_000)
    assert all(graded[text].extracted == text[:10_000] for text in texts)


def test_pool_replaces_a_worker_after_a_memory_error() -> None:
    with VerifierPool(SPEC, workers=1) as pool:
        first, _, second = (
            verdict for text in ("pid", "hog", "pid") for verdict in outcomes(pool, text).values()
        )
    assert first.extracted != second.extracted


def test_pool_is_lazy_and_can_be_left(pool: VerifierPool) -> None:
    taken = 0

    def endless() -> Iterator[tuple[str, str, str]]:
        nonlocal taken
        while True:
            taken += 1
            yield str(taken), "text", "gold"

    stream = pool.grade_many(starmap(Item, endless()))
    for _ in range(10):
        next(stream)
    assert taken <= 2 * IN_FLIGHT_PER_WORKER + 10
    stream.close()  # type: ignore[attr-defined]
    assert outcomes(pool, "after")["after"].outcome == "correct"


def test_pool_serves_other_threads(pool: VerifierPool) -> None:
    seen: list[dict[str, Verdict]] = []
    threads = [
        threading.Thread(target=lambda: seen.append(outcomes(pool, *"abcdefgh", "exit")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 3
    assert all(graded["exit"].outcome == "error" for graded in seen)
    assert all(graded["h"].outcome == "correct" for graded in seen)


def test_pool_made_in_a_thread_outlives_it() -> None:
    made: list[VerifierPool] = []
    thread = threading.Thread(target=lambda: made.append(VerifierPool(SPEC, workers=1)))
    thread.start()
    thread.join()
    with made[0] as pool:
        pid = outcomes(pool, "pid")["pid"].extracted
        assert outcomes(pool, "pid")["pid"].extracted == pid


def test_pool_source_errors_reach_the_caller(pool: VerifierPool) -> None:
    def failing() -> Iterator[tuple[str, str, str]]:
        yield "a", "b", "c"
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        list(pool.grade_many(starmap(Item, failing())))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tests.verifiers.test_verifier_pool:Unborn", r"(?s)Unborn.*no weights here"),
        ("tests.verifiers.test_verifier_pool:ExitsAtBirth", r"(?s)ExitsAtBirth.*exit code 9"),
        ("tests.verifiers.test_verifier_pool:Nameless", "is not a verifier"),
        ("no_such_module_here:V", "cannot import no_such_module_here:V"),
        ("maths", "available: .*math-verify"),
    ],
)
def test_pool_that_cannot_start_says_so_at_once(spec: str, message: str) -> None:
    before = threading.active_count()
    with pytest.raises(S2DError, match=message):
        VerifierPool(spec, workers=2)
    assert threading.active_count() == before


@pytest.mark.parametrize("bad", [{"workers": 0}, {"deadline_s": 0.0}, {"memory_bytes": -1}])
def test_pool_limits_are_positive(bad: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(bad))} = .* must be positive"):
        VerifierPool(SPEC, **{"workers": 1, **bad})


def test_pool_close_ends_workers_and_running_calls() -> None:
    pool = VerifierPool(SPEC, workers=2)
    pids = [int(verdict.extracted) for verdict in outcomes(pool, "pid").values()]
    raised: list[S2DError] = []

    def grade() -> None:
        try:
            list(pool.grade_many([Item(key, "hang", "") for key in "ab"]))
        except S2DError as error:
            raised.append(error)

    thread = threading.Thread(target=grade)
    thread.start()
    pool.close()
    pool.close()
    thread.join(timeout=20)
    assert not thread.is_alive() and "closed" in str(raised[0])
    wait_until_gone(pids)
    with pytest.raises(S2DError, match="closed"):
        list(pool.grade_many([Item("a", "b", "c")]))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    program = """
        from s2d_store.verifiers.base import Item
        from s2d_store.verifiers.pool import VerifierPool

        # No `if __name__` guard: workers must not import this file again.
        print("main", flush=True)
        pool = VerifierPool("tests.verifiers.test_verifier_pool:Obedient", 2, deadline_s=600)
        for _, verdict, _ in pool.grade_many([Item(str(i), "pid", "") for i in range(200)]):
            print(verdict.extracted, flush=True)
        print("hanging", flush=True)
        list(pool.grade_many([Item(key, "hang", "") for key in "ab"]))
    """
    script = tmp_path / "user_script.py"
    script.write_text(textwrap.dedent(program))
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=env,
        # pytest may run with SIGINT ignored, as in the background, which a child would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert parent.stdout is not None
    try:
        lines = []
        while (line := parent.stdout.readline().strip()) != "hanging":
            assert line, "the parent ended early"
            lines.append(line)
        pids = sorted({int(line) for line in lines if line != "main"})
        assert lines.count("main") == 1 and pids and all(map(alive, pids))
        parent.send_signal(number)
        assert parent.wait(timeout=20) == -number
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    wait_until_gone(pids)


def test_pool_leaves_no_zombies() -> None:
    before = children()
    with VerifierPool(SPEC, workers=2, deadline_s=0.5) as pool:
        outcomes(pool, "segfault", "hang", "hog", "exit", "ok")
        left = children() - before
        assert len(left) == 2 and all(map(alive, left))
    assert children() == before


def children() -> set[int]:
    """Processes this one started and has not reaped yet."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


def test_importing_the_pool_is_light() -> None:
    code = (
        "import sys, s2d_store.verifiers.pool;"
        "assert not {'sympy', 'math_verify', 'torch'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


class Unlucky:
    """Starts, and where a file says so fails to start once more, then starts again."""

    name, version = "unlucky", "1"

    def __init__(self) -> None:
        trap = Path(os.environ["S2D_TEST_TRAP"])
        if trap.exists():
            trap.unlink()
            raise OSError("no memory just now")

    def grade(self, item: Item) -> Verdict:
        if item.response == "trap":
            Path(os.environ["S2D_TEST_TRAP"]).touch()
            os._exit(1)
        return Verdict(1.0, "correct")


def test_one_failed_start_of_a_worker_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S2D_TEST_TRAP", str(tmp_path / "trap"))
    with VerifierPool("tests.verifiers.test_verifier_pool:Unlucky", workers=1) as pool:
        graded = outcomes(pool, "a", "trap", "b", "c")
    assert not (tmp_path / "trap").exists(), "the start that fails was never made"
    assert {graded[key].outcome for key in "abc"} == {"correct"}
    assert graded["trap"].outcome == "error"


class Spawner:
    """Leaves processes behind in sessions of their own; the response says how it ends."""

    name, version = "spawner", "1"

    def grade(self, item: Item) -> Verdict:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        Path(item.answer or "").write_text(str(child.pid))
        if item.response == "hang":
            time.sleep(600)
        if item.response == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return Verdict(1.0, "correct")


@pytest.mark.parametrize("ending", ["hang", "die", "return"])
def test_children_with_sessions_of_their_own_end_with_their_worker(
    tmp_path: Path, ending: str
) -> None:
    note = tmp_path / "pid"
    with VerifierPool("tests.verifiers.test_verifier_pool:Spawner", 1, deadline_s=2.0) as pool:
        list(pool.grade_many([Item("a", ending, str(note))]))
    wait_until_gone([int(note.read_text())])


class Endless:
    """Writes into the pool's pipe for ever."""

    name, version = "endless", "1"

    def grade(self, item: Item) -> Verdict:
        for descriptor in range(3, 64):
            with suppress(OSError):
                while True:
                    os.write(descriptor, b"x" * 4096)
        return Verdict(1.0, "correct")


def test_a_reply_without_an_end_is_cut() -> None:
    with VerifierPool("tests.verifiers.test_verifier_pool:Endless", 1, deadline_s=2.0) as pool:
        ((_, verdict, seconds),) = list(pool.grade_many([Item("a", "b", "c")]))
    assert verdict.outcome in ("error", "timeout") and verdict.reward is None
    assert seconds < 60
