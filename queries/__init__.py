"""Named SQL queries, one question a file, and a small loader.

A file starts with a comment that says what it answers:

    -- question: one line
    -- grain: one row a ...
    -- params:
    --   name: TYPE = default -- what it means        (no default: required)
    -- columns: a, b, c

A parameter that takes one of a few words has them as its type: `form: mean|median = mean -- ...`.
A dataset query may add `-- kind: grpo`, the kind of dataset that it stands in for; without it, its
own name is its kind. What a kind is, queries/kinds.py reads from further lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from queries import kinds

ROOT = Path(__file__).parent
FOLDERS = ("datasets", "budgets", "audits", "analysis")
_PARAM = re.compile(r"(\w+):\s*([\w|]+)(?:\s*=\s*(.*?))?\s*--\s*(.*)")
# POLICY takes a policy's name or id and is bound as its id; a default, as `any`, stays as it is.
# COUNT is a whole number of at least 1.
TYPES = ("VARCHAR", "BIGINT", "COUNT", "DOUBLE", "BOOLEAN", "POLICY")


@dataclass(frozen=True)
class Param:
    """A query's parameter: name, SQL type or `one|other`, default as text (None = required),
    meaning.
    """

    name: str
    type: str
    default: str | None
    doc: str


@dataclass(frozen=True)
class Query:
    """A named query: header fields and the SQL text as it stands in the file.

    `declared_kind` is the header's `kind`, empty where it has none.
    """

    name: str
    folder: str
    question: str
    grain: str
    params: tuple[Param, ...]
    columns: tuple[str, ...]
    sql: str
    declared_kind: str = ""

    @property
    def kind(self) -> str:
        """What kind of dataset it makes: as declared, else the query's own name."""
        return self.declared_kind or self.name

    @property
    def traits(self) -> kinds.Kind:
        """What that kind is: as its header declares, see `queries.kinds`."""
        return kinds.of(self.kind, self.sql)


def parse(name: str, folder: str, text: str) -> Query:
    """Read a query's header.

    Raises:
        ValueError: a header line is missing or malformed; says which.
    """
    fields: dict[str, str] = {}
    params: list[Param] = []
    in_params = False
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        body = line[2:].strip()
        key, _, value = body.partition(":")
        if key in ("question", "grain", "columns", "kind"):
            fields[key], in_params = value.strip(), False
        elif key == "params":
            in_params = value.strip() != "none"
        elif in_params and body:
            params.append(_parse_param(name, body))
    for key in ("question", "grain", "columns"):
        if key not in fields:
            raise ValueError(f"query {name}: its header lacks '-- {key}: ...'")
    columns = tuple(column.strip() for column in fields["columns"].split(","))
    kinds.of(fields.get("kind") or name, text)
    return Query(
        name,
        folder,
        fields["question"],
        fields["grain"],
        tuple(params),
        columns,
        text,
        fields.get("kind", ""),
    )


def _parse_param(name: str, body: str) -> Param:
    match = _PARAM.fullmatch(body)
    if not match or (match[2] not in TYPES and "|" not in match[2]):
        raise ValueError(
            f"query {name}: parameter line {body!r} is not 'name: TYPE = default -- meaning' "
            f"with a type of {', '.join(TYPES)} or one|other"
        )
    return Param(match[1], match[2], match[3], match[4])


@cache
def catalog() -> Mapping[str, Query]:
    """Every query that ships with s2d, by name."""
    return {
        path.stem: parse(path.stem, folder, path.read_text())
        for folder in FOLDERS
        for path in sorted((ROOT / folder).glob("*.sql"))
    }


def find(name: str) -> Query | None:
    """A shipped query by name, or None."""
    return catalog().get(name)


@cache
def internal(name: str) -> str:
    """SQL of a statement that s2d itself runs: queries/internal/NAME.sql."""
    return (ROOT / "internal" / f"{name}.sql").read_text()


@cache
def raw_macros() -> tuple[str, ...]:
    """SQL of the macros by which the tables in schema `raw` are read from their files."""
    return tuple(path.read_text() for path in sorted((ROOT / "raw").glob("*.sql")))


@cache
def definitions(tables: tuple[str, ...]) -> Mapping[str, str]:
    """SQL that makes each view and macro over tables in schema `raw`, in an order that works."""
    views = {
        re.sub("^[0-9]+_", "", path.stem): path.read_text()
        for path in sorted((ROOT / "views").glob("*.sql"))
    }
    made = {"dataset_kinds": kinds.view()}
    made |= {
        name: f"CREATE VIEW {name} AS SELECT * FROM raw.{name}"
        for name in tables
        if name not in views
    }
    made |= {name: f"CREATE VIEW {name} AS\n{text}" for name, text in views.items()}
    return made | {path.stem: path.read_text() for path in sorted((ROOT / "macros").glob("*.sql"))}


def named_in(text: str, tables: tuple[str, ...]) -> set[str]:
    """Views, macros and tables that SQL names, and those that their own SQL names in turn."""
    made, found = definitions(tables), set[str]()
    waiting = [text]
    while waiting:
        words = set(re.findall(r"\w+", waiting.pop().lower()))
        new = {name for name in (*made, *tables) if name in words} - found
        found |= new
        waiting += [made[name] for name in new if name in made]
    return found


@cache
def _macros_on_demand() -> Mapping[str, str]:
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder / "macros").glob("*.sql"))
    return {path.stem: path.read_text() for path in paths}


def macros_for(text: str) -> list[str]:
    """SQL that makes the macros of queries/*/macros/ that `text` calls, inner ones first.

    A connection makes them on demand: binding them all would cost every command a tenth of a
    second.
    """
    needed: dict[str, str] = {}

    def visit(text: str, seen: frozenset[str]) -> None:
        for name, macro in _macros_on_demand().items():
            if name not in seen and re.search(rf"\b{name}\s*\(", text):
                visit(macro, seen | {name})
                needed.setdefault(name, macro)

    visit(text, frozenset())
    return list(needed.values())
