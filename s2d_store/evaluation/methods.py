"""Methods: policies that differ in their training seed alone, named such as `opd.s{seed}`.

A comparison over prompts speaks of the weights that were evaluated. What a method does is seen over
training seeds, paired by seed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np

import queries
from s2d_store import statistics
from s2d_store.errors import InputError, NotFoundError
from s2d_store.evaluation.figures import Figure, Method, Score

PLACE = "{seed}"
_MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Members:
    """A method's policies: `policies` by seed, in the order of the seeds."""

    name: str
    policies: Mapping[str, str]


def is_method(name: str) -> bool:
    """Whether a name stands for one policy per training seed."""
    return PLACE in name


def expand(con: duckdb.DuckDBPyConnection, asked: Sequence[str], seeds: str) -> tuple[Members, ...]:
    """The policies of each method, none where policies are asked for by their own names.

    Args:
        con: one that sees the store's policies.
        asked: names of policies, or of methods: with {seed} where the seed's number stands.
        seeds: such as `0-7` or `0,2,5`; empty: those that have a registered policy.

    Raises:
        InputError: names and methods are mixed, or `seeds` is no list of seeds.
        NotFoundError: a method has no policy, or none of a seed asked for.
    """
    if not any(map(is_method, asked)):
        if seeds:
            raise InputError(
                f"--seeds {seeds} without a method",
                f"a method is the name of its policies with {PLACE} where the seed's number stands",
                f"s2d eval 'bridge.s{PLACE}' 'cold.s{PLACE}' --seeds {seeds}",
            )
        return ()
    for name in asked:
        if name.count(PLACE) != 1:
            raise InputError(
                f"{name!r} is not a method like the others",
                f"methods are compared with methods, and each has {PLACE} once in its name",
                "evaluate single policies in a command of their own",
            )
    wanted = _seeds(seeds)
    rows = con.sql(queries.internal("policy_names")).fetchall()
    return tuple(_members(name, [row[1] for row in rows], wanted) for name in asked)


def _members(method: str, names: Sequence[str], wanted: Sequence[str]) -> Members:
    before, _, after = method.partition(PLACE)
    pattern = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
    found = {match[1]: name for name in names if (match := pattern.fullmatch(name))}
    lacking = [seed for seed in wanted if seed not in found]
    if not found or lacking:
        of = f" of seed {lacking[0]}" if lacking else ""
        raise NotFoundError(
            f"no policy{of} is named {method!r}",
            f"it has policies of the seeds {', '.join(sorted(found, key=int)) or 'none'}",
            "s2d policies list",
        )
    kept = wanted or sorted(found, key=int)
    return Members(method, {seed: found[seed] for seed in kept})


def _seeds(text: str) -> tuple[str, ...]:
    seeds: list[str] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= last - first < _MOST_SEEDS:
            raise InputError(
                f"--seeds {text!r} is not a list of seeds", "one is 0-7, or 0,2,5", "--seeds 0-7"
            )
        seeds += map(str, range(first, last + 1))
    return tuple(dict.fromkeys(seeds))


def over_seeds(members: Members, scores: Mapping[str, Score]) -> Method:
    """A method's figures: means over its policies, with errors and intervals over seeds."""
    mine = [scores[name] for name in members.policies.values()]
    figures = []
    for at, figure in enumerate(mine[0].figures):
        values = [score.figures[at].value for score in mine]
        if any(value is None for value in values):
            figures.append(Figure(figure.measure, None, None, None, None))
            continue
        values_S = np.array(values, np.float64)
        error = statistics.t_interval(values_S)
        figures.append(Figure(figure.measure, float(values_S.mean()), *error))
    return Method(members.name, tuple(members.policies), tuple(figures))
