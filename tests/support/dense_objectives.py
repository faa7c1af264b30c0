"""The trainers' objectives of one row from a model's dense logits: slow, plain, by transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainers.losses import Tail
from trainers.losses.forward_kl import forward_kl
from trainers.losses.reverse_kl import reverse_kl
from trainers.losses.support import KLSums, gather_support


def forward_kl_dense(
    logits_NV: Tensor,
    ids_NK: Tensor,
    teacher_NK: Tensor,
    tail: Tail = "bucket",
    mask_N: Tensor | None = None,
) -> KLSums:
    """`forward_kl` from dense student logits, float [N, V]."""
    return forward_kl(gather_support(logits_NV, ids_NK), ids_NK, teacher_NK, tail, mask_N)


def reverse_kl_dense(
    logits_NV: Tensor,
    ids_NK: Tensor,
    teacher_NK: Tensor,
    tail: Tail = "bucket",
    mask_N: Tensor | None = None,
) -> KLSums:
    """`reverse_kl` from dense student logits, float [N, V]."""
    return reverse_kl(gather_support(logits_NV, ids_NK), ids_NK, teacher_NK, tail, mask_N)


def response_logits(model: Any, row: dict[str, Any]) -> Tensor:
    """Logits that predict each response token, float [T, V]."""
    prompt, response = list(row["prompt_token_ids"]), list(row["response_token_ids"])
    logits: Tensor = model(torch.tensor([prompt + response])).logits[0]
    return logits[len(prompt) - 1 : -1]


def logprobs_of(model: Any, row: dict[str, Any], temperature: float = 1.0) -> Tensor:
    """Logprobs of a row's response tokens, float [T]."""
    logits_TV = response_logits(model, row) / temperature
    targets = torch.tensor(list(row["response_token_ids"]))
    return logits_TV.log_softmax(dim=1).gather(1, targets[:, None])[:, 0]


def mask_of(row: dict[str, Any]) -> Tensor:
    """Which response tokens are trained, bool [T]."""
    mask = row.get("response_mask")
    whole = [True] * len(row["response_token_ids"])
    return torch.tensor(whole if mask is None else list(mask), dtype=torch.bool)


def row_loss(name: str, model: Any, row: dict[str, Any]) -> Tensor:
    """Sum of an objective over a row's trained tokens, before the update's denominator.

    Args:
        name: sft, warmup, opd, `opd sampled` (cap 2), grpo or dapo (clip 0.2, 0.28).
        model: a transformers model.
        row: as in `locked_datasets`.
    """
    mask_T = mask_of(row)
    if name in ("warmup", "opd"):
        ids_TK, teacher_TK = (
            torch.tensor(list(row[column])).view(len(mask_T), -1)
            for column in ("topk_token_ids", "topk_logprobs")
        )
        divergence = forward_kl_dense if name == "warmup" else reverse_kl_dense
        logits_TV = response_logits(model, row)
        return divergence(logits_TV, ids_TK, teacher_TK.float(), "bucket", mask_T).loss
    now_T = logprobs_of(model, row)[mask_T]
    then_T, teacher_T = (
        torch.tensor(list(row[column]))[mask_T].float()
        for column in ("response_logprobs", "sampled_logprobs")
    )
    if name == "sft":
        return -now_T.sum()
    ratio_T = (now_T - then_T).exp()
    if name == "opd sampled":
        fixed_T = now_T.detach()
        weight_T = ratio_T.detach().clamp_max(2.0) * (fixed_T - teacher_T)
        return (weight_T * (now_T - fixed_T).exp()).sum()
    gain = float(row["advantage"])
    loss_T = -torch.minimum(ratio_T * gain, ratio_T.clamp(0.8, 1.28) * gain)
    if name == "grpo":
        return loss_T.mean() if len(loss_T) else loss_T.sum()
    return loss_T.sum()


def update_loss(name: str, model: Any, rows: list[dict[str, Any]]) -> Tensor:
    """An update's loss, divided as the trainer divides it."""
    kept = [int(mask_of(row).sum()) for row in rows]
    over = sum(n > 0 for n in kept) if name == "grpo" else sum(kept)
    return torch.stack([row_loss(name, model, row) for row in rows]).sum() / over
