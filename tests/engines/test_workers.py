"""Engines in processes and Ray actors as one: equal to one engine, and nothing is lost with one."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2d_store.engines.base import Sample, SampleRequest, SamplingParams
from s2d_store.engines.cache import open_once
from s2d_store.engines.registry import open_engine
from s2d_store.errors import EngineError, InputError
from tests.conftest import Cli
from tests.support import made_stores
from tests.support.engine_requests import scores

# Every worker starts Python and imports torch.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
K = 3
PARAMS = SamplingParams(max_tokens=12)
LONG = SamplingParams(max_tokens=60)


def opened(folder: Path, workers: str) -> AbstractContextManager[Any]:
    return open_once(
        "transformers", str(folder), device="cpu", dtype="float32", batch_size=2, workers=workers
    )


def requests(n: int) -> list[SampleRequest]:
    return [SampleRequest(f"r{i:03d}", [5 + i % 40, 7, 9], i) for i in range(n)]


def check_same(found: list[Sample], truth: list[Sample]) -> None:
    """Each rollout once, with the same tokens and logprobs."""
    assert sorted(s.rollout_id for s in found) == sorted(s.rollout_id for s in truth)
    expected = {s.rollout_id: s for s in truth}
    for sample in found:
        other = expected[sample.rollout_id]
        np.testing.assert_array_equal(sample.response_token_ids, other.response_token_ids)
        np.testing.assert_allclose(sample.response_logprobs, other.response_logprobs, atol=1e-5)


@pytest.mark.parametrize("workers", ["2", "ray:2"])
def test_two_workers_until_both_are_killed(teacher_folder: Path, workers: str) -> None:
    alone = open_engine("transformers", str(teacher_folder), device="cpu", dtype="float32")
    with opened(teacher_folder, workers) as two:
        assert (two.name, two.vocab_size) == ("transformers", alone.vocab_size)
        truth = list(alone.sample(requests(37), PARAMS, K))
        check_same(list(two.sample(requests(37), PARAMS, K)), truth)
        scored = dict(two.score(iter(scores(requests(37), truth)), K))
        for rollout_id, expected in alone.score(scores(requests(37), truth), K):
            np.testing.assert_allclose(
                scored.pop(rollout_id).logprobs, expected.logprobs, atol=1e-5
            )
        assert not scored

        # An error of a worker is the same error here, and ends no worker.
        with pytest.raises(EngineError, match="top k of 5000 cannot be kept") as raised:
            list(two.sample(requests(4), PARAMS, 5000))
        assert "--top-logprobs between 0 and" in raised.value.fix

        # What nobody waited for does not come later.
        first = two.sample(requests(40), PARAMS, 0)
        next(first)
        first.close()
        again = list(two.sample(requests(10), SamplingParams(max_tokens=2), 0))
        assert sorted(s.rollout_id for s in again) == [r.rollout_id for r in requests(10)]
        assert all(s.n_tokens <= 2 for s in again)

        # The chunks of one that is killed go to the other.
        samples = two.sample(requests(64), LONG, 0)
        found = [next(samples)]
        os.kill(two.process_ids[0], signal.SIGKILL)
        found += samples
        check_same(found, list(alone.sample(requests(64), LONG, 0)))

        # Without the other, too, the run stops.
        samples = two.sample(requests(64), LONG, 0)
        next(samples)
        os.kill(two.process_ids[1], signal.SIGKILL)
        with pytest.raises(EngineError, match="every worker is gone"):
            list(samples)


def test_a_command_with_workers_stores_what_it_stores_without(
    cli: Cli, tmp_path: Path, questions: Path, teacher_folder: Path
) -> None:
    made = made_stores.make(tmp_path / "made", made_stores.read(questions), teacher_folder)
    usual: tuple[object, ...] = (
        "generate",
        "--policy",
        teacher_folder,
        "--role",
        "teacher",
        "-n",
        3,
    )
    usual = (*usual, "--max-tokens", 8, "--top-logprobs", 3, "--batch-size", 2)
    rows = "SELECT rollout_id, response_token_ids FROM rollouts ORDER BY rollout_id"
    found = []
    for name, options in (("alone", ()), ("shared", ("--workers", 2))):
        store = made_stores.copy(made, tmp_path / name)
        done = cli(*usual, *options, "--store", store.root)
        assert done.code == 0, done.err
        found.append(store.sql(rows).fetchall())
        assert store.sql("SELECT count(*) FROM topk").fetchall() == [(24,)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("workers", "settings", "kind", "said"),
    [
        ("many", {}, InputError, "--workers 'many' is no number of workers"),
        ("0", {}, InputError, "--workers '0' is no number of workers"),
        ("ray:x", {}, InputError, "--workers 'x' is no number of workers"),
        ("2", {"name": "server"}, InputError, "its servers are the workers"),
        ("1", {"dtype": "int3"}, InputError, "dtype 'int3'"),
    ],
)
def test_workers_that_cannot_be(
    teacher_folder: Path, workers: str, settings: dict[str, Any], kind: type[Exception], said: str
) -> None:
    asked = {"name": "transformers", "location": str(teacher_folder)} | settings
    with pytest.raises(kind) as raised:
        open_engine(**asked, workers=workers)
    assert said in str(raised.value)


def test_a_cluster_that_is_too_small(teacher_folder: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    try:
        for workers, device, said in (
            ("ray:2", "cuda", "the Ray cluster has no GPU"),
            ("ray:3", "cpu", "3 workers cannot start on a Ray cluster with 2 CPUs"),
        ):
            with pytest.raises(EngineError) as raised:
                open_engine("transformers", str(teacher_folder), workers=workers, device=device)
            assert said in str(raised.value)
    finally:
        ray.shutdown()
