"""What an evaluation reports: policies, pairs of them, and methods over training seeds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A measure over prompts, its standard error and 95% interval.

    All are None where the verifier extracts no answers; error and interval for a single prompt.
    """

    measure: str
    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Score:
    """How one policy did.

    Attributes:
        policy: its name.
        run_id: the generate run that holds its rollouts.
        prompts: prompts with n graded rollouts.
        rollouts: n of each.
        unjudged: of those, the ones that nobody judged (timeout, error), left out of rewards.
        missing: prompts asked for that have fewer, and are left out.
        trained: prompts asked for that it, or a policy behind it, was trained on.
        figures: avg@n, pass@k, maj@n, tokens, truncated.
    """

    policy: str
    run_id: str
    prompts: int
    rollouts: int
    unjudged: int
    missing: int
    trained: int
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Comparison:
    """One difference in avg@n and what it shows; see query eval_pairs.

    Attributes:
        difference: of the first minus the second.
        standard_error, low, high: of the difference; None for a single unit.
        p: two-sided, of no difference; None for a single unit.
        p_holm: corrected for all comparisons of the report.
        p_equivalent: of a difference beyond the margin, corrected likewise; None without a margin.
        conclusion: better or worse, equivalent, both, not decided, or unknown.
    """

    difference: float
    standard_error: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    p_equivalent: float | None
    conclusion: str


@dataclass(frozen=True)
class Pair(Comparison):
    """Two policies on the prompts that both have: errors are over prompts.

    `won`, `lost` and `tied` count prompts by the sign of their difference.
    """

    policy: str
    against: str
    prompts: int
    won: int
    lost: int
    tied: int


@dataclass(frozen=True)
class Method:
    """A method over its training seeds.

    Attributes:
        name: the name of its policies, with {seed} for the seed.
        seeds: the seeds that it was evaluated with.
        figures: as of a policy; value, error and interval are over seeds.
    """

    name: str
    seeds: tuple[str, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class MethodPair(Comparison):
    """Two methods over the training seeds that both have: errors are over seeds.

    `unpaired` counts seeds that only one has; `prompts` are those of the seed with the fewest.
    """

    method: str
    against: str
    seeds: int
    unpaired: int
    prompts: int


@dataclass(frozen=True)
class Report:
    """What an evaluation found: scores in the order of the policies asked for.

    Pairs over prompts stand beside policies, pairs over seeds beside methods. `unreadable` says of
    each prompt whose gold answer math-verify cannot read why: nobody is judged on it.
    """

    n: int
    verifier: str
    margin: float
    unreadable: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    pairs: tuple[Pair, ...] = ()
    methods: tuple[Method, ...] = ()
    method_pairs: tuple[MethodPair, ...] = ()

    def _repr_html_(self) -> str:
        from s2d_store.evaluation.tables import notes, tables
        from s2d_store.reading import html

        shown = list(tables(self))
        remarks = [*(note for _, _, said in shown for note in said), *notes(self)]
        return html.tables([(columns, rows) for columns, rows, _ in shown], remarks)
