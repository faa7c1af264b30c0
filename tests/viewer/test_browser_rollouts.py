"""The pages of rollouts in a real browser: keys, clicks, scrolling, and what a model may write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from s2d_store.store import Store
from tests.support import viewed

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(sound: Store) -> Iterator[str]:
    with viewed.served(sound) as address:
        yield address


def test_a_token_shows_what_was_thought_there(sound: Store, url: str, tab: Page) -> None:
    text = "SELECT min(rollout_id) FROM tokens WHERE scorer IS NOT NULL"
    rollout = sound.sql(text).fetchall()[0][0]
    tab.goto(f"{url}/rollout/{rollout}?at=3")
    expect(tab.locator("#topk h3")).to_contain_text("Token 3")
    tab.locator("[data-tokens] > span").nth(9).click()
    expect(tab.locator("#topk h3")).to_contain_text("Token 9")
    assert tab.url.endswith("at=9")
    tab.keyboard.press("j")
    expect(tab.locator("#topk h3")).to_contain_text("Token 10")
    tab.locator("[data-tokens]").focus()
    tab.keyboard.press("ArrowLeft")
    expect(tab.locator("#topk h3")).to_contain_text("Token 9")
    assert tab.locator("#topk figure").count() >= 1
    tab.select_option("select[name=signal]", "surprise")
    expect(tab.locator(".legend")).to_contain_text("how unlikely the policy thought")
    assert "at=9" in tab.url  # a chosen signal keeps the token


def test_keys_move_through_the_table(url: str, tab: Page) -> None:
    tab.goto(f"{url}/rollouts")
    tab.keyboard.press("j")
    tab.keyboard.press("j")
    tab.keyboard.press("k")
    row = tab.locator("tr.current")
    expect(row).to_have_count(1)
    expect(row).to_have_attribute("data-index", "0")
    tab.keyboard.press("/")
    expect(tab.locator("#where")).to_be_focused()
    tab.keyboard.type("?j")
    expect(tab.locator("#where")).to_have_value("?j")
    tab.keyboard.press("Escape")
    tab.keyboard.press("?")
    expect(tab.locator("#help")).to_be_visible()
    tab.keyboard.press("Escape")
    expect(tab.locator("#help")).to_be_hidden()
    tab.keyboard.press("j")
    tab.keyboard.press("Enter")
    expect(tab.locator("h1")).to_contain_text("Rollout")


def test_the_table_scrolls_to_its_end(sound: Store, url: str, tab: Page) -> None:
    total = sound.sql("SELECT count(*) FROM rollouts").fetchall()[0][0]
    last = sound.sql("SELECT rollout_id FROM rollouts ORDER BY created_at, rollout_id DESC")
    tab.goto(f"{url}/rollouts")
    tab.locator("[data-rows]").evaluate("box => box.scrollTop = box.scrollHeight")
    row = tab.locator(f"tr[data-index='{total - 1}']")
    expect(row).to_be_visible()
    expect(row).to_have_attribute("data-href", f"/rollout/{last.fetchall()[0][0]}")


def test_a_bar_filters(url: str, tab: Page) -> None:
    tab.goto(f"{url}/rollouts")
    bar = tab.locator(".spread a").first
    name = bar.locator("text.name").text_content()
    bar.click()
    expect(tab.locator("#where")).to_have_value(f"outcome = '{name}'")
    expect(tab.locator("pre.sql")).to_contain_text(f"WHERE outcome = '{name}'")
