"""Time and memory of scoring's output head in blocks of the vocabulary against dense logits.

    python -m benchmarks.score_head                                # SmolLM2-135M's head
    python -m benchmarks.score_head --vocab 151936 --hidden 1024   # Qwen3-0.6B's

One arm is what the transformers engine does with hidden states: logprobs of given ids (`--support
policy`) or of the head's own top k, and of the sampled tokens. `dense` makes float32 logits of a
chunk of tokens and takes their log_softmax, 256 MiB each, as the engine did before. Arms run in
turn in every round, in one process; ratios are medians of the rounds' ratios. Peak memory is beyond
the inputs'; CPU seconds are of all threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from benchmarks.fused_loss import Peak, ratio, trim
from s2d_store.engines.output_head import OutputHead, TopRows
from s2d_store.engines.torch_sampling import gather_topk

MIB = 1 << 20
DENSE_ELEMENTS = 2**26
Arm = Callable[[OutputHead, Tensor, Tensor, int | Tensor], TopRows]


def made_head(args: argparse.Namespace) -> OutputHead:
    """Of a random model without layers to speak of; logits of standard deviation about 3."""
    config = transformers.LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, args.dtype))
    weight = model.get_output_embeddings().weight
    with torch.no_grad():
        weight.normal_(std=3 * args.hidden**-0.5)
    return OutputHead(model.eval())


def blocks(head: OutputHead, hidden_NH: Tensor, tokens_N: Tensor, support: int | Tensor) -> TopRows:
    """As the engine scores."""
    return head.topk(hidden_NH, tokens_N, support, int(1e9))


def dense(head: OutputHead, hidden_NH: Tensor, tokens_N: Tensor, support: int | Tensor) -> TopRows:
    """Whole logits of as many tokens as DENSE_ELEMENTS hold."""
    chunk = max(1, DENSE_ELEMENTS // head(hidden_NH[:1]).shape[-1])
    parts = []
    for start in range(0, len(tokens_N), chunk):
        rows = slice(start, start + chunk)
        given = support if isinstance(support, int) else support[rows]
        parts.append(gather_topk(head(hidden_NH[rows]), tokens_N[rows], given))
    ids, logprobs, sampled = (torch.cat(column) for column in zip(*parts, strict=True))
    return ids, logprobs, sampled


ARMS: dict[str, Arm] = {"dense": dense, "blocks": blocks}


@torch.inference_mode()
def measure(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """By support and arm: peak bytes, CPU seconds of every round; how far the logprobs differ."""
    head = made_head(args)
    generator = torch.Generator().manual_seed(0)
    hidden_NH = torch.randn(args.tokens, args.hidden, generator=generator)
    hidden_NH = hidden_NH.to(getattr(torch, args.dtype))
    tokens_N = torch.randint(args.vocab, (args.tokens,), generator=generator)
    step = args.vocab // args.k
    ids_NK = (tokens_N[:, None] + step * torch.arange(args.k)) % args.vocab
    supports: dict[str, int | Tensor] = {"given ids": ids_NK, "own top k": args.k}
    for support in supports.values():  # libraries load on a first call
        part = support if isinstance(support, int) else support[:2]
        for call in ARMS.values():
            call(head, hidden_NH[:2], tokens_N[:2], part)
    peak, report = Peak("cpu"), dict[str, dict[str, Any]]()
    for name, support in supports.items():
        found: dict[str, Any] = {arm: {"cpu": [], "peak": 0} for arm in ARMS}
        for _ in range(args.rounds):
            results: dict[str, TopRows] = {}
            for arm, call in ARMS.items():
                trim()
                peak.start()
                began = time.process_time()
                results[arm] = call(head, hidden_NH, tokens_N, support)
                found[arm]["cpu"].append(time.process_time() - began)
                found[arm]["peak"] = max(found[arm]["peak"], peak.bytes())
            pairs = zip(results["dense"][1:], results["blocks"][1:], strict=True)
            found["off"] = max(float((a - b).abs().max()) for a, b in pairs)
        report[name] = found
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=49_152)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    report = measure(args)
    print(f"{args.tokens:,} tokens, V {args.vocab:,}, H {args.hidden:,}, k {args.k}, {args.dtype}")
    print(f"{'':<22}{'peak MiB':>9}{'/ dense':>9}{'CPU s':>8}{'/ dense':>9}{'off by':>9}")
    for support, found in report.items():
        base = found["dense"]
        for arm in ARMS:
            row = found[arm]
            print(
                f"{support + ', ' + arm:<22}{row['peak'] / MIB:>9.0f}"
                f"{row['peak'] / base['peak']:>9.3f}{statistics.median(row['cpu']):>8.2f}"
                f"{ratio(row['cpu'], base['cpu']):>9.2f}{found['off']:>9.1e}"
            )
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
