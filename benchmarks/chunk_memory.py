"""Peak memory of storing and of scoring long rollouts with a large k: bounded by tokens, not rows.

    python -m benchmarks.chunk_memory                  # 256 rollouts of 16,384 tokens, k = 128
    python -m benchmarks.chunk_memory --rollouts 32

No model: an engine hands out copies of one made rollout under the drivers of `s2d generate` and of
`s2d score --support policy`, which fetches the stored ids, hands them to the engine and stores what
it gives. So everything is held that the drivers hold: rows that wait for the writer, the chunk that
is encoded and written, the ids that were fetched. Each driver runs in a process of its own, whose
peak is that of the operating system (`ru_maxrss`), libraries included. A model's own memory, and
the block that an engine decodes (at most 256 MiB of top k, `engines/chunk_limits.py`), come on top.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ingest import VOCAB, Tokenizer, drawn
from s2d_store.encoding.topk import TopK
from s2d_store.engines.base import Sample, SampleRequest, SamplingParams, ScoreRequest
from s2d_store.policies import registry
from s2d_store.rollouts import score as scoring
from s2d_store.rollouts.generate import sample_and_store
from s2d_store.rollouts.generate_config import GenerateConfig
from s2d_store.rollouts.progress import Progress
from s2d_store.rollouts.requests import Job
from s2d_store.rollouts.selection import Prompt
from s2d_store.store import Store

POLICY = "made"
DRIVERS = ("generate", "score")


class LongEngine:
    """Copies of one made rollout: to sample, and, of given ids, to score."""

    name, version, vocab_size, max_model_len = "made", "0", VOCAB, 1 << 20
    tokenizer = Tokenizer()

    def __init__(self, n_tokens: int, k: int) -> None:
        ids_TW, logprobs_TW = drawn(n_tokens, k, np.random.default_rng(0))
        self.response_T = ids_TW[:, 0].copy()
        self.topk = TopK(ids_TW[:, 1:].copy(), logprobs_TW[:, 1:].copy(), logprobs_TW[:, 0].copy())

    def sample(
        self, requests: Sequence[SampleRequest], params: SamplingParams, top_logprobs: int
    ) -> Iterator[Sample]:
        """One rollout a request, with arrays of its own."""
        for request in requests:
            topk = self._copy()
            yield Sample(
                request.rollout_id, self.response_T.copy(), topk.sampled_logprobs, "length", topk
            )

    def score(self, requests: Iterable[ScoreRequest], k: int) -> Iterator[tuple[str, TopK]]:
        """The logprobs of the ids that were stored."""
        for request in requests:
            yield request.rollout_id, self._copy()

    def reload(self, location: str) -> bool:
        """There are no other weights."""
        return False

    def close(self) -> None:
        """Nothing is held."""

    def _copy(self) -> TopK:
        one = self.topk
        return TopK(one.token_ids.copy(), one.logprobs.copy(), one.sampled_logprobs.copy())


def generate(store: Store, engine: LongEngine, rollouts: int, k: int) -> None:
    """Store rollouts as `s2d generate` does, at its default chunk."""
    policy = registry.find_or_register(store, POLICY, str(store.folder.parent / POLICY))
    config = GenerateConfig(policy=POLICY, role="teacher", top_logprobs=k)
    prompt = Prompt("prompt", [], None)
    jobs = [Job(SampleRequest(f"{i:08d}", [1] * 100, i), prompt, i) for i in range(rollouts)]
    progress = Progress(total=rollouts)
    sample_and_store(store, config, policy, "run", engine, jobs, progress, lambda _: None)


def score(store: Store, engine: LongEngine) -> None:
    """Score them again at the stored ids, as `s2d score --support policy` does."""

    @contextmanager
    def opened(*_: Any, **__: Any) -> Iterator[LongEngine]:
        yield engine

    config = scoring.ScoreConfig(scorer=POLICY, support="policy")
    scoring.score(store, config, engines=opened)


def child(driver: str, root: Path, args: argparse.Namespace) -> None:
    """Run one driver and print its figures as JSON."""
    engine = LongEngine(args.response, args.top_logprobs)
    began = time.process_time()
    if driver == "generate":
        generate(Store.init(root), engine, args.rollouts, args.top_logprobs)
    else:
        score(Store.open(root), engine)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mib": peak, "cpu_s": time.process_time() - began}))


def main() -> None:
    """Measure each driver in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=256)
    parser.add_argument("--response", type=int, default=16_384, help="tokens per rollout")
    parser.add_argument("--top-logprobs", type=int, default=128)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--driver", choices=DRIVERS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.driver:
        child(args.driver, args.root, args)
        return
    sizes = {"rollouts": args.rollouts, "response": args.response, "k": args.top_logprobs}
    arrays = args.rollouts * args.response * (args.top_logprobs * 8 + 8) / 2**20
    report: dict[str, Any] = {**sizes, "arrays_mib": arrays}
    print(f"{args.rollouts} x {args.response:,} tokens, k = {args.top_logprobs}: {arrays:,.0f} MiB")
    from tests.support.tiny_models import save_tiny_model  # torch, which no driver loads here

    with tempfile.TemporaryDirectory() as folder:
        save_tiny_model(Path(folder) / POLICY)  # only its files are looked at
        for driver in DRIVERS:
            own = [*sys.argv[1:], "--driver", driver, "--root", str(Path(folder) / "store")]
            command = [sys.executable, "-m", "benchmarks.chunk_memory", *own]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = report[driver] = json.loads(done.stdout)
            print(f"{driver}: peak {found['peak_mib']:,.0f} MiB, {found['cpu_s']:.1f} CPU s")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
