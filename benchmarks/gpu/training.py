"""What the checks train: models with random weights, locked datasets, trainers by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

from benchmarks.gpu.setting import Shape
from s2d_store.datasets.read import LockedDataset, UpdateRows
from tests.support.locked_datasets import write_locked
from tests.support.tiny_models import save_tiny_tokenizer
from trainers.config import GRPOConfig, OPDConfig, SFTConfig, TrainerConfig, WarmupConfig
from trainers.grpo import objective_for
from trainers.losses.forward_kl import forward_kl
from trainers.opd import bridge_objective
from trainers.sft import CrossEntropyObjective
from trainers.student import Student
from trainers.support_kl import SupportKLObjective
from trainers.update import Objective, accumulate_gradients

# The trainers and their forms: config and what differs from its defaults.
TRAINERS: dict[str, tuple[type[TrainerConfig], dict[str, Any]]] = {
    "warmup": (WarmupConfig, {}),
    "OPD, reverse KL": (OPDConfig, {"loss": "reverse_kl"}),
    "OPD, sampled": (OPDConfig, {"loss": "sampled"}),
    "GRPO": (GRPOConfig, {}),
    "SFT": (SFTConfig, {}),
}


@dataclass(frozen=True)
class OneProcess:
    """What `trainers.update` reads of an accelerator; two devices fit into one process."""

    device: torch.device
    process_index: int = 0
    num_processes: int = 1


def make_model(folder: Path, shape: Shape, seed: int = 0) -> Path:
    """Save a Qwen3 with random float32 weights and a tokenizer; returns the folder."""
    config = Qwen3Config(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=3 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=max(1, shape.heads // 2),
        head_dim=shape.head_dim,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        # Distributions far from uniform, at every hidden size.
        initializer_range=2.0 * shape.hidden**-0.5,
    )
    torch.manual_seed(seed)
    logging.disable_progress_bar()
    Qwen3ForCausalLM(config).save_pretrained(folder)
    save_tiny_tokenizer(folder)
    return folder


def write_rows(
    folder: Path,
    lengths: Sequence[Sequence[tuple[int, int]]],
    vocab: int,
    k: int = 64,
    kind: str = "warmup",
    policy: Student | None = None,
) -> LockedDataset:
    """Write a locked dataset that every trainer takes, of random tokens.

    Args:
        folder: where; it must not exist.
        lengths: of each update, its rows' prompt and response tokens.
        vocab: ids are below it.
        k: entries of the teacher's top-k.
        kind: the dataset's.
        policy: whose logprobs and top-k ids the rows hold; its teacher is the same with noise.
            None draws both at random: for speed, where no value matters.
    """
    rng, k = np.random.default_rng(0), min(k, vocab // 4)
    rows: list[dict[str, Any]] = []
    for update, of_update in enumerate(lengths, start=1):
        for prompt_tokens, response_tokens in of_update:
            ids = rng.integers(4, vocab, prompt_tokens + response_tokens)
            columns = (
                _random_logprobs(rng, response_tokens, vocab, k)
                if policy is None
                else _own_logprobs(policy, ids, response_tokens, k, len(rows))
            )
            index = len(rows)
            rows.append(
                {
                    "row": index,
                    "update": update,
                    "rollout_id": f"rollout-{index}",
                    "prompt_id": f"prompt-{index // 2}",
                    "prompt_token_ids": ids[:prompt_tokens],
                    "response_token_ids": ids[prompt_tokens:],
                    "k": k,
                    "labelled": False,
                    "advantage": 1.0 if index % 2 == 0 else -1.0,
                    **columns,
                }
            )
    rows_per_group = max(len(of_update) for of_update in lengths)
    write_locked(folder, rows, kind=kind, rows_a_group=rows_per_group)
    return LockedDataset.open(folder)


def _random_logprobs(rng: np.random.Generator, tokens: int, vocab: int, k: int) -> dict[str, Any]:
    starts = rng.integers(0, vocab, (tokens, 1))
    outcomes = np.sort(rng.standard_normal((tokens, k + 1)).astype(np.float32), axis=1)[:, ::-1]
    logprobs = outcomes - np.log(np.exp(outcomes).sum(axis=1, keepdims=True))
    return {
        "response_logprobs": np.full(tokens, -np.log(vocab), np.float32),
        "topk_token_ids": ((starts + vocab // k * np.arange(k)) % vocab).ravel(),
        "topk_logprobs": logprobs[:, :k].ravel(),
        "sampled_logprobs": rng.uniform(-4, -1, tokens).astype(np.float32),
    }


@torch.no_grad()
def _own_logprobs(
    policy: Student, ids: Any, response_tokens: int, k: int, seed: int
) -> dict[str, Any]:
    """The policy's logprobs of a response and its top-k ids, with a noisy teacher's logprobs."""
    device = policy.model.device
    tokens = torch.from_numpy(ids).to(device)
    logits = policy.model(input_ids=tokens[None], use_cache=False).logits[0].float()
    logits_TV = logits[-response_tokens - 1 : -1]
    response = tokens[-response_tokens:, None]
    generator = torch.Generator().manual_seed(seed)
    noise_TV = torch.randn(logits_TV.shape, generator=generator).to(device)
    own_TV = logits_TV.log_softmax(dim=1)
    teacher_TV = (logits_TV + 1.5 * noise_TV).log_softmax(dim=1)
    top_TK = own_TV.topk(k, dim=1).indices
    return {
        "response_logprobs": own_TV.gather(1, response)[:, 0].cpu().numpy(),
        "topk_token_ids": top_TK.flatten().cpu().numpy(),
        "topk_logprobs": teacher_TV.gather(1, top_TK).flatten().cpu().numpy(),
        "sampled_logprobs": teacher_TV.gather(1, response)[:, 0].cpu().numpy(),
    }


def configs(dataset: LockedDataset, student: Path, **settings: Any) -> Iterator[tuple[str, Any]]:
    """Each trainer's name and config."""
    told = {"dataset": str(dataset.folder), "student": str(student), "output": "unused"}
    for name, (config_class, own) in TRAINERS.items():
        yield name, config_class(**told | settings | own)


def objective_of(config: TrainerConfig, dataset: LockedDataset) -> Objective:
    """What the trainer of a config optimizes."""
    if isinstance(config, OPDConfig):
        return bridge_objective(config, dataset)
    if isinstance(config, GRPOConfig):
        return objective_for(config, dataset)
    if isinstance(config, WarmupConfig):
        return SupportKLObjective(forward_kl, config.tail)
    return CrossEntropyObjective()


def gradient_of(
    rows: UpdateRows, student: Student, objective: Objective, config: TrainerConfig
) -> dict[str, float]:
    """Leave an update's gradient in the parameters, as trainers do; returns its means."""
    process: Any = OneProcess(student.model.device)
    return accumulate_gradients(rows, student, objective, process, config)


def flat_gradient(model: torch.nn.Module) -> Tensor:
    """The gradients of all parameters, float32 on the CPU, one after another."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return torch.cat([gradient.detach().float().cpu().flatten() for gradient in gradients])


def cosine(a: Tensor, b: Tensor) -> float:
    """Of two flat tensors, in float64."""
    a, b = a.double(), b.double()
    return float(a @ b / (a.norm() * b.norm()))


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Wall seconds of a call, the device's work included."""
    synchronize(device)
    began = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    """Wait for what the device was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
