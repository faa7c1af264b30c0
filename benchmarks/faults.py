"""Kill s2d's commands at random points and compare what comes out with an uninterrupted run.

python -m benchmarks.faults --kills 200

One process imports everything and forks a child for every command, so that a kill costs no
start-up. Half of the kills come before the child's n-th change of a file (an audit hook counts
opens to write, links, renames, removals and locks below the store and the output folder; n is drawn
among those of the uninterrupted run), the other half after a random share of the uninterrupted
run's time, which hits what happens outside Python: Arrow, DuckDB, checkpoints of the log. Every
third restart is killed as well.

After each kill: the store opens, every file that it shows is whole by its hash, every row that was
committed is there, no key stands twice, no row differs from the uninterrupted run's. After the
restart: all tables, the dataset's fingerprint and the trained weights are the uninterrupted run's,
every lock rebuilds, and nothing is pending.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

_WORK = (
    "cli.main",
    "cli.progress",
    "cli.recipes.train_from_store",
    "s2d_store.maintenance.compact",
    "s2d_store.datasets.build",
    "s2d_store.datasets.verify",
    "s2d_store.maintenance.examine",
    "s2d_store.rollouts.generate",
    "s2d_store.rollouts.score",
    "s2d_store.rollouts.grade",
    "trainers.warmup",
)
PROMPTS, N, CHUNK, EVENT_SHARE, KILL_AGAIN = 4, 4, 4, 0.5, 1 / 3
# What two runs of one command may differ in.
VARYING = (
    *("created_at", "entered_at", "seconds", "lock", "location", "code_version"),
    *("argv", "versions"),
)
STATES = ("nothing new visible", "inside a write", "between commits")


@dataclass(frozen=True)
class Case:
    """A command to kill: what it is given, and the stages that the store has been through."""

    name: str
    after: tuple[str, ...]
    arguments: tuple[str, ...]


def cases(models: Path) -> list[Case]:
    """Every command that writes, in the order of a pipeline; `OUT` stands for a folder."""
    teacher, student = str(models / "teacher"), str(models / "student")
    engine = ("--batch-size", "4", "--chunk", str(CHUNK))
    generate = (
        *(
            "generate",
            "--policy",
            teacher,
            "--role",
            "teacher",
            "--n",
            str(N),
            "--top-logprobs",
            "3",
        ),
        *("--max-tokens", "6", *engine),
    )
    # A deadline that no machine is too busy for: a timeout would be another verdict.
    verify = ("verify", "--n-workers", "1", "--chunk", str(CHUNK), "--deadline", "300")
    build = (
        *("dataset", "build", "w", "--query", "warmup", "-p", "teacher=teacher"),
        *("-p", "rows_per_update=4", "-p", "correct_only=false", "-p", "finished_only=false"),
    )
    train = (
        *("train", "warmup", "--dataset", "w", "--student", student, "--output", "OUT"),
        *("--checkpoint-every-updates", "1"),
    )
    return [
        Case("generate", (), generate),
        Case("verify", ("generate",), verify),
        Case(
            "score", ("generate",), ("score", "--scorer", student, "--top-logprobs", "4", *engine)
        ),
        Case("dataset build", ("generate",), build),
        Case("train", ("generate", "dataset build"), train),
        Case("compact", ("generate", "dataset build"), ("compact",)),
    ]


def load() -> None:
    """Import what the commands need, and start no thread: a fork would lose it."""
    from importlib import import_module
    from importlib.util import find_spec

    import accelerate  # noqa: F401
    import deltalake  # noqa: F401
    import duckdb  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
    import transformers.models.auto.modeling_auto
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401

    # Every child would import again what is not here; DuckDB imports pandas where there is one.
    for name in (*_WORK, *(["pandas"] if find_spec("pandas") else [])):
        import_module(name)
    torch.set_num_threads(1)


def main() -> None:
    """Run the kills and print a table; exits 1 where anything was lost, doubled or different."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="begin no trial after these")
    parser.add_argument("--commands", nargs="*", help="only these, as the table names them")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    load()
    with tempfile.TemporaryDirectory(prefix="s2d-faults-") as folder:
        harness = Harness(Path(folder), random.Random(options.seed))
        harness.prepare(options.commands)
        failures = harness.run(options.kills, options.minutes)
    print(harness.table())
    if options.json:
        options.json.write_text(json.dumps(harness.figures() | {"failures": failures}))
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    sys.exit(bool(failures))


class Harness:
    """Base stores, what each command gives uninterrupted, and the kills."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self.rng = folder, rng
        self.cases: list[Case] = []
        self.seconds: dict[str, float] = {}
        self.events: dict[str, int] = {}
        self.bases: dict[str, Path] = {}
        self.before: dict[str, dict[str, Any]] = {}
        self.expected: dict[str, dict[str, Any]] = {}
        self.kills: Counter[tuple[str, str]] = Counter()
        self.restarts: Counter[str] = Counter()

    def prepare(self, only: list[str] | None = None) -> None:
        """Make the models and a store, then run each command whole on a copy."""
        models, log = self.folder / "models", self.folder / "log"
        _finish(_fork(lambda: _make(models, self.folder / "base"), log), log)
        self.cases = [case for case in cases(models) if not only or case.name in only]
        made: dict[tuple[str, ...], Path] = {(): self.folder / "base"}
        for case in self.cases:
            self.bases[case.name] = made[case.after]
            store, out = self._copy(made[case.after], f"whole-{case.name}")
            self.before[case.name] = self._ask(_contents, store, out)
            started = time.perf_counter()
            _finish(self._start(case, store, out), log)
            self.seconds[case.name] = time.perf_counter() - started
            self.events[case.name] = int((out / "events").read_text())
            self.expected[case.name] = self._ask(_after_the_end, store, out)
            self._check(self.expected[case.name], "uninterrupted")
            made[*case.after, case.name] = store

    def run(self, kills: int, minutes: float) -> list[str]:
        """Kill commands in turn until `kills` hit; returns what went wrong, in words."""
        failures: list[str] = []
        trial, end = 0, time.monotonic() + 60 * minutes
        while sum(self.kills.values()) < kills and time.monotonic() < end:
            case = self.cases[trial % len(self.cases)]
            trial += 1
            try:
                self._trial(case, trial)
            except Failure as failure:
                failures.append(f"trial {trial}, {case.name}: {failure}")
            hit = sum(self.kills.values())
            print(f"trial {trial}: {hit} of {kills} kills", file=sys.stderr, flush=True)
        return failures

    def figures(self) -> dict[str, Any]:
        """Kills, those of them inside a write, and the commands that were killed."""
        inside = sum(n for (_, state), n in self.kills.items() if state == STATES[1])
        commands = [case.name for case in self.cases]
        return {"kills": self.kills.total(), "inside": inside, "commands": commands}

    def table(self) -> str:
        """Kills by command and by what they hit."""
        lines = [
            "| command | kills | " + " | ".join(STATES) + " | restarts to the end |",
            "| --- |" + " --- |" * (len(STATES) + 2),
        ]
        for case in self.cases:
            hits = [self.kills[case.name, state] for state in STATES]
            cells = " | ".join(map(str, [sum(hits), *hits, self.restarts[case.name]]))
            lines.append(f"| {case.name} | {cells} |")
        totals = [sum(self.kills[c.name, state] for c in self.cases) for state in STATES]
        cells = " | ".join(map(str, [sum(totals), *totals, sum(self.restarts.values())]))
        return "\n".join([*lines, f"| all | {cells} |"])

    def _trial(self, case: Case, number: int) -> None:
        store, out = self._copy(self.bases[case.name], f"trial-{number}")
        seen, whole = self.before[case.name], self.expected[case.name]
        killed = True
        while killed:
            killed = self._kill(case, store, out)
            if killed:
                found = self._ask(_after_kill, store, out)
                self._check(found, "after a kill")
                _compare(seen, found, whole)
                self.kills[case.name, _state(found, seen)] += 1
                seen = found
            if self.rng.random() > KILL_AGAIN:
                break
        _finish(self._start(case, store, out), self.folder / "log")
        self.restarts[case.name] += killed
        done = self._ask(_after_the_end, store, out)
        self._check(done, "after the restart")
        for key, expected in whole.items():
            if done[key] != expected:
                raise Failure(f"{key} after the restart is not that of the uninterrupted run")
        shutil.rmtree(store.parent)

    def _kill(self, case: Case, store: Path, out: Path) -> bool:
        """Start the command and kill it; False where it ended before."""
        if self.rng.random() < EVENT_SHARE:
            pid = self._start(case, store, out, self.rng.randrange(self.events[case.name]))
        else:
            pid = self._start(case, store, out)
            time.sleep(self.rng.random() * self.seconds[case.name])
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def _start(self, case: Case, store: Path, out: Path, event: int = -1) -> int:
        def work() -> None:
            from cli.main import main as s2d

            arguments = [str(out / "model") if a == "OUT" else a for a in case.arguments]
            sys.argv = ["s2d", *arguments, "--store", str(store)]
            count = _count_changes((store, out), event)
            try:
                s2d()
            except SystemExit as stop:
                if stop.code:
                    raise
            finally:
                changes = next(count)
                (out / "events").write_text(str(changes))

        return _fork(work, self.folder / "log")

    def _ask(self, question: Callable[[Path, Path], Any], store: Path, out: Path) -> Any:
        """Answer a question about a store in a child: opening one starts threads."""
        answer, log = self.folder / "answer", self.folder / "log"
        answer.unlink(missing_ok=True)
        _finish(_fork(lambda: answer.write_text(json.dumps(question(store, out))), log), log)
        return json.loads(answer.read_text())

    def _copy(self, base: Path, name: str) -> tuple[Path, Path]:
        store, out = self.folder / name / "store", self.folder / name / "out"
        shutil.copytree(base, store)
        out.mkdir()
        return store, out

    @staticmethod
    def _check(found: dict[str, Any], when: str) -> None:
        if found["faults"]:
            raise Failure(f"{when}: " + "; ".join(found["faults"]))


class Failure(Exception):
    """Something was lost, doubled, damaged or different."""


def _compare(before: dict[str, Any], after: dict[str, Any], whole: dict[str, Any]) -> None:
    for table in (key for key in before if key.startswith("table ")):
        rows = set(after[table])
        if not set(before[table]) <= rows:
            raise Failure(f"{table} lost rows that were committed")
        if not rows <= set(whole[table]):
            raise Failure(f"{table} holds rows that the uninterrupted run does not")


def _state(found: dict[str, Any], before: dict[str, Any]) -> str:
    if found["unfinished"]:
        return STATES[1]
    moved = found["checkpoints"] or any(found[key] != before[key] for key in before)
    return STATES[2] if moved else STATES[0]


def _fork(work: Callable[[], object], log: Path) -> int:
    """Run work in a child with its output in a file; returns the child's id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        work()
        code = 0
    except BaseException:  # the child's boundary: nothing may reach the parent's stack
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _finish(pid: int, log: Path) -> None:
    _, status = os.waitpid(pid, 0)
    if status:
        raise Failure(f"a command ended with status {status}: {log.read_text()[-2000:]}")


def _count_changes(folders: tuple[Path, ...], kill_before: int) -> Iterator[int]:
    """Count changes of files below folders; this process kills itself before one of them."""
    roots = tuple(map(str, folders))
    changes = 0
    watched = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock"}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            if not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event not in watched:
            return
        if event == "fcntl.flock" or any(str(a).startswith(roots) for a in arguments[:2]):
            if changes == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
            changes += 1

    sys.addaudithook(hook)

    def counted() -> Iterator[int]:
        yield changes

    return counted()


def _make(models: Path, base: Path) -> None:
    """Two tiny models and a store with prompts."""
    from s2d_store import prompts
    from s2d_store.policies import registry
    from s2d_store.store import Store
    from tests.support.tiny_models import save_tiny_model

    save_tiny_model(models / "teacher", seed=1)
    save_tiny_model(models / "student", seed=2)
    store = Store.init(base)
    records = ((f"{i}", {"question": f"{i}+{i}=", "answer": str(2 * i)}) for i in range(PROMPTS))
    prompts.add(store, records, prompts.PromptOptions(source="sums"))
    registry.register(store, "student", str(models / "student"))


def _contents(folder: Path, out: Path) -> dict[str, Any]:
    """Every table's rows without what may vary, the dataset's fingerprint, the weights' hash."""
    from s2d_store.schema import FILES_ALONE, TABLES
    from s2d_store.sql import connection
    from s2d_store.storage.content_hash import hash_of
    from s2d_store.store import Store

    con = connection.connect_raw(folder, Store.open(folder).snapshot().files)
    found: dict[str, Any] = {}
    for name, table in TABLES.items():
        hidden = (*VARYING, *FILES_ALONE.get(name, ()))
        shown = [c for c in table.column_names if c not in hidden]
        # A run that is taken up again enters a status again.
        distinct = "DISTINCT" if name == "runs" else ""
        rows = con.execute(f"SELECT {distinct} {', '.join(shown)} FROM raw.{name}").fetchall()
        # A run's record names the folder that it trained into.
        found[f"table {name}"] = sorted(repr(row).replace(str(out), "OUT") for row in rows)
    lock = folder / "datasets" / "w" / "lock.json"
    found["fingerprint"] = json.loads(lock.read_text())["fingerprint"] if lock.exists() else ""
    weights = out / "model" / "final" / "model.safetensors"
    found["weights"] = hash_of(weights) if weights.exists() else ""
    return found


def _after_kill(folder: Path, out: Path) -> dict[str, Any]:
    """What a kill left: its contents, writes that were under way, and faults in words."""
    from s2d_store.store import Store

    snap = Store.open(folder).snapshot()
    committed = {Path(file) for files in snap.files.values() for file in files}
    unfinished = [
        *set((folder / "tables").rglob("*.parquet")) - committed,
        *(folder / "pending").glob("*"),
        *(folder / "datasets").glob(".*.draft"),
        *out.rglob(".unfinished-*"),
    ]
    return _contents(folder, out) | {
        "faults": _faults(folder),
        "unfinished": len(unfinished),
        "checkpoints": len(list(out.glob("model/checkpoint-*"))),
    }


def _after_the_end(folder: Path, out: Path) -> dict[str, Any]:
    """Contents and faults of a store after a command has ended."""
    from s2d_store.datasets.lock_file import list_built
    from s2d_store.datasets.verify import verify
    from s2d_store.store import Store

    store, faults = Store.open(folder), _faults(folder)
    for name in list_built(store):
        if not verify(store, name).matches:
            faults.append(f"lock {name} does not rebuild")
    faults += [f"{path} is pending" for path in (folder / "pending").glob("*.json")]
    return _contents(folder, out) | {"faults": faults}


def _faults(folder: Path) -> list[str]:
    """Damaged files, doubled keys, rollouts without what belongs to them."""
    from s2d_store.maintenance.examine import examine
    from s2d_store.schema import TABLES
    from s2d_store.sql import connection
    from s2d_store.store import Store

    store = Store.open(folder)
    report = examine(store)
    faults = [f"{d.file.name}: {d.what}" for d in report.damages] + list(report.faults)
    con = connection.connect_raw(folder, store.snapshot().files)
    for name, table in TABLES.items():
        key = ", ".join(table.key)
        text = f"SELECT count(*) FROM (SELECT 1 FROM raw.{name} GROUP BY {key} HAVING count(*) > 1)"
        ((doubled,),) = con.execute(text).fetchall()
        if doubled:
            faults.append(f"{doubled} keys of table {name} are doubled")
    text = "SELECT count(*) FROM raw.rollouts ANTI JOIN raw.topk USING (rollout_id)"
    ((alone,),) = con.execute(text).fetchall()
    if alone:
        faults.append(f"{alone} rollouts show without the top-k committed with them")
    return faults


if __name__ == "__main__":
    main()
