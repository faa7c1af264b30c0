"""Stores on a real S3 server: the same commands, the same bytes, the same safety as on a disk."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import queries
from s2d_store.datasets.build import build
from s2d_store.datasets.folders import local_folder
from s2d_store.datasets.open import open_dataset
from s2d_store.errors import DatasetError, InputError, S2DError, StoreError
from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.examine import examine
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.storage.backend import OBJECTS
from s2d_store.storage.location import Place
from s2d_store.storage.object_path import ObjectPath
from s2d_store.store import Store
from s2d_store.tables import journal
from tests.conftest import Cli
from tests.support import made_stores, small_commits, synthetic
from tests.tables.test_concurrency import faults

pytestmark = pytest.mark.slow


@pytest.fixture
def remote(bucket: ObjectPath) -> Store:
    return Store.init(bucket)


def dataset_of(store: Store) -> dict[str, Any]:
    given = {"teacher": "teacher", "rows_per_update": "4"}
    return build(store, "w", queries.find("warmup"), given, seed=3)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s3://b", "s3://b"),
        ("s3://b/", "s3://b"),
        ("gs://b.c-d/e/f_1=2/", "gs://b.c-d/e/f_1=2"),
        ("az://container/x", "az://container/x"),
    ],
)
def test_urls(url: str, text: str) -> None:
    path = ObjectPath.parse(url)
    assert str(path) == text
    assert str(path / "a" / "b.json") == f"{text}/a/b.json"
    assert (path / "a" / "b.json").parent == path / "a"
    assert (path / "a" / "b.json").stem == "b"


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///x", "http://b/x", "s3://b/a b", "s3://b/../c", "s3://b/x%2e", "s3://b//c"],
)
def test_urls_that_are_none(cli: Cli, url: str) -> None:
    with pytest.raises(InputError, match="is no place for a store"):
        Store.open(url)
    done = cli("info", "--store", url)
    assert done.code == 1
    assert url in done.err and "--store s3://BUCKET/PREFIX" in done.err


def test_commands_do_what_they_do_on_a_disk(
    cli: Cli,
    bucket: ObjectPath,
    tmp_path: Path,
    questions: Path,
    teacher_folder: Path,
    student_folder: Path,
) -> None:
    """Generate, verify, build, train: a store on S3 and one on a disk hold the same."""
    prints: list[object] = []
    places: tuple[Place, ...] = (bucket, tmp_path / "disk")
    for number, root in enumerate(places):
        at = ("--store", root)

        def run(*arguments: object, at: tuple[object, ...] = at) -> str:
            done = cli(*arguments, *at)
            assert done.code == 0, done.err
            return done.out

        run("init")
        run("prompts", "add", questions, "--source", "sums", "--prompt-field", "question")
        run("policies", "add", "teacher", teacher_folder)
        run("policies", "add", "student", student_folder)
        usual = ("--policy", "teacher", "--role", "teacher", "--max-tokens", 8, "--top-logprobs", 3)
        assert "32 rollouts stored" in run("generate", *usual, "--n", 4, "--chunk", 8)
        assert "32 were stored before" in run("generate", *usual, "--n", 4, "--chunk", 8)
        run("verify")
        build: tuple[str, ...] = (
            "--query",
            "warmup",
            "-p",
            "teacher=teacher",
            "-p",
            "rows_per_update=8",
        )
        build += ("-p", "correct_only=false", "-p", "finished_only=false")
        run("dataset", "build", "w", *build)
        assert "match" in run("dataset", "verify", "w")
        output = tmp_path / f"trained-{number}"
        run("train", "warmup", "--dataset", "w", "--student", "student", "--output", output)
        run("query", "spent_by_stage")
        run("compact")
        run("audit", "locks_rebuild", "contamination_exact")
        assert "whole" in run("doctor")
        run("vacuum")
        store = Store.open(root)
        lock = open_dataset(store, "w").lock
        weights = (output / "final" / "model.safetensors").read_bytes()
        rows = store.sql(
            "SELECT rollout_id, response_token_ids, reward FROM rollouts "
            "LEFT JOIN rewards USING (rollout_id) ORDER BY 1"
        ).fetchall()
        prints.append((lock.fingerprint, lock.counts, rows, weights))
    assert prints[0] == prints[1]
    assert not (tmp_path / "s3:").exists() and not Path("s3:").exists()


def _write(root: ObjectPath, writer: str, n: int) -> None:
    store = Store.open(root)
    for i in range(n):
        small_commits.commit(store, writer, i)


def test_writers_and_a_compaction_at_once(remote: Store, bucket: ObjectPath) -> None:
    code = "import sys; from tests.storage.test_object_stores import *\n"
    code += "import tests.storage.test_object_stores as t\n"
    code += "t._write(ObjectPath.parse(sys.argv[1]), sys.argv[2], 4)"
    writers = [python(code, str(bucket), f"w{i}") for i in range(4)]
    replaced = 0
    while any(writer.poll() is None for writer in writers):
        found, _ = faults(remote)
        assert found == []
        replaced += sum(table.files for table in compact(remote))
    assert [made_stores.finish(writer)[0] for writer in writers] == [0] * 4
    list(compact(remote))
    assert faults(remote) == ([], 2 * 4 * 4)
    assert remote.sql("SELECT count(*) FROM policies").fetchall() == [(4,)]
    assert replaced > 0, "compacted while they wrote"
    assert journal.pending(bucket) == []
    assert OBJECTS.list_files(bucket / "locks") == OBJECTS.list_files(bucket / "sessions") == []


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    import sys

    from tests.support.processes import environment

    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


DYING = """
import os, signal, sys
from s2d_store.tables import journal
from s2d_store.storage.object_path import ObjectPath
from s2d_store.store import Store
from tests.support import small_commits
store = Store.open(sys.argv[1])
real, done = journal._append, []
def append(root, name, files):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(name)
    return real(root, name, files)
with store.run_lock("run"):
    journal._append = append
    store.commit(small_commits.rows("run", 0, "policy"), fresh=True)
"""


def test_a_commit_that_was_killed_between_two_tables_is_finished(
    remote: Store, bucket: ObjectPath
) -> None:
    code, _, err = made_stores.finish(python(DYING, str(bucket)))
    assert code == -signal.SIGKILL, err
    assert len(journal.pending(bucket)) == 1
    assert remote.sql("SELECT count(*) FROM raw.rollouts").fetchall() == [(0,)]
    with remote.run_lock("run"):
        assert remote.sql("SELECT count(*) FROM raw.rollouts").fetchall() == [(2,)]
    assert faults(remote)[0] == ["a rollout lacks its policy"]
    assert journal.pending(bucket) == []
    assert vacuum(remote, grace_s=-1).files > 0, "the dead process's session"
    assert OBJECTS.list_files(bucket / "sessions") == []


HOLDING = """
import sys
from s2d_store.store import Store
with Store.open(sys.argv[1]).run_lock("run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_has_one_process_at_a_time(remote: Store, bucket: ObjectPath) -> None:
    import sys

    from tests.support.processes import environment

    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(bucket)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with (
            pytest.raises(StoreError, match="run run is being worked on by another process"),
            remote.run_lock("run"),
        ):
            pass
        with OBJECTS.try_block_writers(bucket) as quiet:
            assert not quiet
    finally:
        holder.kill()
        holder.communicate()
    with remote.run_lock("run"), OBJECTS.try_block_writers(bucket) as quiet:
        assert quiet, "the dead one holds nothing"


def test_locked_datasets_are_read_from_checked_copies(remote: Store, bucket: ObjectPath) -> None:
    synthetic.fill(remote)
    lock = dataset_of(remote)
    folder = local_folder(remote, "w")
    assert folder.is_relative_to(os.environ["S2D_CACHE"])
    before = (folder / "part-00000.parquet").stat().st_mtime_ns
    read = sum(rows.n_rows for rows in open_dataset(remote, "w").updates())
    assert read == lock["counts"]["rows"]
    assert (local_folder(remote, "w") / "part-00000.parquet").stat().st_mtime_ns == before
    assert dataset_of(remote) == lock, "building it again changes nothing"
    part = bucket / "datasets" / "w" / "part-00000.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.unlink()
    assert part.create(bytes(data)) is not None
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(DatasetError, match="has other bytes than were written"):
        open_dataset(remote, "w")
    assert [damage.file.name for damage in examine(remote).damages] == [
        "datasets/w/part-00000.parquet"
    ]


def test_damage_is_found_and_a_dataset_restored(
    cli: Cli, remote: Store, bucket: ObjectPath
) -> None:
    synthetic.fill(remote)
    lock = dataset_of(remote)
    (bucket / "datasets" / "w" / "part-00000.parquet").unlink()
    done = cli("doctor", "--store", bucket)
    assert done.code == 1 and "damaged: datasets/w/part-00000.parquet" in done.out
    done = cli("dataset", "restore", "w", "--store", bucket)
    assert done.code == 0, done.err
    assert open_dataset(remote, "w").lock.fingerprint == lock["fingerprint"]
    assert cli("doctor", "--store", bucket).code == 0
    assert cli("dataset", "drop", "w", "--store", bucket).code == 0
    assert OBJECTS.list_files(bucket / "datasets") == []
    assert list(Path(os.environ["S2D_CACHE"]).rglob("*.parquet")) == []


def test_compaction_and_vacuum(remote: Store, bucket: ObjectPath) -> None:
    for i in range(3):
        small_commits.commit(remote, "run", i)
    before = remote.sql("FROM raw.topk ORDER BY rollout_id").fetchall()
    versions = remote.snapshot().versions
    orphan = bucket / "tables" / "rollouts" / "orphan.parquet"
    assert orphan.create(b"x") is not None
    done = {table.table: table for table in compact(remote)}
    assert done["topk"].files == 3
    assert remote.sql("FROM raw.topk ORDER BY rollout_id").fetchall() == before
    assert remote.sql("FROM raw.topk ORDER BY rollout_id", as_of=versions).fetchall() == before
    dry = vacuum(remote, dry_run=True, grace_s=-1, older_than_s=-60)
    swept = vacuum(remote, grace_s=-1, older_than_s=-60)
    assert (dry.files, dry.replaced_files) == (swept.files, swept.replaced_files)
    assert swept.replaced_files >= 3 and not orphan.exists()
    assert remote.sql("FROM raw.topk ORDER BY rollout_id").fetchall() == before
    with pytest.raises(StoreError, match="is not whole any more"):
        remote.snapshot(versions)


def test_user_sql_reaches_no_other_object(cli: Cli, remote: Store, bucket: ObjectPath) -> None:
    synthetic.fill(remote)
    other = bucket.parent / "other.csv"
    assert other.create(b"secret\n1\n") is not None
    for text in (
        f"FROM read_csv('{other}')",
        f"FROM read_text('{other}')",
        f"FROM glob('{bucket.parent}/*')",
    ):
        done = cli("query", text, "--store", bucket)
        assert done.code == 1 and "reaches outside the store" in done.err, done.err
    (bucket / "budget.toml").write_text("[experiment]\nlabels = 1\n")
    done = cli("budget", "--store", bucket)
    assert "labels" in done.out, done.err


def test_what_cannot_be_reached_is_one_error(
    cli: Cli, bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not Store.is_at(bucket)
    done = cli("info", "--store", bucket)
    assert done.code == 1 and f"no store at {bucket}" in done.err
    assert f"s2d init --store {bucket}" in done.err
    done = cli("init", "--store", "s3://no-such-bucket/x")
    assert done.code == 1 and "cannot reach the store at s3://no-such-bucket/x" in done.err
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    from s2d_store.storage import object_path

    object_path._client.cache_clear()
    done = cli("info", "--store", bucket)
    monkeypatch.undo()
    object_path._client.cache_clear()
    assert done.code == 1 and "check" in done.err and "credentials" in done.err
    assert "Traceback" not in done.err and "not-the-secret" not in done.err


def test_a_service_without_conditional_writes_is_refused(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some gateways are, that take every write."""

    def put(self: ObjectPath, data: bytes, mode: object) -> dict[str, str]:
        self.write_text(data.decode())
        tag = self.tag()
        assert tag is not None
        return tag

    monkeypatch.setattr(ObjectPath, "_put", put)
    with pytest.raises(StoreError, match="does not do conditional writes"):
        Store.init(bucket)
    monkeypatch.undo()


def test_a_prefix_that_holds_something_else_is_no_store(remote: Store, bucket: ObjectPath) -> None:
    (bucket / "deeper" / "notes.txt").write_text("mine")
    with pytest.raises(S2DError, match="is not empty and not an s2d store"):
        Store.init(bucket / "deeper")
    assert Store.init(bucket).root == remote.root
    assert Store.is_at(bucket) and not Store.is_at(bucket / "deeper")


def test_a_prefix_is_no_other_prefix_that_begins_with_it(bucket: ObjectPath) -> None:
    for name in ("w", "w2", "w-3"):
        (bucket / name / "x").write_text(name)
    assert [found.relative for found in OBJECTS.list_files(bucket / "w")] == ["x"]
    assert [found.relative for found in OBJECTS.list_files(bucket)] == ["w-3/x", "w/x", "w2/x"]


def test_secrets_are_stored_nowhere(remote: Store, bucket: ObjectPath) -> None:
    synthetic.fill(remote)
    dataset_of(remote)
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    key = os.environ["AWS_ACCESS_KEY_ID"].encode()
    found = OBJECTS.list_files(bucket)
    assert len(found) > 20
    for file in found:
        assert isinstance(file.path, ObjectPath)
        data = file.path.read_bytes()
        assert secret not in data and b'"' + key + b'"' not in data
    assert np.sum([file.size for file in found]) > 0
