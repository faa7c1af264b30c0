"""TRL's SFTTrainer on a locked dataset: ids as sampled, one optimizer step per update, in order.

`LockedSFTTrainer` is TRL's own cross-entropy; `ForwardKLTrainer` distils from the stored top-k with
the loss that `s2d train warmup` has. Both read the lock itself: nothing is exported.
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from trl import SFTConfig, SFTTrainer

from trainers.losses import Tail
from trainers.losses.forward_kl import forward_kl
from trainers.losses.support import gather_support
from trainers.torch_dataset import IGNORED, LockedRows


def config_for(rows: LockedRows, **settings: Any) -> SFTConfig:
    """TRL's settings that keep a lock's tokens and order, with AdamW as `s2d train` sets it."""
    kept: dict[str, Any] = {
        "max_length": None,
        "packing": False,
        "shuffle_dataset": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "max_steps": rows.dataset.lock.counts["updates"],
        "lr_scheduler_type": "constant",
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
    }
    return SFTConfig(**(kept | settings))


class LockedSFTTrainer(SFTTrainer):
    """SFTTrainer whose batches are the dataset's updates."""

    def __init__(self, *, rows: LockedRows, **kwargs: Any) -> None:
        """As SFTTrainer; rows are read when they are asked for."""
        self._rows = rows
        super().__init__(train_dataset=lazily(rows), data_collator=collate, **kwargs)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Every update in `gradient_accumulation_steps` pieces; each process has its own."""
        processes = self.accelerator.num_processes
        batches = self._rows.batches(
            self.args.gradient_accumulation_steps, self.accelerator.process_index, processes
        )
        return DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=collate)


class ForwardKLTrainer(LockedSFTTrainer):
    """Forward KL to the teacher's stored top-k, per trained token."""

    tail: Tail = "bucket"

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The sum over this batch's trained tokens, divided by those of the whole update."""
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        )
        # The output at position t is about token t + 1.
        trained = inputs["labels"][:, 1:] != IGNORED
        ids_NK = inputs["topk_ids"][:, 1:][trained]
        student = gather_support(outputs.logits[:, :-1][trained], ids_NK)
        sums = forward_kl(student, ids_NK, inputs["topk_logprobs"][:, 1:][trained], self.tail)
        tokens = trained.sum() if num_items_in_batch is None else num_items_in_batch
        loss = sums.loss / tokens
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def lazily(rows: LockedRows) -> Dataset:
    """The rows as the type that TRL asks for; it holds their numbers alone."""

    def fetch(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        found = rows.__getitems__(batch["number"])
        return {name: [row[name] for row in found] for name in rows.column_names}

    return Dataset.from_dict({"number": list(range(len(rows)))}).with_transform(fetch)


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Right-padded rows, int64 [B, L]; top-k stands at the token that it is about, [B, L, K]."""
    ids = [row["input_ids"] for row in rows]
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(i) for i in ids], batch_first=True),
        "labels": pad_sequence([row["labels"] for row in rows], True, IGNORED),
    }
    if "topk_ids" in rows[0]:
        for name, pad in (("topk_ids", -1), ("topk_logprobs", -torch.inf)):
            width = max(row[name].shape[1] for row in rows)
            shape = (*batch["input_ids"].shape, width)
            batch[name] = torch.full(shape, pad, dtype=rows[0][name].dtype)
            for place, row in zip(batch[name], rows, strict=True):
                length, (tokens, k) = len(row["input_ids"]), row[name].shape
                place[length - tokens : length, :k] = row[name]
    return batch
