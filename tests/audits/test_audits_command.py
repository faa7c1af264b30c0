"""`s2d audit` and `audit()`: which audits run, with which parameters, and how they report."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest

import queries
import s2d_store.audits
from s2d_store.audits import audit, catalog
from s2d_store.errors import InputError, NotFoundError, QueryError
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import audit_rows as rows
from tests.support import made_stores, synthetic

DATASET_AUDITS = sorted(
    name for name, a in catalog().items() if any(p.name == "datasets" for p in a.query.params)
)


@pytest.fixture
def broken(sound: Store, tmp_path: Path) -> Store:
    """A store with seven rollouts that stand twice."""
    store = made_stores.copy(sound, tmp_path / "copy")
    prompts = rows.prompt_ids(store, "gen-opd")
    for i in range(7):
        tokens = [*range(i, i + 20)]
        rows.add_rollouts(
            store, f"twice-{i}", "student-warmup", prompts[:1], response_token_ids=tokens
        )
    return store


def mine(folder: Path, sql: str, params: str = "") -> Path:
    path = folder / "mine.sql"
    header = f"-- question: is it?\n-- grain: one row\n-- params:{params}\n-- columns: n\n"
    path.write_text(header + sql)
    return path


def test_a_sound_store_passes(cli: Cli, sound: Store) -> None:
    done = cli("audit", "--store", sound.root)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    passed = [line.split()[1].rstrip(":") for line in lines if line.startswith("pass")]
    # None of its rollouts came from a server.
    assert passed == [name for name in catalog() if name != "server_agrees"]
    assert lines[-1] == "15 passed, 0 failed, 1 skipped"
    assert "pass  contamination_exact: 4 examined" in lines and len(lines) == 17
    shown = cli("audit", "contamination_exact", "-v", "--store", sound.root).out
    assert "  examined 4, eval_prompts 4, trained_prompts 12" in shown.splitlines()


def test_a_failure_shows_its_rows_and_exits_1(cli: Cli, broken: Store) -> None:
    done = cli("audit", "duplicate_rollouts", "topk_alignment", "--store", broken.root)
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0] == "FAIL  duplicate_rollouts: 7 offending rows"
    assert (
        lines[1]
        == "  did a policy give the same response to a prompt more often than chance allows?"
    )
    assert lines[2] == "  examined 62" and lines[3].split()[:2] == ["policy", "prompt_id"]
    assert sum(line.startswith("student-warmup") for line in lines) == 5
    assert lines[-1] == "1 passed, 1 failed, 0 skipped"
    done = cli("audit", "duplicate_rollouts", "--sample", 0, "--store", broken.root)
    assert done.code == 1 and "student-warmup" not in done.out
    done = cli("audit", "duplicate_rollouts", "--sample", 7, "--store", broken.root)
    assert done.out.count("student-warmup") == 7


def test_json_holds_everything(cli: Cli, broken: Store) -> None:
    done = cli("audit", "--format", "json", "--sample", 2, "--store", broken.root)
    assert done.code == 1
    results = {r["name"]: r for r in json.loads(done.out)}
    assert list(results) == list(catalog())
    failed = results["duplicate_rollouts"]
    assert (failed["status"], failed["offending"], len(failed["sample"])) == ("failed", 7, 2)
    assert failed["params"] == {"datasets": None, "chance": 1e-9}
    assert failed["figures"] == [{"examined": 62}] and failed["seconds"] > 0
    others = set(results) - {"duplicate_rollouts", "server_agrees"}
    assert {results[name]["status"] for name in others} == {"passed"}


def test_numbers_that_json_lacks_are_text(cli: Cli, sound: Store, tmp_path: Path) -> None:
    path = mine(tmp_path, "SELECT 'inf'::DOUBLE AS n, 'nan'::FLOAT AS m, now()::TIMESTAMP AS t")
    done = cli("audit", path, "--format", "json", "--store", sound.root)
    (row,) = json.loads(done.out)[0]["sample"]
    assert (row["n"], row["m"]) == ("inf", "nan") and row["t"].startswith("20")


def test_an_empty_store_skips_and_says_why(cli: Cli, store: Store) -> None:
    done = cli("audit", "--store", store.root)
    assert done.code == 0
    assert done.out.splitlines()[-1] == "0 passed, 0 failed, 16 skipped"
    assert "skip  topk_consistency: no top-k is stored" in done.out.splitlines()
    for result in audit(store):
        assert result.reason.startswith("no "), result.name
    assert cli("audit", "--strict", "--store", store.root).code == 1
    assert cli("audit", "--strict", "label_splits", "--store", store.root).code == 1


def test_given_datasets_run_the_audits_that_take_them(cli: Cli, broken: Store) -> None:
    done = cli("audit", "--dataset", "opd", "--dataset", "stage3", "--store", broken.root)
    assert done.code == 0, done.out
    ran = [line.split()[1].rstrip(":") for line in done.out.splitlines() if line[:1] in "psF"]
    assert ran == DATASET_AUDITS and "teacher_reward_shaped" not in ran
    done = cli("audit", "label_splits", "-v", "--dataset", "warmup", "--store", broken.root)
    assert done.out.splitlines()[:2] == [
        "pass  label_splits: 4 examined",
        "  examined 4, stage student/warmup, labels 4",
    ]
    done = cli("audit", "label_splits", "--format", "csv", "--store", broken.root)
    assert done.out.splitlines()[0] == "audit,result,examined,offending,reason"


def test_parameters_go_to_one_audit_or_to_all_that_take_them(sound: Store) -> None:
    names = ["contamination_exact", "contamination_ngram", "label_splits"]
    both = audit(sound, names, params={"train_split": "test"})
    assert [r.status for r in both] == ["failed", "passed", "passed"]
    given = {"train_split": "train", "contamination_exact.train_split": "test"}
    results = audit(sound, names, params=given)
    assert [r.params.get("train_split") for r in results] == ["test", "train", None]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["label_split"], "no audit named 'label_split'; did you mean 'label_splits'?"),
        (["none.sql"], "no SQL file none.sql"),
        (["staleness", "-p", "max_leg=1"], "parameter 'max_leg'; did you mean 'max_lag'?"),
        (["staleness", "-p", "staleness.max_leg=1"], "audit staleness has no parameter 'max_leg'"),
        (["-p", "stalenes.max_lag=1"], "did you mean 'staleness'?"),
        (["label_splits", "-p", "staleness.max_lag=1"], "is for an audit that is not run"),
        (["staleness", "-p", "max_lag=few"], "max_lag='few' of query staleness is not a BIGINT"),
        (["--dataset", "opt"], "no dataset 'opt' in this store; did you mean 'opd'?"),
        (["teacher_reward_shaped", "--dataset", "opd"], "no audit of this call has a parameter"),
        (["teacher_reward_shaped", "-p", "policy=teecher"], "did you mean 'teacher'?"),
        (["--format", "yaml"], "output format 'yaml' is unknown"),
        (["-p", "max_lag"], "--param 'max_lag' is not NAME=VALUE"),
    ],
)
def test_a_mistake_is_one_clear_error(
    cli: Cli, sound: Store, arguments: list[str], says: str
) -> None:
    done = cli("audit", *arguments, "--store", sound.root)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ") and says in done.err, done.err
    assert done.err.count("error:") == 1 and "Traceback" not in done.err


def test_a_users_own_audit(cli: Cli, sound: Store, tmp_path: Path) -> None:
    params = "\n--   least: BIGINT -- rows from which on"
    path = mine(
        tmp_path,
        "SELECT count(*) AS n FROM rollouts WHERE purpose = 'eval' HAVING n >= $least",
        params,
    )
    assert cli("audit", path, "-p", "least=9", "--store", sound.root).code == 0
    done = cli("audit", path, "label_splits", "-p", "mine.least=8", "--store", sound.root)
    assert done.code == 1 and done.out.startswith("FAIL  mine: 1 offending rows")
    done = cli("audit", path, "--store", sound.root)
    assert done.code == 1 and "query mine needs parameter 'least'" in done.err
    done = cli("audit", "--list", path)
    assert "--param least=  BIGINT, required: rows from which on" in done.out


def test_a_users_sql_that_fails_names_the_audit(sound: Store, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="audit mine: the query failed"):
        audit(sound, [str(mine(tmp_path, "SELECT nope FROM rollouts"))])
    with pytest.raises(QueryError, match="audit mine: SQL cannot COPY here"):
        audit(sound, [str(mine(tmp_path, f"COPY (SELECT 1) TO '{sound.root}/s2d.json'"))])
    (tmp_path / "plain.sql").write_text("SELECT 1")
    with pytest.raises(InputError, match="its header lacks '-- question"):
        audit(sound, [str(tmp_path / "plain.sql")])


def test_list_shows_audits_and_parameters(cli: Cli) -> None:
    done = cli("audit", "--list")
    assert done.code == 0
    assert all(f"{name} " in done.out for name in catalog())
    done = cli("audit", "--list", "staleness", "topk_consistency")
    assert "--param max_lag=  BIGINT, default NULL: " in done.out
    assert "topk_consistency: is every stored top-k a distribution" in done.out
    assert "did you mean 'staleness'?" in cli("audit", "--list", "stalenes").err


def test_an_audit_of_sql_is_a_named_query_too(cli: Cli, broken: Store) -> None:
    done = cli("query", "duplicate_rollouts", "--format", "csv", "--store", broken.root)
    assert done.code == 0 and len(done.out.splitlines()) == 8


def test_every_audit_of_sql_has_figures_that_count_what_was_looked_at() -> None:
    for query in queries.catalog().values():
        if query.folder == "audits":
            assert query.skipped_when.startswith("no "), query.name
            assert "AS examined" in query.figures and "AS examined" not in query.sql, query.name


def test_a_users_audit_may_have_figures_or_none(broken: Store, tmp_path: Path) -> None:
    header = (
        "-- question: q?\n-- grain: g\n-- params:\n--   k: COUNT = NULL -- unused\n"
        "--   keep: COUNT = 1 -- rows\n-- columns: a\nSELECT 1 AS a FROM range(0) LIMIT $keep"
    )
    alone, both, bad = (tmp_path / f"{name}.sql" for name in ("alone", "both", "bad"))
    alone.write_text(header)
    both.write_text(
        f"{header};\n\n-- figures: f\n-- skipped when: none are there\nSELECT $keep AS examined"
    )
    bad.write_text(f"{header};\n\n-- figures: f\nSELECT 1 AS seen")
    found = audit(broken, [str(alone), str(both)])
    assert [(r.status, r.figures) for r in found] == [("passed", []), ("passed", [{"examined": 1}])]
    (skipped,) = audit(broken, [str(both)], params={"keep": 1, "k": None})
    assert skipped.params == {"k": None, "keep": 1}
    with pytest.raises(QueryError, match="figures have no column examined"):
        audit(broken, [str(bad)])


def test_a_view_that_an_audit_misspells_is_named(sound: Store, tmp_path: Path) -> None:
    path = tmp_path / "misspelt.sql"
    path.write_text(
        "-- question: q?\n-- grain: g\n-- columns: rollout_id\n"
        "SELECT rollout_id FROM graded_rollout"
    )
    with pytest.raises(QueryError, match='Did you mean "graded_rollouts"'):
        audit(sound, [str(path)])


def test_audits_read_one_snapshot(sound: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    snapshot = sound.snapshot

    def counted() -> object:
        read.append(1)
        return snapshot()

    monkeypatch.setattr(sound, "snapshot", counted)
    audit(sound, ["topk_consistency", "label_splits", "tokenizers"])
    assert len(read) == 1


def test_macros_are_made_in_the_order_that_they_need() -> None:
    names = list(queries.macros_for("SELECT * FROM row_lags(NULL)"))
    assert sorted(names) == ["audited_datasets", "policy_lags", "row_lags"]
    assert names[-1] == "row_lags"
    assert queries.macros_for("SELECT 1") == {}


def test_the_examples_of_the_module_run(store: Store) -> None:
    synthetic.fill(store)
    tested = doctest.testmod(s2d_store.audits, extraglobs={"store": store})
    assert tested.attempted >= 3 and tested.failed == 0


def test_an_unknown_audit_of_the_library(sound: Store) -> None:
    with pytest.raises(NotFoundError, match=r"no audit named 'splits'"):
        audit(sound, ["splits"])
