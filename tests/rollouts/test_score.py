"""`s2d score` with real tiny models: own and policy support, and every refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2d_store.engines.base import ScoreRequest
from s2d_store.engines.registry import open_engine
from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support import made_stores
from tests.support.tiny_models import save_tiny_model

Score = Callable[..., Result]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, questions: Path, student_folder: Path) -> Store:
    """16 rollouts of the student on 8 prompts, 8 tokens each, with its own top 6."""
    root = tmp_path_factory.mktemp("made") / "store"
    records = made_stores.read(questions)
    return made_stores.make(root, records, student_folder, role="student", n=2, top_logprobs=6)


@pytest.fixture
def generated(made: Store, tmp_path: Path) -> Store:
    return made_stores.copy(made, tmp_path / "generated")


@pytest.fixture
def score(cli: Cli, tmp_path: Path, teacher_folder: Path) -> Score:
    def run(
        *options: object, scorer: object = teacher_folder, root: Path = tmp_path / "generated"
    ) -> Result:
        return cli("score", "--scorer", scorer, *options, "--store", root)

    return run


def entries(store: Store, support: str, scorer: str = "teacher") -> list[dict[str, Any]]:
    text = (
        "SELECT t.*, r.response_token_ids, r.prompt_token_ids FROM topk AS t "
        "JOIN rollouts AS r USING (rollout_id) "
        "JOIN policies AS p ON p.policy_id = t.scorer_policy_id "
        "WHERE p.name = $scorer AND t.support = $support ORDER BY rollout_id"
    )
    found = store.sql(text, {"scorer": scorer, "support": support})
    return found.to_arrow_table().to_pylist()


def test_a_teacher_scores_a_students_rollouts(
    generated: Store, score: Score, teacher_folder: Path
) -> None:
    done = score("--top-logprobs", 4)
    assert done.code == 0
    assert "run score-teacher-" in done.out and ": 16 rollouts scored, " in done.out
    rows = entries(generated, "own")
    assert len(rows) == 16 and {row["k"] for row in rows} == {4}
    engine = open_engine("transformers", str(teacher_folder))
    requests = [
        ScoreRequest(
            row["rollout_id"],
            row["prompt_token_ids"],
            np.array(row["response_token_ids"], np.int32),
        )
        for row in rows
    ]
    dense = dict(engine.score(requests, 100))
    engine.close()
    for row in rows:
        expected = dense[row["rollout_id"]]
        n = len(row["response_token_ids"])
        np.testing.assert_allclose(
            np.reshape(row["logprobs"], (n, 4)), expected.logprobs[:, :4], atol=1e-4
        )
        np.testing.assert_allclose(row["sampled_logprobs"], expected.sampled_logprobs, atol=1e-4)
    version = generated.snapshot().versions["topk"]
    done = score("--top-logprobs", 4)
    assert "0 rollouts scored, 0 tokens\n  16 were scored before\n" in done.out
    assert generated.snapshot().versions["topk"] == version
    assert "16 rollouts scored" in score("--top-logprobs", 8).out, "another k is another fact"


def test_a_students_own_scores_match_what_it_kept_at_sampling(
    generated: Store, score: Score
) -> None:
    assert "0 rollouts scored" in score("--top-logprobs", 6, scorer="student").out
    assert "16 rollouts scored" in score("--top-logprobs", 5, scorer="student").out
    by_k = {
        k: [row for row in entries(generated, "own", "student") if row["k"] == k] for k in (5, 6)
    }
    for scored, kept in zip(by_k[5], by_k[6], strict=True):
        n = len(kept["response_token_ids"])
        np.testing.assert_allclose(
            np.reshape(scored["logprobs"], (n, 5)),
            np.reshape(kept["logprobs"], (n, 6))[:, :5],
            atol=1e-4,
        )


def test_policy_support_takes_the_students_ids(generated: Store, score: Score) -> None:
    done = score("--support", "policy")
    assert ": 16 rollouts scored" in done.out
    students = {row["rollout_id"]: row for row in entries(generated, "own", "student")}
    rows = entries(generated, "policy")
    assert len(rows) == 16
    for row in rows:
        assert row["k"] == 6
        assert row["token_ids"] == students[row["rollout_id"]]["token_ids"]
        n = len(row["response_token_ids"])
        ids, logprobs = (np.reshape(row[c], (n, 6)) for c in ("token_ids", "logprobs"))
        for t, token in enumerate(row["response_token_ids"]):
            assert np.exp(logprobs[t]).sum() <= 1.001
            for rank in np.flatnonzero(ids[t] == token):
                assert logprobs[t, rank] == pytest.approx(row["sampled_logprobs"][t], abs=1e-5)
    assert "0 rollouts scored" in score("--support", "policy").out
    done = score("--support", "policy", "--top-logprobs", 5)
    assert done.code == 1
    assert "16 of 16 rollouts have no top-k of their own policy with k=5" in done.err


def test_policy_support_needs_stored_topk(
    cli: Cli, generated: Store, student_folder: Path, score: Score
) -> None:
    usual = ("--policy", student_folder, "--role", "student", "--max-tokens", 8, "--limit", 2)
    cli("generate", *usual, "--run", "bare", "--store", generated.root)
    done = score("--support", "policy", "--where", "run_id = 'bare'")
    assert done.code == 1
    assert "2 of 2 rollouts have no top-k of their own policy" in done.err
    assert "generate them with --top-logprobs K" in done.err


def test_where_and_limit_choose_rollouts(generated: Store, score: Score) -> None:
    assert "8 rollouts scored" in score("--top-logprobs", 3, "--where", "sample_index = 0").out
    done = score("--top-logprobs", 3, "--limit", 5, "--where", "sample_index = 1")
    assert "5 rollouts scored" in done.out
    done = score("--top-logprobs", 3, "--where", "role = 'teacher'")
    assert done.code == 1
    assert "no rollouts to score" in done.err and "none matches \"role = 'teacher'\"" in done.err
    done = score("--top-logprobs", 3, "--where", "rolle = 'teacher'")
    assert done.code == 1
    assert "error: --where \"rolle = 'teacher'\" does not work on graded_rollouts" in done.err


def test_another_tokenizer_is_refused_by_its_tokens(
    generated: Store, score: Score, tmp_path: Path
) -> None:
    swapped = save_tiny_model(tmp_path / "swapped", seed=3, vocab="swapped")
    done = score("--top-logprobs", 3, scorer=swapped)
    assert (done.code, done.out) == (1, "")
    assert "policy 'swapped' has another tokenizer than the rollouts it would score" in done.err
    assert "2 of 100 token ids differ" in done.err
    assert "'7' vs '8'" in done.err or "'8' vs '7'" in done.err
    larger = save_tiny_model(tmp_path / "larger", seed=3, vocab="extended")
    done = score("--top-logprobs", 3, scorer=larger)
    assert done.code == 1 and "sizes 103 vs 100" in done.err
    assert entries(generated, "own", "swapped") == entries(generated, "own", "larger") == []


def test_chunks_are_committed_as_they_fill(generated: Store, score: Score) -> None:
    before = generated.snapshot().versions["topk"]
    assert score("--top-logprobs", 3, "--chunk", 4, "--engine-arg", "max_batch_tokens=64").code == 0
    assert generated.snapshot().versions["topk"] == before + 4
    assert len(entries(generated, "own")) == 16


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "--top-logprobs 0 is not usable"),
        (("--top-logprobs", -3, "--support", "policy"), "--top-logprobs -3 is not usable"),
        (("--top-logprobs", 101), "--top-logprobs between 0 and 100"),
        (("--top-logprobs", 3, "--support", "both"), "--support both is unknown"),
        (("--top-logprobs", 3, "--limit", -1), "--limit -1 is not usable"),
        (("--top-logprobs", 3, "--chunk", 0), "--chunk 0 is not usable"),
        (("--top-logprobs", 3, "--max-model-len", 20), "too long for the scorer"),
        (("--top-logprobs", 3, "--max-model-len", 9999), "the model was made for 1 to 2048 tokens"),
        (("--top-logprobs", 3, "--engine", "abacus"), "engine 'abacus' is unknown"),
        (("--top-logprobs", 3, "--device", "tpu"), "device 'tpu' is unknown"),
    ],
)
def test_bad_settings_are_one_clear_error(
    made: Store, score: Score, options: tuple[object, ...], says: str
) -> None:
    done = score(*options, root=made.root)
    assert (done.code, done.out) == (1, "")
    said = [line for line in done.err.splitlines() if not line.startswith("score: loading")]
    assert said[0].startswith("error: ") and says in done.err
    assert entries(made, "own") == []


def test_a_store_without_rollouts_says_what_to_do(store: Store, score: Score) -> None:
    done = score("--top-logprobs", 3, root=store.root)
    assert done.code == 1
    assert "error: no rollouts to score" in done.err and "fix: s2d generate" in done.err


def test_an_unknown_scorer_names_the_nearest(generated: Store, score: Score) -> None:
    done = score("--top-logprobs", 3, scorer="studnet")
    assert done.code == 1
    assert "no policy 'studnet' in this store; did you mean 'student'?" in done.err


def test_of_a_mass_the_fewest_entries_are_kept(generated: Store, score: Score) -> None:
    refused = score("--top-logprobs", 6, "--mass", 1.5)
    assert refused.code != 0 and "--mass 1.5" in refused.err
    assert score("--top-logprobs", 6, "--mass", 0.05).code == 0
    for row in entries(generated, "own"):
        counts = row["counts"] or [6] * len(row["response_token_ids"])
        assert sum(counts) == len(row["token_ids"]) == len(row["logprobs"])
        ends = np.cumsum(counts)
        for part in np.split(np.array(row["logprobs"]), ends[:-1]):
            # Without its last entry it falls short, unless all six do.
            assert np.exp(part[:-1]).sum() < 0.05
            assert len(part) == 6 or np.exp(part).sum() >= 0.05
