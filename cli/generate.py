"""s2d generate."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from cli.options import (
    DEFAULT_STORE,
    BatchOption,
    BudgetOption,
    ChunkOption,
    DeadlineOption,
    DeviceOption,
    DtypeOption,
    EngineArgOption,
    EngineOption,
    LimitOption,
    MaxModelLenOption,
    MaxTokensOption,
    NoTemplateOption,
    PromptsOption,
    QuietOption,
    SamplingTopKOption,
    SeedOption,
    SkipTooLongOption,
    StoreOption,
    TemperatureOption,
    TemplateKwargsOption,
    TemplateOption,
    TopPOption,
    WorkersOption,
    engine_args,
    open_store,
    read_template,
    template_kwargs,
    workers,
)


def generate(
    policy: Annotated[str, typer.Option(help="Registered name or id, local folder, or hub id.")],
    role: Annotated[str, typer.Option(help="teacher or student.")],
    revision: Annotated[str | None, typer.Option(help="Hub revision.")] = None,
    purpose: Annotated[str, typer.Option(help="train or eval.")] = "train",
    stage: Annotated[str, typer.Option(help="Stage that budgets count this run for.")] = "",
    n: Annotated[int, typer.Option("--n", "-n", help="Rollouts per prompt.")] = 1,
    where: PromptsOption = "",
    limit: LimitOption = 0,
    prompts_per_round: Annotated[
        int, typer.Option(help="Of these prompts, the N whose turn it is in --round; 0: all.")
    ] = 0,
    top_logprobs: Annotated[
        int, typer.Option("--top-logprobs", help="Keep the policy's own top-k logprobs; 0: none.")
    ] = 0,
    max_tokens: MaxTokensOption = 512,
    temperature: TemperatureOption = 1.0,
    top_p: TopPOption = 1.0,
    top_k: SamplingTopKOption = 0,
    seed: SeedOption = 0,
    round_: Annotated[int, typer.Option("--round", help="On-policy round.")] = 0,
    run: Annotated[str, typer.Option(help="Run id; default: derived from the settings.")] = "",
    verify: Annotated[bool, typer.Option("--verify", help="Grade each chunk as it comes.")] = False,
    verifier: Annotated[str, typer.Option(help="Verifier for --verify.")] = "math-verify",
    verify_workers: WorkersOption = 0,
    deadline: DeadlineOption = 5.0,
    engine: EngineOption = "transformers",
    engine_arg: EngineArgOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    batch_size: BatchOption = 32,
    max_model_len: MaxModelLenOption = 0,
    template: TemplateOption = None,
    chat_template_kwargs: TemplateKwargsOption = "",
    no_chat_template: NoTemplateOption = False,
    skip_too_long: SkipTooLongOption = False,
    chunk: ChunkOption = 256,
    budget: BudgetOption = "",
    quiet: QuietOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Sample rollouts and store them. Killed and started again, it continues."""
    from cli.progress import progress_bar
    from s2d_store.engines.base import SamplingParams
    from s2d_store.rollouts.generate import generate as run_generate
    from s2d_store.rollouts.generate_config import GenerateConfig

    config = GenerateConfig(
        policy=policy,
        role=cast(Any, role),
        revision=revision,
        purpose=cast(Any, purpose),
        stage=stage,
        n=n,
        params=SamplingParams(temperature, top_p, top_k, max_tokens),
        top_logprobs=top_logprobs,
        seed=seed,
        round=round_,
        where=where,
        limit=limit,
        prompts_per_round=prompts_per_round,
        run=run,
        engine=engine,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        engine_args=engine_args(engine_arg),
        max_model_len=max_model_len,
        chat_template=read_template(template),
        no_chat_template=no_chat_template,
        chat_template_kwargs=template_kwargs(chat_template_kwargs),
        skip_too_long=skip_too_long,
        chunk_rows=chunk,
        verifier=verifier if verify else "",
        verify_workers=workers(verify_workers),
        verify_deadline_s=deadline,
        budget=budget,
    )
    opened = open_store(store)
    with progress_bar("generate", quiet) as progress:
        done = run_generate(opened, config, progress)
    print(f"run {done.run_id}: {done.stored} rollouts stored, {done.tokens:,} tokens")
    if done.present:
        print(f"  {done.present} were stored before")
    if done.too_long:
        print(f"  {done.too_long} prompts left out as too long")
    if done.graded:
        print(f"  pass rate {done.reward / done.graded:.3f} of {done.graded} graded")
