"""s2d generate."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.config_options import Option, command, options, settings
from cli.options import DEFAULT_STORE, QuietOption, StoreOption, open_store
from s2d_store.engines.base import SamplingParams
from s2d_store.rollouts.generate_config import GenerateConfig

# From so many rollouts on, of which more than this share end at the most tokens, it is said.
_FEW, _MANY = 8, 0.1


def _generate(given: dict[str, Any]) -> None:
    from cli.progress import progress_bar, say
    from cli.runs import duration
    from s2d_store.rollouts.generate import generate as run_generate

    if not given.pop("verify"):
        given["verifier"] = ""
    params = SamplingParams(**settings(SamplingParams, given))
    config = GenerateConfig(params=params, **settings(GenerateConfig, given))
    opened = open_store(given["store"])
    with progress_bar("generate", given["quiet"]) as progress:
        done = run_generate(opened, config, progress, on_notice=say)
    print(f"run {done.run_id}: {done.stored} rollouts stored, {done.tokens:,} tokens")
    if done.stored:
        print(
            f"  mean length {done.tokens / done.stored:.1f} tokens, {done.cut_off} cut off at "
            f"{params.max_tokens} ({done.cut_off / done.stored:.1%}), in {duration(done.seconds)}"
        )
    if done.present:
        print(f"  {done.present} were stored before")
    if done.too_long:
        print(f"  {done.too_long} prompts left out as too long")
    if done.rejected:
        print(f"  {done.rejected} rollouts left out, run again for them: {done.rejected_why}")
    if done.graded:
        print(f"  pass rate {done.reward / done.graded:.3f} of {done.graded} graded")
    elif config.verifier and done.stored:
        print("  none was graded: their prompts have no gold answer, or nothing could be judged")
    if done.stored >= _FEW and done.cut_off > _MANY * done.stored:
        print(f"  many are cut off: --max-tokens {2 * params.max_tokens} would let them end")
    where = f"--where \"run_id = '{done.run_id}'\""
    print(f"next: s2d {'sample' if done.graded or config.verifier else 'verify'} {where}")


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
