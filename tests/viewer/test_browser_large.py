"""Every page of a store of a million rollouts in a real browser. Not part of CI.

    S2D_LARGE_STORE=/data/1m make test-view ARGS="-s -k large"

The store of `benchmarks.viewer` is made where there is none: a few minutes, half a gigabyte. What
each page took is printed: until it was seen, until its figures stood, and with what it loads itself
afterwards, such as the lights of the audits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from benchmarks import viewer
from benchmarks.synthetic_store import Builder
from s2d_store.store import Store

ROLLOUTS, MEAN_TOKENS, K = 1_000_000, 50, 4
PLACE = os.environ.get("S2D_LARGE_STORE", "")
PATIENCE_MS = 600_000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not PLACE, reason="S2D_LARGE_STORE names no folder"),
]


@pytest.fixture(scope="module")
def store() -> Store:
    if not Store.is_at(PLACE):
        Builder(Path(PLACE), ROLLOUTS, MEAN_TOKENS, K, 0).build()
    return Store.open(PLACE)


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    with viewer.server(Path(PLACE)) as (address, _):
        yield address


def test_every_page_of_a_large_store_stands_without_a_complaint(
    store: Store, url: str, tab: Page
) -> None:
    ((rollouts,),) = store.sql("SELECT count(*) FROM rollouts").fetchall()
    for title, path in viewer.pages(store).items():
        if ".json" in path and "index" not in path:
            continue
        began = time.perf_counter()
        answer = tab.goto(url + path.replace("index.json", ""), timeout=PATIENCE_MS)
        seen = time.perf_counter() - began
        assert answer is not None and answer.status == 200, title
        # What is still added up loads itself again.
        expect(tab.locator("meta[http-equiv=refresh]")).to_have_count(0, timeout=PATIENCE_MS)
        expect(tab.locator("main")).to_be_visible()
        figures = time.perf_counter() - began
        tab.wait_for_load_state("networkidle", timeout=PATIENCE_MS)
        whole = time.perf_counter() - began
        took = f"{seen:.2f} s seen, {figures:.2f} s figures, {whole:.2f} s all of it"
        print(f"{rollouts:,} rollouts, {title}: {took}")
