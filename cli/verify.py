"""s2d verify."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import (
    DEFAULT_STORE,
    BudgetOption,
    DeadlineOption,
    QuietOption,
    StoreOption,
    WorkersOption,
    open_store,
    workers,
)


def verify(
    verifier: Annotated[
        str, typer.Option(help="math-verify, or one registered under entry points s2d.verifiers.")
    ] = "math-verify",
    where: Annotated[str, typer.Option(help="SQL condition on graded_rollouts.")] = "",
    limit: Annotated[int, typer.Option(help="Most rollouts; 0: all.")] = 0,
    n_workers: WorkersOption = 0,
    deadline: DeadlineOption = 5.0,
    chunk: Annotated[int, typer.Option(help="Verdicts a commit.")] = 4096,
    budget: BudgetOption = "",
    quiet: QuietOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Grade stored rollouts that this verifier version has not graded yet."""
    from cli.progress import progress_bar
    from s2d_store.rollouts.grade import VerifyConfig
    from s2d_store.rollouts.grade import verify as run_verify

    config = VerifyConfig(verifier, where, limit, workers(n_workers), deadline, chunk, budget)
    opened = open_store(store)
    with progress_bar("verify", quiet) as progress:
        done = run_verify(opened, config, progress)
    if not done.graded:
        print(f"run {done.run_id}: nothing left to grade")
        return
    rate = done.reward / done.graded
    print(f"run {done.run_id}: {done.graded} rollouts graded, pass rate {rate:.3f}")
    outcomes = ", ".join(f"{name} {count}" for name, count in sorted(done.outcomes.items()))
    print(f"  {outcomes}")
    if done.error_example:
        print(f"  first error: {done.error_example}")
