"""The templates: what they are, and what they may call. Needs no web server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from viewer import drawings, latex, text, tokens_html
from viewer.pages import PAGES

FOLDER = Path(__file__).parent


class _Environment(jinja2.Environment):
    """Templates in which `row.update` is the column of a record, not the method of a dict."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def environment() -> jinja2.Environment:
    """The templates, with what they call; everything that they print is escaped."""
    made = _Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: tuple[Callable[..., Any], ...] = (
        text.shown,
        text.one_line,
        text.number,
        text.p_value,
        text.signed,
        text.percent,
        text.duration,
        text.moment,
        text.cell,
        latex.rendered,
    )
    made.filters.update({function.__name__: function for function in filters})
    made.globals.update(
        token_spans=tokens_html.token_spans,
        parted=tokens_html.parted,
        **{function.__name__: function for function in drawings.FUNCTIONS},
        pages=[page for page in PAGES if page.title],
    )
    return made
