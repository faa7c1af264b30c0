"""What a page is: data of one snapshot, the same as JSON and, through a template, as HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from viewer.params import Params
from viewer.snapshots import View


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        name: names its template, and its place in the navigation.
        path: its URL, with `{name}` for parts that its parameters hold.
        title: in the navigation; empty for pages that stand in none.
        queries: names of the queries that it asks, which share a connection.
        load: its data, ready for JSON up to `text.plain`.
    """

    name: str
    path: str
    title: str
    queries: tuple[str, ...]
    load: Callable[[View, Params], dict[str, Any]]
