"""Delta logs that were damaged, torn or extended by others: refused, found, repaired."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable, TableFeatures

from s2d_store.errors import S2DError, StoreError
from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.examine import examine
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.storage import content_hash
from s2d_store.store import Store
from s2d_store.tables import delta_commit, log_entry, table_state, trash
from s2d_store.tables.snapshot import table_path
from tests.conftest import Cli
from tests.support import made_stores, small_commits, synthetic

TORN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "cut": lambda data: data[: len(data) // 2],
    "garbage": lambda data: b"\x93 not what was written \xff",
}


def commit(store: Store, *names: str) -> None:
    for name in names:
        rows = synthetic.table("policies", [synthetic.policy(name)])
        store.commit({"policies": rows}, fresh=True)


def policies(store: Store) -> list[str]:
    table_state.forget()  # as a new process
    return sorted(row[0] for row in store.sql("SELECT name FROM policies").fetchall())


def log_of(store: Store, table: str = "policies") -> Any:
    return table_path(store.root, table) / "_delta_log"


def entry(store: Store, version: int) -> Path:
    path: Path = log_of(store) / f"{version:020d}.json"
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three policies, three commits."""
    store = Store.init(tmp_path_factory.mktemp("made") / "store")
    commit(store, "a", "b", "c")
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    return made_stores.copy(made, tmp_path / "store")


def refused(store: Store, match: str) -> None:
    """Every way to read or change the table ends in one error, also where it is open already."""
    rows = {"policies": synthetic.table("policies", [synthetic.policy("new")])}
    ways: list[Callable[[], object]] = [
        store.snapshot,
        store.connect,
        lambda: store.commit(rows, fresh=True),
        lambda: store.commit(rows),
        lambda: list(compact(store, ["policies"])),
        lambda: vacuum(store, grace_s=-1),
    ]
    for way in ways:
        for forget in (table_state.forget, lambda: None):
            forget()
            with pytest.raises(StoreError, match=match) as caught:
                way()
            assert caught.value.fix


@pytest.mark.parametrize("checkpoint", [False, True])
def test_deletion_vectors_are_refused(store: Store, checkpoint: bool) -> None:
    """A foreign writer switches them on; rows that it deletes then must not come back."""
    store.snapshot()
    foreign = DeltaTable(table_path(store.root, "policies"))
    foreign.alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    if checkpoint:
        foreign.create_checkpoint()
        for path in log_of(store).glob("*.json"):
            path.touch()
    refused(store, "uses features of Delta that s2d does not: protocol of reader version 3")
    files = list((store.folder / "tables" / "policies").glob("*.parquet"))
    assert len(files) == 3, "nothing was written and nothing swept"


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}, "reader version 2"),
        (
            {
                "protocol": {
                    "minReaderVersion": 1,
                    "minWriterVersion": 7,
                    "writerFeatures": ["rowTracking"],
                }
            },
            "rowTracking",
        ),
        (
            {
                "metaData": {
                    "id": "x",
                    "schemaString": "{}",
                    "configuration": {"delta.columnMapping.mode": "name"},
                }
            },
            "delta.columnMapping.mode = name",
        ),
        (
            {
                "add": {
                    "path": "x.parquet",
                    "size": 1,
                    "deletionVector": {"storageType": "u", "pathOrInlineDv": "x"},
                }
            },
            "deletion vectors",
        ),
        ({"cdc": {"path": "x", "size": 1}}, "an action 'cdc' that s2d does not know"),
        ({"domainMetadata": {"domain": "x"}}, "an action 'domainMetadata'"),
    ],
)
def test_what_s2d_does_not_switch_on_is_refused(
    store: Store, action: dict[str, Any], says: str
) -> None:
    store.snapshot()
    info = {"commitInfo": {"engineInfo": "another"}}
    entry(store, 4).write_text("".join(json.dumps(line) + "\n" for line in (info, action)))
    refused(store, says)


def test_harmless_settings_of_others_are_none_of_our_business(store: Store) -> None:
    foreign = DeltaTable(table_path(store.root, "policies"))
    foreign.alter.set_table_properties({"delta.logRetentionDuration": "interval 90 days"})
    commit(store, "d")
    assert policies(store) == ["a", "b", "c", "d"]


def test_no_flipped_bit_of_a_commit_goes_unseen(store: Store) -> None:
    """Every bit of a commit, and of the one that made the table."""
    for version in (0, 2):
        whole = entry(store, version).read_bytes()
        assert log_entry.damage(whole) is None
        for position in range(len(whole)):
            for bit in range(8):
                flipped = bytearray(whole)
                flipped[position] ^= 1 << bit
                assert log_entry.damage(bytes(flipped)) is not None, (position, bit)


def test_no_cut_of_a_commit_goes_unseen(store: Store) -> None:
    whole = entry(store, 2).read_bytes()
    for length in range(len(whole)):
        assert log_entry.damage(whole[:length]) is not None
        assert log_entry.damage(whole[:length] + bytes(len(whole) - length)) is not None


@pytest.mark.parametrize("harm", [*TORN, "flip"])
def test_a_damaged_commit_is_refused_found_and_given_up(store: Store, cli: Cli, harm: str) -> None:
    """A flipped bit that makes an `add` something else loses rows; a vacuum must not delete them.
    What is certain comes back; the rest is made again by the command that made it.
    """
    path = entry(store, 2)
    whole = path.read_bytes()
    damaged = whole.replace(b'"add"', b'"ade"') if harm == "flip" else TORN[harm](whole)
    path.write_bytes(damaged)
    refused(store, "the log of table policies cannot be read")
    found = cli("doctor", "--store", store.root)
    assert found.code == 1 and "damaged: the log of table policies cannot be read" in found.out
    assert "its version 2 " in found.out and "s2d doctor --drop-damaged" in found.out
    repaired = cli("doctor", "--drop-damaged", "--yes", "--store", store.root)
    assert repaired.code == 0, repaired.err
    certain = harm == "flip"
    assert policies(store) == (["a", "b", "c"] if certain else ["a", "c"])
    assert (store.folder / "trash" / path.relative_to(store.folder)).read_bytes() == damaged
    commit(store, *(() if certain else ("b",)))
    assert policies(store) == ["a", "b", "c"]
    assert sorted(DeltaTable(log_of(store).parent).to_pyarrow_table()["name"].to_pylist()) == [
        "a",
        "b",
        "c",
    ]
    assert examine(store).healthy


def test_a_lost_compaction_is_not_given_up(store: Store, cli: Cli) -> None:
    """Its inputs would come back beside what a later one wrote."""
    list(compact(store, ["policies"]))
    path = entry(store, 4)
    path.write_bytes(path.read_bytes().replace(b"OPTIMIZE", b"OPTIMIZF"))
    (log_of(store) / "_last_checkpoint").unlink()
    for checkpoint in log_of(store).glob("*.checkpoint.parquet"):
        checkpoint.unlink()
    table_state.forget()
    done = cli("doctor", "--drop-damaged", "--yes", "--store", store.root)
    assert done.code == 1 and "cannot be given up" in done.err
    assert f"restore {path} from a copy" in done.err


def test_what_the_log_notes_is_compared_with_the_footers(store: Store) -> None:
    """By a writer without hashes: rows and key bounds that are not the file's."""
    path = entry(store, 2)
    whole = [json.loads(line) for line in path.read_text().splitlines()]
    for change, says in (
        (lambda stats: stats.update(numRecords=7), "it has 1 rows, 7 were written"),
        (
            lambda stats: stats["minValues"].update(policy_id="zzz"),
            "its policy_id lies outside of the bounds that the log notes",
        ),
    ):
        info, add = json.loads(json.dumps(whole))
        info["commitInfo"].pop("s2d")
        stats = json.loads(add["add"]["stats"])
        change(stats)
        add["add"]["stats"] = json.dumps(stats)
        path.write_text(json.dumps(info) + "\n" + json.dumps(add) + "\n")
        table_state.forget()
        (damage,) = examine(store).damages
        assert damage.what == says


def test_a_key_that_stands_twice_is_found(store: Store) -> None:
    commit(store, "a")
    report = examine(store)
    assert report.damages == ()
    (fault,) = report.faults
    assert fault.startswith("table policies holds 1 keys more than once, 2 rows in all")


def test_a_whole_file_that_no_commit_names_goes_to_the_trash(
    store: Store, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next((store.folder / "tables" / "policies").glob("*.parquet"))
    copy = path.with_name(f"mine-{content_hash.hash_of(path)}.parquet")
    copy.write_bytes(path.read_bytes())
    part = path.with_name("part-of-one.parquet")
    part.write_bytes(b"PAR1")
    would = vacuum(store, grace_s=-1, dry_run=True)
    assert (would.files, would.trashed) == (2, 1) and copy.exists()
    later = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: later)
    said = cli("vacuum", "--store", store.root).out
    assert "2 uncommitted files removed" in said
    assert "1 of them whole, but named by no commit: they are in trash/ for 7 days" in said
    kept = store.folder / "trash" / copy.relative_to(store.folder)
    assert kept.exists() and not copy.exists() and not part.exists()
    assert vacuum(store, grace_s=-1).emptied == 0
    monkeypatch.setattr(time, "time", lambda: later + trash.KEPT_S)
    assert vacuum(store, grace_s=-1).emptied == 1
    assert not kept.exists()
    assert policies(store) == ["a", "b", "c"]


@pytest.fixture(scope="module")
def made_long(tmp_path_factory: pytest.TempPathFactory, made: Store) -> Store:
    """With a checkpoint of version 4 and two commits after it."""
    store = made_stores.copy(made, tmp_path_factory.mktemp("long") / "store")
    commit(store, "d")
    delta_commit.checkpoint(table_path(store.root, "policies"))
    commit(store, "e", "f")
    return store


@pytest.mark.parametrize("harm", [*TORN, "gone"])
@pytest.mark.parametrize("what", ["checkpoint", "hint", "both"])
def test_a_torn_checkpoint_or_hint_is_passed_over_and_made_again(
    made_long: Store, tmp_path: Path, harm: str, what: str
) -> None:
    store = made_stores.copy(made_long, tmp_path / "store")
    log = log_of(store)
    hint, (checkpoint,) = log / "_last_checkpoint", log.glob("*.checkpoint.parquet")
    for path in {"checkpoint": [checkpoint], "hint": [hint], "both": [hint, checkpoint]}[what]:
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(TORN[harm](path.read_bytes()))
    assert policies(store) == list("abcdef")
    table_state.forget()
    report = examine(store)
    if harm != "gone" or what == "checkpoint":
        assert report.faults and all("repair: s2d vacuum" in fault for fault in report.faults)
        vacuum(store)
    assert examine(store).healthy
    assert policies(store) == list("abcdef")
    assert DeltaTable(log.parent).version() == 6
    assert sorted(pl.read_delta(str(log.parent))["name"]) == list("abcdef")


@pytest.mark.parametrize("harm", TORN)
def test_the_next_commit_makes_a_torn_checkpoint_again(
    made_long: Store, tmp_path: Path, harm: str
) -> None:
    store = made_stores.copy(made_long, tmp_path / "store")
    (checkpoint,) = log_of(store).glob("*.checkpoint.parquet")
    checkpoint.write_bytes(TORN[harm](checkpoint.read_bytes()))
    table_state.forget()
    commit(store, "g")
    assert DeltaTable(log_of(store).parent).version() == 7
    assert policies(store) == list("abcdefg")
    assert examine(store).healthy


def test_a_flipped_bit_of_a_checkpoint_changes_no_row(made_long: Store, tmp_path: Path) -> None:
    """Whatever it hits, the table is the same: pages have checksums, and the rest does not fit."""
    store = made_stores.copy(made_long, tmp_path / "store")
    (checkpoint,) = log_of(store).glob("*.checkpoint.parquet")
    whole = checkpoint.read_bytes()
    folder = table_path(store.root, "policies")
    true = table_state.read(folder).files
    for position in range(0, len(whole), 37):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        checkpoint.write_bytes(flipped)
        assert table_state.read(folder).files == true, position


@pytest.mark.parametrize("harm", TORN)
def test_a_torn_manifest_is_made_again(store: Store, harm: str) -> None:
    manifest = store.root / "s2d.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(TORN[harm](whole))
    assert policies(Store.open(store.root)) == ["a", "b", "c"]
    assert json.loads(manifest.read_bytes()) == json.loads(whole)


@pytest.mark.parametrize("harm", TORN)
def test_a_torn_pending_entry_is_one_error_and_is_set_aside(
    store: Store, cli: Cli, harm: str
) -> None:
    """Of a commit that reached its rewards and not its rollouts: those hang on nothing."""
    with pytest.raises(SystemExit):
        _die_between_tables(store)
    (path,) = (store.folder / "pending").glob("*.json")
    path.write_bytes(TORN[harm](path.read_bytes()))
    assert policies(store) == ["a", "b", "c"], "reading goes on"
    with pytest.raises(StoreError, match=r"entry .* of an unfinished commit") as caught:
        commit(store, "d")
    assert "s2d doctor --drop-damaged" in caught.value.fix
    done = cli("doctor", "--store", store.root)
    assert done.code == 1 and str(path) in done.out
    dropped = cli("doctor", "--drop-damaged", "--yes", "--store", store.root)
    assert dropped.code == 0, dropped.err
    assert store.sql("SELECT count(*) FROM raw.rewards").fetchall() == [(0,)]
    assert store.sql("SELECT count(*) FROM raw.topk").fetchall() == [(0,)]
    store.commit(small_commits.rows("run", 0, "policy"), fresh=True)
    assert store.sql("SELECT count(*) FROM raw.rewards").fetchall() == [(2,)]
    commit(store, "d")
    assert examine(store).healthy


def _die_between_tables(store: Store) -> None:
    from s2d_store.storage import fault_points

    def die(point: str) -> None:
        if point == "commit rollouts":
            raise SystemExit("killed")

    with fault_points.watched(die):
        store.commit(small_commits.rows("run", 0, "policy"), fresh=True)


def test_a_torn_session_or_lock_on_an_object_store_holds_nobody_up(bucket: Any) -> None:
    store = Store.init(bucket)
    for name in ("sessions/torn", "locks/run.lock"):
        for data in (b"", b"{", b"[]", b'{"session": 1}'):
            store.backend.replace(store.root / name, data)
            with store.run_lock("run"):
                store.commit(small_commits.rows(f"run-{len(data)}-{name[:4]}", 0, "policy"))
    assert not vacuum(store, grace_s=-1).busy
    assert store.backend.list_files(store.root / "sessions") == []


def test_errors_are_of_one_kind(store: Store) -> None:
    entry(store, 2).write_bytes(b"")
    table_state.forget()
    with pytest.raises(S2DError) as caught:
        store.snapshot()
    assert "its version 2 is empty" in caught.value.why
