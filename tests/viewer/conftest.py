"""The demo's store, and a browser that must not speak of errors nor reach beyond the server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Response

from s2d_store.store import Store
from tests.support import pictures
from viewer import demo

_SAID_BY_STATUS = "error: Failed to load resource: the server responded with a status of 4"


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What `s2d view --demo` makes; no test changes it."""
    return demo.make(tmp_path_factory.mktemp("demo") / "store")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    if shutil.which("chromium") is None:
        pytest.skip("no chromium here: make test-view installs Debian's")
    with pictures.chromium() as made:
        yield made


def _missing(answer: Response) -> list[str]:
    """What a page asked for beside itself and did not get."""
    beside = answer.status >= 400 and not answer.request.is_navigation_request()
    return [f"{answer.status}: {answer.url}"] if beside else []


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """An empty page; after the test it must have seen no error and asked for nothing elsewhere."""
    context = browser.new_context(viewport=pictures.VIEWPORT)
    page = context.new_page()
    complaints: list[str] = []
    asked: set[str] = set()
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("response", lambda answer: complaints.extend(_missing(answer)))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: asked.add(urlsplit(request.url).hostname or request.url))
    yield page
    context.close()
    # Of a page that says what a reader did wrong, Chromium says so, too.
    assert not [text for text in complaints if not text.startswith(_SAID_BY_STATUS)]
    assert asked <= {"127.0.0.1"}
