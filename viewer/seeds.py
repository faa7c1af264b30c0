"""Methods over training seeds, among the policies that were evaluated: `opd.s0`, `opd.s1`, ..."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from s2d_store.evaluation.methods import PLACE
from viewer.snapshots import Record, View

QUERY = "eval_seeds"
# As recipes name what they make: RECIPE.STAGE.sSEED[.rROUND].
_SEED = re.compile(r"(.*\.s)(\d+)((?:\..*)?)")


def compared(view: View, scores: Sequence[Record], shape: Mapping[str, str]) -> list[Record]:
    """Rows of query eval_seeds for every pair of methods with two seeds or more.

    Args:
        view: the snapshot.
        scores: of each evaluation, its `policy` and `run_id`.
        shape: `n` and `verifier` of the evaluations.
    """
    runs: dict[str, list[str]] = {}
    for row in scores:
        runs.setdefault(row["policy"] or "", []).append(row["run_id"])
    methods: dict[str, dict[str, str]] = {}
    for policy, of_policy in runs.items():
        found = _SEED.fullmatch(policy)
        if found and len(of_policy) == 1:
            named = f"{found[1]}{PLACE}{found[3]}"
            methods.setdefault(named, {})[found[2]] = of_policy[0]
    methods = {name: of_seed for name, of_seed in methods.items() if len(of_seed) > 1}
    if len(methods) < 2:
        return []
    asked = {
        "methods": ",".join(methods),
        "seeds": ",".join(dict.fromkeys(seed for of_seed in methods.values() for seed in of_seed)),
        "eval_runs": ",".join(run for of_seed in methods.values() for run in of_seed.values()),
    }
    return view.asked(QUERY, **shape, **asked)
