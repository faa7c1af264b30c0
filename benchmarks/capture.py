"""What storing costs: vLLM generation with capture against the same generation thrown away.

    python -m benchmarks.capture --model runs/gsm8k/teacher --prompts gsm8k_train.jsonl

One engine, the same prompts, seeds and settings (logprobs and top-k asked for in both cases), in
turn: discard, store, store, discard, ... so that a drift of the machine's speed cancels. `store` is
what `s2d generate` does with samples: checks, decoded text, Parquet files, commits, overlapped
with sampling in a thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

from s2d_store import prompts
from s2d_store.engines.base import Engine, SampleRequest, SamplingParams
from s2d_store.engines.registry import open_engine
from s2d_store.policies import registry
from s2d_store.policies.chat_template import render_chat
from s2d_store.rollouts.generate import sample_and_store
from s2d_store.rollouts.generate_config import GenerateConfig
from s2d_store.rollouts.progress import Progress, ignore
from s2d_store.rollouts.requests import Job
from s2d_store.rollouts.selection import select_prompts
from s2d_store.store import Store


def discard(engine: Engine, jobs: list[Job], config: GenerateConfig) -> tuple[float, int]:
    """Seconds and tokens of a generation whose samples are dropped."""
    began, tokens = time.perf_counter(), 0
    requests = [job.request for job in jobs]
    for sample in engine.sample(requests, config.params, config.top_logprobs):
        tokens += len(sample.response_token_ids)
    return time.perf_counter() - began, tokens


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="JSONL: question, answer")
    parser.add_argument("--n-prompts", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--top-logprobs", type=int, default=20)
    parser.add_argument("--chunk", type=int, default=16, help="rollouts per commit")
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        store = Store.init(Path(folder) / "store")
        records = islice(prompts.read_records(str(args.prompts)), args.n_prompts)
        prompts.add(store, records, prompts.PromptOptions(source="benchmark"))
        policy = registry.register(store, "model", str(args.model))
        config = GenerateConfig(
            policy="model",
            role="teacher",
            params=SamplingParams(max_tokens=args.max_tokens),
            top_logprobs=args.top_logprobs,
            chunk_rows=args.chunk,
            batch_size=args.chunk,
        )
        engine = open_engine(
            args.engine,
            str(args.model),
            top_logprobs=args.top_k,
            dtype=args.dtype,
            max_model_len=2048,
        )
        jobs = [
            Job(
                SampleRequest(p.prompt_id, render_chat(engine.tokenizer, p.messages), i),
                p,
                0,
            )
            for i, p in enumerate(select_prompts(store))
        ]
        seconds: dict[str, list[float]] = {"discard": [], "store": []}
        try:
            discard(engine, jobs[:8], config)
            tokens = 0
            for pair in range(args.pairs):
                for kind in ("discard", "store") if pair % 2 == 0 else ("store", "discard"):
                    if kind == "discard":
                        taken, tokens = discard(engine, jobs, config)
                    else:
                        began, run = time.perf_counter(), f"run-{pair}"
                        progress = Progress(total=len(jobs))
                        sample_and_store(store, config, policy, run, engine, jobs, progress, ignore)
                        taken = time.perf_counter() - began
                    seconds[kind].append(taken)
        finally:
            engine.close()
    ratios = [b / a for a, b in zip(seconds["discard"], seconds["store"], strict=True)]
    print(f"{len(jobs)} rollouts, {tokens:,} tokens, top-k {args.top_logprobs}, {args.pairs} pairs")
    for kind, values in seconds.items():
        median = statistics.median(values)
        print(f"{kind:<8}{median:8.2f} s{tokens / median:10.1f} tokens/s")
    print(
        f"store / discard: median {statistics.median(ratios):.3f} "
        f"(of {', '.join(f'{r:.3f}' for r in ratios)})"
    )
    if args.json:
        report = {"tokens": tokens, "seconds": seconds, "ratios": ratios}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
