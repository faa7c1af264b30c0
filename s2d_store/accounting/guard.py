"""What stands between a command and its spending: refuse before the start, stop at the limit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from s2d_store.accounting import budget_file
from s2d_store.accounting.budget_file import Budget, Limit, Line, amount
from s2d_store.errors import BudgetError
from s2d_store.sql import connection
from s2d_store.store import Store

# Seconds between looks at what other processes have spent meanwhile.
REFRESH_S = 20.0
_LABELS = {"labels": "spent_labels", "graded_labels": "graded_labels"}


@dataclass(frozen=True)
class PlannedSpend:
    """What a command is about to spend for one run, stage, role and purpose.

    Attributes:
        run: run id that it is recorded under; empty where it is not known yet.
        stage: stage that it counts for; empty for none.
        role: teacher or student; empty where it is not known yet.
        purpose: train or eval.
        amounts: tokens, updates and FLOPs by metric.
        prompts: prompts whose gold answers it uses, by `labels` or `graded_labels`; what the
            scope of a limit has used before adds nothing.
    """

    run: str
    stage: str
    role: str
    purpose: str = "train"
    amounts: Mapping[str, float] = field(default_factory=dict)
    prompts: Mapping[str, Sequence[str] | pa.ChunkedArray] = field(default_factory=dict)

    def counts_for(self, limit: Limit) -> bool:
        """Whether the limit's scope covers this."""
        named = {"role": self.role, "stage": self.stage, "run": self.run}
        return limit.scope == "experiment" or named[limit.scope] == limit.name


class Guard:
    """One command's view of a budget. Without limits it asks the store nothing."""

    def __init__(self, store: Store, budget: Budget) -> None:
        """Guard what a command spends from a store."""
        self._store, self._budget = store, budget

    @classmethod
    def open(cls, store: Store, file: str = "") -> Guard:
        """The guard of a budget file, else of the store's own, else one that allows all.

        Raises:
            NotFoundError, InputError: a file that is missing or malformed.
        """
        return cls(store, Budget.find(store, file))

    @property
    def is_open(self) -> bool:
        """Whether nothing is limited at all."""
        return not self._budget.limits

    def limits(self, metrics: Iterable[str]) -> list[Limit]:
        """Declared limits of these metrics."""
        wanted = set(metrics)
        return [limit for limit in self._budget.limits if limit.metric in wanted]

    def lines(self, limits: Sequence[Limit]) -> list[Line]:
        """What is spent of these limits now."""
        return budget_file.lines(budget_file.connect(self._store), limits, self._budget.purpose)

    def counts(self, charge: PlannedSpend) -> bool:
        """Whether the budget counts spending of the charge's purpose at all."""
        return self._budget.purpose in ("any", charge.purpose)

    def check(self, what: str, charges: Sequence[PlannedSpend]) -> None:
        """Refuse amounts known before the start that would go over a limit.

        Args:
            what: the command in words, for the message.
            charges: everything that it is about to spend.

        Raises:
            BudgetError: declared, spent, left and what it would add, for each limit.
        """
        counted = [charge for charge in charges if self.counts(charge)]
        metrics = {m for charge in counted for m in (*charge.amounts, *charge.prompts)}
        limits = [
            limit
            for limit in self.limits(metrics)
            if any(charge.counts_for(limit) for charge in counted)
        ]
        if not limits:
            return
        refused = []
        for line in self.lines(limits):
            added = self._added(line.limit, [c for c in counted if c.counts_for(line.limit)])
            if added > max(line.left, 0):
                refused.append(f"{budget_file.describe(line)}, would add {amount(added)}")
        if refused:
            raise self._refusal(f"{what} would go over the budget", refused)

    def meter(self, what: str, charge: PlannedSpend, metrics: Iterable[str]) -> Meter:
        """A meter for amounts known only as they come.

        Raises:
            BudgetError: nothing is left to start with.
        """
        limits = self.limits(metrics) if self.counts(charge) else []
        limits = [limit for limit in limits if charge.counts_for(limit)]
        meter = Meter(self, what, limits)
        empty = [budget_file.describe(line) for line in meter.lines if line.left <= 0]
        if empty:
            raise self._refusal(f"nothing is left in the budget for {what}", empty)
        return meter

    def _added(self, limit: Limit, charges: Sequence[PlannedSpend]) -> float:
        if limit.metric not in _LABELS:
            return sum(charge.amounts.get(limit.metric, 0) for charge in charges)
        prompts = [
            prompt for charge in charges for prompt in _listed(charge.prompts.get(limit.metric, ()))
        ]
        if not prompts:
            return 0
        con = self._store.connect(text=_LABELS[limit.metric])
        con.register("_prompts", pa.table({"prompt_id": pa.array(prompts, pa.string())}))
        within = {"experiment": "true", "run": "run_id = $name"}.get(
            limit.scope, f"{limit.scope} = $name"
        )
        values = {"purpose": budget_file.purpose_param(self._budget.purpose)}
        if limit.name:
            values["name"] = limit.name
        with connection.errors():
            row = con.execute(
                "SELECT count(*) FROM (SELECT DISTINCT prompt_id FROM _prompts) "
                f"ANTI JOIN (SELECT prompt_id FROM {_LABELS[limit.metric]} "
                f"WHERE ($purpose IS NULL OR purpose = $purpose) AND {within}) USING (prompt_id)",
                values,
            ).fetchone()
        assert row is not None, "count(*) gives a row"
        return float(row[0])

    def _refusal(self, what: str, figures: Sequence[str]) -> BudgetError:
        return BudgetError(
            what,
            "; ".join(figures),
            f"ask for less, raise the limit in {self._budget.path}, or name another --budget FILE",
        )

    def stopped(self, what: str, figures: str, kept: str) -> BudgetError:
        """The error of a command that reached a limit while it ran."""
        return BudgetError(
            f"{what} stopped at the budget's limit; {kept}",
            figures,
            f"raise the limit in {self._budget.path} and run the same command again: it continues",
        )


class Meter:
    """Counts spending as it comes and stops before it would pass a limit.

    One thread takes, another reports what is committed; what other processes commit is seen when
    the store is read again, at most every REFRESH_S seconds.
    """

    def __init__(self, guard: Guard, what: str, limits: Sequence[Limit]) -> None:
        """Read what is left of the limits; see `Guard.meter`."""
        self._guard, self._what, self._limits = guard, what, limits
        self.lines: list[Line] = guard.lines(limits) if limits else []
        self._taken: dict[str, float] = {}
        self._committed: dict[str, float] = {}
        # What the store held of this meter's own spending when `lines` was read.
        self._base = (self.lines, dict(self._committed))
        self._read_at = time.monotonic()

    def reserve(self, amounts: Mapping[str, float]) -> None:
        """Count one more piece of work, before it is handed on to be stored.

        Raises:
            BudgetError: it would pass a limit; it must not be stored.
        """
        if not self._limits:
            return
        lines, committed = self._base
        for line in lines:
            metric = line.limit.metric
            waiting = self._taken.get(metric, 0) - committed.get(metric, 0)
            if waiting + amounts.get(metric, 0) > line.left:
                reached = replace(line, spent=line.spent + waiting)
                figures = f"{budget_file.describe(reached)}, the next would add "
                raise self._guard.stopped(
                    self._what,
                    figures + amount(amounts.get(metric, 0)),
                    "all that was finished before is stored",
                )
        _add(self._taken, amounts)

    def committed(self, amounts: Mapping[str, float]) -> None:
        """Report what is now stored, and look again at what is left from time to time."""
        if not self._limits:
            return
        _add(self._committed, amounts)
        if time.monotonic() - self._read_at >= REFRESH_S:
            self._base = (self._guard.lines(self._limits), dict(self._committed))
            self._read_at = time.monotonic()


def _add(total: dict[str, float], amounts: Mapping[str, float]) -> None:
    for metric, value in amounts.items():
        total[metric] = total.get(metric, 0) + value


def _listed(prompts: Sequence[str] | pa.ChunkedArray) -> Sequence[str]:
    return prompts.to_pylist() if isinstance(prompts, pa.ChunkedArray) else prompts
