"""s2d verify."""

from __future__ import annotations

from typing import Any

from cli.config_options import Option, command, options, settings
from cli.options import DEFAULT_STORE, QuietOption, StoreOption, open_store
from s2d_store.rollouts.settings import VerifyConfig

_SHOWN = 3


def _verify(given: dict[str, Any]) -> None:
    from cli.progress import progress_bar
    from s2d_store.rollouts.grade import verify as run_verify

    config = VerifyConfig(**settings(VerifyConfig, given))
    opened = open_store(given["store"])
    with progress_bar("verify", given["quiet"]) as progress:
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
    if done.unreadable:
        print(
            f"  {len(done.unreadable)} gold answers cannot be read, so nobody is judged on them: "
            f"{sum(done.unreadable.values())} rollouts"
        )
        for reason in list(done.unreadable)[:_SHOWN]:
            print(f"    {reason}")
    elif done.error_example:
        print(f"  first error: {done.error_example}")


verify = command(
    _verify,
    {
        **options(VerifyConfig, skip=("rollouts",), defaults={"workers": 0}),
        "quiet": Option(QuietOption, False),
        "store": Option(StoreOption, DEFAULT_STORE),
    },
    "Grade stored rollouts that this verifier version has not graded yet.",
)
