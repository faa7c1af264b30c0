"""The model being trained: hidden states of a micro-batch, projected onto a support by chunks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from s2d_store.errors import TrainingError
from trainers.batches import Layout, MicroBatch
from trainers.config import TrainerConfig
from trainers.files import atomic_folder, remove_folder
from trainers.fused import LossOf, fused_sums
from trainers.head import LogitTransform
from trainers.losses.support import Support, gather_support

# Tokens of the two sequences that the checks below run on.
_PROBE_LENGTHS = (7, 9)
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


class Student:
    """A causal language model in float32 on its device, ready to train.

    Attributes:
        model: the transformers model.
        layout: how its micro-batches are laid out.
        vocab_size: size of its output distribution; every id in a dataset is below it.
        max_length: longest sequence it has positions for.
    """

    def __init__(self, model: Any, bf16: bool) -> None:
        self.model = model
        self.layout: Layout = "padded"
        self._head = model.get_output_embeddings()
        embeddings = model.get_input_embeddings().weight
        self.vocab_size = min(self._head.weight.shape[0], embeddings.shape[0])
        positions = getattr(model.config, "max_position_embeddings", None)
        self.max_length: int = positions or 1 << 30
        self._transform = LogitTransform.from_config(model.config)
        self._bf16 = bf16

    @classmethod
    def load(cls, config: TrainerConfig, device: torch.device, bf16: bool) -> Student:
        """Load the weights in float32, check that the fused head fits, choose the layout.

        Raises:
            TrainingError: no such model, or one whose logits are not its head on its last hidden
                state.
        """
        options = {} if config.attention == "auto" else {"attn_implementation": config.attention}
        logging.disable_progress_bar()
        try:
            model = AutoModelForCausalLM.from_pretrained(
                config.student, dtype=torch.float32, **options
            )
        except (OSError, ValueError, ImportError) as error:
            raise TrainingError(
                f"cannot load the student {config.student}",
                str(error).strip(),
                "give --student a folder with config.json and *.safetensors, or a model id",
            ) from error
        model.to(device)
        student = cls(model, bf16)
        model.eval()
        student._check_head()
        student.layout = _choose_layout(config, student)
        model.train()
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        return student

    def hidden(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Last hidden states, float [B * L, H], of ids and positions, int64 [B, L]."""
        # No attention mask in either layout: packed rows are told apart by their positions, and
        # padding stands to the right of everything that causal attention sees.
        with self._autocast():
            output = self.model.base_model(
                input_ids=input_ids, position_ids=position_ids, use_cache=False
            )
        states: Tensor = output.last_hidden_state
        return states.flatten(0, 1)

    def sums(self, batch: MicroBatch, ids_RK: Tensor, loss_of: LossOf) -> dict[str, Tensor]:
        """Sum a loss of the student's distribution on given ids over a micro-batch's response.

        Args:
            batch: on the student's device.
            ids_RK: int [R, K], -1 pads.
            loss_of: from some of the R tokens and their place to sums; see `trainers.fused`.
        """
        hidden_NH = self.hidden(batch.input_ids, batch.position_ids)
        return self._head_sums(hidden_NH[batch.predict_index], ids_RK, loss_of)

    def save(self, folder: Path, config: TrainerConfig) -> None:
        """Write weights, config and the student's own tokenizer files, whole or not at all.

        The weights are converted in place, so training ends here.
        """
        if folder.exists():
            remove_folder(folder)
        with atomic_folder(folder) as scratch:
            if config.save_precision == "student":
                stored = AutoConfig.from_pretrained(config.student).dtype or torch.float32
                self.model.to(stored)
            self.model.save_pretrained(scratch)
            _copy_tokenizer(config.student, scratch)

    def isolates_packed(self) -> bool:
        """Whether a sequence's hidden states ignore the sequences packed before it."""
        first, second = self._probe()
        other = (first + 1) % self.vocab_size
        alone = self.hidden(second[None], torch.arange(len(second), device=second.device)[None])
        positions = torch.cat([torch.arange(n, device=second.device) for n in _PROBE_LENGTHS])
        packed, packed_other = (
            self.hidden(torch.cat([before, second])[None], positions[None])[len(first) :]
            for before in (first, other)
        )
        size = alone.norm()
        # Same shapes, same kernels: what is masked contributes exactly nothing.
        leak = (packed - packed_other).norm() / size
        # Alone, the kernels' tiling differs; a wrong position is far larger than rounding.
        shift = (packed - alone).norm() / size
        return bool(leak <= 1e-6 and shift <= 5e-2)

    def _head_sums(self, hidden_NH: Tensor, ids_NK: Tensor, loss_of: LossOf) -> dict[str, Tensor]:
        head, dtype = self._head, torch.bfloat16 if self._bf16 else None
        return fused_sums(
            hidden_NH, head.weight, ids_NK, loss_of, head.bias, self._transform, dtype
        )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._bf16)

    def _probe(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, self.vocab_size, (sum(_PROBE_LENGTHS),), generator=generator)
        ids = ids.to(self.model.device)
        return ids[: _PROBE_LENGTHS[0]], ids[_PROBE_LENGTHS[0] :]

    @torch.no_grad()
    def _check_head(self) -> None:
        """Compare the fused head with the model's own logits on one short sequence."""
        ids, _ = self._probe()
        with self._autocast():
            logits_NV = self.model(input_ids=ids[None], use_cache=False).logits[0]
        dense = gather_support(logits_NV, ids[:, None])
        positions = torch.arange(len(ids), device=ids.device)

        def compare(ours: Support, rows: slice) -> dict[str, Tensor]:
            for whole, fused in zip(dense, ours, strict=True):
                if not torch.allclose(whole[rows], fused, rtol=1e-2, atol=1e-2):
                    raise TrainingError(
                        f"the logits of {type(self.model).__name__} are not its head on its last "
                        "hidden state",
                        f"they differ by up to {float((whole[rows] - fused).abs().max()):.3g}",
                        "use a model with a linear head, logit scale and soft cap only",
                    )
            return {}

        self._head_sums(self.hidden(ids[None], positions[None]), ids[:, None], compare)


@torch.no_grad()
def _choose_layout(config: TrainerConfig, student: Student) -> Layout:
    """Packed where it is asked for, or where attention skips other sequences; checked first."""
    attention = str(student.model.config._attn_implementation)
    if config.packing == "off" or (config.packing == "auto" and "flash" not in attention):
        return "padded"
    if student.isolates_packed():
        return "packed"
    if config.packing == "auto":
        return "padded"
    raise TrainingError(
        f"packing is on, but {type(student.model).__name__} mixes packed sequences",
        f"with {attention} attention a sequence's hidden states depend on the one before it",
        "use --packing auto or --packing off",
    )


def _copy_tokenizer(student: str, folder: Path) -> None:
    source = Path(student)
    if not source.is_dir():
        AutoTokenizer.from_pretrained(student).save_pretrained(folder)
        return
    # Byte for byte: saving it anew may reorder files and change the tokenizer's fingerprint.
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
