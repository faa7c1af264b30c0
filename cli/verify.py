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
        str,
        typer.Option(
            help="A verifier's name (s2d verifiers list), module:Class, module:function, or a "
            "weighted sum such as 'reward = 0.9 * math-verify + 0.1 * my_rewards:tidy'."
        ),
    ] = "math-verify",
    where: Annotated[str, typer.Option(help="SQL condition on graded_rollouts.")] = "",
    limit: Annotated[int, typer.Option(help="Most rollouts; 0: all.")] = 0,
    n_workers: WorkersOption = 0,
    deadline: DeadlineOption = 5.0,
    chunk: Annotated[int, typer.Option(help="Verdicts per commit.")] = 4096,
    retry: Annotated[
        bool, typer.Option("--retry", help="Grade again what timed out or erred, as a new attempt.")
    ] = False,
    budget: BudgetOption = "",
    quiet: QuietOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Grade stored rollouts that this verifier version has not graded yet."""
    from cli.progress import progress_bar
    from s2d_store.rollouts.grade import VerifyConfig
    from s2d_store.rollouts.grade import verify as run_verify

    config = VerifyConfig(
        verifier, where, limit, workers(n_workers), deadline, chunk, budget, retry
    )
    opened = open_store(store)
    with progress_bar("verify", quiet) as progress:
        done = run_verify(opened, config, progress)
    left_out = "".join(
        f"\n  {count} rollouts left out: {why}"
        for count, why in (
            (done.unlabelled, "their prompts have no gold answer"),
            (done.without_text, "they have no text"),
        )
        if count
    )
    if not done.graded:
        print(f"run {done.run_id}: nothing left to grade{left_out}")
        return
    measure = "mean reward" if "scored" in done.outcomes else "pass rate"
    rate = f"{measure} {done.reward / done.judged:.3f}" if done.judged else "none judged"
    print(f"run {done.run_id}: {done.graded} rollouts graded, {rate}{left_out}")
    outcomes = ", ".join(f"{name} {count}" for name, count in sorted(done.outcomes.items()))
    print(f"  {outcomes}")
    if done.error_example:
        print(f"  first error: {done.error_example}")
