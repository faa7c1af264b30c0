"""s2d eval."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import complete
from cli.config_options import Option, command, options, settings
from cli.options import DEFAULT_STORE, FormatOption, QuietOption, StoreOption, open_store
from s2d_store.engines.base import SamplingParams
from s2d_store.evaluation.eval_config import EvalConfig
from s2d_store.rollouts.generate_config import GenerateConfig


def _evaluate(given: dict[str, Any]) -> None:
    from functools import partial

    from cli import eval_output
    from cli.output import check_format
    from cli.progress import progress_bar
    from s2d_store.evaluation import evaluate

    check_format(given["format"])
    sampled = settings(GenerateConfig, given) | {"policy": "", "role": "student"}
    params = SamplingParams(**settings(SamplingParams, given))
    config = EvalConfig(
        settings=GenerateConfig(purpose="eval", params=params, **sampled),
        **settings(EvalConfig, given),
    )
    opened = open_store(given["store"])
    if given["report"]:
        found = evaluate.report(opened, config)
    else:
        found = evaluate.evaluate(opened, config, partial(progress_bar, quiet=given["quiet"]))
    eval_output.print_report(found, given["format"])


_POLICIES = Annotated[
    list[str],
    typer.Argument(
        help="Registered names or ids, local folders, or hub ids. Or methods to compare over "
        "training seeds: names of registered policies with {seed} for the seed's number.",
        autocompletion=complete.policies,
    ),
]
_REPORT = Annotated[
    bool, typer.Option("--report", help="Report on what is stored; sample nothing.")
]
# What only generate asks for.
_OF_GENERATE = (
    *("policy", "role", "revision", "purpose", "params", "run", "round"),
    *("top_logprobs", "mass", "prompts_per_round"),
)

evaluate = command(
    _evaluate,
    {
        "policies": Option(_POLICIES),
        **options(EvalConfig, skip=("policies", "settings")),
        "report": Option(_REPORT, False),
        "format": Option(FormatOption, "table"),
        **options(
            GenerateConfig,
            skip=_OF_GENERATE,
            defaults={"n": 4, "verify_workers": 0, "verifier": "math-verify"},
        ),
        **options(SamplingParams),
        "quiet": Option(QuietOption, False),
        "store": Option(StoreOption, DEFAULT_STORE),
    },
    """Sample, grade and compare policies on held-out prompts. Repeated, it only reports.

    Example, methods over training seeds:
    s2d eval 'bridge.s{seed}' 'cold.s{seed}' --n 4 --baseline 'cold.s{seed}' --margin 0.02
    """,
)
