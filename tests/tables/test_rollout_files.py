"""The log's note of rollout ids: look-ups read the files that may hold them, and miss none."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from s2d_store.errors import NotFoundError
from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.examine import examine
from s2d_store.schema import TABLES
from s2d_store.store import Store
from s2d_store.tables import checkpoint_file, delta_commit, rollout_files, table_state
from s2d_store.tables.snapshot import table_path
from tests.support import made_stores, small_commits, synthetic

COMMITS = 4
HELD = ("rollouts", "rewards", "topk")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("made") / "store")
    for i in range(COMMITS):
        small_commits.commit(store, "writer", i)
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    return made_stores.copy(made, tmp_path / "store")


def stored_ids(store: Store) -> list[str]:
    return [name for (name,) in store.sql("SELECT rollout_id FROM rollouts ORDER BY 1").fetchall()]


def opened(store: Store, prefix: str) -> dict[str, int]:
    """Files by table that a look-up reads."""
    found = rollout_files.holding(store.root, store.snapshot(), prefix).files
    return {name: len(found[name]) for name in HELD}


def rewrite_stats(store: Store, version: int, name: str, ids: str) -> None:
    """Note other ids of a commit's file, as a writer without hashes could."""
    path = table_path(store.root, name) / "_delta_log" / f"{version:020d}.json"
    info, *adds = [json.loads(line) for line in path.read_text().splitlines()]
    info["commitInfo"].pop("s2d")
    for add in adds:
        stats = json.loads(add["add"]["stats"])
        stats.pop("s2d")
        add["add"]["stats"] = json.dumps(stats | ({"s2d": {"rollout_ids": ids}} if ids else {}))
    path.write_text("\n".join(map(json.dumps, (info, *adds))) + "\n")
    table_state.forget()


def test_a_look_up_opens_the_files_that_hold_the_rollout(store: Store) -> None:
    ids = stored_ids(store)
    for rollout_id in ids:
        assert opened(store, rollout_id) == dict.fromkeys(HELD, 1)
    one = ids[0]
    assert store.rollout(one[:9]) == store.rollout(one)
    whole = store.sql("SELECT * FROM tokens WHERE rollout_id = $id", {"id": one}).fetchall()
    assert len(store.tokens(one).fetchall()) == len(whole) > 0
    first = [name for name in ids if name[0] == one[0]]
    assert opened(store, one[0])["rollouts"] == len(first)
    with pytest.raises(NotFoundError, match="no rollout 'zzz' in this store"):
        store.rollout("zzz")


def test_versions_of_a_verifier_are_compared_as_the_whole_store_has_them(store: Store) -> None:
    """`b` was used first elsewhere, on this rollout `a`: the newest by first use is `a`."""
    ids = stored_ids(store)
    times = [(ids[1], "b", 1), (ids[0], "a", 2), (ids[2], "a", 3), (ids[0], "b", 4)]
    for name, version, minute in times:
        row = synthetic.REWARD | {
            "rollout_id": name,
            "verifier": "hashed",
            "verifier_version": version,
            "created_at": synthetic.NOW + timedelta(minutes=minute),
        }
        store.commit({"rewards": synthetic.table("rewards", [row])})
    counting = {v["verifier_version"] for v in store.rollout(ids[0]).verdicts if v["counts"]}
    query = "SELECT verifier_version FROM verdicts WHERE counts AND rollout_id = $id"
    assert {version for (version,) in store.sql(query, {"id": ids[0]}).fetchall()} == counting
    assert counting == {"1", "a"}


def test_files_without_a_note_are_always_read(store: Store) -> None:
    rewrite_stats(store, 3, "topk", "")
    policy = str(synthetic.policy("shared-0")["policy_id"])
    (elsewhere, _) = small_commits.rollout_ids("writer", 0, policy)
    assert opened(store, elsewhere) == {"rollouts": 1, "rewards": 1, "topk": 2}
    assert examine(store).healthy


def test_the_note_outlives_checkpoints_and_compaction(store: Store) -> None:
    ids = stored_ids(store)
    folder = table_path(store.root, "rollouts")
    delta_commit.checkpoint(folder)
    version = table_state.newest(folder).version
    noted = [json.loads(add["stats"])["s2d"] for add in checkpoint_file.read(folder, version) or ()]
    assert len(noted) == 2 * COMMITS  # a partition per role
    list(compact(store, HELD))
    assert examine(store).healthy
    for state in (table_state.newest(table_path(store.root, name)) for name in HELD):
        assert all(file.rollout_ids for file in state.files.values())
    assert stored_ids(store) == ids
    assert [store.rollout(name).rollout_id for name in ids[:2]] == ids[:2]


def test_the_doctor_compares_the_note_with_the_file(store: Store) -> None:
    rewrite_stats(store, 2, "rewards", rollout_files.merge(["AAAA"]))
    (damage,) = examine(store).damages
    assert damage.what.startswith("the log's note of its ids lacks rollout ")


def test_rows_that_are_stored_are_found_by_their_notes(store: Store) -> None:
    before = store.sql("SELECT count(*) FROM rewards").fetchall()
    rows = small_commits.rows("writer", 1, str(synthetic.policy("shared-1")["policy_id"]))
    assert store.commit({"rewards": rows["rewards"]}) == {"rewards": 0}
    assert store.sql("SELECT count(*) FROM rewards").fetchall() == before


def test_what_is_no_hash_or_too_much_is_not_noted() -> None:
    declared = TABLES["rewards"]
    assert rollout_files.note(declared, pa.table({"rollout_id": ["run-000-1"]})) == ""
    assert rollout_files.note(TABLES["updates"], pa.table({"rollout_id": ["0" * 16]})) == ""
    many = [f"{i:016x}"[::-1] for i in range(rollout_files.MOST_IDS + 1)]
    assert rollout_files.note(declared, pa.table({"rollout_id": many})) == ""
    few = rollout_files.note(declared, pa.table({"rollout_id": many[1:3]}))
    assert rollout_files.merge([few, few]) == few and rollout_files.merge([few, ""]) == ""
    assert rollout_files.unnoted(few, many[1:3]) is None
    assert rollout_files.unnoted(few, many) == many[0]
