"""The promises of a report, checked in a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_CHROME = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def find_browser() -> str | None:
    """Return the path of a Chromium or Chrome: ``ENGRAM_BROWSER``, one installed on this machine, or Playwright's."""
    for path in (os.environ.get("ENGRAM_BROWSER"), *map(shutil.which, BROWSERS)):
        if path:
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        playwrights = Path(playwright.chromium.executable_path)
    return next((str(path) for path in (MAC_CHROME, playwrights) if path.exists()), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a Chromium or Chrome in which any number of reports can be checked.

    Raises:
        FileNotFoundError: None is installed.
    """
    from playwright.sync_api import sync_playwright

    path = find_browser()
    if path is None:
        raise FileNotFoundError("no Chromium or Chrome found: install one, or name it in ENGRAM_BROWSER")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def check_report(path: Path, screenshot: Path, browser: Browser | None = None) -> None:
    """Check that a report opens in a browser without network: no error, its claims visible, its figures drawn.

    Args:
        path: The HTML file.
        screenshot: Where the picture of the whole page goes (PNG).
        browser: One of ``open_browser``; one is started for this report if None.

    Raises:
        FileNotFoundError: No Chromium or Chrome is installed.
    """
    problems: list[str] = []
    with ExitStack() as stack:
        page = (browser or stack.enter_context(open_browser())).new_page(viewport={"width": 1280, "height": 900})
        page.context.set_offline(True)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(f"asks for {request.url}"))
        page.goto(path.absolute().as_uri())
        page.wait_for_load_state("load")
        claims = page.locator("table.claims tbody tr")
        assert claims.count(), "the report shows no claim"
        for index in range(claims.count()):
            assert claims.nth(index).is_visible(), f"claim {index} of the report is not visible"
        for kind in ("curves", "figure"):
            plot = page.locator(f".{kind} svg.main-svg").first
            plot.wait_for(state="visible", timeout=20_000)
            marks = page.locator(f".{kind} .cartesianlayer :is(path, rect)").count()
            assert marks > 2, f"the {kind} of the report are empty"
        screenshot.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=screenshot, full_page=True)
        page.close()
    assert not problems, f"the report reports errors: {problems}"
