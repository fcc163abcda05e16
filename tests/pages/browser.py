"""The promises of a report, checked in a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDEST = "Math.max(...[document.documentElement, ...document.querySelectorAll('table')].map((e) => e.scrollWidth))"
OPEN_DETAILS = "document.querySelectorAll('details').forEach((d) => { d.dataset.open = d.open; d.open = true; })"
RESTORE_DETAILS = "document.querySelectorAll('details').forEach((d) => { d.open = d.dataset.open === 'true'; })"
DRAWN = "(shown) => shown.complete || shown.querySelector('.main-svg')"  # a picture, or a figure
NARROW, WIDE, HEIGHT = 420, 1400, 900
SETTLES = 20  # maximum number of measurements of a width
MOST_SECONDS = 3.0  # limit on the time to load a page
MOST_NODES = 4000  # limit on the nodes of a page before its details are opened
MAC_CHROME = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def find_browser() -> str | None:
    """The path of a Chromium or Chrome: ``ENGRAM_BROWSER``, one of this machine, or Playwright's; None without any."""
    for path in (os.environ.get("ENGRAM_BROWSER"), *map(shutil.which, BROWSERS)):
        if path:
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        playwrights = Path(playwright.chromium.executable_path)
    return next((str(path) for path in (MAC_CHROME, playwrights) if path.exists()), None)


@contextmanager
def open_browser() -> Iterator[Page]:
    """Open a page of Chromium or Chrome without network, in which to check reports one after another.

    Raises:
        FileNotFoundError: No Chromium or Chrome is installed.
    """
    from playwright.sync_api import sync_playwright

    path = find_browser()
    if path is None:
        raise FileNotFoundError("no Chromium or Chrome found: install one, or name it in ENGRAM_BROWSER")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": NARROW, "height": HEIGHT}, offline=True)
        page.set_default_timeout(120_000)  # for a busy machine
        yield page
        browser.close()


def check_report(path: Path, screenshot: Path | None = None, page: Page | None = None) -> None:
    """Check that a report opens in an offline browser: no errors, its claims visible, its figures drawn.

    It asks the network for nothing, has at most 4,000 nodes before its details are opened, and fits screens of 420 and
    1400 pixels with them open.

    Args:
        path: The HTML file.
        screenshot: Where to write a picture of the whole page at 1400 pixels (PNG), and one at 420 pixels with ``-420``
            appended to its name (default: nowhere).
        page: A page of ``open_browser``, to reuse its compiled scripts (default: start a browser for this report).

    Raises:
        FileNotFoundError: No Chromium or Chrome is installed.
    """
    if page is None:
        with open_browser() as new_page:
            check_report(path, screenshot, new_page)
        return
    problems: list[str] = []
    listeners: dict[Any, Any] = {
        "console": lambda message: problems.append(message.text) if message.type == "error" else None,
        "pageerror": lambda error: problems.append(str(error)),
        "requestfailed": lambda request: problems.append(f"asks for {request.url}"),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    page.goto(path.absolute().as_uri())
    page.wait_for_load_state("load")
    claims = page.locator(".claims .claim")
    assert claims.count(), "the report shows no claim"
    for index in range(claims.count()):
        assert claims.nth(index).is_visible(), f"claim {index} of the report is not visible"
    check_nodes(page, path.stem)
    for kind in ["figure", *["curves"] * bool(page.locator(".curves").count())]:
        plot = page.locator(f".{kind} .plot").first
        plot.evaluate("plot => { plot.closest('details')?.setAttribute('open', ''); plot.scrollIntoView(); }")
        plot.locator("svg.main-svg").first.wait_for(state="visible", timeout=20_000)
        marks = plot.locator(".cartesianlayer :is(path, rect, image)").count()
        assert marks > 2, f"the first {kind} of the report shows nothing"
    check_widths(page, path.stem, screenshot)
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    assert not problems, f"the report reports errors: {problems}"


def check_nodes(page: Page, name: str) -> None:
    """Check that a page has at most 4,000 nodes, with all figures drawn and its details closed.

    Args:
        page: The page, opened.
        name: The page's name, for the error.
    """
    for picture in page.locator(".plot, img").all():
        if picture.is_visible():
            picture.scroll_into_view_if_needed()
            page.wait_for_function(DRAWN, arg=picture.element_handle())
    closed = "details:not([open]) > :not(summary)"
    nodes = page.locator(f"body *:not({closed}, {closed} *)").count()
    assert nodes <= MOST_NODES, f"{name} has {nodes} nodes before details are opened: expected at most {MOST_NODES}"


def check_load(page: Page, name: str) -> None:
    """Check that a page was loaded within 3 seconds.

    Args:
        page: The page, loaded.
        name: The page's name, for the error.
    """
    seconds = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    assert 0 < seconds <= MOST_SECONDS, f"{name} is loaded in {seconds:.1f} s: expected at most {MOST_SECONDS:g} s"


def check_widths(page: Page, name: str, screenshot: Path | None = None) -> None:
    """Check that a page and all its tables fit a narrow and a wide screen, with its details open.

    Args:
        page: The page, opened.
        name: The page's name, for the error.
        screenshot: Where to write a picture of the page at 1400 pixels (PNG), and one at 420 pixels with ``-420``
            appended to its name (default: nowhere).
    """
    for width, suffix in ((NARROW, f"-{NARROW}"), (WIDE, "")):
        size = page.viewport_size
        if size is None or size["width"] != width:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            if page.locator(".plot").count():
                page.wait_for_timeout(300)  # figures are redrawn
        if screenshot is not None:
            screenshot.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=screenshot.with_stem(f"{screenshot.stem}{suffix}"), full_page=True)
        wide = 0
        page.evaluate(OPEN_DETAILS)
        for _ in range(SETTLES):  # figures take time on a busy machine
            if (wide := page.evaluate(WIDEST)) <= width:
                break
            page.wait_for_timeout(300)
        page.evaluate(RESTORE_DETAILS)
        assert wide <= width, f"{name}, or a table of it, is {wide} pixels wide on a screen of {width}"
    page.set_viewport_size({"width": NARROW, "height": HEIGHT})  # the next page is drawn at this width at once
