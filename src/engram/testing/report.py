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
NARROW, WIDE, HEIGHT = 500, 1400, 900
SETTLES = 20  # times that a width is looked at
MAC_CHROME = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def find_browser() -> str | None:
    """The path of a Chromium or Chrome: ``ENGRAM_BROWSER``, one installed on this machine, or Playwright's."""
    for path in (os.environ.get("ENGRAM_BROWSER"), *map(shutil.which, BROWSERS)):
        if path:
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        playwrights = Path(playwright.chromium.executable_path)
    return next((str(path) for path in (MAC_CHROME, playwrights) if path.exists()), None)


@contextmanager
def open_browser() -> Iterator[Page]:
    """Open a page of a Chromium or Chrome without network, in which reports are checked one after another.

    Raises:
        FileNotFoundError: None is installed.
    """
    from playwright.sync_api import sync_playwright

    path = find_browser()
    if path is None:
        raise FileNotFoundError("no Chromium or Chrome found: install one, or name it in ENGRAM_BROWSER")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": NARROW, "height": HEIGHT}, offline=True)
        page.set_default_timeout(120_000)  # of a machine that has other things to do
        yield page
        browser.close()


def check_report(path: Path, screenshot: Path | None = None, page: Page | None = None) -> None:
    """Check that a report opens in a browser without network: no error, its claims visible, its figures drawn.

    Args:
        path: The HTML file.
        screenshot: Where the picture of the whole page goes (PNG), and with ``-500`` after its name that at 500 pixels
            (default: nowhere).
        page: That of ``open_browser``, which has compiled the scripts already where it showed another report; a browser
            is started for this report if None.

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
    for kind in ["figure", *["curves"] * bool(page.locator(".curves").count())]:
        plot = page.locator(f".{kind} svg.main-svg").first
        plot.wait_for(state="visible", timeout=20_000)
        marks = page.locator(f".{kind} .cartesianlayer :is(path, rect)").count()
        assert marks > 2, f"the {kind} of the report are empty"
    check_widths(page, path.stem, screenshot)
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    assert not problems, f"the report reports errors: {problems}"


def check_widths(page: Page, name: str, screenshot: Path | None = None) -> None:
    """Check that a page fits a narrow and a wide screen.

    Args:
        page: The page, opened.
        name: What the page is called in an error.
        screenshot: Where its picture at 1400 pixels goes (PNG), and with ``-500`` after its name that at 500 pixels
            (default: nowhere).
    """
    for width, suffix in ((NARROW, f"-{NARROW}"), (WIDE, "")):
        size = page.viewport_size
        if size is None or size["width"] != width:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            page.wait_for_timeout(300)  # figures draw themselves anew
        if screenshot is not None:
            screenshot.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=screenshot.with_stem(f"{screenshot.stem}{suffix}"), full_page=True)
        wide = 0
        for _ in range(SETTLES):  # figures of a page take their time on a busy machine
            if (wide := page.evaluate("document.documentElement.scrollWidth")) <= width:
                break
            page.wait_for_timeout(300)
        assert wide <= width, f"{name} is {wide} pixels wide on a screen of {width}"
    page.set_viewport_size({"width": NARROW, "height": HEIGHT})  # in which the next page is drawn at once
