"""`s2d generate`: sample n rollouts per prompt, store them in chunks, continue after a stop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from s2d_store import ids
from s2d_store.accounting.guard import Guard, Meter
from s2d_store.engines.base import Engine
from s2d_store.engines.cache import OpenEngine, open_once
from s2d_store.engines.output_checks import check_k
from s2d_store.engines.registry import find as find_engine
from s2d_store.engines.registry import require_capable
from s2d_store.errors import InputError
from s2d_store.policies import registry
from s2d_store.policies.chat_template import render_chat, render_plain
from s2d_store.policies.registry import Registered
from s2d_store.policies.tokenizer import load_tokenizer
from s2d_store.rollouts import endpoint_facts, first_verdicts, records, spending
from s2d_store.rollouts.chunk_writer import ChunkWriter
from s2d_store.rollouts.generate_config import (
    DEFAULTS,
    GenerateConfig,
    check_config,
    identity_of,
    invocation_of,
    run_of,
)
from s2d_store.rollouts.grade_items import prompt_facts
from s2d_store.rollouts.progress import (
    OnNotice,
    OnProgress,
    Progress,
    ignore,
    loading,
    say_nothing,
)
from s2d_store.rollouts.requests import Job, drop_too_long, plan
from s2d_store.rollouts.selection import Prompt, prompts_of_round, select_prompts
from s2d_store.runs import record
from s2d_store.shards import parse_shard
from s2d_store.store import Store
from s2d_store.verifiers.cache import OpenPool
from s2d_store.verifiers.pool import VerifierPool


@dataclass(frozen=True)
class Generated:
    """What a generate command did: its run, rollouts stored now and there before, response
    tokens sampled now, and prompts left out as too long; of a server also how many rollouts no
    answer could be stored for, and why the last one could not. `cut_off` of the rollouts ended at
    the most tokens; `seconds` are those of loading and sampling.
    """

    run_id: str
    policy: str
    stored: int
    present: int
    tokens: int
    graded: int
    reward: float
    too_long: int
    rejected: int = 0
    rejected_why: str = ""
    cut_off: int = 0
    seconds: float = 0.0


def generate(
    store: Store,
    config: GenerateConfig,
    on_progress: OnProgress = ignore,
    engines: OpenEngine = open_once,
    pools: OpenPool = VerifierPool,
    on_notice: OnNotice = say_nothing,
) -> Generated:
    """Sample what is missing of a run and store it.

    Raises:
        InputError, NotFoundError: prompts, policy or settings that do not fit; nothing started.
        EngineError: the engine cannot do it or gave output that fails its checks.
        StoreError: the disk is full; committed chunks stay.
        BudgetError: nothing is left to start with, or the limit was reached on the way; what
            was finished by then stays.
    """
    check_config(config)
    shard = parse_shard(config.shard)
    require_capable(config.engine, k=config.top_logprobs)
    guard = Guard.open(store, config.budget)
    served = find_engine(config.engine).capabilities.served
    policy = registry.find(store, config.policy, config.revision, served=served)
    identity = identity_of(config, policy)
    run_id = run_of(config, policy)
    prompts = select_prompts(store, config.where, config.limit)
    if config.prompts_per_round:
        prompts = prompts_of_round(prompts, config.prompts_per_round, config.round, config.seed)
    tokenizer = load_tokenizer(policy.location) if policy.location else None
    meter = spending.open_meter(guard, store, config, policy, run_id, prompts)
    asked = invocation_of(config)
    with record.record_run(
        store,
        run_id,
        "generate",
        identity,
        stage=config.stage,
        defaults=DEFAULTS,
        asked=asked,
        shard=shard,
    ) as run:
        jobs, present = plan(
            prompts,
            render=lambda prompt: _render(tokenizer, prompt, config),
            stored=records.stored_rollouts(store, run_id),
            new_id=lambda prompt, i: ids.rollout_id(
                run_id, prompt, policy.policy_id, i, config.round
            ),
            new_seed=lambda prompt, i: ids.rollout_seed(config.seed, prompt, i, config.round),
            n=config.n,
        )
        unstored = _ids(jobs)
        if shard is not None:
            jobs = [job for job in jobs if shard.holds(job.request.rollout_id)]
        progress = Progress(total=len(jobs))
        too_long, rejected = 0, dict[str, str]()
        began = time.monotonic()
        if jobs:
            progress.doing = loading(policy, config)
            on_progress(progress)
            with _open(engines, config, policy) as engine, _grading(pools, config) as pool:
                progress.doing = ""
                on_progress(progress)
                check_k(config.top_logprobs, engine.vocab_size)
                about = endpoint_facts.recorded(
                    store, policy, run_id, engine, config.params, on_notice
                )
                kept = drop_too_long(
                    jobs,
                    engine.max_model_len,
                    config.params.max_tokens,
                    skip_too_long=config.skip_too_long,
                    may_be_empty=present > 0 or shard is not None,
                )
                too_long = len({j.prompt.prompt_id for j in jobs}) - len(
                    {j.prompt.prompt_id for j in kept}
                )
                progress.total = len(kept)
                unstored -= _ids(jobs) - _ids(kept)
                with about as rejected:
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
                    )
        if shard is not None:
            run.complete = unstored <= records.stored_rollouts(store, run_id)
    return Generated(
        run_id=run_id,
        policy=policy.name,
        stored=progress.committed,
        present=present,
        tokens=progress.tokens,
        graded=progress.graded,
        reward=progress.reward,
        too_long=too_long,
        rejected=len(rejected),
        rejected_why=next(reversed(rejected.values()), ""),
        cut_off=progress.cut_off,
        seconds=time.monotonic() - began,
    )


def _ids(jobs: Sequence[Job]) -> set[str]:
    return {job.request.rollout_id for job in jobs}


def _grading(
    pools: OpenPool, config: GenerateConfig
) -> AbstractContextManager[VerifierPool | None]:
    if not config.verifier:
        return nullcontext()
    return pools(config.verifier, config.verify_workers, config.verify_deadline_s)


def _render(tokenizer: Any, prompt: Prompt, config: GenerateConfig) -> list[int]:
    """Token ids of a prompt; none where a server is to render it, for lack of a tokenizer here."""
    if tokenizer is None:
        return []
    try:
        if config.no_chat_template:
            return render_plain(tokenizer, prompt.messages)
        return render_chat(
            tokenizer,
            prompt.messages,
            config.chat_template or None,
            tools=prompt.tools,
            kwargs=dict(config.chat_template_kwargs),
        )
    except InputError as error:
        raise InputError(
            f"prompt {prompt.prompt_id}: {error.what}", error.why, error.fix
        ) from error


def _open(
    engines: OpenEngine, config: GenerateConfig, policy: Registered
) -> AbstractContextManager[Engine]:
    return engines(
        config.engine,
        policy.location,
        top_logprobs=config.top_logprobs,
        max_model_len=config.max_model_len or None,
        device=config.device,
        dtype=config.dtype,
        batch_size=config.batch_size,
        prefix_caching=True,
        engine_args=dict(config.engine_args),
        url=config.url,
        workers=config.engine_workers,
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
) -> None:
    """The loop: samples in, chunks out. The pool, if any, grades in the writer's thread."""
    by_id = {job.request.rollout_id: job for job in jobs}
    context = records.RunContext(
        run_id,
        policy.policy_id,
        config.role,
        config.purpose,
        config.round,
        config.params,
        engine.name,
        engine.version,
        engine.vocab_size,
        config.mass,
    )

    prompts = {}
    if pool is not None:
        asked = {job.prompt.prompt_id for job in jobs}
        prompts = prompt_facts(store.connect(text="prompts"), asked, pool.needs)

    def write(done: list[records.CompletedSample]) -> None:
        tables = records.rollout_tables(context, done, engine.tokenizer)
        if pool is not None:
            texts = tables["rollouts"].column("response_text").to_pylist()
            graded = records.grade(done, texts, prompts, pool)
            if progress.graded == 0:
                try:
                    first_verdicts.require_judgements(pool.name, graded)
                except InputError:
                    store.commit(tables, fresh=True)  # What was sampled stays; no verdict does.
                    raise
            tables["rewards"] = records.reward_table(graded, pool.name, pool.version, run_id)
            rewards = [v.reward for _, v, _ in graded if v.reward is not None]
            progress.graded += len(rewards)
            progress.reward += sum(rewards)
        store.commit(tables, fresh=True)
        progress.committed += len(done)
        if meter is not None:
            for finished in done:
                meter.committed(spending.cost(policy, finished.job, finished.sample))

    # Whole batches a chunk: a run that is taken up again then decodes the same batches.
    chunk_rows = -(-config.chunk_rows // config.batch_size) * config.batch_size
    with ChunkWriter(write, chunk_rows) as writer:
        requests = [job.request for job in jobs]
        for sample in engine.sample(requests, config.params, config.top_logprobs):
            n_tokens = sample.n_tokens
            job = by_id[sample.rollout_id]
            if meter is not None:
                meter.reserve(spending.cost(policy, job, sample))
            writer.add(
                records.CompletedSample(job, sample),
                n_tokens * (12 + 8 * config.top_logprobs),
            )
            progress.done += 1
            progress.tokens += n_tokens
            progress.cut_off += sample.finish_reason == "length"
            on_progress(progress)
    on_progress(progress)
