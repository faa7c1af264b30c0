"""The dumps that one toy model made: imported by one command each, they agree, and all works on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import made_stores
from tests.support.dump_rows import dumps
from tests.support.toy_model import save_toy_model, save_toy_prompts

pytest.importorskip("torch")

FOLDERS = ("open_instruct", "slime", "prime_rl", "verl")
FACTS = (
    "SELECT policy_id, prompt_id, response_token_ids, sampler_logprobs, finish_reason, reward, "
    "response_text, response_mask FROM rollout_rewards WHERE policy LIKE $policy AND verifier = $v"
)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with the toy model and its dumps, each under a policy of its folder's name."""
    from s2d_store import prompts
    from s2d_store.importers.import_dump import import_dump
    from s2d_store.importers.settings import ImportConfig
    from s2d_store.policies import registry

    root = tmp_path_factory.mktemp("toy")
    store = Store.init(root / "store")
    model = save_toy_model(tmp_path_factory.mktemp("models") / "toy")
    registry.register(store, "toy", str(model))
    records = prompts.read_records(str(save_toy_prompts(root / "toy.jsonl")))
    prompts.add(store, records, prompts.PromptOptions("toy"))
    for name in FOLDERS:
        paths = (str(dumps() / name),)
        done = import_dump(store, ImportConfig(paths=paths, policy=name, tokenizer="toy"))
        assert not done.rejects
    yield root / "store"


@pytest.fixture
def store(imported: Path, tmp_path: Path) -> Store:
    return made_stores.copy(Store.open(imported), tmp_path / "store")


def rows(store: Store, folder: str, verifier: str = "imported-reward") -> list[dict[str, Any]]:
    found = store.sql(FACTS, {"policy": f"{folder}.v%", "v": verifier})
    return found.to_arrow_table().to_pylist()


def told(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["prompt_id"], tuple(row["response_token_ids"])


def test_formats_of_one_model_agree(store: Store) -> None:
    """Prompts, tokens, logprobs and rewards are the same, whichever system wrote them."""
    of_slime = {told(row): row for row in rows(store, "slime")}
    counts = {name: Counter(map(told, rows(store, name))) for name in FOLDERS[:3]}
    assert [n.total() for n in counts.values()] == [12, 12, 12]
    # Its one empty answer stands there as an end of sequence with a NaN; the other's has a tool.
    for name, differ in (("open_instruct", 1), ("prime_rl", 1)):
        assert (counts["slime"] - counts[name]).total() == differ
        for row in rows(store, name):
            other = of_slime.get(told(row))
            if other is not None:
                assert row["sampler_logprobs"] == other["sampler_logprobs"]
                assert row["finish_reason"] == other["finish_reason"]
                scale = 10 if name == "open_instruct" else 1
                assert row["reward"] == scale * other["reward"]


def test_text_alone_is_told_from_sampled_tokens(store: Store) -> None:
    """verl writes text: its ids are made of it, marked, and mostly those that were sampled."""
    of_slime = {told(row): row for row in rows(store, "slime")}
    of_verl = [row for row in rows(store, "verl", "imported-score")]
    train = store.sql("SELECT DISTINCT tokens_from FROM graded_rollouts WHERE policy = 'verl.v2'")
    assert train.fetchall() == [("retokenised",)]
    assert all(row["sampler_logprobs"] is None for row in of_verl)
    # No end of sequence is put behind a text of which nobody knows how it ended.
    without_end = {(prompt, ids[:-1] if ids[-1] == 2 else ids) for prompt, ids in of_slime}
    same = [row for row in of_verl if told(row) in without_end]
    assert len(same) >= 11


def test_stored_prompts_are_found_again(store: Store) -> None:
    """By messages, by ids, and by how they decode: no import added a prompt of its own."""
    assert store.sql("SELECT count(*), count(answer) FROM prompts").fetchall() == [(3, 3)]


def test_grading_scoring_and_distilling_work(store: Store, cli: Cli) -> None:
    root = store.root
    cli("verify", "--n-workers", 1, "--store", root)
    agreed = store.sql(
        "SELECT DISTINCT (r.reward > 0) = (v.outcome = 'correct') FROM current_rewards AS r "
        "JOIN current_rewards AS v USING (rollout_id) WHERE v.verifier = 'math-verify' "
        "AND r.verifier = 'imported-reward'"
    )
    assert agreed.fetchall() == [(True,)]
    table = cli("query", "imported_agreement", "--store", root).out
    assert "imported-format" in table and "slime.v3" in table
    scored = cli(
        *("score", "--scorer", "toy", "--top-logprobs", 4, "--device", "cpu"),
        *("--where", "policy = 'slime.v3'", "--store", root),
    )
    assert (scored.code, "12 rollouts" in scored.out) == (0, True)
    asked = ("-p", "teacher=slime.v3", "-p", "scorer=toy", "-p", "correct_only=true")
    assert cli("dataset", "build", "w", "--query", "warmup", *asked, "--store", root).code == 0
    locked = store.sql("SELECT count(*) FROM dataset_rows").fetchall()
    right = store.sql(
        "SELECT count(*) FROM graded_rollouts WHERE policy = 'slime.v3' AND outcome = 'correct'"
    ).fetchall()
    assert locked == right


def test_imported_tokens_are_counted_apart(store: Store, cli: Cli) -> None:
    assert store.sql("SELECT sum(generated_tokens) FROM spent").fetchall() == [(None,)]
    n = store.sql("SELECT sum(sampled_tokens)::BIGINT FROM rollouts").fetchall()[0][0]
    out = cli("budget", "--store", store.root).out
    assert f"imported, and not counted: 55 rollouts, {n} sampled tokens" in out
    listed = cli("query", "imported", "--format", "json", "--store", store.root).out
    rows = json.loads(listed)
    assert (sum(r["rollouts"] for r in rows), sum(r["sampled_tokens"] for r in rows)) == (55, n)


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("slime.v3", "12 have the sampler's logprobs alone"),
        ("verl.v2", "were re-tokenised from imported text"),
    ],
)
def test_grpo_refuses_what_is_not_known(store: Store, cli: Cli, policy: str, why: str) -> None:
    cli("verify", "--n-workers", 1, "--store", store.root)
    asked = ("-p", f"policy={policy}", "-p", "any_sampling=true", "-p", "keep_equal=true")
    done = cli("dataset", "build", "g", "--query", "grpo", *asked, "--store", store.root)
    assert done.code == 1 and "lack logprobs of tokens that their policy sampled" in done.err
    assert why in done.err


def test_grpo_takes_logprobs_that_are_raw(store: Store, cli: Cli) -> None:
    """Sampled at temperature 1 without truncation, the sampler's logprobs are the model's."""
    root = store.root
    cli(
        *("import", "slime", dumps() / "slime", "--policy", "plain", "--tokenizer", "toy"),
        *("--logprobs", "raw", "--temperature", 1, "--top-p", 1, "--top-k", 0, "--store", root),
    )
    cli("verify", "--n-workers", 1, "--store", root)
    asked = ("-p", "policy=plain.v3", "--store", root)
    built = cli("dataset", "build", "g", "--query", "grpo", *asked)
    assert built.code == 0, built.err
    rows = store.sql("SELECT count(*), count(DISTINCT prompt_id) FROM dataset_rows").fetchall()
    assert rows == [(8, 2)]


def test_a_wrong_tokenizer_is_one_error(store: Store, cli: Cli, teacher_folder: Path) -> None:
    cli("policies", "add", "other", teacher_folder, "--store", store.root)
    before = store.sql("SELECT count(*) FROM rollouts").fetchall()
    done = cli(
        *("import", "slime", dumps() / "slime", "--policy", "x", "--tokenizer", "other"),
        *("--store", store.root),
    )
    assert "the tokenizer of other does not fit: 12 of 12 rollouts differ" in done.err
    assert store.sql("SELECT count(*) FROM rollouts").fetchall() == before
