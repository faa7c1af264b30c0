"""What is published comes back: locks verify in a clone, rows are the same, no path goes along."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import queries
from s2d_store.datasets.build import build
from s2d_store.datasets.lock_file import read_lock
from s2d_store.datasets.verify import verify
from s2d_store.errors import DatasetError, InputError, NotFoundError, S2DError
from s2d_store.maintenance.compact import compact
from s2d_store.publishing.clone import clone
from s2d_store.publishing.publish import publish
from s2d_store.schema import TABLES
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import synthetic
from tests.support.dataset_rows import Made, add_rollouts, add_scores, read

WARMUP = queries.catalog()["warmup"]
GIVEN = {"teacher": "teacher", "rows_per_update": "5", "correct_only": "false"}
# Of s2d itself; `datasets` holds the lock's text as it was recorded.
NOT_COMPARED = ("token_ranks",)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset `early` on one run; then a second run, and dataset `late`."""
    store = Store.init(tmp_path_factory.mktemp("origin") / "store")
    synthetic.fill(store, n_prompts=6, n=4, k=5, run="first")
    build(store, "early", WARMUP, GIVEN)
    synthetic.fill(store, n_prompts=6, n=3, k=5, run="second", seed=1)
    build(store, "late", WARMUP, GIVEN, seed=3)
    return Path(str(store.root))


@pytest.fixture(scope="module")
def published(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset `early` as it was published."""
    folder = tmp_path_factory.mktemp("published") / "out"
    publish(Store.open(origin), "early", folder, audits=False)
    return folder


@pytest.fixture
def store(origin: Path, tmp_path: Path) -> Store:
    """A copy of the store that a test may change."""
    shutil.copytree(origin, tmp_path / "origin" / "store")
    return Store.open(tmp_path / "origin" / "store")


def rows_of(store: Store, table: str) -> list[dict[str, Any]]:
    key = ", ".join(TABLES[table].key)
    found = store.sql(f"SELECT * FROM {table} ORDER BY {key}").to_arrow_table().to_pylist()
    return [
        {k: v for k, v in row.items() if k not in ("location", "config", "argv")} for row in found
    ]


def test_a_store_comes_back_with_all_of_its_locks(store: Store, tmp_path: Path) -> None:
    made = publish(store, "", tmp_path / "out", license="cc-by-4.0")
    assert made.locks == {"early": 0, "late": 1}
    clone(tmp_path / "out", tmp_path / "again")
    again = Store.open(tmp_path / "again")
    for table in sorted(set(TABLES) - set(NOT_COMPARED)):
        assert rows_of(again, table) == rows_of(store, table), table
    for name in made.locks:
        assert verify(again, name).matches
        before, after = read_lock(store, name), read_lock(again, name)
        assert after["dataset_id"] == before["dataset_id"]
        assert after["fingerprint"] == before["fingerprint"]
        assert read(again.folder / "datasets" / name).equals(read(store.folder / "datasets" / name))
    # `late` selects twice as many: the clone passed through the state that `early` pins.
    assert len(read(again.folder / "datasets" / "early")) < len(
        read(again.folder / "datasets" / "late")
    )


def test_a_dataset_takes_its_own_runs_along(store: Store, tmp_path: Path) -> None:
    synthetic.fill(store, n_prompts=9, n=2, k=5, run="other", name="stranger", seed=2)
    publish(store, "early", tmp_path / "out")
    clone(tmp_path / "out", tmp_path / "again")
    again = Store.open(tmp_path / "again")
    assert verify(again, "early").matches
    assert again.sql("SELECT DISTINCT run_id FROM rollouts").fetchall() == [("first",)]
    assert again.sql("SELECT name FROM policies").fetchall() == [("teacher",)]
    assert again.sql("SELECT name FROM datasets").fetchall() == [("early",)]


def test_the_viewer_opens_every_part(store: Store, tmp_path: Path) -> None:
    from datasets import get_dataset_config_names, load_dataset

    folder = tmp_path / "out"
    publish(store, "early", folder, license="cc-by-4.0")
    assert (folder / "README.md").read_text().startswith("---\nlicense: cc-by-4.0\n")
    names = get_dataset_config_names(str(folder))
    assert names[:4] == ["default", "rollouts", "prompts", "rewards"] and "topk" in names
    cache = str(tmp_path / "cache")
    rows = load_dataset(str(folder), "default", split="train", cache_dir=cache)
    assert rows["rollout_id"] == read(store.folder / "datasets" / "early")["rollout_id"].to_pylist()
    topk = load_dataset(str(folder), "topk", split="train", cache_dir=cache)
    # Plain columns: what SQL shows, not what the store's files hold.
    assert "rank_codes" not in topk.column_names and topk[0]["token_ids"] and topk[0]["logprobs"]


def test_the_card_has_costs_lineage_audits_and_locks(store: Store, tmp_path: Path) -> None:
    publish(store, "late", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for heading in ("# late", "## Budgets", "## Lineage", "## Locks", "## Audits", "## Use"):
        assert f"\n{heading}\n" in card
    assert read_lock(store, "late")["fingerprint"] in card
    assert "| locks_rebuild |" in card and "license: unknown" in card
    publish(store, "late", tmp_path / "bare", audits=False)
    assert "## Audits" not in (tmp_path / "bare" / "README.md").read_text()


def test_no_path_of_this_machine_goes_along(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-secret-of-mine")
    row = synthetic.policy("mine") | {"location": str(tmp_path / "models" / "mine")}
    store.commit({"policies": synthetic.table("policies", [row])})
    run = {
        "run_id": "r",
        "kind": "verify",
        "status": "done",
        "config": json.dumps({"file": str(tmp_path / "x.py"), "token": "a-secret-of-mine"}),
        "argv": ["s2d", "generate", "--template", str(tmp_path / "a template.jinja")],
        "code_version": "0",
        "parents": [],
        "entered_at": synthetic.NOW,
    }
    store.commit({"runs": synthetic.table("runs", [run])})
    publish(store, "", tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.suffix == ".parquet":
            text = json.dumps(pq.read_table(path).to_pylist(), default=str)
        else:
            text = path.read_text() if path.is_file() else ""
        assert str(tmp_path) not in text and "a-secret-of-mine" not in text, path
    clone(tmp_path / "out", tmp_path / "again")
    again = Store.open(tmp_path / "again")
    found = again.sql("SELECT location FROM policies WHERE name = 'mine'").fetchall()
    assert found == [("./policies/mine",)]
    ((config, argv),) = again.sql("SELECT config, argv FROM runs WHERE run_id = 'r'").fetchall()
    assert json.loads(config)["file"] == ".../x.py"
    assert argv[3] == ".../a template.jinja"


def test_a_dataset_that_asks_of_other_runs_is_refused(store: Store, tmp_path: Path) -> None:
    """Its pass rates are those of a policy whose rollouts it does not hold."""
    store.commit({"policies": synthetic.table("policies", [synthetic.policy("student")])})
    made = [Made(0, s, reward=float(s % 2)) for s in range(4)]
    prompt = store.sql("SELECT min(prompt_id) FROM prompts").fetchall()[0][0]
    ids = add_rollouts(store, "own", "student", made)
    add_scores(store, "teacher", ids, [m.tokens for m in made])
    sql = WARMUP.sql.replace("reward, pass_rate\nFROM drawn", (
        "reward, (SELECT count(*) FROM rollouts WHERE run_id = 'own') AS pass_rate\nFROM drawn"
    ))  # fmt: skip
    mine = queries.parse("mine", "user", sql)
    assert prompt and mine.sql != WARMUP.sql
    build(store, "counted", mine, GIVEN)
    with pytest.raises(DatasetError, match="counted cannot be built again from the runs"):
        publish(store, "counted", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    publish(store, "", tmp_path / "whole")
    clone(tmp_path / "whole", tmp_path / "again")
    assert verify(Store.open(tmp_path / "again"), "counted").matches


def test_compaction_changes_nothing_of_it(store: Store, tmp_path: Path) -> None:
    list(compact(store))
    publish(store, "", tmp_path / "out")
    clone(tmp_path / "out", tmp_path / "again")
    assert all(verify(Store.open(tmp_path / "again"), name).matches for name in ("early", "late"))


def damage(folder: Path, what: str) -> None:
    """Change what was published, as a bad disk or a stranger would."""
    manifest = folder / "s2d.json"
    record = json.loads(manifest.read_text())
    if what == "bytes":
        file = folder / record["epochs"][0]["rollouts"][0]
        file.write_bytes(file.read_bytes()[:-9] + b"123456789")
    elif what == "lock":
        lock = folder / "locks" / "early" / "lock.json"
        lock.write_text(lock.read_text().replace('"seed": 0', '"seed": 1'))
    elif what == "elsewhere":
        record["epochs"][0]["rollouts"] = ["../../secret.parquet"]
    elif what == "epoch":
        record["locks"]["early"] = 7
    elif what == "other rows":
        record["epochs"][0].pop("topk")
    elif what == "layout":
        record["published"] = 99
    elif what == "shape":
        record["epochs"] = 3
    manifest.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("what", "error", "match"),
    [
        ("bytes", InputError, "its bytes are not those that were published"),
        ("lock", DatasetError, "was changed after it was written"),
        ("elsewhere", InputError, "elsewhere than below tables/"),
        ("epoch", InputError, "is of epoch 7"),
        ("other rows", S2DError, "early|rows"),
        ("layout", InputError, "another layout"),
        ("shape", InputError, "is damaged"),
    ],
)
def test_what_was_changed_makes_no_store(
    published: Path, tmp_path: Path, what: str, error: type[Exception], match: str
) -> None:
    shutil.copytree(published, tmp_path / "out")
    damage(tmp_path / "out", what)
    with pytest.raises(error, match=match):
        clone(tmp_path / "out", tmp_path / "again")
    assert not (tmp_path / "again").exists() and not list(tmp_path.glob(".again*"))


def test_nothing_is_replaced(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="mine is there already"):
        publish(store, "early", tmp_path / "mine")
    with pytest.raises(InputError, match="lies among the files of the store"):
        publish(store, "early", store.folder / "tables" / "x")
    with pytest.raises(NotFoundError, match="nothing that s2d published"):
        clone(tmp_path / "mine", tmp_path / "again")
    with pytest.raises(NotFoundError, match="no dataset 'none'"):
        publish(store, "none", tmp_path / "out")


def test_the_commands(store: Store, cli: Cli, tmp_path: Path) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    done = cli("publish", "early", out, "--store", store.root, "--no-audits")
    assert done.code == 0, done.err
    assert f"dataset early published to {out}: 1 lock" in done.out
    cloned = cli("clone", out, again)
    assert cloned.code == 0 and f"{again}: a store with the datasets early" in cloned.out
    assert cli("dataset", "verify", "early", "--store", again).code == 0
    whole = cli("publish", store.root, tmp_path / "whole", "--no-audits")
    assert whole.code == 0 and "store store published" in whole.out and "2 locks" in whole.out
    wrong = cli("publish", "nothing", out, "--store", store.root)
    assert wrong.code == 1 and "'nothing' is neither a dataset of the store" in wrong.err
    public = cli("publish", "early", tmp_path / "p", "--store", store.root, "--public")
    assert public.code == 1 and "--public says nothing of a folder" in public.err
