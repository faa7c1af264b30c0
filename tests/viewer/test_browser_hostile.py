"""What models, users and files write is text to the viewer, whatever it looks like."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from s2d_store.store import Store
from tests.support import hostile_store, viewed
from tests.support.hostile_store import ANSI, NAME, SCRIPT, TOKENS

pytestmark = pytest.mark.browser

PATHS = (
    "/",
    f"/?stage={quote(f'grpo{SCRIPT}')}",
    "/rollouts",
    f"/rollouts?where={quote(SCRIPT)}",
    "/rollouts?order=oldest&ready=cut_off",
    "/rollout/{rollout}",
    "/rollout/{rollout}?at=3&signal=surprise",
    "/rollout/{rollout}/topk/8",
    f"/rollout/{quote(SCRIPT, safe='')}",
    "/compare",
    f"/compare?a=teacher&b={quote(NAME)}&purpose=train&cell=first",
    "/compare?what=verifiers",
    "/datasets",
    "/datasets/d",
    "/books",
    f"/books?policy={quote(NAME)}",
    "/audits",
    f"/sql?sql={quote(SCRIPT)}",
    f"/sql?sql={quote('SELECT messages, answer, source, split FROM prompts')}",
    f"/sql?sql={quote('SELECT response_text FROM rollouts')}",
    f"/{quote(SCRIPT)}",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return hostile_store.make(tmp_path_factory.mktemp("hostile") / "store")


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    with viewed.served(store) as address:
        yield address


@pytest.fixture(scope="module")
def rollout(store: Store) -> str:
    text = (
        "SELECT rollout_id FROM rollouts WHERE purpose = 'train' ORDER BY sample_index, policy_id"
    )
    return str(store.sql(text).fetchall()[0][0])


@pytest.mark.parametrize("path", PATHS)
def test_nothing_that_is_shown_is_obeyed(url: str, rollout: str, tab: Page, path: str) -> None:
    answer = tab.goto(url + path.replace("{rollout}", rollout))
    assert answer is not None and answer.status < 500
    tab.wait_for_load_state("networkidle")
    assert tab.title().endswith("s2d view")
    # Elements and handlers of ours alone.
    assert tab.evaluate("[...document.scripts].every(s => s.src.startsWith(location.origin))")
    assert tab.locator("img, iframe, object, embed, base, [href^='javascript']").count() == 0
    handlers = "e => [...e.attributes].some(a => a.name.startsWith('on'))"
    assert tab.evaluate(f"[...document.querySelectorAll('*')].some({handlers})") is False
    shown = tab.locator("body").inner_text()
    assert not set(shown) & {"\x1b", "\x07", "\u202e", "\u2066"}


def test_it_is_all_there_to_be_read(url: str, rollout: str, tab: Page) -> None:
    tab.goto(f"{url}/rollout/{rollout}?at=0")
    conversation = tab.locator(".chat").inner_text()
    assert SCRIPT in conversation and "{{ 7 * 7 }}" in conversation
    assert ANSI.replace("\x1b", "\u241b").replace("\x07", "\u2407") in conversation
    assert "\u27e8U+202E\u27e9txt.exe" in conversation
    spans = tab.locator("[data-tokens] > span")
    expect(spans).to_have_count(len(TOKENS))
    assert SCRIPT in spans.nth(0).inner_text()
    assert "(1,048,576 characters)" in spans.nth(8).inner_text()
    spans.nth(8).click()
    expect(tab.locator("#topk h3")).to_contain_text("Token 8")
    assert tab.locator("math [href], math [onerror], math img").count() == 0


def test_the_table_fetches_rows_as_text(url: str, tab: Page) -> None:
    tab.goto(f"{url}/rollouts?order=oldest")
    row = tab.locator("tr[data-index='0']")
    expect(row).to_be_visible()
    assert SCRIPT[:30] in row.inner_text()
