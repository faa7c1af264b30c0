"""Budgets: limits declared in TOML, held against what the store's facts say was spent.

    purpose = "train"
    [experiment]
    labels = 20_000
    [role.teacher]
    generated_tokens = 50_000_000
    [stage.warmup]
    updates = 500
    [run."generate-teacher-1a2b3c4d"]
    flops = 1e18

`purpose` is `train`, or `any` to count evaluation too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

import queries
from s2d_store.errors import BudgetError, InputError
from s2d_store.sql import connection
from s2d_store.storage import location
from s2d_store.storage.location import Place
from s2d_store.store import Store
from s2d_store.strict_toml import TomlFile

FILE_NAME = "budget.toml"
METRICS = (
    "labels",
    "graded_labels",
    "generated_tokens",
    "scored_tokens",
    "trained_tokens",
    "updates",
    "flops",
    "label_visits",
)
SCOPES = ("experiment", "role", "stage", "run")
ROLES = ("teacher", "student")
PURPOSES = ("train", "any")


@dataclass(frozen=True)
class Limit:
    """Most that one scope may spend of one metric.

    Attributes:
        scope: experiment, role, stage or run.
        name: which role, stage or run; empty for the experiment.
        metric: one of METRICS.
        declared: the limit, in labels (distinct prompts), label visits, tokens, updates or FLOPs.
    """

    scope: str
    name: str
    metric: str
    declared: float

    @property
    def title(self) -> str:
        """The scope in words: `experiment`, `stage warmup`."""
        return f"{self.scope} {self.name}".rstrip()


@dataclass(frozen=True)
class Line:
    """A limit, and what its scope has spent."""

    limit: Limit
    spent: float

    @property
    def left(self) -> float:
        """What may still be spent; below 0 when over."""
        return self.limit.declared - self.spent

    @property
    def over(self) -> bool:
        """Whether more was spent than declared."""
        return self.left < 0


@dataclass(frozen=True)
class Budget:
    r"""Declared limits; an empty budget limits nothing.

    Attributes:
        limits: every limit, in the file's order.
        purpose: `train` counts what was spent on training alone, `any` evaluation too.
        path: the file it was read from, or None.

    Example:
        >>> from s2d_store.accounting.budget_file import Budget
        >>> file = store.root / "budget.toml"
        >>> _ = file.write_text("[experiment]\ngenerated_tokens = 1_000_000\n")
        >>> for line in Budget.load(file).status(store):
        ...     print(line.limit.title, line.limit.metric, line.limit.declared, line.over)
        experiment generated_tokens 1000000 False
    """

    limits: tuple[Limit, ...] = ()
    purpose: str = "train"
    path: Place | None = None

    @classmethod
    def load(cls, path: str | Place) -> Budget:
        """Read a budget file.

        Raises:
            NotFoundError: there is no such file.
            InputError: not TOML, an unknown key or scope, or a limit that is no amount.
        """
        path = location.parse_location(path)
        file = TomlFile(f"budget file {path}")
        document = file.read(path, "pass --budget FILE, or unset S2D_BUDGET")
        purpose = document.pop("purpose", "train")
        if purpose not in PURPOSES:
            raise file.wrong("purpose", purpose, "'train' (evaluation is free) or 'any'")
        return cls(tuple(_limits(file, document)), purpose, path)

    @classmethod
    def find(cls, store: Store, file: str = "") -> Budget:
        """The budget of a named file, else of `budget.toml` in the store's folder, else none."""
        if file:
            return cls.load(file)
        own = store.root / FILE_NAME
        return cls.load(own) if own.exists() else cls()

    def status(self, store: Store) -> list[Line]:
        """Every limit with what its scope has spent, in the file's order."""
        if not self.limits:
            return []
        return lines(connect(store), self.limits, self.purpose)

    def check(self, store: Store) -> None:
        """Refuse a store that has spent more than this budget declares.

        Raises:
            BudgetError: names every limit that is over, with its figures.
        """
        over = [line for line in self.status(store) if line.over]
        if over:
            raise BudgetError(
                f"over budget in {len(over)} of {len(self.limits)} limits",
                "; ".join(describe(line) for line in over),
                "s2d budget, for all limits; s2d query spent_by_run, for what spent it",
            )


def connect(store: Store) -> duckdb.DuckDBPyConnection:
    """A connection with what `lines` and `spending` read."""
    return store.connect(text=queries.texts("spending"))


def lines(con: duckdb.DuckDBPyConnection, limits: Iterable[Limit], purpose: str) -> list[Line]:
    """Limits with what was spent, over the connection's snapshot."""
    spent = {(row["scope"], row["name"]): row for row in spending(con, purpose)}
    nothing: Mapping[str, float] = {}
    return [
        Line(limit, spent.get((limit.scope, limit.name), nothing).get(limit.metric, 0))
        for limit in limits
    ]


def purpose_param(purpose: str) -> str | None:
    """A budget's purpose as queries take it: null counts every purpose."""
    return None if purpose == "any" else purpose


def spending(con: duckdb.DuckDBPyConnection, purpose: str) -> list[dict[str, Any]]:
    """One dictionary a scope and name with every metric; see macro spent_in."""
    with connection.errors():
        result = con.execute(
            queries.internal("spending"), {"purpose": purpose_param(purpose)}
        ).fetchall()
    return [dict(zip(("scope", "name", *METRICS), row, strict=True)) for row in result]


def describe(line: Line) -> str:
    """A limit and its figures in words."""
    limit = line.limit
    return (
        f"{limit.title}: {limit.metric} declared {amount(limit.declared)}, "
        f"spent {amount(line.spent)}, left {amount(line.left)}"
    )


def amount(value: float) -> str:
    """A number as people read it: 12,000 or 3.2e+18."""
    if abs(value) >= 1e15 or value != int(value):
        return f"{value:.4g}"
    return f"{int(value):,}"


def _limits(file: TomlFile, document: Mapping[str, Any]) -> Iterable[Limit]:
    for scope, table in document.items():
        if scope not in SCOPES:
            raise file.unknown(scope, ("purpose", *SCOPES))
        if scope == "experiment":
            yield from _table(file, scope, "", table)
            continue
        names = table if isinstance(table, dict) else {}
        if not names or not all(isinstance(value, dict) for value in names.values()):
            raise InputError(
                f"{file.title}: [{scope}] does not say which {scope} it limits",
                "limits of a role, stage or run stand under its name",
                f"[{scope}.NAME]",
            )
        for name, limits in names.items():
            if scope == "role" and name not in ROLES:
                raise file.unknown(f"role.{name}", [f"role.{role}" for role in ROLES])
            yield from _table(file, scope, name, limits)


def _table(file: TomlFile, scope: str, name: str, table: Any) -> Iterable[Limit]:
    title = f"{scope}.{name}" if name else scope
    if not isinstance(table, dict):
        raise file.wrong(title, table, f"a table of limits: [{title}]")
    for metric, value in table.items():
        if metric not in METRICS:
            raise file.unknown(metric, METRICS, f" in [{title}]")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise file.wrong(f"{metric} in [{title}]", value, "a number, 0 or more")
        if metric != "flops" and value != int(value):
            raise file.wrong(
                f"{metric} in [{title}]", value, "a whole number: only flops may be a fraction"
            )
        yield Limit(scope, name, metric, value if metric == "flops" else int(value))
