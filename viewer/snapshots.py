"""The store as a page sees it: one snapshot per request, with named queries over it.

Files of a snapshot never change, so what was asked of one is asked once: connections and answers
are kept for as long as the store has the same versions, and dropped with the first newer commit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import duckdb

import queries
from s2d_store.errors import QueryError, S2DError
from s2d_store.sql import connection, parameters
from s2d_store.store import Store
from s2d_store.tables import rollout_files
from s2d_store.tables.snapshot import Snapshot

Record = dict[str, Any]
# Queries whose rows are made of one rollout's, `$rollout`, and of tables without rollouts.
OF_ONE_ROLLOUT = ("rollout", "rollout_tokens", "rollout_prompt_tokens", "topk_at")
# A connection of its own for one rollout costs what opening so many files does.
_MANY_FILES = 50
# Rows of answers kept per snapshot, some 100 MB; the tokens of a long rollout are ten thousand.
_ROWS = 100_000


class Snapshots:
    """Hands a `View` of the newest snapshot to each request.

    Args:
        store: the store.
        groups: names of queries by page: those of one page share a connection.
        limit_s: seconds that one query may take.
        patience_s: seconds that a page waits for a part of it; None waits until it is there.
    """

    def __init__(
        self,
        store: Store,
        groups: Mapping[str, Sequence[str]],
        limit_s: float = 30.0,
        patience_s: float | None = None,
    ) -> None:
        self.store, self.limit_s, self.patience_s = store, limit_s, patience_s
        self._texts = {page: "\n".join(map(sql_of, names)) for page, names in groups.items()}
        self._page_of = {name: page for page, names in groups.items() for name in names}
        self._lock = threading.Lock()
        self._running = Running()
        self._newest: View | None = None

    def newest(self) -> View:
        """The newest snapshot; the same object for as long as nothing was committed."""
        snap = self.store.snapshot()
        with self._lock:
            if self._newest is None or self._newest.snap.versions != snap.versions:
                self._newest = View(
                    self.store,
                    snap,
                    self._texts,
                    self._page_of,
                    self._running,
                    self.limit_s,
                    self.patience_s,
                )
            return self._newest

    def close(self) -> None:
        """Interrupt what runs, and refuse what would."""
        self._running.stop()


class Running:
    """The queries that run now, so that they can be stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: list[duckdb.DuckDBPyConnection] = []
        self._stopped = False

    @contextmanager
    def noted(self, con: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """While something runs on a connection.

        Raises:
            QueryError: nothing may run any more.
        """
        with self._lock:
            if self._stopped:
                raise QueryError("the server is ending")
            self._connections.append(con)
        try:
            yield
        finally:
            with self._lock:
                self._connections.remove(con)

    def stop(self) -> None:
        """Interrupt everything."""
        with self._lock:
            self._stopped = True
            for con in self._connections:
                con.interrupt()


class View:
    """One snapshot: queries by name, and what was already asked of it. Threads may share it."""

    def __init__(
        self,
        store: Store,
        snap: Snapshot,
        texts: Mapping[str, str],
        page_of: Mapping[str, str],
        running: Running,
        limit_s: float,
        patience_s: float | None,
    ) -> None:
        self.store, self.snap = store, snap
        self.limit_s, self.patience_s = limit_s, patience_s
        self._running = running
        self._texts, self._page_of = texts, page_of
        self._lock = threading.RLock()
        self._connections: dict[str, duckdb.DuckDBPyConnection] = {}
        self._of_rollout: tuple[str, duckdb.DuckDBPyConnection | None] = ("", None)
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._rows = 0
        self._coming: dict[Hashable, Future[Any]] = {}
        self._making: dict[Hashable, threading.Lock] = {}

    def rows(self, name: str, **values: Any) -> list[Record]:
        """Rows of queries/view/NAME.sql, or of a shipped query with parameters as text, by column.

        Raises:
            QueryError: it took longer than the limit.
        """
        text, con = sql_of(name), None
        if name in OF_ONE_ROLLOUT:
            con = self._connect_for(values["rollout"])
        con = con or self.connect(self._page_of[name])
        query = _shipped(name)
        if query is not None:
            values = parameters.resolve(query, values, con)
        return self.run(con, text, parameters.bind_text(text, values))

    def asked(self, name: str, **values: Any) -> list[Record]:
        """`rows`, kept for the next request of the same snapshot."""
        found: list[Record] = self.kept(
            (name, *sorted(values.items())), lambda: self.rows(name, **values)
        )
        return found

    def kept(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once per snapshot and key, however many ask at once."""
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._answers:
                    return self._answers[key]
            answer = make()
            with self._lock:
                self._answers[key] = answer
                self._making.pop(key, None)
                self._rows += _weight(answer)
                while self._rows > _ROWS and len(self._answers) > 1:
                    self._rows -= _weight(self._answers.popitem(last=False)[1])
        return answer

    def soon(self, key: Hashable, make: Callable[[], Any], *, patient: bool) -> Any:
        """`kept`, or None where it takes longer than a page waits; it is made all the same.

        Raises:
            S2DError: it could not be made, be it for an earlier request.
        """
        if patient or self.patience_s is None:
            return self.kept(key, make)
        with self._lock:
            future = self._coming.get(key)
            if future is None:
                future = self._coming[key] = Future()
                args = (future, key, make)
                threading.Thread(target=self._make, args=args).start()
        try:
            return future.result(self.patience_s)
        except TimeoutError:
            return None

    def _make(self, future: Future[Any], key: Hashable, make: Callable[[], Any]) -> None:
        try:
            future.set_result(self.kept(key, make))
        except (S2DError, KeyboardInterrupt) as error:
            future.set_exception(error)

    def connect(self, page: str, more: str = "") -> duckdb.DuckDBPyConnection:
        """A cursor that has what a page's queries and the SQL of `more` name.

        With `more`, a user's own text, the connection is the caller's alone.
        """
        if more:
            return self.store.connect(self.snap, text=f"{self._texts.get(page, '')}\n{more}")
        with self._lock:
            if page not in self._connections:
                self._connections[page] = self.store.connect(self.snap, text=self._texts[page])
            return self._connections[page].cursor()

    def _connect_for(self, rollout_id: str) -> duckdb.DuckDBPyConnection | None:
        """A cursor over the files that may hold a rollout; None where these are most of all."""
        with self._lock:
            if self._of_rollout[0] != rollout_id:
                held = rollout_files.holding(self.store.root, self.snap, rollout_id)
                spared = _n_files(self.snap) - _n_files(held)
                text = "\n".join(map(sql_of, OF_ONE_ROLLOUT))
                con = self.store.connect(held, text=text) if spared >= _MANY_FILES else None
                self._of_rollout = rollout_id, con
            con = self._of_rollout[1]
            return None if con is None else con.cursor()

    def run(
        self,
        con: duckdb.DuckDBPyConnection,
        text: str,
        values: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
    ) -> list[Record]:
        """Rows of a statement within the time limit, by column; with `limit`, the first ones."""
        columns, rows = self.table(con, text, values, limit=limit)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def table(
        self,
        con: duckdb.DuckDBPyConnection,
        text: str,
        values: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Columns and rows of a statement within the time limit.

        Raises:
            QueryError: it fails, or took longer.
        """
        with self._running.noted(con), time_limit(con, self.limit_s), connection.errors():
            con.execute(text, values)
            columns = [column[0] for column in con.description or ()]
            return columns, con.fetchall() if limit is None else con.fetchmany(limit)


def _n_files(snap: Snapshot) -> int:
    return sum(map(len, snap.files.values()))


def _weight(answer: Any) -> int:
    """How many rows an answer is; one that is no list counts as one."""
    return max(1, len(answer)) if isinstance(answer, list) else 1


def sql_of(name: str) -> str:
    """SQL of a query behind a page, of a shipped one, or of one that s2d itself runs."""
    query = _shipped(name)
    if query is not None:
        return query.sql
    return queries.view(name) if _is_of_a_page(name) else queries.internal(name)


def _shipped(name: str) -> queries.Query | None:
    """A query that users name, too; one behind a page goes before it."""
    return None if _is_of_a_page(name) else queries.find(name)


def _is_of_a_page(name: str) -> bool:
    return (queries.ROOT / "view" / f"{name}.sql").exists()


@contextmanager
def time_limit(con: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Interrupt what runs on a connection after some seconds.

    Raises:
        QueryError: it was interrupted.
    """
    over = threading.Event()

    def stop() -> None:
        over.set()
        con.interrupt()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (KeyboardInterrupt, QueryError, duckdb.Error) as error:
        if not over.is_set():
            raise
        raise QueryError(
            f"the query took longer than {seconds:g} seconds",
            "a page waits no longer, so that the others stay quick",
            "narrow it, or run it without a limit: s2d query",
        ) from error
    finally:
        timer.cancel()
