"""s2d score."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from cli.options import (
    DEFAULT_STORE,
    BatchOption,
    BudgetOption,
    ChunkOption,
    DeviceOption,
    DtypeOption,
    EngineArgOption,
    EngineOption,
    MaxModelLenOption,
    QuietOption,
    StoreOption,
    engine_args,
    open_store,
)


def score(
    scorer: Annotated[str, typer.Option("--scorer", "--teacher", help="The policy that scores.")],
    revision: Annotated[str | None, typer.Option(help="Hub revision.")] = None,
    top_logprobs: Annotated[
        int,
        typer.Option("--top-logprobs", help="Entries a token; with --support policy 0: as stored."),
    ] = 0,
    support: Annotated[
        str,
        typer.Option(help="own: the scorer's top k; policy: the sampling policy's top-k ids."),
    ] = "own",
    where: Annotated[
        str, typer.Option(help="SQL condition on graded_rollouts: role = 'student'.")
    ] = "",
    limit: Annotated[int, typer.Option(help="Most rollouts; 0: all.")] = 0,
    engine: EngineOption = "transformers",
    engine_arg: EngineArgOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    batch_size: BatchOption = 32,
    max_model_len: MaxModelLenOption = 0,
    chunk: ChunkOption = 256,
    budget: BudgetOption = "",
    quiet: QuietOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Store a policy's top-k logprobs on stored rollouts, from their token ids."""
    from cli.progress import progress_bar
    from s2d_store.rollouts.score import ScoreConfig
    from s2d_store.rollouts.score import score as run_score

    config = ScoreConfig(
        scorer=scorer,
        revision=revision,
        k=top_logprobs,
        support=cast(Any, support),
        where=where,
        limit=limit,
        engine=engine,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        engine_args=engine_args(engine_arg),
        max_model_len=max_model_len,
        chunk_rows=chunk,
        budget=budget,
    )
    opened = open_store(store)
    with progress_bar("score", quiet) as progress:
        done = run_score(opened, config, progress)
    print(f"run {done.run_id}: {done.stored} rollouts scored, {done.tokens:,} tokens")
    if done.present:
        print(f"  {done.present} were scored before")
