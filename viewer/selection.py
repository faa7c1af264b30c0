"""Which rollouts a filter chooses: a condition of the reader's own SQL, a ready one, or both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

import queries
from s2d_store.errors import QueryError
from s2d_store.sql import connection, read_only
from viewer.snapshots import Record, View

PAGE = "rollouts"
# What is asked of `chosen_rows`, over one connection, whatever page asks.
QUERIES = (
    *("rollout_list", "chosen_total", "chosen_page", "chosen_histogram", "chosen_counts"),
    *("compare_policies", "compare_counts", "compare_pairs"),
)
# Ready filters by name: queries/view/ready_NAME.sql each.
READY = {
    "flipped": "flipped",
    "disagree": "verifiers disagree",
    "cut_off": "cut off",
    "loops": "loops",
    "zero_spread": "zero-spread groups",
    "high_kl": "high KL",
}
_CHOSEN = "rollout_id IN (SELECT rollout_id FROM chosen_ids)"
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)


@dataclass(frozen=True)
class Selection:
    """Chosen rollouts.

    Attributes:
        where: the condition, which a reader can copy into `s2d query`; empty for all.
        condition: the same over table `listed` of the viewer's connection.
        ids: column rollout_id, which the condition names as `chosen_ids`; None where it does not.
    """

    where: str
    condition: str
    ids: pa.Table | None = None

    def rows(self, view: View, name: str, **values: Any) -> list[Record]:
        """Rows of queries/view/NAME.sql, which reads `chosen_rows`."""
        con = listed(view)
        if self.ids is not None:
            con.register("chosen_ids", self.ids)
        # A view takes no bound values: the condition was checked to be one, see `choose`.
        view.run(
            con,
            f"CREATE OR REPLACE TEMP VIEW chosen_rows AS "
            f"SELECT *, rowid AS place FROM listed WHERE {self.condition}",
        )
        return view.run(con, queries.view(name), values or None)

    def asked(self, view: View, name: str, **values: Any) -> list[Record]:
        """`rows`, kept for the next request of the same snapshot."""
        found: list[Record] = view.kept(
            (name, self.where, *sorted(values.items())), lambda: self.rows(view, name, **values)
        )
        return found


def listed(view: View) -> duckdb.DuckDBPyConnection:
    """A cursor with table `listed`, the rows of queries/view/rollout_list.sql, made once."""
    con = view.connect(PAGE)
    text = f"CREATE TABLE IF NOT EXISTS listed AS {queries.view('rollout_list')}"
    view.kept(("listed",), lambda: view.run(con, text))
    return con


def ready_condition(name: str) -> str:
    """A ready filter as a condition."""
    return "rollout_id IN (\n    " + _ready_sql(name).replace("\n", "\n    ") + "\n)"


def _ready_sql(name: str) -> str:
    return _COMMENT.sub("", queries.view(f"ready_{name}")).strip()


def choose(view: View, where: str, ready: str = "") -> Selection:
    """The rollouts that a condition over `graded_rollouts` chooses.

    Args:
        view: the snapshot.
        where: the reader's condition; empty for all.
        ready: one of READY, which must hold as well; empty for none.

    Raises:
        QueryError: it is no condition, or fails.
    """
    where = where.strip()
    parts = [ready_condition(ready)] if ready else []
    if where:
        _check(where)
        parts.append(f"({where}\n)" if ready else where)
    whole = "\nAND ".join(parts)
    if not whole:
        return Selection("", "true")
    if where and not _fits_listed(view, where):
        text = f"SELECT DISTINCT rollout_id FROM graded_rollouts WHERE ({whole}\n)"
        ids: pa.Table = view.kept(("chosen", whole), lambda: _ids(view, whole, text))
        return Selection(whole, _CHOSEN, ids)
    condition = f"({where}\n)" if where else "true"
    if not ready:
        return Selection(whole, condition)
    ids = view.kept(("chosen", parts[0]), lambda: _ids(view, whole, _ready_sql(ready)))
    return Selection(whole, f"{condition} AND {_CHOSEN}", ids)


def _check(where: str) -> None:
    """Refuse what is not one condition, or would do more than read."""
    with _errors(where):
        read_only.check_condition(where)
        read_only.only_reads(f"SELECT rollout_id FROM graded_rollouts WHERE ({where}\n)")


def _fits_listed(view: View, where: str) -> bool:
    """Whether a condition names columns of `listed` alone, which is in memory."""
    try:
        listed(view).execute(f"EXPLAIN SELECT rollout_id FROM listed WHERE ({where}\n)")
    except duckdb.Error:
        return False  # it names more, or is wrong: asked of the whole store, which says so
    return True


def _ids(view: View, where: str, text: str) -> pa.Table:
    with _errors(where):
        _, rows = view.table(view.connect(PAGE, more=text), text)
    return pa.table({"rollout_id": pa.array([row[0] for row in rows], pa.string())})


@contextmanager
def _errors(where: str) -> Iterator[None]:
    """Say that it was the reader's condition which failed, and what it may name."""
    try:
        with connection.errors():
            yield
    except QueryError as error:
        raise QueryError(
            f"the filter {where!r} does not work",
            error.why or error.what,
            "a filter is one condition over columns of graded_rollouts; the page SQL lists them",
        ) from error
