"""Ragged top-k: what a probability mass costs in bytes, and what it keeps of the gradient.

    python -m benchmarks.topk_ragged --model runs/gsm8k/teacher --texts gsm8k_train.jsonl

Two teachers: the model itself, unsure of much, and the same model trained on the solutions that it
then scores until it is sure of most tokens. Each is the other's student. The loss is the forward KL
with the tail in one bucket; its gradient is that of the student's output layer, summed over all
tokens, against the gradient of the KL over the whole vocabulary. Logits are rounded to bfloat16.
Bytes are those of the columns of top-k in a Parquet file, over tokens.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmarks.topk_codec import encoded_bytes
from benchmarks.topk_sample import encode_pair
from s2d_store.encoding import topk, topk_ranks
from s2d_store.encoding.topk import TopK
from s2d_store.encoding.topk_ragged import keep_mass

if TYPE_CHECKING:
    from torch import Tensor

MASSES = (0.99, 0.999, 0.9999)
Pair = tuple[list[int], list[int]]


def sharpen(model: Any, pairs: list[Pair], epochs: int) -> float:
    """Train `model` on the responses, in place; the last epoch's loss, nats a token."""
    import torch

    # The last layers are enough to learn a few texts by heart, at half the cost.
    model.requires_grad_(False)
    trained = [p for layer in model.base_model.layers[-6:] for p in layer.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=3e-4, weight_decay=0.0)
    total = tokens = 0.0
    for _ in range(epochs):
        total = tokens = 0.0
        for at, (prompt, response) in enumerate(pairs):
            logprobs = model(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
            own = logprobs[len(prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None])
            (-own.sum() / 400).backward()
            total, tokens = total - float(own.detach().sum()), tokens + len(response)
            if at % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()
    return total / tokens


def outputs(model: Any, pairs: list[Pair]) -> list[tuple[Tensor, Tensor]]:
    """Hidden states (T, H) and logprobs (T, V) at each response."""
    import torch

    found = []
    with torch.inference_mode():
        for prompt, response in pairs:
            hidden = model.base_model(torch.tensor([prompt + response])).last_hidden_state
            hidden_TH = hidden[0, len(prompt) - 1 : -1]
            logits_TV = model.get_output_embeddings()(hidden_TH).bfloat16().float()
            found.append((hidden_TH, logits_TV.log_softmax(1)))
    return found


def kept_by(table: pa.Table, row: int, shape: tuple[int, int]) -> np.ndarray:
    """Which of a row's tokens and vocabulary are kept, bool (T, V)."""
    counts = table.column("counts")[row].as_py() if "counts" in table.column_names else None
    counts = counts or [table.column("k")[row].as_py()] * shape[0]
    made = np.zeros(shape, np.bool_)
    made[np.repeat(np.arange(shape[0]), counts), table.column("token_ids")[row].values] = True
    return made


def gradients(
    teacher: list[tuple[Tensor, Tensor]], student: list[tuple[Tensor, Tensor]], table: pa.Table
) -> tuple[float, float]:
    """Cosines of gradients with the whole vocabulary's: of the output layer, and of all logits."""
    import torch

    whole_VH = part_VH = torch.zeros(())
    dot = whole_square = part_square = 0.0
    for row, ((_, p_TV), (hidden_TH, q_TV)) in enumerate(zip(teacher, student, strict=True)):
        p, q = p_TV.double().exp(), q_TV.double().exp()
        kept = torch.from_numpy(kept_by(table, row, (p.shape[0], p.shape[1])))
        tails = [torch.where(kept, 0, x).sum(1, keepdim=True) for x in (p, q)]
        whole = q - p
        part = torch.where(kept, whole, q - tails[0] * q / tails[1].clamp_min(1e-300))
        whole_VH = whole_VH + whole.float().T @ hidden_TH
        part_VH = part_VH + part.float().T @ hidden_TH
        dot += float((whole * part).sum())
        whole_square += float((whole**2).sum())
        part_square += float((part**2).sum())
    layer = torch.nn.functional.cosine_similarity(
        whole_VH.flatten().double(), part_VH.flatten().double(), dim=0
    )
    return float(layer), dot / (whole_square * part_square) ** 0.5


def measure(
    name: str,
    teacher: list[tuple[Tensor, Tensor]],
    student: list[tuple[Tensor, Tensor]],
    ks: list[int],
) -> list[dict[str, Any]]:
    """Rows of the table for one teacher."""
    rows = []
    for k in ks:
        entries = []
        for _, logprobs_TV in teacher:
            top, ids = logprobs_TV.topk(k, dim=1)
            entries.append(TopK(ids.int().numpy(), top.numpy(), top[:, 0].numpy().copy()))
        plain = pa.table(topk.to_columns(entries))
        ranks = topk_ranks.build([plain.column("token_ids")], teacher[0][1].shape[1])
        tokens = sum(len(entry.sampled_logprobs) for entry in entries)
        for mass in (None, *reversed(MASSES)):
            kept = plain if mass is None else keep_mass(plain, mass)
            layer, logits = gradients(teacher, student, kept)
            with tempfile.TemporaryDirectory() as scratch:
                size = encoded_bytes(kept, ranks, Path(scratch) / "rows.parquet") / tokens
            reached = sum(float(np.exp(np.asarray(v.values, np.float64)).sum())
                          for v in kept.column("logprobs"))  # fmt: skip
            rows.append(
                {
                    "teacher": name,
                    "k": k,
                    "mass": mass,
                    "entries": sum(len(v) for v in kept.column("token_ids")) / tokens,
                    "bytes": size,
                    "reached": reached / tokens,
                    "cosine of the output layer's gradient": layer,
                    "cosine of the logits' gradient": logits,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Train the second teacher, measure both."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a saved model")
    parser.add_argument("--texts", type=Path, required=True, help="JSONL: question, answer")
    parser.add_argument("--rows", type=int, default=6, help="solutions to train on and to score")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--k", type=int, nargs="+", default=[64, 128])
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    with args.texts.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in islice(lines, args.rows)]
    pairs = [encode_pair(tokenizer, record["question"], record["answer"]) for record in records]
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    unsure = outputs(model.eval(), pairs)
    print(f"loss after training: {sharpen(model, pairs, args.epochs):.3f} nats a token", flush=True)
    sure = outputs(model.eval(), pairs)
    measure("as it is", unsure, sure, args.k)
    measure("trained until sure", sure, unsure, args.k)


if __name__ == "__main__":
    main()
