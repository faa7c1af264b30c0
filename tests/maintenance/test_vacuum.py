"""Vacuum by age: compacted files go, what locked datasets pin stays; logs are never lost."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest
from deltalake import DeltaTable

import queries
from s2d_store.datasets.build import build, drop, verify
from s2d_store.errors import DatasetError, InputError, StoreError
from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.vacuum import Kept, parse_age, vacuum
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import made_stores, synthetic

COUNT = "SELECT count(*) FROM rollouts"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two commits that dataset `early` pins, a third, and everything compacted."""
    store = Store.init(tmp_path_factory.mktemp("made") / "store")
    for round_ in range(2):
        synthetic.fill(store, n_prompts=3, n=2 * (round_ + 1), seed=round_)
    build(store, "early", queries.catalog()["warmup"], {"teacher": "teacher"})
    synthetic.fill(store, n_prompts=3, n=6, seed=2)
    assert {t.table: t.files for t in compact(store) if t.files} == {
        "rollouts": 3,
        "rewards": 3,
        "topk": 3,
    }
    return store


@pytest.fixture
def compacted(made: Store, tmp_path: Path) -> Store:
    return made_stores.copy(made, tmp_path / "store")


def test_files_go_by_age_and_pinned_ones_stay(compacted: Store) -> None:
    pinned = verify(compacted, "early")
    assert vacuum(compacted).replaced_files == 0, "no age, no compacted files"
    assert vacuum(compacted, older_than_s=3600).replaced_files == 0
    before = compacted.sql(COUNT).fetchall()
    between = {"rollouts": 3, "rewards": 3, "topk": 3}
    assert compacted.sql(COUNT, as_of=between).fetchall() == [(18,)]
    would = vacuum(compacted, dry_run=True, older_than_s=-1)
    assert compacted.sql(COUNT, as_of=between).fetchall() == [(18,)]
    swept = vacuum(compacted, older_than_s=-1)
    assert swept == would
    assert (swept.files, swept.replaced_files) == (0, 3)
    (kept,) = swept.kept
    assert (kept.dataset, kept.files) == ("early", 6)
    assert kept.bytes > swept.replaced_bytes > 0
    assert verify(compacted, "early") == pinned
    assert pinned.matches
    assert compacted.sql(COUNT).fetchall() == before
    with pytest.raises(StoreError, match="version 3 of table rollouts is not whole any more"):
        compacted.sql(COUNT, as_of=between)
    assert vacuum(compacted, older_than_s=-1).replaced_files == 0


def test_a_dropped_dataset_pins_nothing(compacted: Store) -> None:
    drop(compacted, "early")
    swept = vacuum(compacted, older_than_s=-1)
    assert (swept.replaced_files, swept.kept) == (9, ())
    assert compacted.sql(COUNT).fetchall() == [(18,)]


def test_a_lock_that_cannot_be_read_stops_it(compacted: Store) -> None:
    (compacted.root / "datasets" / "early" / "lock.json").write_text("{")
    with pytest.raises(DatasetError, match="lock of dataset early is not readable"):
        vacuum(compacted, older_than_s=-1)
    assert vacuum(compacted).files == 0, "without an age, locks do not matter"


def test_a_log_with_a_gap_stops_it(compacted: Store) -> None:
    (compacted.folder / "tables" / "topk" / "_delta_log" / f"{1:020d}.json").unlink()
    with pytest.raises(StoreError, match="log of table topk lacks version 1"):
        vacuum(compacted, grace_s=-1)
    assert compacted.sql("SELECT count(*) FROM topk").fetchall() == [(18,)]


def test_a_verify_after_a_careless_removal_says_so(compacted: Store) -> None:
    drafts = (compacted.folder / "tables" / "topk").rglob("*.parquet")
    live = set(compacted.snapshot().files["topk"])
    for path in drafts:
        if str(path) not in live and "_delta_log" not in path.parts:
            path.unlink()
    with pytest.raises(DatasetError, match="cannot be rebuilt") as caught:
        verify(compacted, "early")
    assert "version 2 of table topk is not whole any more" in caught.value.why


def test_ages() -> None:
    assert [parse_age(text) for text in ("7d", "12h", "1.5h", "90m", "2w")] == [
        604800,
        43200,
        5400,
        5400,
        1209600,
    ]
    for text in ("7", "d", "-7d", "7 days", "1y", "0d", "59m"):
        with pytest.raises(InputError, match=f"--older-than '?{text}'? is (no age|too short)"):
            parse_age(text)


def test_the_command(compacted: Store, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    command = partial(cli, "vacuum", "--store", compacted.root)
    assert command().out == (
        "0 unfinished commits completed\n0 uncommitted files removed (0 bytes)\n"
    )
    wrong = command("--older-than", "soon")
    assert wrong.code == 1
    assert "'soon' is no age" in wrong.err and "fix: --older-than 7d" in wrong.err
    assert "0 compacted files removed" in command("--older-than", "2h").out
    later = time.time() + 3 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    (kept,) = vacuum(compacted, dry_run=True, older_than_s=7200).kept
    assert isinstance(kept, Kept)
    planned = command("--older-than", "2h", "--dry-run").out
    assert "3 compacted files would be removed" in planned
    done = command("--older-than", "2h").out.splitlines()
    assert done[2].startswith("3 compacted files removed (")
    assert done[3].startswith("old log checkpoints removed (")
    assert done[4:] == [f"6 kept for dataset early ({kept.bytes:,} bytes)"]


def test_only_checkpoints_that_versions_are_read_from_stay(store: Store) -> None:
    """The newest of all, and the newest that a lock's version begins from; all versions open."""
    synthetic.fill(store, n_prompts=2, n=1)
    table = store.folder / "tables" / "policies"

    def checkpointed(name: str) -> None:
        store.commit({"policies": synthetic.table("policies", [synthetic.policy(name)])})
        DeltaTable(table).create_checkpoint()

    def checkpoints() -> list[int]:
        return sorted(int(p.name[:20]) for p in table.rglob("*.checkpoint.parquet"))

    checkpointed("a")
    checkpointed("b")
    build(store, "pins", queries.catalog()["warmup"], {"teacher": "teacher"})
    checkpointed("c")
    checkpointed("d")
    assert checkpoints() == [2, 3, 4, 5]
    assert vacuum(store, older_than_s=3600).checkpoint_bytes == 0
    assert vacuum(store, older_than_s=-1).checkpoint_bytes > 0
    assert checkpoints() == [3, 5]
    last = table / "_delta_log" / "_last_checkpoint"
    slower = last.read_text()
    checkpointed("e")
    last.write_text(slower)
    vacuum(store, older_than_s=-1)
    assert checkpoints() == [3, 5, 6], "what the log names as its last stays"
    assert verify(store, "pins").matches
    text = "SELECT count(*) FROM policies"
    counts = [store.sql(text, as_of={"policies": v}).fetchall()[0][0] for v in range(1, 7)]
    assert counts == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("days", "outside"), [(60, True), (5000, False)])
def test_old_logs_stay_and_pinned_versions_with_them(
    compacted: Store, days: int, outside: bool
) -> None:
    """Delta deletes logs of 30 days at a checkpoint unless told otherwise; another Delta writer
    honours the table's property, s2d never deletes any."""
    then = time.time() - days * 86400
    for log in compacted.folder.glob("tables/*/_delta_log/*.json"):
        os.utime(log, (then, then))
    table = compacted.folder / "tables" / "policies"
    n = 0
    while not list((table / "_delta_log").glob("*.checkpoint.parquet")) or n < 55:
        n += 1
        made = synthetic.table("policies", [synthetic.policy(f"p{n}")])
        compacted.commit({"policies": made}, fresh=True)
        assert n < 120, "no checkpoint"
    if outside:
        DeltaTable(table).cleanup_metadata()
    assert len(list((table / "_delta_log").glob("*.json"))) == DeltaTable(table).version() + 1
    assert (table / "_delta_log" / "_last_checkpoint").exists()
    assert verify(compacted, "early").matches
