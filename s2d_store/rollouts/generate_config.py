"""The settings of `s2d generate`: which of them decide a rollout, and so name its run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from s2d_store import ids
from s2d_store.config_identity import defaults, non_default
from s2d_store.engines.base import SamplingParams
from s2d_store.errors import InputError
from s2d_store.policies.chat_template import RESERVED_KWARGS, template_hash
from s2d_store.rollouts.settings import EngineChoice, PromptUse, Sharing

if TYPE_CHECKING:
    from s2d_store.policies.registry import Registered


@dataclass(frozen=True)
class GenerateConfig(EngineChoice, PromptUse, Sharing):
    """One generate command. Only what changes the rollouts themselves is the run's identity:
    a larger `n`, `limit` or other prompts extend the same run.
    """

    policy: str
    """Registered name or id, local folder, or hub id."""
    role: Literal["teacher", "student"]
    """teacher or student."""
    revision: str | None = None
    """Hub revision."""
    purpose: Literal["train", "eval"] = "train"
    """train or eval."""
    stage: str = ""
    """Stage that budgets count this run for."""
    params: SamplingParams = field(default_factory=SamplingParams)
    """How tokens are drawn."""
    seed: int = 0
    """Every rollout's own seed derives from it."""
    round: int = 0
    """On-policy round."""
    where: str = ""
    """SQL condition on prompts: split = 'train'."""
    limit: int = 0
    """Most prompts, by prompt_id; 0: all."""
    prompts_per_round: int = 0
    """Of these prompts, the N whose turn it is in --round; 0: all."""
    run: str = ""
    """Run id; default: derived from the settings."""
    chat_template: str = ""
    """Chat template (a file of Jinja text) instead of the model's."""
    chat_template_kwargs: tuple[tuple[str, object], ...] = ()
    """Further variables of the chat template: '{"enable_thinking": false}'."""
    chunk_rows: int = 256
    """Rollouts per commit."""
    verifier: str = ""
    """Grade each chunk with this verifier before its commit; empty: none."""
    verify_workers: int = 2
    """Grading processes; 0: one per core."""
    verify_deadline_s: float = 5.0
    """Seconds a verdict may take before its worker is killed."""
    budget: str = ""
    """Budget file; default: the store's own budget.toml, if any."""


def check_config(config: GenerateConfig) -> None:
    """Refuse settings that no generate command can have.

    Raises:
        InputError: a number out of range, or a role or purpose that is unknown.
    """
    from s2d_store.engines.output_checks import check_sampling
    from s2d_store.rollouts.selection import check_counts, check_mass

    check_sampling(config.params)
    check_mass(config.mass)
    check_counts(
        ("--n", config.n, 1),
        ("--top-logprobs", config.top_logprobs, 0),
        ("--limit", config.limit, 0),
        ("--prompts-per-round", config.prompts_per_round, 0),
        ("--round", config.round, 0),
        ("--batch-size", config.batch_size, 1),
        ("--chunk", config.chunk_rows, 1),
    )
    for name, value, choices in (
        ("--role", config.role, ("teacher", "student")),
        ("--purpose", config.purpose, ("train", "eval")),
    ):
        if value not in choices:
            raise InputError(f"{name} {value} is unknown", f"it is {' or '.join(choices)}")
    for name, _ in config.chat_template_kwargs:
        if name in RESERVED_KWARGS or not name.isidentifier():
            raise InputError(
                f"--chat-template-kwargs cannot set {name!r}",
                "s2d decides it" if name in RESERVED_KWARGS else "it is no name of a variable",
                """--chat-template-kwargs '{"enable_thinking": false}'""",
            )
    if config.no_chat_template and (config.chat_template or config.chat_template_kwargs):
        raise InputError(
            "--no-chat-template is given beside settings of a chat template",
            "without a template nothing reads them",
            "leave --template and --chat-template-kwargs out, or --no-chat-template",
        )


DEFAULTS = defaults(GenerateConfig) | defaults(SamplingParams) | {"chat_template_kwargs": {}}


def run_of(config: GenerateConfig, policy: Registered) -> str:
    """The run that a command's rollouts belong to: as named, or derived from its settings."""
    identity = non_default(identity_of(config, policy), DEFAULTS)
    return config.run or f"generate-{policy.name}-{ids.content_id(identity)[:8]}"


def invocation_of(config: GenerateConfig) -> dict[str, Any]:
    """Which rollouts the command wanted and in which batches, as recorded to repeat it."""
    chosen = ("n", "where", "limit", "prompts_per_round")
    batches = ("batch_size", "chunk_rows", "max_model_len", "skip_too_long")
    return {
        **{name: getattr(config, name) for name in chosen + batches},
        "engine_args": dict(config.engine_args),
        "verifier": config.verifier,
    }


def identity_of(config: GenerateConfig, policy: Registered) -> dict[str, Any]:
    """The settings that determine a rollout, as stored with the run.

    The tokenizer's file and the text of the template used count, so that a policy whose template
    was edited samples another run.
    """
    template = template_hash(config.chat_template) or policy.template_hash
    return {
        "policy_id": policy.policy_id,
        "tokenizer_hash": policy.tokenizer_hash,
        "template_hash": None if config.no_chat_template else template,
        "chat_template_kwargs": dict(config.chat_template_kwargs),
        "role": config.role,
        "purpose": config.purpose,
        "round": config.round,
        "seed": config.seed,
        "top_logprobs": config.top_logprobs,
        "mass": config.mass,
        "engine": config.engine,
        "dtype": config.dtype,
        "chat_template": config.chat_template,
        "no_chat_template": config.no_chat_template,
        **asdict(config.params),
    }
