"""Train a student on a locked dataset with verl's SFT trainer: ids as sampled, in order.

    torchrun --standalone --nproc_per_node=1 examples/verl/train.py \
        data.train_files=STORE/datasets/NAME model.path=STUDENT trainer.default_local_dir=OUTPUT

Every option of verl's SFT trainer holds, but for what decides which rows make a batch: the lock
does. verl's own sampler shuffles, and its dataset renders messages again; neither is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import Dataset, DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils.dataset.dataset_utils import SFTTensorCollator
from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group

from trainers.torch_dataset import IGNORED, LockedRows


class LockedSFTRows(Dataset[dict[str, torch.Tensor]]):
    """Rows as verl's SFT loss reads them; the class is `data.custom_cls`."""

    def __init__(self, parquet_files: str, **_: Any) -> None:
        """Open a locked dataset.

        Args:
            parquet_files: its folder, which verl calls so.
        """
        self.rows = LockedRows(parquet_files)

    def __len__(self) -> int:
        """Rows of the dataset."""
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> list[dict[str, torch.Tensor]]:
        """input_ids, position_ids and loss_mask, int64 (L,) each."""
        return [
            {
                "input_ids": row["input_ids"],
                "position_ids": torch.arange(len(row["input_ids"])),
                "loss_mask": (row["labels"] != IGNORED).long(),
            }
            for row in self.rows.__getitems__(indices)
        ]

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One row."""
        return self.__getitems__([index])[0]


class LockedSFTTrainer(SFTTrainer):
    """verl's SFT trainer whose batches are the dataset's updates."""

    def _build_dataloader(self) -> None:
        rank, processes = (
            self.engine.get_data_parallel_rank(),
            self.engine.get_data_parallel_size(),
        )
        self.global_batch_size = self.config.data.train_batch_size
        # verl tells it the epoch; it draws nothing.
        self.train_sampler: DistributedSampler[Any] = DistributedSampler(
            self.train_dataset, num_replicas=processes, rank=rank, shuffle=False
        )
        self.train_dataloader = StatefulDataLoader(
            self.train_dataset,
            batch_sampler=self.train_dataset.rows.batches(1, rank, processes),
            collate_fn=SFTTensorCollator(self.config.data.pad_mode),
        )
        self.val_dataloader = None


@hydra.main(
    config_path="pkg://verl.trainer.config", config_name="sft_trainer_engine", version_base=None
)
def main(config: DictConfig) -> None:
    """Train as the configuration says."""
    OmegaConf.set_struct(config, False)
    config.data.custom_cls.path = str(Path(__file__).resolve())
    config.data.custom_cls.name = LockedSFTRows.__name__
    initialize_global_process_group()
    LockedSFTTrainer(config=config).fit()
    destroy_global_process_group()


if __name__ == "__main__":
    main()
