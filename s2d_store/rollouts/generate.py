"""`s2d generate`: sample n rollouts a prompt, store them in chunks, continue after a stop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from s2d_store import ids, policies, policy_registry, runs
from s2d_store.budget_guard import Guard, Meter
from s2d_store.engines.base import Engine, SamplingParams
from s2d_store.engines.checks import check_k, check_sampling
from s2d_store.engines.kept import OpenEngine, once
from s2d_store.errors import InputError
from s2d_store.lossy import Rounding
from s2d_store.policy_registry import Registered
from s2d_store.rollouts import metering, rows
from s2d_store.rollouts.chunks import ChunkWriter
from s2d_store.rollouts.jobs import Job, fitting, plan
from s2d_store.rollouts.progress import OnProgress, Progress, ignore
from s2d_store.rollouts.selection import check_counts, select_prompts, turn
from s2d_store.settings import chosen, defaults
from s2d_store.store import Store
from s2d_store.verifiers.kept import OpenPool
from s2d_store.verifiers.pool import VerifierPool


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
        n: rollouts a prompt.
        params: how tokens are drawn.
        keep_top_k: the policy's own top-k kept in the same pass; 0 for none.
        lossy_nats: how far each kept top-k logprob may be off (s2d_store/lossy.py); 0: none is.
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
        skip_too_long: leave out prompts that do not fit instead of refusing.
        chunk_rows: rollouts a commit.
        verifier: grade each chunk with this verifier before its commit; empty for none.
        verify_workers: processes that grade.
        verify_deadline_s: seconds a verdict may take.
        budget: budget file; empty takes the store's own budget.toml, if any.
    """

    policy: str
    role: Literal["teacher", "student"]
    revision: str | None = None
    purpose: Literal["train", "eval"] = "train"
    stage: str = ""
    n: int = 1
    params: SamplingParams = field(default_factory=SamplingParams)
    keep_top_k: int = 0
    lossy_nats: float = 0.0
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
    skip_too_long: bool = False
    chunk_rows: int = 256
    verifier: str = ""
    verify_workers: int = 2
    verify_deadline_s: float = 5.0
    budget: str = ""


@dataclass(frozen=True)
class Generated:
    """What a generate command did: its run, rollouts stored now and there before, response
    tokens sampled now, and prompts left out as too long.
    """

    run_id: str
    policy: str
    stored: int
    present: int
    tokens: int
    graded: int
    reward: float
    too_long: int
    rounding: Rounding


def generate(
    store: Store,
    config: GenerateConfig,
    on_progress: OnProgress = ignore,
    engines: OpenEngine = once,
    pools: OpenPool = VerifierPool,
) -> Generated:
    """Sample what is missing of a run and store it.

    Raises:
        InputError, NotFoundError: prompts, policy or settings that do not fit; nothing started.
        EngineError: the engine cannot do it or gave output that fails its checks.
        StoreError: the disk is full; committed chunks stay.
        BudgetError: nothing is left to start with, or the limit was reached on the way; what
            was finished by then stays.
    """
    _check(config)
    rounding = Rounding(config.lossy_nats)
    rounding.require_steps(store)
    guard = Guard.open(store, config.budget)
    policy = policy_registry.find(store, config.policy, config.revision)
    identity = identity_of(config, policy.policy_id)
    run_id = run_of(config, policy.policy_id, policy.name)
    prompts = select_prompts(store, config.where, config.limit)
    if config.prompts_per_round:
        prompts = turn(prompts, config.prompts_per_round, config.round, config.seed)
    tokenizer = policies.load_tokenizer(policy.location)
    meter = metering.open_meter(guard, store, config, policy, run_id, prompts)
    asked = _asked(config)
    with runs.running(
        store, run_id, "generate", identity, stage=config.stage, defaults=DEFAULTS, asked=asked
    ):
        jobs, present = plan(
            prompts,
            render=lambda messages: _render(tokenizer, messages, config),
            stored=rows.stored_rollouts(store, run_id),
            new_id=lambda prompt, i: ids.rollout_id(
                run_id, prompt, policy.policy_id, i, config.round
            ),
            new_seed=lambda prompt, i: ids.rollout_seed(config.seed, prompt, i, config.round),
            n=config.n,
        )
        progress = Progress(total=len(jobs))
        too_long = 0
        if jobs:
            with _open(engines, config, policy) as engine, _grading(pools, config) as pool:
                check_k(config.keep_top_k, engine.vocab_size)
                kept = fitting(
                    jobs,
                    engine.max_model_len,
                    config.params.max_tokens,
                    skip_too_long=config.skip_too_long,
                    may_be_empty=present > 0,
                )
                too_long = len({j.prompt.prompt_id for j in jobs}) - len(
                    {j.prompt.prompt_id for j in kept}
                )
                progress.total = len(kept)
                sample_and_store(
                    store,
                    config,
                    policy,
                    run_id,
                    engine,
                    kept,
                    progress,
                    on_progress,
                    meter,
                    pool,
                    rounding,
                )
    return Generated(
        run_id=run_id,
        policy=policy.name,
        stored=progress.committed,
        present=present,
        tokens=progress.tokens,
        graded=progress.graded,
        reward=progress.reward,
        too_long=too_long,
        rounding=rounding,
    )


def _grading(
    pools: OpenPool, config: GenerateConfig
) -> AbstractContextManager[VerifierPool | None]:
    if not config.verifier:
        return nullcontext()
    return pools(config.verifier, config.verify_workers, config.verify_deadline_s)


def _render(
    tokenizer: Any, messages: Sequence[dict[str, str]], config: GenerateConfig
) -> list[int]:
    if config.no_chat_template:
        return policies.render_plain(tokenizer, messages)
    return policies.render_chat(tokenizer, messages, config.chat_template or None)


def _open(
    engines: OpenEngine, config: GenerateConfig, policy: Registered
) -> AbstractContextManager[Engine]:
    return engines(
        config.engine,
        policy.location,
        top_k=config.keep_top_k,
        max_model_len=config.max_model_len or None,
        device=config.device,
        dtype=config.dtype,
        batch_size=config.batch_size,
        prefix_caching=True,
        engine_args=dict(config.engine_args),
    )


def sample_and_store(
    store: Store,
    config: GenerateConfig,
    policy: Registered,
    run_id: str,
    engine: Engine,
    jobs: Sequence[Job],
    progress: Progress,
    on_progress: OnProgress,
    meter: Meter | None = None,
    pool: VerifierPool | None = None,
    rounding: Rounding | None = None,
) -> None:
    """The loop: samples in, chunks out. The pool, if any, grades in the writer's thread."""
    by_id = {job.request.rollout_id: job for job in jobs}
    context = rows.RunContext(
        run_id,
        policy.policy_id,
        config.role,
        config.purpose,
        config.round,
        config.params,
        engine.name,
        engine.version,
        engine.vocab_size,
        rounding or Rounding(0),
    )

    def write(done: list[rows.Finished]) -> None:
        tables = rows.rollout_tables(context, done, engine.tokenizer)
        if pool is not None:
            texts = tables["rollouts"].column("response_text").to_pylist()
            tables["rewards"], graded, reward = rows.grade(context, done, texts, pool)
            progress.graded += graded
            progress.reward += reward
        store.commit(tables, fresh=True)
        progress.committed += len(done)
        if meter is not None:
            for finished in done:
                meter.committed(metering.cost(policy, finished.job, finished.sample))

    # Whole batches a chunk: a run that is taken up again then decodes the same batches.
    chunk_rows = -(-config.chunk_rows // config.batch_size) * config.batch_size
    with ChunkWriter(write, chunk_rows) as writer:
        requests = [job.request for job in jobs]
        for sample in engine.sample(requests, config.params, config.keep_top_k):
            n_tokens = len(sample.response_token_ids)
            job = by_id[sample.rollout_id]
            if meter is not None:
                meter.take(metering.cost(policy, job, sample))
            writer.add(
                rows.Finished(job, sample),
                n_tokens * (12 + 8 * config.keep_top_k),
            )
            progress.done += 1
            progress.tokens += n_tokens
            on_progress(progress)
    on_progress(progress)


def _check(config: GenerateConfig) -> None:
    check_sampling(config.params)
    check_counts(
        ("--n", config.n, 1),
        ("--top-k", config.keep_top_k, 0),
        ("--limit", config.limit, 0),
        ("--prompts-per-round", config.prompts_per_round, 0),
        ("--round", config.round, 0),
        ("--batch-size", config.batch_size, 1),
        ("--chunk", config.chunk_rows, 1),
    )
    if config.lossy_nats and not config.keep_top_k:
        raise InputError(
            f"--lossy {config.lossy_nats:g} has nothing to round",
            "no top-k is kept without --top-k",
            "--top-k 64, or leave --lossy out",
        )
    for name, value, choices in (
        ("--role", config.role, ("teacher", "student")),
        ("--purpose", config.purpose, ("train", "eval")),
    ):
        if value not in choices:
            raise InputError(f"{name} {value} is unknown", f"it is {' or '.join(choices)}")


DEFAULTS = defaults(GenerateConfig) | defaults(SamplingParams)


def run_of(config: GenerateConfig, policy_id: str, policy_name: str) -> str:
    """The run that a command's rollouts belong to: as named, or derived from its settings."""
    identity = chosen(identity_of(config, policy_id), DEFAULTS)
    return config.run or f"generate-{policy_name}-{ids.content_id(identity)[:8]}"


def _asked(config: GenerateConfig) -> dict[str, Any]:
    """Which rollouts the command wanted and in which batches, as recorded to repeat it."""
    chosen = ("n", "where", "limit", "prompts_per_round")
    batches = ("batch_size", "chunk_rows", "max_model_len", "skip_too_long")
    return {
        **{name: getattr(config, name) for name in chosen + batches},
        "engine_args": dict(config.engine_args),
        "verifier": config.verifier,
    }


def identity_of(config: GenerateConfig, policy_id: str) -> dict[str, Any]:
    """The settings that determine a rollout, as stored with the run."""
    return {
        "policy_id": policy_id,
        "role": config.role,
        "purpose": config.purpose,
        "round": config.round,
        "seed": config.seed,
        "keep_top_k": config.keep_top_k,
        "lossy_nats": config.lossy_nats,
        "engine": config.engine,
        "dtype": config.dtype,
        "chat_template": config.chat_template,
        "no_chat_template": config.no_chat_template,
        **asdict(config.params),
    }
