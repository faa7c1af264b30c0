"""s2d generate."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.config_options import Option, command, options, settings
from cli.options import DEFAULT_STORE, QuietOption, StoreOption, open_store
from s2d_store.engines.base import SamplingParams
from s2d_store.rollouts.generate_config import GenerateConfig


def _generate(given: dict[str, Any]) -> None:
    from cli.progress import progress_bar, say
    from s2d_store.rollouts.generate import generate as run_generate

    if not given.pop("verify"):
        given["verifier"] = ""
    params = SamplingParams(**settings(SamplingParams, given))
    config = GenerateConfig(params=params, **settings(GenerateConfig, given))
    opened = open_store(given["store"])
    with progress_bar("generate", given["quiet"]) as progress:
        done = run_generate(opened, config, progress, on_notice=say)
    print(f"run {done.run_id}: {done.stored} rollouts stored, {done.tokens:,} tokens")
    if done.present:
        print(f"  {done.present} were stored before")
    if done.too_long:
        print(f"  {done.too_long} prompts left out as too long")
    if done.rejected:
        print(f"  {done.rejected} rollouts left out, run again for them: {done.rejected_why}")
    if done.graded:
        print(f"  pass rate {done.reward / done.graded:.3f} of {done.graded} graded")


_VERIFY = Annotated[bool, typer.Option("--verify", help="Grade each chunk as it comes.")]
_VERIFIER = Annotated[str, typer.Option(help="Verifier for --verify.")]

generate = command(
    _generate,
    {
        **options(GenerateConfig, skip=("params", "verifier"), defaults={"verify_workers": 0}),
        **options(SamplingParams),
        "verify": Option(_VERIFY, False),
        "verifier": Option(_VERIFIER, "math-verify"),
        "quiet": Option(QuietOption, False),
        "store": Option(StoreOption, DEFAULT_STORE),
    },
    "Sample rollouts and store them. Killed and started again, it continues.",
)
