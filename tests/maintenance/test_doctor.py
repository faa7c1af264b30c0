"""`s2d doctor`: damage is found, named and repaired, and no command trips over it."""

from __future__ import annotations

import io
import json
import random
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import queries
from s2d_store.datasets.build import build
from s2d_store.datasets.open import open_dataset
from s2d_store.maintenance.diagnose_error import diagnose_file_error
from s2d_store.maintenance.examine import examine
from s2d_store.schema import TABLES
from s2d_store.storage import content_hash
from s2d_store.store import Store
from s2d_store.tables import journal, table_state
from tests.conftest import Cli, Result
from tests.support import made_stores, synthetic

pytestmark = pytest.mark.slow

WARMUP = {
    "teacher": "teacher",
    "rows_per_update": "8",
    "correct_only": "false",
    "finished_only": "false",
}
BUILD = ("--query", "warmup", *(x for k, v in WARMUP.items() for x in ("--param", f"{k}={v}")))
TABLES_OF_RUNS = ("rollouts", "rewards", "topk")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, questions: Path, teacher_folder: Path) -> Store:
    """32 rollouts of the teacher in two commits, with its own top 3."""
    root = tmp_path_factory.mktemp("made") / "store"
    store = made_stores.make(root, made_stores.read(questions), teacher_folder)
    sizes = ("--n", 4, "--max-tokens", 8, "--batch-size", 16, "--chunk", 16, "--top-logprobs", 3)
    made_stores.command("generate", "--policy", teacher_folder, "--role", "teacher", *sizes, store)
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    return made_stores.copy(made, tmp_path / "store")


S2D = Callable[..., Result]


@pytest.fixture
def s2d(cli: Cli, store: Store) -> S2D:
    return lambda *arguments: cli(*arguments, "--store", store.root)


@pytest.fixture(scope="module")
def made_full(tmp_path_factory: pytest.TempPathFactory, made: Store, student_folder: Path) -> Store:
    """Graded, scored by the student, and with dataset `w` locked."""
    store = made_stores.copy(made, tmp_path_factory.mktemp("full") / "store")
    made_stores.command("verify", "--where", "sample_index < 3", "--n-workers", 1, store)
    made_stores.command("score", "--scorer", student_folder, "--top-logprobs", 2, store)
    build(store, "w", queries.catalog()["warmup"], WARMUP, copy_rows=True)
    return store


@pytest.fixture
def full(s2d: S2D, store: Store, made_full: Store) -> S2D:
    """Commands on `store`, which is a copy of that one now."""
    shutil.rmtree(store.folder)
    made_stores.copy(made_full, store.folder)
    return s2d


def files(store: Store, table: str) -> list[Path]:
    return [Path(file) for file in store.snapshot().files[table]]


def flip(path: Path, position: int, bit: int = 0) -> None:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def end_of(path: Path, column: str) -> int:
    """Where the last page of a column ends in a file of one row group."""
    group = pq.read_metadata(path).row_group(0)
    (chunk,) = [
        group.column(i)
        for i in range(group.num_columns)
        if group.column(i).path_in_schema.split(".")[0] == column
    ]
    dictionary = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
    return int((dictionary or chunk.data_page_offset) + chunk.total_compressed_size)


def damage_column(path: Path, column: str) -> None:
    """Flip a bit in a column's last page, where checksums tell which column it was."""
    flip(path, end_of(path, column) - 2)


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """What commands made, without when and by which run."""
    columns = {
        "rollouts": "* EXCLUDE created_at",
        "rewards": "* EXCLUDE (created_at, seconds, run_id)",
        "topk": "* EXCLUDE (created_at, run_id)",
    }
    return {
        table: sorted(store.sql(f"SELECT {shown} FROM raw.{table}").fetchall(), key=str)
        for table, shown in columns.items()
    }


def repairs(out: str, store: Store) -> list[list[str]]:
    """The commands that the doctor printed after it dropped files, as arguments."""
    lines = out.partition("now run, in this order:\n")[2].splitlines()
    words = [shlex.split(line) for line in lines]
    assert all(w[0] == "s2d" and w[-2:] == ["--store", str(store.root)] for w in words)
    return [w[1:-2] for w in words]


def test_a_whole_store_is_found_whole(full: S2D, store: Store) -> None:
    done = full("doctor")
    assert done.code == 0, done.err
    assert done.out.endswith("nothing is damaged\n")
    assert f"{len(list(store.folder.rglob('*.parquet')))} files" in done.out
    assert full("doctor", "--quick").code == 0
    parts = list((store.folder / "tables").rglob("*.parquet"))
    assert all(content_hash.hash_in_name(part) == content_hash.hash_of(part) for part in parts)


def test_no_flipped_bit_goes_unseen(store: Store) -> None:
    """Anywhere in a file of any table; a random sample of places."""
    rng = random.Random(0)
    for table in ("prompts", "policies", *TABLES_OF_RUNS[::2]):
        path = files(store, table)[0]
        whole = path.read_bytes()
        for _ in range(20):
            flip(path, rng.randrange(len(whole)), rng.randrange(8))
            (found,) = examine(store).damages
            assert found.file.path == path
            path.write_bytes(whole)
    assert examine(store).healthy


def test_flipped_rollouts_are_named_dropped_and_made_again(full: S2D, store: Store) -> None:
    before = contents(store)
    path = files(store, "rollouts")[0]
    damage_column(path, "response_token_ids")
    done = full("doctor")
    assert done.code == 1
    assert "what: its bytes are not those that were written" in done.out
    assert f"damaged: {path.relative_to(store.folder)}" in done.out
    assert "  rows: 16 of table rollouts: role teacher; run_id generate-teacher-" in done.out
    assert "  with them: 44 rewards and scores of these rollouts" in done.out
    assert "  locks: w cannot be rebuilt from the versions pinned" in done.out
    assert "  repair: s2d doctor --drop-damaged --store" in done.out
    verified = full("dataset", "verify", "w")
    assert verified.code == 1

    dropped = full("doctor", "--drop-damaged", "--yes")
    assert dropped.code == 0, dropped.err
    assert "1 files dropped from their tables; rows: 12 of rewards, 16 of rollouts" in dropped.out
    assert len(contents(store)["rollouts"]) == 16
    assert "in no current version" in full("doctor").out, "the lock still pins it"
    for command in repairs(dropped.out, store):
        ran = full(*command)
        assert ran.code == 0, (command, ran.err)
    assert contents(store) == before
    assert full("doctor").code == 0
    assert full("dataset", "verify", "w").out.endswith("dataset w matches its lock\n")
    for table in TABLES_OF_RUNS:
        key = {"rewards": "verifier", "topk": "(scorer_policy_id, k)"}.get(table, "role")
        text = f"SELECT count(*), count(DISTINCT (rollout_id, {key})) FROM raw.{table}"
        ((rows, keys),) = store.sql(text).fetchall()
        assert rows == keys, "nothing is doubled"


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("prompts", "meta"),
        ("rewards", "rollout_id"),
        ("rewards", "run_id"),
        ("policies", "vocab_size"),
        ("vocabularies", "token"),
        ("runs", "code_version"),
        ("dataset_rows", "update"),
        ("datasets", "lock"),
    ],
)
def test_each_tables_rows_come_back(
    full: S2D, store: Store, questions: Path, table: str, column: str
) -> None:
    before = contents(store)
    key = ", ".join(TABLES[table].key).replace(", entered_at", "")
    text = f"SELECT DISTINCT {key} FROM raw.{table} ORDER BY ALL"
    keys = store.sql(text).fetchall()
    for path in files(store, table):
        damage_column(path, column)
    dropped = full("doctor", "--drop-damaged", "--yes")
    assert dropped.code == 0, dropped.err
    for command in repairs(dropped.out, store):
        ran = full(*[word.replace("FILE_THAT_WAS_ADDED", str(questions)) for word in command])
        assert ran.code == 0, (command, ran.err)
    assert store.sql(text).fetchall() == keys
    assert contents(store) == before
    done = full("doctor")
    assert done.code == 0, done.out


def test_scores_are_made_again_by_their_run(full: S2D, store: Store) -> None:
    """And the policy's own, kept at sampling, by scoring: the same up to rounding."""
    before = contents(store)["topk"]
    for path in files(store, "topk"):
        damage_column(path, "logprobs")
    commands = repairs(full("doctor", "--drop-damaged", "--yes").out, store)
    assert [c[0] for c in commands] == ["score", "score", "dataset"]
    assert all(full(*command).code == 0 for command in commands[:2])
    after = contents(store)["topk"]
    assert [row[:5] for row in after] == [row[:5] for row in before]
    restored = full(*commands[2])
    assert "the newest versions give other rows" in restored.err
    assert open_dataset(store, "w").lock.counts["rows"] == 32, "its own files are whole"


def test_scores_go_with_a_lost_rank_table_and_come_back(full: S2D, store: Store) -> None:
    text = "SELECT rollout_id, scorer_policy_id, support, k FROM raw.topk ORDER BY ALL"
    keys = store.sql(text).fetchall()
    for path in files(store, "token_ranks"):
        damage_column(path, "token_ids")
    assert full("query", "SELECT token_ids FROM topk").code == 1
    dropped = full("doctor", "--drop-damaged", "--yes")
    assert dropped.code == 0, dropped.err
    assert store.sql("SELECT count(*) FROM topk").fetchall() == [(0,)], "none can be read"
    commands = repairs(dropped.out, store)
    assert {c[0] for c in commands} == {"score", "dataset"}
    assert all(full(*command).code == 0 for command in commands if command[0] == "score")
    assert store.sql(text).fetchall() == keys
    assert len(store.sql("SELECT token_ids FROM topk").fetchall()) == len(keys)
    assert full("query", "SELECT count(*) FROM token_ranks").code == 0


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def break_footer(path: Path) -> None:
    """Zeros at its start, as after a lost block."""
    data = bytearray(path.read_bytes())
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("table", "harm"),
    [("rollouts", Path.unlink), ("topk", truncate), ("policies", empty), ("topk", break_footer)],
)
def test_every_command_names_the_damaged_file_and_the_doctor(
    full: S2D, store: Store, teacher_folder: Path, table: str, harm: Callable[[Path], None]
) -> None:
    path = files(store, table)[0]
    harm(path)
    generate = ("generate", "--policy", teacher_folder, "--role", "teacher", "--n", 5)
    hit = 0
    for command in (
        ("info",),
        ("query", f"SELECT * FROM {table}"),
        ("query", "pass_rate"),
        ("verify", "--n-workers", 1),
        ("score", "--scorer", "student", "--top-logprobs", 2),
        (*generate, "--max-tokens", 8, "--top-logprobs", 3),
        ("dataset", "build", "other", *BUILD),
        ("policies", "list"),
        ("trace", "teacher"),
        ("audit",),
        ("query", "spent"),
    ):
        done = full(*command)
        if done.code == 0:  # it has no need of this table, or finds all in others
            continue
        hit += 1
        assert str(path) in done.err, (command, done.err)
        assert "fix: s2d doctor" in done.err and "Traceback" not in done.err, command
    assert hit >= 3
    done = full("doctor", "--quick")
    assert done.code == 1 and f"damaged: {path.relative_to(store.folder)}" in done.out


@pytest.mark.parametrize("harm", [Path.unlink, truncate, break_footer])
def test_a_damaged_dataset_is_made_again(
    full: S2D, store: Store, student_folder: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """Also after the store has grown: the rows come from the versions that it pins."""
    part = store.folder / "datasets" / "w" / "part-00000.parquet"
    whole = part.read_bytes()
    assert full("verify", "--n-workers", 1).code == 0
    harm(part)
    train = ("train", "warmup", "--dataset", "w", "--student", student_folder)
    done = full(*train, "--output", tmp_path / "out")
    assert done.code == 1 and "datasets/w/part-00000.parquet" in done.err
    done = full("doctor")
    assert done.code == 1
    assert "damaged: datasets/w/part-00000.parquet" in done.out
    assert "  rows: 32 of locked dataset w\n  repair: s2d dataset restore w" in done.out
    assert "1 files written again, with the locked rows" in full("dataset", "restore", "w").out
    assert part.read_bytes() == whole
    assert full("doctor").code == 0
    assert full("dataset", "restore", "w").out == "dataset w holds its locked rows\n"


def test_a_lock_that_was_lost_comes_back_from_the_stores_record(full: S2D, store: Store) -> None:
    lock = store.root / "datasets" / "w" / "lock.json"
    whole = lock.read_text()
    lock.write_text(whole[:100])
    done = full("doctor")
    assert done.code == 1 and "repair: s2d dataset restore w" in done.out
    assert full("dataset", "restore", "w").code == 0
    assert json.loads(lock.read_text()) == json.loads(whole)
    assert full("dataset", "verify", "w").code == 0


def test_a_log_that_cannot_be_read_is_one_error(full: S2D, store: Store) -> None:
    log = store.root / "tables" / "rewards" / "_delta_log" / f"{1:020}.json"
    log.write_text("{")
    table_state.forget()  # as in another process
    for command in (("query", "pass_rate"), ("verify",), ("info",)):
        done = full(*command)
        assert done.code == 1 and "the log of table rewards cannot be read" in done.err, command
    done = full("doctor")
    assert done.code == 1 and "damaged: the log of table rewards cannot be read" in done.out


def test_nothing_is_dropped_unasked_or_while_others_commit(
    full: S2D, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    damage_column(files(store, "rollouts")[0], "response_token_ids")
    version = store.snapshot().versions
    done = full("doctor", "--drop-damaged")
    assert done.code == 1 and "nobody answered" in done.err
    file = journal.NewFile("policies", "x.parquet", 1, 1, {}, 0)
    with journal._entry(store.root, [file]) as path:
        done = full("doctor", "--drop-damaged", "--yes")
        assert done.code == 1 and "another command is committing to this store" in done.err
        path.unlink()
    assert store.snapshot().versions == version


def test_an_error_about_a_users_file_is_not_the_stores(store: Store, tmp_path: Path) -> None:
    (damaged, *_) = files(store, "rollouts")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert (
        diagnose_file_error(
            FileNotFoundError(2, "No such file", str(tmp_path / "mine.jsonl")), store
        )
        is None
    )
    found = diagnose_file_error(OSError(5, "Input/output error", str(damaged)), store)
    assert found is not None and damaged.name in found.what


def test_a_run_that_a_program_made_is_told_as_such(
    cli: Cli, questions: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    store = made_stores.make(
        tmp_path / "made", made_stores.read(questions)[:2], teacher_folder, role="teacher", n=1
    )
    damage_column(files(store, "rollouts")[0], "response_token_ids")
    done = cli("doctor", "--store", store.root)
    ((run_id,),) = store.sql("SELECT run_id FROM runs").fetchall()
    assert f"the command of run {run_id}, as it was given" in done.out


def test_tables_that_no_command_here_writes_are_described(store: Store, cli: Cli) -> None:
    store.commit({"withdrawals": synthetic.table("withdrawals", [WITHDRAWAL])})
    policy_id = store.sql("SELECT policy_id FROM policies").fetchall()[0][0]
    moved = {"policy_id": policy_id, "location": "../moved", "created_at": synthetic.NOW}
    store.commit({"relocations": synthetic.table("relocations", [moved])})
    for table in ("withdrawals", "relocations"):
        damage_column(files(store, table)[0], "created_at")
    done = cli("doctor", "--store", store.root)
    assert done.code == 1 and "Traceback" not in done.err
    assert f"s2d policies move teacher {store.root.parent}/moved" in done.out
    assert "the commands that wrote table withdrawals, as they were given" in done.out


WITHDRAWAL = {"verifier": "v", "verifier_version": "1", "reason": "x", "created_at": synthetic.NOW}
