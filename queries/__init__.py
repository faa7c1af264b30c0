"""Named SQL queries, one question a file, and a small loader.

A file starts with a comment that says what it answers:

    -- question: one line
    -- grain: one row per ...
    -- params:
    --   name: TYPE = default -- what it means        (no default: required)
    -- columns: a, b, c

TYPE is one of TYPES. A parameter that takes one of a few words has them as its type:
`form: mean|median = mean -- ...`. The default NULL is SQL's null: no filter, or what the line says.
Such a parameter is null where it is left out or given as nothing (`--param name=`); no word stands
for it, so that any word can be the name of a policy, dataset or run. A choice with another default
that may be null names NULL among its words: `purpose: train|eval|NULL = train -- NULL: both`.

A dataset query may add `-- kind: grpo`, the kind of dataset that it stands in for; without it, its
own name is its kind. What a kind is, queries/kinds.py reads from further lines.
`-- candidates: a, b` names its parts (WITH a AS ...) that hold the rollouts it chooses from, before
any reward decides: s2d_store/datasets/labels_spent.py counts labels by them. An audit has a
second statement after the line `-- figures: what it shows`: what was looked at, with a column
`examined`, and `-- skipped when: there is nothing to look at`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from queries import kinds

ROOT = Path(__file__).parent
FOLDERS = ("datasets", "budgets", "audits", "analysis")
NULL = "NULL"
_PARAM = re.compile(r"(\w+):\s*([\w|]+)(?:\s*=\s*(.*?))?\s*--\s*(.*)")
_FIGURES = re.compile(r";?\s*^-- figures:", re.MULTILINE)
_COMMENT = re.compile(r"--.*")
# POLICY takes a policy's name or id and is bound as its id, ROLLOUT the first characters of an id
# or all of it. ROUTE takes a policy too, or an SQL expression over the columns of prompts that
# names one for each (s2d_store/datasets/teacher_routes.py). STAGE, RUN and DATASET (a name or id)
# have to be in the store. COUNT is a whole number of at least 1.
STORED = ("POLICY", "ROUTE", "ROLLOUT", "STAGE", "RUN", "DATASET")
TYPES = ("VARCHAR", "BIGINT", "COUNT", "DOUBLE", "BOOLEAN", *STORED)


@dataclass(frozen=True)
class Param:
    """A query's parameter.

    Attributes:
        name: as the SQL has it, without `$`.
        type: one of TYPES, or its words as `one|other`.
        default: as text; NULL is SQL's null, None that the parameter is required.
        doc: what it means.
    """

    name: str
    type: str
    default: str | None
    doc: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it takes; empty where its type is one of TYPES."""
        return tuple(w for w in self.type.split("|") if w != NULL) if "|" in self.type else ()

    @property
    def nullable(self) -> bool:
        """Whether it may be null."""
        return self.default == NULL or NULL in self.type.split("|")


@dataclass(frozen=True)
class Query:
    """A named query: header fields, and the SQL text as it stands in the file.

    `declared_kind` is the header's `kind`, empty where it has none; `figures` the second statement
    of an audit and `skipped_when` its comment, `candidates` the parts of a dataset query that it
    chooses from; empty where there is none.
    """

    name: str
    folder: str
    question: str
    grain: str
    params: tuple[Param, ...]
    columns: tuple[str, ...]
    sql: str
    declared_kind: str = ""
    figures: str = ""
    skipped_when: str = ""
    candidates: tuple[str, ...] = ()

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
    found = _FIGURES.search(text)
    sql = text[: found.start()] + "\n" if found else text
    figures = text[found.start() :].lstrip("; \n") if found else ""
    fields: dict[str, str] = {}
    params: list[Param] = []
    in_params = False
    for body in _header(sql):
        key, _, value = body.partition(":")
        if key in ("question", "grain", "columns", "kind", "candidates"):
            fields[key], in_params = value.strip(), False
        elif key == "params":
            in_params = value.strip() != "none"
        elif in_params and body:
            params.append(_parse_param(name, body))
    for key in ("question", "grain", "columns"):
        if key not in fields:
            raise ValueError(f"query {name}: its header lacks '-- {key}: ...'")
    skipped = [line for line in _header(figures) if line.startswith("skipped when:")]
    kinds.of(fields.get("kind") or name, text)
    return Query(
        name,
        folder,
        fields["question"],
        fields["grain"],
        tuple(params),
        tuple(column.strip() for column in fields["columns"].split(",")),
        sql,
        fields.get("kind", ""),
        figures,
        skipped[0].partition(":")[2].strip() if skipped else "",
        tuple(filter(None, (part.strip() for part in fields.get("candidates", "").split(",")))),
    )


def _header(text: str) -> list[str]:
    """The comment lines that a statement starts with, without their dashes."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line[2:].strip())
    return lines


def _parse_param(name: str, body: str) -> Param:
    match = _PARAM.fullmatch(body)
    if not match or (match[2] not in TYPES and "|" not in match[2]):
        raise ValueError(
            f"query {name}: parameter line {body!r} is not 'name: TYPE = default -- meaning' "
            f"with a type of {', '.join(TYPES)} or one|other"
        )
    param = Param(match[1], match[2], match[3], match[4])
    if param.choices and param.default not in (None, NULL, *param.choices):
        raise ValueError(
            f"query {name}: the default {param.default!r} of parameter {param.name} is not one of "
            f"{', '.join(param.choices)}"
        )
    return param


def uses(text: str, param: str) -> bool:
    """Whether SQL uses a parameter: `$k`, which `$keep` is not."""
    return re.search(rf"\${param}\b", text) is not None


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


def texts(*names: str) -> str:
    """SQL of shipped queries and of statements that s2d itself runs, one after the other.

    What a connection is made for: `Store.connect(text=...)` makes what these name and no more.
    """
    return "\n".join(query.sql if (query := find(name)) else internal(name) for name in names)


@cache
def view(name: str) -> str:
    """SQL behind a page of `s2d view`: queries/view/NAME.sql."""
    return (ROOT / "view" / f"{name}.sql").read_text()


@cache
def raw(name: str) -> str:
    """SQL that makes a table in schema `raw` of what its files hold: queries/raw/NAME.sql."""
    return (ROOT / "raw" / f"{name}.sql").read_text()


@cache
def definitions(tables: tuple[str, ...]) -> Mapping[str, str]:
    """SQL that makes each view and macro over tables in schema `raw`, in an order that works."""
    views = {path.stem: path.read_text() for path in sorted((ROOT / "views").glob("*.sql"))}
    made = {"dataset_kinds": kinds.view()}
    made |= {
        name: f"CREATE VIEW {name} AS SELECT * FROM raw.{name}"
        for name in tables
        if name not in views
    }
    made |= {path.stem: path.read_text() for path in sorted((ROOT / "macros").glob("*.sql"))}
    made |= {name: f"CREATE VIEW {name} AS\n{text}" for name, text in views.items()}
    return _in_order(made)


def _in_order(made: Mapping[str, str]) -> dict[str, str]:
    """The same definitions, each after those that its own SQL names."""
    placed: dict[str, str] = {}

    def place(name: str, within: frozenset[str]) -> None:
        for other in _named(_code(made[name]), made) - within - placed.keys() - {name}:
            place(other, within | {name})
        placed.setdefault(name, made[name])

    for name in made:
        place(name, frozenset())
    return placed


def _code(text: str) -> str:
    """SQL of a file here without its comments."""
    return _COMMENT.sub("", text)


def _named(text: str, names: Iterable[str]) -> set[str]:
    """Those of the names that stand in SQL as a word."""
    words = set(re.findall(r"\w+", text.lower()))
    return {name for name in names if name in words}


def named_in(text: str, tables: tuple[str, ...]) -> set[str]:
    """Views, macros and tables that SQL names, and those that their own SQL names in turn."""
    made = {**_macros_on_demand(), **definitions(tables)}
    found = set[str]()
    waiting = [text]
    while waiting:
        new = _named(waiting.pop(), (*made, *tables)) - found
        found |= new
        waiting += [_code(made[name]) for name in new if name in made]
    return found


@cache
def _macros_on_demand() -> Mapping[str, str]:
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder / "macros").glob("*.sql"))
    return {path.stem: path.read_text() for path in paths}


def macros_for(text: str) -> dict[str, str]:
    """SQL that makes the macros of queries/*/macros/ that `text` calls, inner ones first, by name.

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
    return needed
