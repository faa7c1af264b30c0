"""What a training run is asked to do: one frozen dataclass a trainer, units in the names."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from s2d_store.errors import InputError
from trainers.losses import KLEstimator, Tail

LRSchedule = Literal["constant", "cosine", "linear"]
Precision = Literal["auto", "fp32", "bf16"]
SavePrecision = Literal["student", "fp32"]
BridgeLoss = Literal["reverse_kl", "sampled", "forward_kl"]
Normalisation = Literal["auto", "grpo", "dapo", "dr_grpo"]
PartialUpdate = Literal["keep", "drop", "scale"]

# Fields that may change between a run and its continuation: none of them changes the weights.
OPERATIONAL = frozenset(
    {
        "dataset",
        "output",
        "checkpoint_every_updates",
        "keep_checkpoints",
        "trackers",
        "max_kl",
        "max_length_ratio",
    }
)


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """What every trainer is told. The dataset is the schedule: which rows feed which update."""

    dataset: str
    """Folder of the locked dataset."""
    student: str
    """Model to start from: a local folder, or a model id."""
    output: str
    """Folder for checkpoints, updates.jsonl and the final model; a run there is continued."""

    lr: float = 1e-5
    """Peak learning rate of AdamW."""
    lr_schedule: LRSchedule = "constant"
    """What follows the warmup: constant, or cosine or linear to zero after the last update."""
    lr_warmup_updates: int = 0
    """Updates over which the learning rate rises linearly to its peak."""
    continue_optimizer: bool = False
    """Go on from the checkpoint of the run that made the student: moments, weights, schedule."""
    schedule_updates: int = 0
    """Updates that the schedule spans, over all runs so continued; 0: up to the last one here."""
    schedule_start: int = 0
    """Updates of the schedule that were planned for what came before; with schedule_span."""
    schedule_span: int = 0
    """Updates of the schedule planned for this run, which its own are spread over, be they fewer;
    0: the schedule counts the updates that are taken."""
    weight_decay: float = 0.0
    """Decoupled weight decay, on matrices only (not on norms and biases)."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment."""
    lora_rank: int = 0
    """Rank of LoRA adapters on every linear layer but the head; 0 trains all weights."""
    lora_alpha: float = 32.0
    """The adapters' output is scaled by alpha / rank."""
    grad_clip_norm: float = 1.0
    """Largest gradient norm of an update; 0 never clips."""
    partial_update: PartialUpdate = "keep"
    """A last update with fewer rows than the others: keep, drop, or scale its lr by their share."""
    max_kl: float = 50.0
    """Stop before an update whose mean KL is above this, in nats per token."""
    max_length_ratio: float = 0.0
    """Stop before an update whose mean response is this many times the first's; 0 never stops."""

    max_tokens_per_micro_batch: int = 8192
    """Most token slots of one forward pass, padding included; bounds memory, not the update."""
    attention: str = "auto"
    """Attention of transformers: sdpa, eager, flash_attention_2 (packs); auto leaves the choice."""
    precision: Precision = "auto"
    """Matrix products in bf16 or fp32; auto is bf16 on CUDA, else fp32. What trains is fp32."""
    save_precision: SavePrecision = "student"
    """Type of the final weights: what the student was stored in, or fp32."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""

    checkpoint_every_updates: int = 50
    """Updates between checkpoints; the last update always makes one."""
    keep_checkpoints: int = 2
    """Newest checkpoints to keep."""
    seed: int = 0
    """Seed of adapters, and of dropout if the model has any; the data order is the dataset's."""
    trackers: tuple[str, ...] = ()
    """Where to send metrics: tensorboard, wandb, trackio; the project is $WANDB_PROJECT, or s2d."""

    def __post_init__(self) -> None:
        for name in ("dataset", "student", "output"):
            _require(bool(getattr(self, name)), name, "", "it is required")
        for name, choices in _CHOICES.items():
            _require_one_of(choices, name, getattr(self, name))
        for name in ("lr", "lora_alpha", "max_kl"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value > 0, name, value, "it must be above 0")
        for name in ("weight_decay", "grad_clip_norm", "max_length_ratio"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, name, value, "it must not be below 0")
        for name in _AT_LEAST_ONE:
            _require(getattr(self, name) >= 1, name, getattr(self, name), "it must be at least 1")
        for name in (
            "lr_warmup_updates",
            "schedule_updates",
            "schedule_start",
            "schedule_span",
            "lora_rank",
            "seed",
        ):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "it must not be below 0")
        valid = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        _require(valid, "betas", self.betas, "it is two numbers in [0, 1)")

    def identity(self) -> dict[str, Any]:
        """The fields that decide the final weights, JSON-compatible; compared on resume."""
        values = {k: v for k, v in asdict(self).items() if k not in OPERATIONAL}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


_CHOICES: dict[str, tuple[str, ...]] = {
    "lr_schedule": get_args(LRSchedule),
    "partial_update": get_args(PartialUpdate),
    "precision": get_args(Precision),
    "save_precision": get_args(SavePrecision),
}
_AT_LEAST_ONE = (
    "max_tokens_per_micro_batch",
    "checkpoint_every_updates",
    "keep_checkpoints",
)


@dataclass(frozen=True, kw_only=True)
class WarmupConfig(TrainerConfig):
    """Warmup: forward KL to a teacher's stored top-k, on the rows of a locked dataset."""

    tail: Tail = "bucket"
    """Mass outside the top k: bucket (one more outcome), renormalise, or drop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_one_of(get_args(Tail), "tail", self.tail)


@dataclass(frozen=True, kw_only=True)
class OPDConfig(TrainerConfig):
    """On-policy distillation: reverse KL to the teacher on the student's own stored rollouts."""

    max_length_ratio: float = 4.0
    """Stop before an update whose mean response is this many times the first's; 0 never stops."""
    loss: BridgeLoss = "reverse_kl"
    """reverse_kl on the stored support, sampled (policy gradient on sampled tokens), forward_kl."""
    tail: Tail = "bucket"
    """Mass outside the top k: bucket (one more outcome), renormalise, or drop; not for sampled."""
    ratio_cap: float = 2.0
    """Sampled form: largest importance weight of a token whose policy lags (truncated)."""
    temperature: float = 1.0
    """Sampled form: divides the student's logits; what the rollouts were sampled at."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_one_of(get_args(BridgeLoss), "loss", self.loss)
        _require_one_of(get_args(Tail), "tail", self.tail)
        valid = math.isfinite(self.ratio_cap) and self.ratio_cap >= 1
        _require(valid, "ratio_cap", self.ratio_cap, "it must be at least 1")
        _require_temperature(self.temperature)
        fits = self.temperature == 1.0 or self.loss == "sampled"
        why = f"{self.loss} on a stored support is at temperature 1, as the teacher's logprobs are"
        _require(fits, "temperature", self.temperature, why)


@dataclass(frozen=True, kw_only=True)
class BridgeContinuationConfig(OPDConfig):
    """Bridge continuation: the bridge's objective on stored rollouts, on a Stage 3 schedule."""


@dataclass(frozen=True, kw_only=True)
class GRPOConfig(TrainerConfig):
    """GRPO: clipped policy gradient on groups whose advantages the dataset holds."""

    max_length_ratio: float = 4.0
    """Stop before an update whose mean response is this many times the first's; 0 never stops."""
    normalisation: Normalisation = "auto"
    """Mean of the loss: grpo, dapo or dr_grpo; auto takes the form of the dataset's advantages."""
    clip: tuple[float, float] = (0.2, 0.28)
    """The importance ratio stays between 1 - the first and 1 + the second (DAPO's clip-higher)."""
    max_response_tokens: int = 0
    """Constant that dr_grpo divides by, with the rows: the max tokens of sampling; dr_grpo only."""
    temperature: float = 1.0
    """Divides the policy's logits; what the rollouts were sampled at."""
    kl_coefficient: float = 0.0
    """Weight of the KL to a reference policy, whose logprobs are the dataset's ref_logprobs."""
    kl_estimator: KLEstimator = "k3"
    """k1, k2, k3: values, with the exact gradient; k3_direct: differentiated as in TRL and verl."""
    importance_cap: float = 0.0
    """Above 0: the ratio is to logprobs recomputed at the start, a token's weight at most this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_one_of(get_args(Normalisation), "normalisation", self.normalisation)
        bounds = len(self.clip) == 2 and 0 < self.clip[0] < 1 and 0 < self.clip[1] < math.inf
        _require(bounds, "clip", self.clip, "the first is between 0 and 1, the second above 0")
        at_least = self.max_response_tokens >= (self.normalisation == "dr_grpo")
        why = "it must be at least 1 for dr_grpo"
        _require(at_least, "max_response_tokens", self.max_response_tokens, why)
        _require_temperature(self.temperature)
        _require_one_of(get_args(KLEstimator), "kl_estimator", self.kl_estimator)
        for name in ("kl_coefficient", "importance_cap"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, name, value, "it must not be below 0")


@dataclass(frozen=True, kw_only=True)
class SFTConfig(TrainerConfig):
    """SFT: cross-entropy on the teacher's samples, the baseline without logprobs."""


def _require_temperature(value: float) -> None:
    valid = math.isfinite(value) and value > 0
    _require(valid, "temperature", value, "it must be above 0")


def _require_one_of(choices: tuple[str, ...], name: str, value: str) -> None:
    _require(value in choices, name, value, f"it is one of {', '.join(choices)}")


def _require(holds: bool, name: str, value: object, why: str) -> None:
    if not holds:
        raise InputError(f"{name} is {value!r}", why, f"give another --{name.replace('_', '-')}")
