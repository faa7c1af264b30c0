"""The lossy mode: rounded by at most what was asked for, which is said, and checked as such."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from s2d_store.encoding import logit_steps
from s2d_store.encoding.topk import TopK
from s2d_store.encoding.topk_rounding import Rounding
from s2d_store.engines.output_checks import check_topk_flat
from s2d_store.errors import EngineError, InputError
from s2d_store.maintenance.repeat_command import generate_command, score_command
from s2d_store.store import Store
from tests.conftest import Cli
from tests.encoding.test_logit_steps import bits, entries, table
from tests.support import made_stores


def errors(before: pa.Table, after: pa.Table) -> np.ndarray:
    lists = (t.column("logprobs").combine_chunks().flatten().to_numpy() for t in (before, after))
    first, second = (values.astype(np.float64) for values in lists)
    return np.abs(first - second)


@pytest.mark.parametrize("nats", [0.00025, 0.001, 0.01, 0.125])
def test_no_logprob_is_off_by_more_than_asked(nats: float) -> None:
    made, rounding = table(entries([7, 1, 30], [5, 20, 20], 3, None)), Rounding(nats)
    stored = rounding(made)
    assert stored.column("logprobs").null_count == 3
    back = logit_steps.decode(stored)
    off = errors(made, back)
    assert 0 < off.max() <= nats
    assert rounding.entries == len(off) == 5 * 7 + 20 * 31
    assert rounding.largest == pytest.approx(off.max())
    assert rounding.total == pytest.approx(off.sum())
    units = set(stored.column("logit_unit").to_pylist())
    assert units == {2.0 ** math.floor(math.log2(2 * nats))}
    assert logit_steps.rounded_by(stored).tolist() == [units.pop() / 2] * 3
    for before, after, k in zip(
        *(t.column("logprobs") for t in (made, back)), [5, 20, 20], strict=True
    ):
        first, second = (row.values.to_numpy().reshape(-1, k) for row in (before, after))
        assert (first.max(axis=1) == second.max(axis=1)).all(), "a token's greatest stays exact"


@pytest.mark.parametrize("far", [20, 60, 300])
def test_float32s_own_rounding_counts(far: int) -> None:
    """At -300 its neighbours are 0.00003 apart."""
    rng = np.random.default_rng(far)
    values = -np.sort(rng.uniform(0, far, (40, 30)), axis=1).astype(np.float32)
    made = table([TopK(np.tile(np.arange(30, dtype=np.int32), (40, 1)), values, values[:, -1])])
    for nats in (0.00025, 2.0**-11, 0.001):
        back = logit_steps.decode(Rounding(nats)(made))
        assert errors(made, back).max() <= nats


def test_what_exact_steps_hold_stays_exact() -> None:
    made, rounding = table(entries([7, 9], [20, 20], 4, 7)), Rounding(0.01)
    stored = rounding(made)
    assert bits(logit_steps.decode(stored).column("logprobs")) == bits(made.column("logprobs"))
    assert logit_steps.rounded_by(stored).tolist() == [0, 0]
    assert rounding.entries == 0 and str(rounding) == "no logprob was rounded"


def test_what_does_not_fit_steps_is_kept() -> None:
    values = [[-0.5, -np.inf], [-0.3, -1e30], [-0.3, -1.7]]
    made = table([TopK(np.int32([[1, 2]]), np.float32([row]), np.float32([-1])) for row in values])
    rounding = Rounding(0.001)
    stored = rounding(made)
    assert stored.column("logit_unit").is_null().to_pylist() == [True, True, False]
    back = logit_steps.decode(stored)
    assert bits(back.column("logprobs"))[:2] == bits(made.column("logprobs"))[:2]
    assert rounding.entries == 2
    infinite = table([TopK(np.int32([[1]]), np.float32([[-np.inf]]), np.float32([-1]))])
    assert bits(logit_steps.decode(rounding(infinite)).column("logprobs")) == bits(
        infinite.column("logprobs")
    )


@pytest.mark.parametrize("nats", [-0.001, 1e-9, 0.00024, 0.5, math.nan, math.inf])
def test_errors_out_of_range_are_refused(nats: float) -> None:
    with pytest.raises(InputError, match=r"--lossy .* is out of range"):
        Rounding(nats)


def test_a_store_of_version_1_has_no_place_for_steps() -> None:
    old = Store(Path("old"), format_version=1)
    Rounding(0).require_steps(old)
    with pytest.raises(InputError, match="has format version 1"):
        Rounding(0.001).require_steps(old)


def test_checks_allow_what_rounding_does_and_no_more() -> None:
    logprobs = np.log(np.float32([[0.6, 0.3, 0.1]]))
    for shift, passes in ((0.0009, True), (0.0012, False)):
        topk = TopK(np.int32([[5, 6, 7]]), logprobs, logprobs[:, 1] + np.float32(shift))
        given = {"support": "own", "vocab_size": 10, "response_token_ids": np.int32([6])}
        with pytest.raises(EngineError, match=r"but -1\.20"):
            check_topk_flat(["r"], [1], topk, **given)
        if passes:
            check_topk_flat(["r"], [1], topk, **given, rounded_by=0.001)
        else:
            with pytest.raises(EngineError, match=r"but -1\.20"):
                check_topk_flat(["r"], [1], topk, **given, rounded_by=0.001)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, questions: Path, student_folder: Path) -> Store:
    root = tmp_path_factory.mktemp("made") / "store"
    records = made_stores.read(questions)
    return made_stores.make(root, records, student_folder, role="student", n=2, top_logprobs=6)


def test_scores_and_rollouts_of_float32_models(
    made: Store, cli: Cli, teacher_folder: Path, tmp_path: Path
) -> None:
    exact, lossy = (made_stores.copy(made, tmp_path / name) for name in ("exact", "lossy"))
    command = ("score", "--scorer", teacher_folder, "--top-logprobs", 12)
    assert cli(*command, "--store", exact.root).code == 0
    done = cli(*command, "--lossy", 0.002, "--store", lossy.root)
    assert done.code == 0, done.err
    assert "top-k logprobs rounded: off by" in done.out and "at most" in done.out
    text = (
        "SELECT rollout_id, token_ids, logprobs, sampled_logprobs FROM teacher_topk "
        "WHERE k = 12 ORDER BY rollout_id"
    )
    first, second = (store.sql(text).to_arrow_table() for store in (exact, lossy))
    for name in ("rollout_id", "token_ids", "sampled_logprobs"):
        assert first.column(name).equals(second.column(name))
    off = errors(first, second)
    assert 0.0005 < off.max() <= 0.002
    sampled = cli(
        "generate", "--policy", teacher_folder, "--role", "teacher", "--max-tokens", 8,
        "--top-logprobs", 12, "--lossy", 0.002, "--run", "rounded", "--store", lossy.root,
    )  # fmt: skip
    assert sampled.code == 0, sampled.err
    assert "top-k logprobs rounded: off by" in sampled.out
    audited = cli("audit", "topk_consistency", "topk_alignment", "--store", lossy.root)
    assert audited.code == 0, audited.out
    again = cli(
        "generate", "--policy", teacher_folder, "--role", "teacher", "--max-tokens", 8,
        "--top-logprobs", 12, "--run", "rounded", "--store", lossy.root,
    )  # fmt: skip
    assert again.code == 1 and "lossy_nats" in again.err


def test_rounded_scores_are_not_taken_for_exact_ones(
    made: Store, cli: Cli, teacher_folder: Path, tmp_path: Path
) -> None:
    store = made_stores.copy(made, tmp_path / "store").root
    command = ("score", "--scorer", teacher_folder, "--top-logprobs", 6, "--store", store)
    assert cli(*command, "--lossy", 0.01).code == 0
    for lossy in ((), ("--lossy", 0.001)):
        refused = cli(*command, *lossy)
        assert refused.code == 1, refused.out
        assert "16 of these rollouts have scores of teacher that were rounded" in refused.err
        assert "score with --lossy 0.0078125 or more" in refused.err
    assert "16 were scored before" in cli(*command, "--lossy", 0.0078125).out
    assert cli(*command[:-4], "--top-logprobs", 5, "--store", store).code == 0


def test_without_a_top_k_there_is_nothing_to_round(cli: Cli, made: Store) -> None:
    refused = cli(
        "generate", "--policy", "student", "--role", "student", "--lossy", 0.01,
        "--store", made.root,
    )  # fmt: skip
    assert refused.code == 1 and "--lossy 0.01 has nothing to round" in refused.err


def test_the_doctor_repeats_it() -> None:
    run = {
        "role": "teacher", "purpose": "train", "round": 0, "seed": 0, "top_logprobs": 8,
        "lossy_nats": 0.001, "max_tokens": 8, "temperature": 1.0, "top_p": 1.0, "top_k": 0,
        "no_chat_template": False, "engine": "vllm", "dtype": "auto",
    }  # fmt: skip
    assert "--top-logprobs 8 --lossy 0.001" in generate_command("r", "p", run)
    assert "--lossy" not in generate_command("r", "p", run | {"lossy_nats": 0.0})
    score = {"k": 8, "support": "own", "engine": "vllm", "dtype": "auto", "lossy_nats": 0.001}
    assert "--top-logprobs 8 --lossy 0.001" in score_command("p", score)
