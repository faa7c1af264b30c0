"""s2d query."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import complete
from cli.options import DEFAULT_STORE, ParamOption, StoreOption, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    import duckdb

    import queries


# DuckDB draws from the tables, and then filters what it drew.
_SAMPLES_FIRST = re.compile(r"\bWHERE\b.*\bUSING\s+SAMPLE\b", re.IGNORECASE | re.DOTALL)


def query(
    text: Annotated[
        str,
        typer.Argument(
            help="SQL, a .sql file, or a named query (see --list).",
            autocompletion=complete.queries,
        ),
    ] = "",
    param: ParamOption = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the named queries, or one's parameters.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write .csv, .json, .jsonl, .md, .tex, .arrow or .parquet."
        ),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="How rows are printed; default: as the file's ending says, or a table.",
            metavar="table|json|jsonl|csv|md|latex|arrow|parquet",
        ),
    ] = "",
    as_of: Annotated[
        str, typer.Option("--as-of", help="An older snapshot: ISO time (UTC) or table=version,...")
    ] = "",
    max_rows: Annotated[int, typer.Option(help="Most rows of a table on the terminal.")] = 200,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Let the SQL read and write other files.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(help="Stop the query after so many seconds.", min=0.001)
    ] = None,
    memory: Annotated[
        str,
        typer.Option(help="Most memory it may take, as 4GB; default: 80% of the machine's."),
    ] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Run SQL over the store's views, or a named query with parameters.

    Views: prompts, policies, rollouts, graded_rollouts (one row per rollout, with its verdict),
    tokens, topk, runs, updates, datasets and more; `s2d query "SHOW TABLES"` lists them, and
    `s2d query "DESCRIBE rollouts"` the columns of one. docs/queries.md explains them. Bounds for
    SQL that somebody else wrote: `s2d query theirs.sql --timeout 60 --memory 4GB`.
    """
    from functools import partial

    import queries
    from cli import output as out
    from cli.options import pairs
    from cli.progress import say
    from s2d_store.sql import connection, parameters, read_only
    from s2d_store.storage.reserved_paths import refuse_store_path
    from s2d_store.tables.snapshot import parse_as_of

    chosen = out.choose_format(format_, output)
    if list_ or not text:
        _list(text, chosen)
        return
    asked = find(text)
    moment = parse_as_of(as_of) if as_of else None
    opened = open_store(store)
    if output:
        refuse_store_path(opened.root, output)
    given = pairs(param, "--param")
    statement = asked.sql if isinstance(asked, queries.Query) else asked
    # Names of policies and the like are looked up over the same connection.
    looked_up = parameters.lookups(asked) if isinstance(asked, queries.Query) else ""
    if _SAMPLES_FIRST.search(statement):
        say("USING SAMPLE draws before WHERE filters; s2d sample --where draws after it")
    needed = f"{statement}\n{looked_up}"
    con = opened.connect(
        moment,
        unsafe=unsafe,
        text=None if unsafe else needed,
        memory=memory,
        run_with=None if isinstance(asked, queries.Query) else given,
    )
    if not unsafe:
        read_only.only_reads(statement, con)
    if isinstance(asked, queries.Query):
        values = parameters.resolve(asked, given, con)
        if "$seed" in statement:
            values["seed"] = 0
        bound = parameters.bind(asked, values)
    else:
        bound = given or None

    def run() -> None:
        with connection.errors():
            relation = _relation(
                con, partial(opened.connect, moment, unsafe=unsafe, memory=memory), statement, bound
            )
        if relation is None:
            return
        if chosen == "table":
            out.print_table(relation, max_rows)
        else:
            out.write(relation, chosen, output)

    _until_interrupted(con, run, timeout)


def _relation(
    con: duckdb.DuckDBPyConnection,
    whole: Callable[[], duckdb.DuckDBPyConnection],
    text: str,
    bound: Mapping[str, Any] | None,
) -> duckdb.DuckDBPyRelation | None:
    """The result of SQL over a connection with what it names; a statement may have none.

    Whatever it misses there, a connection with everything has, or names what is close to it.
    """
    import duckdb

    try:
        return con.sql(text, params=bound)
    except duckdb.CatalogException:
        return whole().sql(text, params=bound)


def _until_interrupted(
    con: duckdb.DuckDBPyConnection, work: Callable[[], None], timeout: float | None
) -> None:
    """Run a query beside the main thread: DuckDB's fetches do not notice Ctrl-C by themselves.

    Raises:
        QueryError: it ran longer than `timeout` seconds.
    """
    from concurrent.futures import ThreadPoolExecutor, wait

    from s2d_store.errors import QueryError

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            if wait([future], timeout=timeout).done:
                future.result()
                return
            _interrupt(con, future)
        except KeyboardInterrupt:
            _interrupt(con, future)
            raise
    if future.exception() is not None:
        raise QueryError(
            f"the query was stopped after {timeout:g} s",
            "--timeout allows no more",
            "select fewer rows, or raise --timeout",
        )


def _interrupt(con: duckdb.DuckDBPyConnection, future: Future[None]) -> None:
    """Until the query ends: an interrupt that comes before it runs is lost, so it is repeated."""
    from concurrent.futures import wait

    while not future.done():
        con.interrupt()
        wait([future], timeout=0.1)


def find(text: str) -> queries.Query | str:
    """A named query, a file's query or text, or the SQL itself.

    Raises:
        NotFoundError: no such query or file.
        InputError: the file's header lacks a line, or has a wrong one.
    """
    import queries
    from s2d_store.errors import InputError, NotFoundError, did_you_mean

    named = queries.find(text)
    if named:
        return named
    path = Path(text)
    if text.endswith(".sql"):
        if not path.is_file():
            raise NotFoundError(f"no SQL file {text}", fix="s2d query --list shows named queries")
        content = path.read_text()
        if content.lstrip().startswith("-- question:"):
            try:
                return queries.parse(path.stem, "user", content)
            except ValueError as error:
                raise InputError(
                    f"{path}: {error}", fix="docs/own-sql.md shows a whole header"
                ) from error
        return content
    if text.isidentifier():
        raise NotFoundError(
            f"no query named {text!r}{did_you_mean(text, queries.catalog())}",
            fix="s2d query --list shows them; SQL goes in quotes: s2d query 'FROM rollouts'",
        )
    return text


def _list(name: str, form: str) -> None:
    import queries
    from cli.output import print_rows
    from s2d_store.errors import NotFoundError

    if not name:
        rows = [(q.folder, q.name, q.question) for q in queries.catalog().values()]
        print_rows(["folder", "name", "question"], rows, form)
        return
    named = queries.find(name)
    if named is None:
        raise NotFoundError(f"no query named {name!r}", fix="s2d query --list")
    print(f"{named.name}: {named.question}\ngrain: {named.grain}")
    print(f"columns: {', '.join(named.columns)}")
    for p in named.params:
        default = "required" if p.default is None else f"default {p.default}"
        print(f"  --param {p.name}=  {p.type}, {default}: {p.doc}")
    if any(p.default == queries.NULL for p in named.params):
        print("NULL: leave the parameter out")
