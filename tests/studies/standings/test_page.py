"""The pages of standings in a real browser, on a screen and on a phone."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path

import pytest

from engram.lab.output.report import style
from engram.studies.standings import standing_of_records
from engram.studies.standings.kinds import KINDS
from engram.studies.standings.page import STYLE, body, overview

CHROMIUM = Path("/usr/bin/chromium")
CELLS = """[...document.querySelectorAll("table.standing tr, table.overview tr")].map(row =>
    [...row.querySelectorAll("td")].map(cell => {
        const range = document.createRange(); range.selectNodeContents(cell)
        const {left, right} = range.getBoundingClientRect()
        return right > left ? [left, right] : null
    }).filter(cell => cell))"""


standing_of = functools.cache(standing_of_records)


def table_of(kind):
    return re.sub(r'<div class="figure">.*', "</div>", body(standing_of(kind)), flags=re.DOTALL)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"], timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages():
    standings = {kind: (standing_of(kind), f"{kind}.html") for kind in KINDS}
    return {"overview": f'<div class="run">{overview(standings)}</div>', "widest": table_of("learning_rules")}


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("name", ["overview", "widest"])
def test_the_numbers_of_neighbouring_columns_do_not_touch_and_the_table_fits(browser, pages, name, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(120_000)
    page.set_content(f"<!doctype html><style>{style()}{STYLE}</style><main>{pages[name]}</main>")
    rows = [row for row in page.evaluate(CELLS) if len(row) > 1]
    assert len(rows) > len(KINDS) - 1
    for row in rows:
        assert all(right + 4 <= left for (_, right), (left, _) in itertools.pairwise(row)), row
    assert page.evaluate(
        "document.querySelector('.scroll').scrollWidth <= document.querySelector('.scroll').clientWidth"
    )
    page.close()


def test_the_first_page_is_a_table_with_the_leader_of_each_kind(pages):
    text = pages["overview"]
    assert text.count("<tr>") == 1 + len(KINDS)
    assert '<a href="continual_methods.html">Continual methods</a></td><td>replay</td>' in text
