"""s2d eval."""

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


def evaluate(
    policies: Annotated[
        list[str], typer.Argument(help="Registered names or ids, local folders, or hub ids.")
    ],
    n: Annotated[int, typer.Option("--n", "-n", help="Rollouts per prompt.")] = 4,
    where: PromptsOption = "",
    limit: LimitOption = 0,
    k: Annotated[
        list[int] | None, typer.Option("--k", help="Tries of pass@k. May be repeated; default: n.")
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="The policy to compare the others with; default: every pair.")
    ] = "",
    report: Annotated[
        bool, typer.Option("--report", help="Report on what is stored; sample nothing.")
    ] = False,
    allow_trained: Annotated[
        bool, typer.Option("--allow-trained", help="Evaluate on prompts trained on, too.")
    ] = False,
    format_: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    resample_seed: Annotated[
        int, typer.Option(help="Seed of the resamples behind the intervals.")
    ] = 0,
    role: Annotated[
        str, typer.Option(help="teacher or student; default: as a policy's first rollouts.")
    ] = "",
    stage: Annotated[str, typer.Option(help="Stage that budgets count the runs for.")] = "",
    max_tokens: MaxTokensOption = 512,
    temperature: TemperatureOption = 1.0,
    top_p: TopPOption = 1.0,
    top_k: SamplingTopKOption = 0,
    seed: SeedOption = 0,
    verifier: Annotated[str, typer.Option(help="Whose verdicts count.")] = "math-verify",
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
    """Sample, grade and compare policies on held-out prompts. Repeated, it only reports."""
    from functools import partial

    from cli import eval_output
    from cli.progress import progress_bar
    from s2d_store.engines.base import SamplingParams
    from s2d_store.errors import InputError
    from s2d_store.evaluation import evaluate
    from s2d_store.rollouts.generate_config import GenerateConfig

    if format_ not in ("table", "json"):
        raise InputError(f"--format {format_!r} is unknown", "formats: table, json")
    settings = GenerateConfig(
        policy="",
        role="student",
        purpose="eval",
        stage=stage,
        n=n,
        params=SamplingParams(temperature, top_p, top_k, max_tokens),
        seed=seed,
        where=where,
        limit=limit,
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
        verifier=verifier,
        verify_workers=workers(verify_workers),
        verify_deadline_s=deadline,
        budget=budget,
    )
    config = evaluate.EvalConfig(
        policies=tuple(policies),
        settings=settings,
        role=cast(Any, role),
        k=tuple(k or ()),
        baseline=baseline,
        allow_trained=allow_trained,
        resample_seed=resample_seed,
    )
    opened = open_store(store)
    if report:
        found = evaluate.report(opened, config)
    else:
        found = evaluate.evaluate(opened, config, partial(progress_bar, quiet=quiet))
    eval_output.print_report(found, format_)
