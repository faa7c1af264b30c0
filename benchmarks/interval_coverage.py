"""How often 95% intervals hold the truth: those of s2d, Student's t, and the percentile bootstrap.

    python -m benchmarks.interval_coverage

Prompts have pass rates drawn from a beta distribution, and n rollouts each. Single: their mean.
Paired: two policies for which the same prompts are hard, 0.03 apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from s2d_store import statistics

Floats = NDArray[np.float64]
RESAMPLES = 1000
# Prompts, rollouts a prompt, mean pass rate, and the beta distribution's a + b.
SINGLE = (
    (15, 8, 0.3, 2.0),
    (30, 1, 0.3, 2.0),
    (30, 16, 0.3, 1.0),
    (30, 32, 0.1, 1.0),
    (30, 4, 0.75, 1.0),
    (128, 4, 0.5, 1.0),
    (500, 4, 0.1, 1.0),
)
PAIRED = ((10, 4, 0.5, 2.0), (30, 1, 0.3, 2.0), (30, 32, 0.1, 1.0), (128, 4, 0.5, 1.0))


def bootstrap(values_N: Floats, weights_RN: Floats) -> tuple[float, float, float]:
    """A percentile interval: 0, low, high."""
    low, high = np.quantile(weights_RN @ values_N, [0.025, 0.975])
    return 0.0, float(low), float(high)


def coverage(
    made_SN: Floats, truth: float, interval: Callable[[Floats], tuple[float, ...]]
) -> float:
    """The share of samples whose interval holds the truth."""
    found = [interval(values_N)[1:3] for values_N in made_SN]
    return float(np.mean([low <= truth + 1e-12 and high >= truth - 1e-12 for low, high in found]))


def samples(
    rng: np.random.Generator, setting: tuple[int, int, float, float], trials: int, paired: bool
) -> tuple[Floats, float]:
    """Values per prompt of many evaluations, (trials, prompts), and their true mean."""
    prompts, n, mean, size = setting

    def rates(mean: float) -> Floats:
        return rng.beta(mean * size, (1 - mean) * size, (trials, prompts))

    if not paired:
        return rng.binomial(n, rates(mean)) / n, mean
    shared = 0.7 * rates(mean)
    first, second = shared + 0.3 * rates(mean), shared + 0.3 * rates(mean + 0.1)
    return (rng.binomial(n, second) - rng.binomial(n, first)) / n, 0.03


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000)
    trials = parser.parse_args().trials
    rng = np.random.default_rng(0)
    print("| | prompts x rollouts | mean | s2d | Student's t | bootstrap |")
    print("| --- | --- | --- | --- | --- | --- |")
    for paired, settings in ((False, SINGLE), (True, PAIRED)):
        for setting in settings:
            made, truth = samples(rng, setting, trials, paired)
            size = setting[0]
            weights = rng.multinomial(size, np.full(size, 1 / size), RESAMPLES) / size
            ours = (
                statistics.paired_test
                if paired
                else lambda values: statistics.mean_interval(values, bounded=True)
            )
            shown = [
                f"{coverage(made, truth, interval):.3f}"
                for interval in (
                    ours,
                    statistics.t_interval,
                    lambda values, weights=weights: bootstrap(values, weights),
                )
            ]
            kind = "paired" if paired else "single"
            print(f"| {kind} | {size} x {setting[1]} | {setting[2]} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
