"""A store of format 2 becomes one of format 3: nothing is lost, locks verify, kills do no harm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from s2d_store.datasets.verify import verify
from s2d_store.errors import StoreError
from s2d_store.maintenance import migrate as migration
from s2d_store.maintenance.format2 import upgraded
from s2d_store.maintenance.migrate import migrate
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.schema import FORMAT_VERSION, TABLES
from s2d_store.store import Store
from s2d_store.tables import delta_commit
from s2d_store.tables.manifest import MANIFEST
from tests.conftest import Cli
from tests.support import synthetic

V2 = Path(__file__).parents[1] / "formats" / "v2"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The recorded store of format 2, to be migrated."""
    return Path(shutil.copytree(V2, tmp_path / "store"))


def rows(store: Store, text: str) -> list[Any]:
    return store.sql(text).fetchall()


def test_an_older_store_is_refused_with_the_command_that_helps(old: Path, cli: Cli) -> None:
    done = cli("info", "--store", old)
    assert done.code == 1
    assert "has format version 2" in done.err and f"s2d migrate --store {old}" in done.err
    assert cli("migrate", "--store", old).code == 0
    assert cli("info", "--store", old).code == 0
    again = cli("migrate", "--store", old)
    assert (again.code, "nothing to do: format version 3" in again.out) == (0, True)


def test_every_row_is_there_and_says_what_it_is(old: Path) -> None:
    counts = json.loads((old / "counts.json").read_text())
    assert migrate(old) > 0
    store = Store.open(old)
    found = {name: rows(store, f"SELECT count(*) FROM raw.{name}")[0][0] for name in counts}
    assert found == counts
    assert rows(
        store,
        "SELECT DISTINCT origin, tokens_from, response_mask, sampled_tokens = response_tokens, "
        "seed IS NOT NULL FROM rollouts",
    ) == [("sampled", "sampled", None, True, True)]
    groups = rows(store, "SELECT count(DISTINCT group_id), count(DISTINCT prompt_id) FROM rollouts")
    assert groups == [(2, 2)], "one run, one policy, one round: a group per prompt"
    assert rows(store, "SELECT DISTINCT attempt, typeof(reward) FROM raw.rewards") == [
        (0, "DOUBLE")
    ]
    assert rows(store, "SELECT DISTINCT kind FROM policies") == [("weights",)]
    assert rows(store, "SELECT DISTINCT answer_type FROM prompts") == [("text",)]
    assert rows(store, "SELECT DISTINCT messages[1].extra FROM prompts") == [(None,)]


def test_topk_is_the_same_bit_for_bit(old: Path) -> None:
    import pyarrow.parquet as pq

    before = {}
    for path in sorted((old / "tables" / "topk").rglob("*.parquet")):
        for row in upgraded("topk", pq.read_table(path, partitioning=None)).to_pylist():
            before[row["rollout_id"], row["support"]] = row
    migrate(old)
    store = Store.open(old)
    text = "SELECT rollout_id, support, token_ids, logprobs, sampled_logprobs FROM topk"
    found = rows(store, text)
    assert len(found) == len(before) == 8
    for rollout, support, ids, logprobs, sampled in found:
        row = before[rollout, support]
        assert (ids, logprobs, sampled) == (
            row["token_ids"],
            row["logprobs"],
            row["sampled_logprobs"],
        )


def test_the_lock_verifies_before_and_after_the_old_files_went(old: Path) -> None:
    files = set((old / "tables").rglob("*.parquet"))
    migrate(old)
    store = Store.open(old)
    found = verify(store, "warmup")
    assert found.locked == found.files == found.rebuilt
    assert files <= set((old / "tables").rglob("*.parquet")), "readers may still hold them"
    swept = vacuum(store, grace_s=-1, older_than_s=-1.0)
    changed = [path for path in files if not path.exists()]
    assert swept.replaced_files == len(changed) > 0
    found = verify(store, "warmup")
    assert found.locked == found.files == found.rebuilt


def test_a_file_that_only_a_lock_pins_is_rewritten_too(old: Path) -> None:
    """As after a compaction by the older release: the newest version has another file."""
    folder = old / "tables" / "rollouts"
    (live,) = (p for p in folder.rglob("*.parquet") if "_delta_log" not in str(p))
    twin = live.with_name("compacted.parquet")
    shutil.copy(live, twin)
    where = live.parent.relative_to(folder).as_posix()
    values = dict(part.split("=") for part in where.split("/"))
    size = live.stat().st_size
    stats = json.dumps({"numRecords": 4})
    common = {"partitionValues": values, "size": size, "modificationTime": 0, "dataChange": False}
    add = {"add": {"path": f"{where}/{twin.name}", "stats": stats, **common}}
    remove = {
        "remove": {"path": f"{where}/{live.name}", "deletionTimestamp": 1, "dataChange": False}
    }
    assert delta_commit.commit(folder, 2, [add, remove], "OPTIMIZE")
    migrate(old)
    store = Store.open(old)
    assert rows(store, "SELECT count(*) FROM rollouts") == [(4,)]
    vacuum(store, grace_s=-1, older_than_s=-1.0)
    assert not live.exists()
    found = verify(store, "warmup")
    assert found.locked == found.files == found.rebuilt


@pytest.mark.parametrize("step", range(9))
def test_a_migration_that_was_killed_goes_on(
    old: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Stopped before its nth commit, and before the manifest is written."""
    commits = [0]
    commit = migration._commit

    def stopping(folder: Any, actions: Any) -> None:
        if commits[0] == step:
            raise KeyboardInterrupt
        commits[0] += 1
        commit(folder, actions)

    monkeypatch.setattr(migration, "_commit", stopping)
    try:
        migrate(old)
        assert step >= commits[0]
    except KeyboardInterrupt:
        assert json.loads((old / MANIFEST).read_text())["format_version"] == 2
        with pytest.raises(StoreError, match="has format version 2"):
            Store.open(old)
    monkeypatch.undo()
    migrate(old)
    store = Store.open(old)
    counts = json.loads((old / "counts.json").read_text())
    found = {name: rows(store, f"SELECT count(*) FROM raw.{name}")[0][0] for name in counts}
    assert found == counts
    swept = vacuum(store, grace_s=-1)
    assert swept.recovered == 0
    result = verify(store, "warmup")
    assert result.locked == result.files == result.rebuilt


def test_a_migrated_store_is_written_to_like_a_new_one(old: Path) -> None:
    migrate(old)
    store = Store.open(old)
    synthetic.fill(store, run="later", name="another", n_prompts=3, n=2)
    assert rows(store, "SELECT count(*) FROM rollouts") == [(4 + 6,)]
    for name, table in TABLES.items():
        columns = [c[0] for c in store.connect().sql(f"DESCRIBE raw.{name}").fetchall()]
        assert set(columns) <= set(table.column_names)


def test_settings_of_runs_have_todays_names() -> None:
    config = {"keep_top_k": 4, "lossy_nats": 0.0, "top_k": 0, "seed": 1}
    table = synthetic.table(
        "runs",
        [
            {
                "run_id": "r",
                "kind": "generate",
                "status": "done",
                "config": json.dumps(config),
                "code_version": "0",
                "parents": [],
                "entered_at": synthetic.NOW,
            }
        ],
    ).drop_columns(["attempt"])
    (text,) = upgraded("runs", table).column("config").to_pylist()
    assert json.loads(text) == {"top_logprobs": 4, "top_k": 0, "seed": 1}


def test_what_nobody_judged_has_no_reward() -> None:
    table = synthetic.table(
        "rewards",
        [
            {**synthetic.REWARD, "rollout_id": outcome, "outcome": outcome, "reward": 0.0}
            for outcome in ("wrong", "timeout", "error", "unparseable")
        ],
    ).drop_columns(["attempt"])
    found = upgraded("rewards", table)
    assert found.column("reward").to_pylist() == [0.0, None, None, 0.0]


@pytest.mark.parametrize("version", [1, 4])
def test_other_formats_are_refused(old: Path, version: int) -> None:
    manifest = json.loads((old / MANIFEST).read_text())
    (old / MANIFEST).write_text(json.dumps(manifest | {"format_version": version}))
    match = f"stores of version 2 can be brought to version {FORMAT_VERSION}"
    with pytest.raises(StoreError, match=match):
        migrate(old)


def test_columns_that_were_added_to_the_format_are_null_in_older_stores(
    tmp_path: Path, cli: Cli
) -> None:
    """A store of format 3 from before tables policies and updates got their newest columns."""
    early = Path(shutil.copytree(V2.parent / "v3.early", tmp_path / "store"))
    done = cli("query", "SELECT count(attention_width) FROM policies", "--store", early)
    assert done.code == 1 and f"s2d migrate --store {early}" in done.err
    assert migrate(early) == 2 and migrate(early) == 0
    store = Store.open(early)
    assert rows(store, "SELECT count(*), count(attention_width) FROM policies") == [(1, 0)]
    assert verify(store, "warmup").matches
    made = synthetic.policy("another") | {"attention_width": 7}
    store.commit({"policies": synthetic.table("policies", [made])})
    assert rows(store, "SELECT max(attention_width) FROM policies") == [(7,)]
