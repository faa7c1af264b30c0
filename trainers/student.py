"""The model being trained: hidden states of a micro-batch, projected onto a support by chunks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from s2d_store.errors import TrainingError, load_failure_hint
from s2d_store.numerics import LogitTransform
from trainers.batches import MicroBatch
from trainers.config import TrainerConfig
from trainers.fused import LossOf, fused_sums
from trainers.lora import add_adapters
from trainers.losses.support import Support, gather_support, sampled_logprobs
from trainers.packing import Layout
from trainers.sharding import Root, free, shard

Result = TypeVar("Result")
# Tokens of the two sequences that the checks below run on.
_PROBE_LENGTHS = (7, 9)


class Student:
    """A causal language model on its device, ready to train; what is trained is in float32.

    Attributes:
        model: the transformers model, with adapters in it where those are trained.
        base: where it was loaded from.
        layout: how its micro-batches are laid out.
        vocab_size: size of its output distribution; every id in a dataset is below it.
        max_length: longest sequence it has positions for.
    """

    def __init__(self, model: Any, bf16: bool, base: str = "", root: Root | None = None) -> None:
        self.model = model
        self.base = base
        self._root = root
        self.layout: Layout = "padded"
        self._head = model.get_output_embeddings()
        embeddings = model.get_input_embeddings().weight
        self.vocab_size = min(self._head.weight.shape[0], embeddings.shape[0])
        positions = getattr(model.config, "max_position_embeddings", None)
        self.max_length: int = positions or 1 << 30
        self._transform = LogitTransform.from_config(model.config)
        self._bf16 = bf16

    @classmethod
    def load(
        cls,
        config: TrainerConfig,
        device: torch.device,
        bf16: bool,
        base: str = "",
        sharded: bool = False,
    ) -> Student:
        """Load the weights, add adapters if any, check the fused head, choose the layout.

        Args:
            config: the trainer's.
            device: where to train.
            bf16: whether matrix products run in bfloat16.
            base: the model to load; empty takes the config's student.
            sharded: keep a shard of it on each process; see `trainers.sharding`.

        Raises:
            TrainingError: no such model, or one whose logits are not its head on its last hidden
                state.
        """
        # Frozen weights enter only products in bf16 there: half the memory, and the final merge
        # reads them anew.
        dtype = torch.bfloat16 if bf16 and config.lora_rank else torch.float32
        model = load_model(base or config.student, dtype, config.attention)
        if config.lora_rank:
            add_adapters(model, config)
        root = shard(model, device, bf16) if sharded else None
        if root is None:
            model.to(device)
        student = cls(model, bf16, base or config.student, root)
        model.eval()
        student.run(student._check_head)
        attention = str(model.config._attn_implementation)
        student.layout = student.run(lambda: _choose_layout(attention, student))
        if root is not None:
            free(root)
        model.train()
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        return student

    @property
    def sharded(self) -> bool:
        """Whether each process holds a shard of the weights, and all must run together."""
        return self._root is not None

    def run(self, function: Callable[[], Result]) -> Result:
        """Call what computes with the model and its head; whole weights are at hand inside.

        A shard's owner gives its part to the others meanwhile: every process calls this, equally
        often, and the backward pass of what it gives likewise.
        """
        if self._root is None:
            return function()
        result: Result = self._root(function)
        return result

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

    def sums(
        self, batch: MicroBatch, ids_RK: Tensor, loss_of: LossOf, temperature: float = 1.0
    ) -> dict[str, Tensor]:
        """Sum a loss of the student's distribution on given ids over a micro-batch's response.

        Args:
            batch: on the student's device.
            ids_RK: int [R, K], -1 pads.
            loss_of: from some of the R tokens and their place to sums; see `trainers.fused`.
            temperature: what the logits are divided by.
        """
        hidden_NH = self.hidden(batch.input_ids, batch.position_ids)
        return self._head_sums(hidden_NH[batch.predict_index], ids_RK, loss_of, temperature)

    def logprobs(self, batch: MicroBatch, temperature: float = 1.0) -> Tensor:
        """Logprobs of a micro-batch's trained tokens, float [R], without a gradient."""
        found: list[Tensor] = []

        def keep(support: Support, _: slice) -> dict[str, Tensor]:
            found.append(sampled_logprobs(support))
            return {}

        with torch.no_grad():
            self.sums(batch, batch.targets[:, None], keep, temperature)
        return torch.cat(found)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Without dropout inside; sharded weights that were gathered are given back after."""
        self.model.eval()
        try:
            yield
        finally:
            if self._root is not None:
                free(self._root)
            self.model.train()

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

    def _head_sums(
        self, hidden_NH: Tensor, ids_NK: Tensor, loss_of: LossOf, temperature: float = 1.0
    ) -> dict[str, Tensor]:
        head, dtype = self._head, torch.bfloat16 if self._bf16 else None
        transform = self._transform.at_temperature(temperature)
        return fused_sums(hidden_NH, head.weight, ids_NK, loss_of, head.bias, transform, dtype)

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


def load_model(location: str, dtype: torch.dtype, attention: str = "auto") -> Any:
    """A transformers model on the CPU.

    Raises:
        TrainingError: there is none, or none that can be loaded.
    """
    options = {} if attention == "auto" else {"attn_implementation": attention}
    logging.disable_progress_bar()
    # `accelerate launch --use_fsdp` sets it; all processes but one would have zeros for weights.
    os.environ.pop("FSDP_CPU_RAM_EFFICIENT_LOADING", None)
    try:
        # Neither code nor pickled weights of the folder's; unasked, transformers prompts.
        return AutoModelForCausalLM.from_pretrained(
            location, dtype=dtype, trust_remote_code=False, use_safetensors=True, **options
        )
    except (OSError, ValueError, ImportError) as error:
        usual = "give --student a folder with config.json and *.safetensors, or a model id"
        raise TrainingError(
            f"cannot load the student {location}",
            *load_failure_hint(error, str(error).strip(), usual),
        ) from error


@torch.no_grad()
def _choose_layout(attention: str, student: Student) -> Layout:
    """Packed where attention skips other sequences, and is seen to; padded elsewhere."""
    return "packed" if "flash" in attention and student.isolates_packed() else "padded"
