"""s2d score."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import complete
from cli.config_options import Option, command, options, settings
from cli.options import DEFAULT_STORE, QuietOption, StoreOption, open_store
from s2d_store.config_fields import field_help
from s2d_store.rollouts.settings import ScoreConfig


def _score(given: dict[str, Any]) -> None:
    from cli.progress import progress_bar, say
    from s2d_store.rollouts.score import score as run_score

    config = ScoreConfig(**settings(ScoreConfig, given))
    opened = open_store(given["store"])
    with progress_bar("score", given["quiet"]) as progress:
        done = run_score(opened, config, progress, on_notice=say)
    print(f"run {done.run_id}: {done.stored} rollouts scored, {done.tokens:,} tokens")
    if done.present:
        print(f"  {done.present} were scored before")
    if done.rejected:
        print(f"  {done.rejected} rollouts left out, run again for them: {done.rejected_why}")


_HELP = field_help(ScoreConfig)
_SCORER = Annotated[
    str,
    typer.Option("--scorer", "--teacher", help=_HELP["scorer"], autocompletion=complete.policies),
]
_TOP_LOGPROBS = Annotated[int, typer.Option("--top-logprobs", help=_HELP["k"])]

score = command(
    _score,
    {
        "scorer": Option(_SCORER),
        "k": Option(_TOP_LOGPROBS, 0),
        **options(ScoreConfig, skip=("scorer", "k")),
        "quiet": Option(QuietOption, False),
        "store": Option(StoreOption, DEFAULT_STORE),
    },
    "Store a policy's top-k logprobs on stored rollouts, from their token ids.",
)
