"""Capture real top-k logprobs once, for the benchmarks that take them.

    python -m benchmarks.topk_sample --model FOLDER --texts gsm8k_train.jsonl --out sample.npz

The model scores reference solutions of GSM8K under its chat template, as `s2d score` would. It runs
in float32 (this works on any CPU) and its logits are rounded to bfloat16, as those of a bfloat16
model are; `--logits float32` leaves them, `--dtype bfloat16` runs the whole model in bfloat16.

The file has, for N response tokens of R solutions: `token_ids` int32 (N, K), `logprobs` float32
(N, K), descending, `sampled_logprobs` float32 (N,) and `offsets` int64 (R + 1,).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2d_store.encoding.topk import TopK


@dataclass(frozen=True)
class Sample:
    """Top-k logprobs of several responses, laid one after another.

    Attributes:
        token_ids: int32 (N, K).
        logprobs: float32 (N, K).
        sampled_logprobs: float32 (N,).
        offsets: int64 (R + 1,): response r is tokens offsets[r] to offsets[r + 1].
    """

    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    sampled_logprobs: NDArray[np.float32]
    offsets: NDArray[np.int64]

    @classmethod
    def load(cls, path: Path) -> Sample:
        """Read a file that this script wrote."""
        with np.load(path) as file:
            return cls(*(file[name] for name in cls.__dataclass_fields__))

    @property
    def n_tokens(self) -> int:
        """N."""
        return len(self.sampled_logprobs)

    def rollouts(self, k: int) -> list[TopK]:
        """One `TopK` per response, cut to the first `k` entries of each token."""
        return [
            TopK(self.token_ids[a:b, :k], self.logprobs[a:b, :k], self.sampled_logprobs[a:b])
            for a, b in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True)
        ]


def encode_pair(tokenizer: object, question: str, answer: str) -> tuple[list[int], list[int]]:
    """Ids of the chat prompt and of the response that ends its turn."""
    chat = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)  # type: ignore[attr-defined]
    prompt = tokenizer(text)["input_ids"]  # type: ignore[operator]
    response = tokenizer(answer)["input_ids"] + [tokenizer.eos_token_id]  # type: ignore[operator, attr-defined]
    return prompt, response


def capture(model: Path, texts: Path, rows: int, k: int, dtype: str, logits: str) -> Sample:
    """The model's own top-k at every token of the first `rows` reference solutions."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    with texts.open(encoding="utf-8") as lines, torch.inference_mode():
        for record in map(json.loads, islice(lines, rows)):
            prompt, response = encode_pair(tokenizer, record["question"], record["answer"])
            ids = torch.tensor([prompt + response])
            hidden_TH = loaded.base_model(ids).last_hidden_state[0, len(prompt) - 1 : -1]
            logits_TV = loaded.get_output_embeddings()(hidden_TH)
            if logits == "bfloat16":  # products summed in float32, rounded once
                logits_TV = logits_TV.bfloat16()
            logprobs_TV = logits_TV.float().log_softmax(dim=1)
            top_TK, ids_TK = logprobs_TV.topk(k, dim=1)
            sampled_T = logprobs_TV.gather(1, torch.tensor(response)[:, None])[:, 0]
            found.append((ids_TK.int().numpy(), top_TK.numpy(), sampled_T.numpy()))
    offsets = np.cumsum([0, *(len(part[2]) for part in found)])
    entries, values, last = (np.concatenate(part) for part in zip(*found, strict=True))
    return Sample(entries, values, last, offsets)


def main() -> None:
    """Read the command line, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a saved model")
    parser.add_argument("--texts", type=Path, required=True, help="JSONL: question, answer")
    parser.add_argument("--out", type=Path, required=True, help=".npz to write")
    parser.add_argument("--rows", type=int, default=400, help="solutions to score")
    parser.add_argument("--k", type=int, default=128)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--logits", choices=["bfloat16", "float32"], default="bfloat16")
    args = parser.parse_args()
    sample = capture(args.model, args.texts, args.rows, args.k, args.dtype, args.logits)
    np.savez(args.out, **vars(sample))
    print(f"{args.out}: {len(sample.offsets) - 1} solutions, {sample.n_tokens:,} tokens")


if __name__ == "__main__":
    main()
