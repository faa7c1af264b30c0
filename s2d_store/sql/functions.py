"""SQL functions in Python, made on the connections whose SQL calls them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import duckdb


class _Function(NamedTuple):
    """A function of s2d_store.sql.column_functions: its parameters' and result's SQL types."""

    parameters: tuple[str, ...]
    returns: str


FUNCTIONS = {
    "mean_interval": _Function(
        ("DOUBLE[]", "BOOLEAN"),
        "STRUCT(standard_error DOUBLE, low DOUBLE, high DOUBLE)",
    ),
    "paired_test": _Function(
        ("DOUBLE[]", "DOUBLE"),
        "STRUCT(standard_error DOUBLE, low DOUBLE, high DOUBLE, p DOUBLE, p_equivalent DOUBLE)",
    ),
    "topk_summary": _Function(
        ("INTEGER[]", "FLOAT[]", "INTEGER", "SMALLINT[]"),
        'STRUCT("top" INTEGER[], entropy DOUBLE[], tail DOUBLE[])',
    ),
    "token_text": _Function(("VARCHAR", "BOOLEAN"), "VARCHAR"),
}


def create_functions(con: duckdb.DuckDBPyConnection, text: str) -> None:
    """Make the functions that SQL calls, unless the connection has them."""
    called = [name for name in FUNCTIONS if re.search(rf"\b{name}\s*\(", text)]
    if called:
        from s2d_store.sql import column_functions

        for name in called:
            function = FUNCTIONS[name]
            # Its annotations know enumerations only, which stand elsewhere in older versions.
            create: Callable[..., object] = con.create_function
            try:
                create(
                    name,
                    getattr(column_functions, name),
                    list(function.parameters),
                    function.returns,
                    type="arrow",
                    null_handling="special",
                )
            except duckdb.NotImplementedException as error:
                # Looking it up in DuckDB's catalog takes a tenth of a second.
                if "already created" not in str(error):
                    raise
