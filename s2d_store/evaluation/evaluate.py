"""`s2d eval`: sample and grade what is missing of an evaluation, then report it from the store.

An evaluation of a policy is one generate run of purpose eval: the one that the command's settings
name (policy, role, seed, sampling parameters, engine, dtype, chat template), so that rollouts of
other settings never mix in. Of it count the command's prompts and, of each, the first n rollouts by
sample_index, with the newest verdict of the command's verifier. A prompt with fewer graded rollouts
is left out, and counted as missing.

Policies asked for as a method, `bridge.s{seed}`, are compared over training seeds, others over
prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import duckdb

import queries
from s2d_store.errors import InputError, NotFoundError
from s2d_store.evaluation import checks, methods
from s2d_store.evaluation.eval_config import EvalConfig as EvalConfig
from s2d_store.evaluation.figures import Figure, MethodPair, Pair, Report, Score
from s2d_store.policies import registry
from s2d_store.rollouts.generate import generate
from s2d_store.rollouts.generate_config import run_of
from s2d_store.rollouts.grade import VerifyConfig, verify
from s2d_store.rollouts.progress import OnProgress, ignore
from s2d_store.rollouts.selection import Prompt, check_counts, select_prompts
from s2d_store.sql import parameters
from s2d_store.store import Store
from s2d_store.verifiers.cache import PoolCache
from s2d_store.verifiers.registry import needs_answer, verifier_name
from s2d_store.verifiers.settings import with_answer_from

Watch = Callable[[str], AbstractContextManager[OnProgress]]
"""Given what is being done, a context whose value follows its progress."""


@dataclass(frozen=True)
class _Plan:
    """What a command comes to: the runs of its policies, by name, and its prompts."""

    verifier: str
    baseline: str
    methods: Sequence[methods.Members]
    runs: Mapping[str, checks.Evaluated]
    prompts: Sequence[Prompt]
    trained: Mapping[str, int]

    @property
    def prompt_ids(self) -> list[str]:
        """Ids of its prompts."""
        return [prompt.prompt_id for prompt in self.prompts]


def evaluate(store: Store, config: EvalConfig, watch: Watch | None = None) -> Report:
    """Sample and grade what is missing, then report; a repeat finds everything stored.

    Policies whose evaluation is stored are not looked at again: no model or tokenizer is loaded.

    Raises:
        InputError, NotFoundError, QueryError: settings, policies or prompts that do not fit, or
            prompts that were trained on; nothing is sampled.
        EngineError, StoreError, BudgetError: as for `generate`; what was finished stays.
    """
    watch = watch or (lambda _: nullcontext(ignore))
    config = _with_rule(config)
    plan = _plan(store, config, register=True)
    there = _sampled(store, config, plan)
    runs: dict[str, checks.Evaluated] = {}
    with closing(PoolCache()) as pools:
        for name, found in plan.runs.items():
            if name in there:
                runs[name] = found
                continue
            with watch(f"eval {name}") as progress:
                done = generate(store, found.settings, progress, pools=pools)
            # Another one than planned where the chat template was edited since it was registered.
            runs[name] = replace(found, run_id=done.run_id)
    plan = replace(plan, runs=runs)
    _grade(store, config, plan, watch)
    return _report(store, config, plan)


def stored(store: Store, config: EvalConfig) -> set[str]:
    """Names of the policies whose evaluation is stored whole: nothing to sample, nothing to grade.

    Raises:
        InputError, NotFoundError, QueryError: as for `evaluate`.
    """
    config = _with_rule(config)
    plan = _plan(store, config, register=False, check_trained=False)
    unfinished = {run_id for _, run_id in _not_graded(store, config, plan)}
    return {
        name for name in _sampled(store, config, plan) if plan.runs[name].run_id not in unfinished
    }


def report(store: Store, config: EvalConfig) -> Report:
    """Report on what is stored; nothing is sampled or graded.

    Raises:
        InputError, NotFoundError, QueryError: as for `evaluate`, or nothing is stored.
    """
    config = _with_rule(config)
    return _report(store, config, _plan(store, config, register=False))


def across_seeds(
    store: Store,
    reports: Sequence[Report],
    members: Sequence[methods.Members],
    prompt_ids: Sequence[str],
    baseline: str = "",
) -> Report:
    """Methods compared over training seeds, from a report of each seed on the same prompts.

    Args:
        store: the store that holds the evaluations.
        reports: one per seed, with the same settings but the sampling seed.
        members: the methods' policies, each in one of the reports.
        prompt_ids: the prompts of all reports.
        baseline: the method to compare the others with; empty: every pair.

    Raises:
        QueryError: the store cannot be read.
    """
    scores = {score.policy: score for report in reports for score in report.scores}
    mine = [scores[name] for method in members for name in method.policies.values()]
    given = {
        "n": str(reports[0].n),
        "eval_runs": ",".join(score.run_id for score in mine),
        "prompts": ",".join(prompt_ids),
        "verifier": reports[0].verifier,
        "baseline": baseline,
    }
    made = replace(reports[0], scores=tuple(mine), pairs=())
    return _over_seeds(made, checks.connect(store), members, scores, given)


def _over_seeds(
    made: Report,
    con: duckdb.DuckDBPyConnection,
    members: Sequence[methods.Members],
    scores: Mapping[str, Score],
    given: Mapping[str, str],
) -> Report:
    """A report with the methods' figures and comparisons."""
    seeds = dict.fromkeys(seed for method in members for seed in method.policies)
    names = ",".join(method.name for method in members)
    asked = {**given, "methods": names, "seeds": ",".join(seeds)}
    return replace(
        made,
        methods=tuple(methods.over_seeds(method, scores) for method in members),
        method_pairs=_compared(MethodPair, con, "eval_seeds", asked),
    )


def _with_rule(config: EvalConfig) -> EvalConfig:
    """The config whose verifier says where the answer stands."""
    verifier = with_answer_from(config.settings.verifier, config.answer_from)
    return replace(config, settings=replace(config.settings, verifier=verifier))


def _plan(store: Store, config: EvalConfig, *, register: bool, check_trained: bool = True) -> _Plan:
    _check(config)
    verifier = verifier_name(config.settings.verifier)
    con = store.connect(text=queries.texts("policy_names", "first_role"))
    members = methods.expand(con, config.policies, config.seeds)
    names = [name for method in members for name in method.policies.values()] or config.policies
    found = [_find(store, con, name, register=register) for name in names]
    runs: dict[str, checks.Evaluated] = {}
    for policy_id, name in found:
        if name in runs:
            raise InputError(f"policy {name!r} is given twice", "a policy is evaluated once")
        role: Any = config.role or _role(con, policy_id)
        settings = replace(config.settings, policy=name, role=role, purpose="eval", run="", round=0)
        # As registered: a report needs no weights.
        known = registry.recorded(store, policy_id)
        run_id = run_of(settings, known)
        runs[name] = checks.Evaluated(known, run_id, settings)
    baseline = config.baseline
    if baseline and not members:
        baseline = _find(store, con, baseline, register=False)[1]
    compared = [method.name for method in members] or list(runs)
    if baseline and baseline not in compared:
        raise InputError(
            f"baseline {baseline!r} is not one of those evaluated",
            f"they are {', '.join(compared)}",
            f"s2d eval {' '.join(compared)} {baseline} --baseline {baseline} ...",
        )
    prompts = select_prompts(store, config.settings.where, config.settings.limit)
    if needs_answer(config.settings.verifier):
        checks.require_labels(prompts)
    plan = _Plan(verifier, baseline, members, runs, prompts, {})
    if not check_trained:
        return plan
    # Policies may have been registered since the connection was made.
    trained = checks.count_trained_prompts(
        checks.connect(store), list(runs.values()), plan.prompt_ids, allow=config.allow_trained
    )
    return replace(plan, trained=trained)


def _check(config: EvalConfig) -> None:
    n = config.settings.n
    check_counts(("--n", n, 1), *(("--k", k, 1) for k in config.k))
    if not 0 <= config.margin < math.inf:
        raise InputError(
            f"--margin {config.margin} is no margin",
            "it is a difference of avg@n that would not matter, such as 0.02; 0 tests nothing",
            "--margin 0.02",
        )
    if max(config.k, default=1) > n:
        raise InputError(
            f"--k {max(config.k)} is above --n {n}",
            "pass@k needs at least k rollouts of each prompt",
            f"--n {max(config.k)}, or a smaller --k",
        )
    if config.role not in ("", "teacher", "student"):
        raise InputError(f"--role {config.role} is unknown", "it is teacher or student")
    if not config.policies:
        raise InputError("no policy to evaluate", fix="s2d eval POLICY")


def _find(
    store: Store, con: duckdb.DuckDBPyConnection, name: str, *, register: bool
) -> tuple[str, str]:
    """A policy's id and name; a location that is not registered yet is, where `register`."""
    try:
        return parameters.policy(con, name)
    except NotFoundError:
        if not register:
            raise
        found = registry.find(store, name)
        return found.policy_id, found.name


def _role(con: duckdb.DuckDBPyConnection, policy_id: str) -> str:
    # The first rollouts stay first whatever is added, so a repeated command derives the same run.
    found = con.execute(queries.internal("first_role"), {"policy": policy_id}).fetchall()
    return str(found[0][0]) if found else "student"


def _sampled(store: Store, config: EvalConfig, plan: _Plan) -> set[str]:
    """Policies that n rollouts of every prompt are stored of, by a run that is done.

    One whose files are others than those registered is not among them: `generate` says what is
    wrong with it, or samples a run of its own for an edited chat template.
    """
    whole = checks.sampled_runs(store, plan.runs.values(), plan.prompt_ids, config.settings.n)
    return {
        name
        for name, found in plan.runs.items()
        if found.run_id in whole and registry.is_as_recorded(found.policy)
    }


def _not_graded(store: Store, config: EvalConfig, plan: _Plan) -> list[tuple[str, str]]:
    """Rollouts that count and have no verdict of this verifier, each with its run."""
    return checks.not_graded(
        store, plan.runs.values(), plan.prompt_ids, config.settings.n, plan.verifier
    )


def _grade(store: Store, config: EvalConfig, plan: _Plan, watch: Watch) -> None:
    pending = [rollout for rollout, _ in _not_graded(store, config, plan)]
    if not pending:
        return
    settings = config.settings
    grading = VerifyConfig(
        settings.verifier,
        rollouts=tuple(pending),
        workers=settings.verify_workers,
        deadline_s=settings.verify_deadline_s,
        budget=settings.budget,
    )
    with watch("verify") as progress:
        verify(store, grading, progress)


def _report(store: Store, config: EvalConfig, plan: _Plan) -> Report:
    con = checks.connect(store)
    n = config.settings.n
    given = {
        "n": str(n),
        "eval_runs": ",".join(found.run_id for found in plan.runs.values()),
        "prompts": ",".join(plan.prompt_ids),
        "verifier": plan.verifier,
    }
    scores = _scores(con, config, plan, given)
    unreadable = checks.unreadable_golds(plan.prompts, plan.verifier)
    made = Report(n, plan.verifier, config.margin, unreadable, tuple(scores.values()))
    given["margin"] = str(config.margin) if config.margin else ""
    if plan.methods:
        return _over_seeds(made, con, plan.methods, scores, given | {"baseline": plan.baseline})
    if len(scores) < 2:
        return made
    given["baseline"] = plan.runs[plan.baseline].run_id if plan.baseline else ""
    return replace(made, pairs=_compared(Pair, con, "eval_pairs", given))


def _scores(
    con: duckdb.DuckDBPyConnection, config: EvalConfig, plan: _Plan, given: Mapping[str, str]
) -> dict[str, Score]:
    """Each policy's score, by name."""
    k = ",".join(map(str, config.k or (config.settings.n,)))
    figures: dict[str, list[Figure]] = {name: [] for name in plan.runs}
    counts: dict[str, tuple[int, int, int]] = {}
    for row in checks.rows(con, "eval_scores", {**given, "k": k}):
        figures[row["policy"]].append(_from_row(Figure, row))
        counts[row["policy"]] = row["prompts"], row["rollouts"], row["unjudged"]
    scores = {}
    for name, found in plan.runs.items():
        if name not in counts:
            raise checks.nothing_stored_error(con, found, config.settings.n, plan.verifier)
        complete, rollouts, unjudged = counts[name]
        missing, trained = len(plan.prompts) - complete, plan.trained[name]
        amounts = (complete, rollouts, unjudged, missing, trained)
        scores[name] = Score(name, found.run_id, *amounts, tuple(figures[name]))
    return scores


Made = TypeVar("Made", Figure, Pair, MethodPair)


def _compared(
    kind: type[Made], con: duckdb.DuckDBPyConnection, query: str, given: Mapping[str, str]
) -> tuple[Made, ...]:
    return tuple(_from_row(kind, row) for row in checks.rows(con, query, given))


def _from_row(kind: type[Made], row: Mapping[str, Any]) -> Made:
    """A dataclass of those columns of a row that it has."""
    return kind(**{field.name: row[field.name] for field in fields(kind)})
