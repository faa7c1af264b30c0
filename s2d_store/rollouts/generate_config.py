"""The settings of `s2d generate`: which of them decide a rollout, and so name its run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from s2d_store import ids
from s2d_store.config_identity import defaults, non_default
from s2d_store.engines.base import SamplingParams
from s2d_store.engines.output_checks import check_sampling
from s2d_store.errors import InputError
from s2d_store.policies.chat_template import RESERVED_KWARGS, template_hash
from s2d_store.policies.registry import Registered
from s2d_store.rollouts.selection import check_counts


@dataclass(frozen=True)
class GenerateConfig:
    """One generate command. Only what changes the rollouts themselves is the run's identity:
    a larger `n`, `limit` or other prompts extend the same run.

    Attributes:
        policy: registered name or id, a local folder, or a hub id.
        role: teacher or student.
        revision: hub revision, with a hub id.
        purpose: train or eval.
        stage: stage of the experiment that budgets count this run for; empty for none.
        n: rollouts per prompt.
        params: how tokens are drawn.
        top_logprobs: the policy's own top-k kept in the same pass; 0 for none.
        seed: every rollout's own seed derives from it.
        round: on-policy round.
        where: SQL condition on table prompts; empty for all.
        limit: most prompts, by prompt_id; 0 for all.
        prompts_per_round: of those, take that many whose turn it is in `round`; 0 for all.
        run: run id; empty derives it from the configuration.
        engine: transformers or vllm.
        device: auto, cpu, cuda, ... (transformers engine).
        dtype: auto, float32, bfloat16, ...
        batch_size: rollouts decoded together (transformers engine).
        engine_args: further arguments of the vLLM engine.
        max_model_len: most tokens of prompt and response; 0 for the model's own.
        chat_template: Jinja text used instead of the tokenizer's; empty for its own.
        no_chat_template: feed the messages' plain text.
        chat_template_kwargs: further variables of the template, such as enable_thinking.
        skip_too_long: leave out prompts that do not fit instead of refusing.
        chunk_rows: rollouts per commit.
        verifier: grade each chunk with this verifier before its commit; empty for none.
        verify_workers: processes that grade.
        verify_deadline_s: seconds per verdict may take.
        budget: budget file; empty takes the store's own budget.toml, if any.
    """

    policy: str
    role: Literal["teacher", "student"]
    revision: str | None = None
    purpose: Literal["train", "eval"] = "train"
    stage: str = ""
    n: int = 1
    params: SamplingParams = field(default_factory=SamplingParams)
    top_logprobs: int = 0
    seed: int = 0
    round: int = 0
    where: str = ""
    limit: int = 0
    prompts_per_round: int = 0
    run: str = ""
    engine: str = "transformers"
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 32
    engine_args: tuple[tuple[str, object], ...] = ()
    max_model_len: int = 0
    chat_template: str = ""
    no_chat_template: bool = False
    chat_template_kwargs: tuple[tuple[str, object], ...] = ()
    skip_too_long: bool = False
    chunk_rows: int = 256
    verifier: str = ""
    verify_workers: int = 2
    verify_deadline_s: float = 5.0
    budget: str = ""


def check_config(config: GenerateConfig) -> None:
    """Refuse settings that no generate command can have.

    Raises:
        InputError: a number out of range, or a role or purpose that is unknown.
    """
    check_sampling(config.params)
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
        "engine": config.engine,
        "dtype": config.dtype,
        "chat_template": config.chat_template,
        "no_chat_template": config.no_chat_template,
        **asdict(config.params),
    }
