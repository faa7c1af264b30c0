"""What a published row must not tell: secrets, and where files lie on somebody's machine."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa

from s2d_store.ids import content_id
from s2d_store.redact import redact

# Text columns that may name machines and places, by table. What prompts and responses say is the
# data itself, and stays; of prompts' other fields, which verifiers read, secrets alone are masked.
SECRETS_ALONE = ("prompts",)
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "prompts": ("meta", "task"),
    "runs": ("config", "argv"),
    "rollouts": ("source", "endpoint"),
    "rewards": ("detail", "metrics", "cost"),
    "endpoints": ("endpoint",),
    "policies": ("location",),
    "relocations": ("location",),
}
# An absolute path of at least two parts; what follows a colon or slash is part of a URL.
_PATH = re.compile(r"(?<![\w:/.~-])(?:~|/[\w.@+-]+)(?:/[\w.@+ -]*[\w.@+-])+/?")
_HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_URL = re.compile(r"\b(?!hf:)[a-z][a-z0-9+.-]*://[^\s\"',}\]]+")


def masked(name: str, table: pa.Table) -> pa.Table:
    """Rows of a table without secrets, paths and addresses."""
    for column in COLUMNS.get(name, ()):
        at = table.column_names.index(column)
        values = table.column(column).to_pylist()
        if column == "location":
            names = table.column(_NAMED_BY[name]).to_pylist()
            values = [_location(v, n) for v, n in zip(values, names, strict=True)]
        elif pa.types.is_list(table.schema.field(column).type):
            values = [v and [mask(item) for item in v] for v in values]
        else:
            change = redact if name in SECRETS_ALONE else mask
            values = [v and change(v) for v in values]
        made = pa.array(values, table.schema.field(column).type)
        table = table.set_column(at, table.schema.field(column), made)
    return table


_NAMED_BY = {"policies": "name", "relocations": "policy_id"}


def mask(text: str) -> str:
    """Text with secrets masked, absolute paths cut to their last part, and URLs by a hash."""
    text = _URL.sub(lambda found: f"url-{content_id(found[0])[:8]}", redact(text))
    return _PATH.sub(lambda found: ".../" + found[0].rstrip("/").rpartition("/")[2], text)


def _location(location: str | None, name: str) -> str | None:
    """Hub ids stay; a folder becomes one that the clone does not have, until it is moved there."""
    if location is None or _HUB_ID.fullmatch(location):
        return location
    return f"./policies/{name}"
