"""The web application: a route per page, as HTML and as JSON, over one store."""

from __future__ import annotations

import traceback
from contextlib import suppress
from functools import partial

import jinja2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from s2d_store.errors import NotFoundError, S2DError
from s2d_store.redact import redact
from s2d_store.store import Store
from viewer import spending, text
from viewer.environment import FOLDER, environment
from viewer.guard import Guard
from viewer.page import Page
from viewer.pages import PAGES
from viewer.params import Params
from viewer.snapshots import Snapshots

# Pages that are loaded before anybody asks, in this order of PAGES.
WARM = ("experiment", "rollouts", "books")
STATUS_OF_ERROR, STATUS_OF_NOTHING, STATUS_OF_FAULT = 400, 404, 500


def make(
    store: Store, token: str = "", host: str = "127.0.0.1", limit_s: float = 30.0
) -> Starlette:
    """The application over a store.

    Args:
        store: the store that it shows.
        token: what readers must have; empty where only loopback is served.
        host: the address that is listened at.
        limit_s: seconds that one query may take.
    """
    return application(snapshots_of(store, limit_s), token, host)


def snapshots_of(store: Store, limit_s: float = 30.0, patience_s: float | None = None) -> Snapshots:
    """What the pages see of a store; see `Snapshots`."""
    groups = {page.name: page.queries for page in PAGES} | {spending.PAGE: spending.QUERIES}
    return Snapshots(store, groups, limit_s, patience_s)


def warm(snapshots: Snapshots) -> None:
    """Load the pages that take longest in a large store, until the snapshots are closed."""
    for page in PAGES:
        if page.name in WARM:
            # What is wrong with the store, the page itself says to whoever opens it.
            with suppress(S2DError, KeyboardInterrupt):
                page.load(snapshots.newest(), Params(page.path, {}))


def application(snapshots: Snapshots, token: str, host: str) -> Starlette:
    """The application over snapshots; see `make`."""
    templates = environment()
    templates.globals["store_name"] = text.shown(snapshots.store.root)
    routes: list[Route | Mount] = []
    for page in PAGES:
        answer = partial(_answer, page, snapshots, templates)
        stem = page.path.rstrip("/") or "/index"
        routes += [
            Route(f"{stem}.json", partial(answer, True), name=f"{page.name}.json"),
            Route(page.path, partial(answer, False), name=page.name),
        ]
    routes.append(Mount("/static", StaticFiles(directory=FOLDER / "static"), name="static"))
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=token, host=host)],
        exception_handlers={404: partial(_nothing_there, templates)},
    )


def _answer(
    page: Page, snapshots: Snapshots, templates: jinja2.Environment, as_json: bool, request: Request
) -> Response:
    """A page's data as JSON or through its template; a reader's mistake in three lines."""
    as_json = as_json or request.query_params.get("format") == "json"
    values = {k: v for k, v in request.query_params.items() if k != "format"}
    path = request.url.path.removesuffix(".json")
    params = Params(path if path != "/index" else "/", {**values, **request.path_params}, as_json)
    here = Params(params.path, values)
    try:
        data = page.load(snapshots.newest(), params)
        if as_json:
            return JSONResponse(text.plain(data))
        html = templates.get_template(f"{page.name}.html").render(page=page, here=here, **data)
        return HTMLResponse(html)
    except S2DError as error:
        status = STATUS_OF_NOTHING if isinstance(error, NotFoundError) else STATUS_OF_ERROR
        return _error(templates, status, error.what, error.why, error.fix, as_json)
    except Exception:  # the boundary: one page's fault must not be the end of the server
        print(redact(traceback.format_exc()), flush=True)
        what = "this page failed; what happened stands in the terminal of s2d view"
        return _error(templates, STATUS_OF_FAULT, what, "", "", as_json)


def _nothing_there(templates: jinja2.Environment, request: Request, _: Exception) -> Response:
    as_json = request.url.path.endswith(".json")
    return _error(templates, STATUS_OF_NOTHING, "there is no such page", "", "", as_json)


def _error(
    templates: jinja2.Environment, status: int, what: str, why: str, fix: str, as_json: bool
) -> Response:
    if as_json:
        return JSONResponse({"error": what, "why": why, "fix": fix}, status)
    page = templates.get_template("error.html")
    return HTMLResponse(page.render(page=None, what=what, why=why, fix=fix), status)
