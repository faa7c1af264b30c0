"""Every page of a small store in a real browser: light, dark, without scripts, by keyboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from s2d_store.store import Store
from tests.support import pictures, viewed
from tests.support.pictures import paths
from viewer.pages import PAGES

pytestmark = pytest.mark.browser

NAVIGATED = [page for page in PAGES if page.title]


@pytest.fixture(scope="module")
def store(demo_store: Store) -> Store:
    return demo_store


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    with viewed.served(store) as address:
        yield address


@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_every_page_stands_without_a_complaint(
    store: Store, url: str, tab: Page, name: str
) -> None:
    path = paths(store)[name]
    answer = tab.goto(url + path)
    assert answer is not None and answer.status == 200
    tab.wait_for_load_state("networkidle")
    expect(tab.locator("main")).to_be_visible()
    # Nothing is wider than the window, whatever a table holds.
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # Drawings and fields say what they are.
    unnamed = "svg.chart:not([aria-label]), input:not([aria-label]):not([type=hidden])"
    for field in tab.locator(unnamed).all():
        assert field.evaluate("e => e.labels && e.labels.length > 0")
    assert pictures.distance(tab.screenshot(), name) < pictures.MOST


def test_a_broken_page_does_not_look_like_the_stored_picture(url: str, tab: Page) -> None:
    for breaks in (
        "document.querySelector('main').remove()",
        "document.querySelectorAll('link[rel=stylesheet]').forEach(e => e.remove())",
    ):
        tab.goto(f"{url}/compare")
        tab.evaluate(breaks)
        assert pictures.distance(tab.screenshot(), "compare") > pictures.MOST


def test_digits_lead_to_the_pages(url: str, tab: Page) -> None:
    tab.goto(url)
    for digit, page in enumerate(NAVIGATED, 1):
        tab.keyboard.press(str(digit))
        expect(tab.locator(".top [aria-current=page]")).to_have_text(page.title)
        tab.wait_for_load_state("networkidle")


def test_a_stage_opens_and_its_audits_arrive(url: str, tab: Page) -> None:
    tab.goto(url)
    tab.locator("svg.graph a", has_text="bridge").click()
    expect(tab.locator("#curves h2")).to_contain_text("bridge")
    expect(tab.locator(".lights li").first).to_be_visible(timeout=60_000)
    assert tab.locator(".lights .passed, .lights .failed").count() > 5


def test_a_pair_opens_from_the_keyboard(url: str, tab: Page) -> None:
    tab.goto(f"{url}/compare")
    tab.locator(".square .second a").click()
    tab.wait_for_url("**cell=second*")
    tab.keyboard.press("j")
    tab.keyboard.press("Enter")
    expect(tab.locator(".pair")).to_have_count(1)
    assert "left=" in tab.url
    expect(tab.locator(".parts")).to_have_count(2)


def test_sql_is_written_run_and_drawn(url: str, tab: Page) -> None:
    tab.goto(f"{url}/sql")
    tab.keyboard.press("/")
    tab.keyboard.type("SELECT round, avg(reward) AS reward FROM graded_rollouts GROUP BY ALL")
    tab.keyboard.press("Control+Enter")
    expect(tab.locator("svg.chart")).to_be_visible()
    expect(tab.locator("#sql")).to_have_value(
        "SELECT round, avg(reward) AS reward FROM graded_rollouts GROUP BY ALL"
    )
    tab.get_by_label("chart").select_option("bars")
    expect(tab.locator("svg.bars")).to_be_visible()


def test_it_can_be_read_without_javascript(store: Store, url: str, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{url}/rollouts")
    page.get_by_role("link", name="next").click()
    expect(page.locator(".paging")).to_contain_text("61 to 120")
    page.goto(f"{url}{paths(store)['rollout']}")
    page.get_by_label("token", exact=True).fill("5")
    page.get_by_role("button", name="show").click()
    expect(page.locator("#topk h3")).to_contain_text("Token 5")
    page.goto(url)
    page.get_by_role("link", name="run the audits").click()
    expect(page.locator(".lights li").first).to_be_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(url: str, browser: Browser, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url)
    luminance = """name => {
        const [r, g, b] = getComputedStyle(document.querySelector(name[0]))[name[1]]
            .match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    }"""
    back = page.evaluate(luminance, [".card", "backgroundColor"])
    for selector in ("body", ".card h2 .muted", ".facts dt", ".top nav a"):
        ink = page.evaluate(luminance, [selector, "color"])
        bright, dim = max(back, ink), min(back, ink)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, selector
    context.close()


def test_a_page_is_printed_whole(store: Store, url: str, tab: Page) -> None:
    tab.goto(f"{url}{paths(store)['rollout']}")
    tab.emulate_media(media="print")
    expect(tab.locator(".top")).to_be_hidden()
    box = tab.locator("[data-tokens]")
    assert box.evaluate("e => e.scrollHeight <= e.clientHeight + 2")
