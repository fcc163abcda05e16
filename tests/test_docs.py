from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import time
from html import escape
from pathlib import Path

import pytest
from browser import HEIGHT, WIDE, check_load, check_nodes, check_widths, find_browser, open_browser
from filelock import FileLock
from mkdocs.config import load_config
from mkdocs.structure.files import File, Files, set_exclusions

import engram
from engram.studies.papers import papers

ROOT = Path(__file__).parents[1]
MEGABYTE = 1_000_000
# Where the answer to a query lies: a page, or a name in the reference.
ANSWERS = {
    "onnx": "works-with.html",
    "PlasticLSTM": "reference/engram.plasticity.html#engram.plasticity.PlasticLSTM",
    "nan": "recordings.html#gaps-and-nan",
    "catastrophic": "continual.html",
    "DSA": "same-solution.html",
    "feedback alignment": "learning-rules.html",
    "significant": "judge.html",
    "seeds": "judge.html",
    "noise": "judge.html",
    "cite": "getting-started.html",
    "license": "getting-started.html",
    "save model": "getting-started.html",
}
EXCLUDED = ("hooks.py", "__pycache__/hooks.cpython-311.pyc")
PHONE = 390
FIRST = 3  # pages among which the answer must be
ANSWER_SECONDS = 2.0
GUIDES = ("plasticity", "learning-rules", "continual", "same-solution", "memory", "difficulty")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    with FileLock(f"{folder}.lock"):  # one worker builds it for all
        if not Path(f"{folder}.log").exists():
            environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            Path(f"{folder}.log").write_text("" if done.returncode == 0 else done.stderr or "no reason given")
    failure = Path(f"{folder}.log").read_text()
    assert not failure, failure
    return folder


@pytest.mark.soak
def test_every_experiment_and_package_has_a_page(site):
    for name in engram.experiments():
        page = (site / "gallery" / f"{name}.html").read_text()
        assert "plotly.js" not in page, "a page waits for what its first figure will fetch"
        waits = ("not run again yet: <code>", "Not recorded yet: <code>")
        assert page.count("application/json") == 1, "a figure is a file of its own; the site has its configuration"
        assert 'class="plot"' in page or any(reason in page for reason in waits)
        assert f"gallery/{name}.html" in (site / "gallery.html").read_text()
    assert re.search(r"\d+ of \d+ claims hold", (site / "gallery.html").read_text())
    pages = list((site / "reference").iterdir())
    assert "PlasticRNN" in (site / "reference" / "engram.plasticity.html").read_text()
    assert max(page.stat().st_size for page in pages) < 500_000


@pytest.mark.soak
def test_every_paper_has_a_page_with_its_headlines_and_their_claims(site):
    overview = (site / "papers.html").read_text()
    for paper in papers():
        page = (site / "papers" / f"{paper.slug}.html").read_text()
        for headline in paper.headlines:
            assert escape(headline.says) in page
            assert escape(headline.says) in overview
            for claim in headline.cited:
                experiment, _, claim_id = claim.partition("/")
                link = rf'gallery/{experiment}\.html#(claim-{experiment}(?:@\w+)?-{claim_id})"'
                (place,) = set(re.findall(link, page))
                assert f'id="{place}"' in (site / "gallery" / f"{experiment}.html").read_text()
        assert f"papers/{paper.slug}.html" in overview
        assert "papers.html" in (site / "index.html").read_text()


@pytest.mark.soak
@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_is_an_executed_notebook(site, guide):
    cells = json.loads((site / "notebooks" / f"{guide}.ipynb").read_text())["cells"]
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    assert 'class="plot"' in (site / f"{guide}.html").read_text()


def test_the_notebooks_to_take_are_those_of_the_guides():
    written = runpy.run_path(str(ROOT / "docs" / "notebooks.py"))
    for guide in written["TO_TAKE"]:
        notebook = (ROOT / "notebooks" / guide).with_suffix(".ipynb").read_text()
        assert notebook == written["to_take"]((ROOT / "docs" / guide).read_text()), "run `python docs/notebooks.py`"


def size(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)


@pytest.mark.soak
def test_the_site_fits(site):
    files = [path for path in site.rglob("*") if path.is_file()]
    assert size(*files) <= 40 * MEGABYTE
    assert max(size(path) for path in (site / "gallery").iterdir()) <= 1.5 * MEGABYTE
    assert size(site / "search" / "search_index.json") <= 2 * MEGABYTE
    first = (site / "index.html").read_text()
    loaded = {site / name for name in re.findall(r'(?:src|href)="([^":?#]+\.(?:js|css|svg|png))', first)}
    assert size(site / "index.html", *loaded) <= MEGABYTE
    published = {path.suffix for path in files} | {part for path in files for part in path.parts}
    assert not published & {"__pycache__", ".pyc", ".py"}


def test_python_leaves_nothing_to_be_published(monkeypatch):
    config = load_config(str(ROOT / "mkdocs.yml"))
    files = Files([File(name, str(ROOT / "docs"), str(ROOT / "site"), use_directory_urls=False) for name in EXCLUDED])
    set_exclusions(files, config)
    assert all(file.inclusion.is_excluded() for file in files)


@pytest.mark.soak
def test_the_search_answers_from_a_file(site):
    if find_browser() is None and "CI" not in os.environ:
        pytest.skip("no Chromium or Chrome here to open the site in")
    with open_browser() as page:
        page.set_viewport_size({"width": WIDE, "height": HEIGHT})
        page.goto((site / "index.html").as_uri())
        for query, answer in ANSWERS.items():
            page.locator("input.md-search__input").fill("")
            begin = time.perf_counter()
            page.locator("input.md-search__input").press_sequentially(query, delay=20)  # the search listens to keys
            page.locator(".md-search-result__link").first.wait_for(state="visible")
            seconds = time.perf_counter() - begin
            results = page.locator(".md-search-result__item")
            found = " ".join(
                link.get_attribute("href")
                for number in range(min(FIRST, results.count()))
                for link in results.nth(number).locator("a").all()
            )
            pattern = re.escape(f"/{answer}").replace(r"\#", r"\S*#")  # the query stands between page and place
            assert re.search(pattern, found), f"{query}: found {found}"
            assert seconds <= ANSWER_SECONDS, query


@pytest.mark.soak
def test_the_site_works_without_a_server_and_fits(site):
    if find_browser() is None and "CI" not in os.environ:
        pytest.skip("no Chromium or Chrome here to open the site in")
    pages = sorted(set(site.rglob("*.html")) - {site / "404.html"})  # which a server shows, at any address
    with open_browser() as page:
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))

        def failed(request):
            if request.failure != "net::ERR_ABORTED":  # which is what leaving a page does to its last requests
                problems.append(f"asks for {request.url}: {request.failure}")

        page.on("requestfailed", failed)
        for path in pages:
            page.goto(path.as_uri())
            page.wait_for_load_state("load")
            page.wait_for_function("performance.getEntriesByType('navigation')[0].loadEventEnd > 0")
            check_load(page, path.stem)
            check_nodes(page, path.stem)
            picture = ROOT / "artifacts" / "site" / path.relative_to(site).with_suffix(".png")
            check_widths(page, path.stem, picture)
        page.set_viewport_size({"width": WIDE, "height": HEIGHT})
        page.goto((site / "index.html").as_uri())
        page.locator(".md-tabs__link", has_text="Build").click()
        page.wait_for_url("**/plasticity.html")
        page.wait_for_load_state("networkidle")  # a page that is left early fails to get its icon
        page.set_viewport_size({"width": PHONE, "height": HEIGHT})
        page.goto((site / "gallery.html").as_uri())
        assert page.evaluate("document.documentElement.scrollHeight") < 6000, "a phone scrolls too far"
        page.set_viewport_size({"width": WIDE, "height": HEIGHT})
        page.goto((site / "gallery" / "dsa.html").as_uri())
        figure = page.locator(".run > .figure .plot svg.main-svg").first
        figure.wait_for(state="visible")
        assert figure.bounding_box()["y"] < HEIGHT, "the first figure is not in the first screen"
        assert not page.locator(".run .claim:visible").count(), "what comes after the figure is folded"
        claim = page.locator(".run .claim").first.get_attribute("id")
        page.goto(f"{(site / 'gallery' / 'dsa.html').as_uri()}#{claim}")
        page.locator(f"#{claim}").wait_for(state="visible")
        page.goto((site / "gallery.html").as_uri())
        cards = page.locator(".card")
        titles = page.locator(".card b").all_inner_texts()
        assert len(set(titles)) == len(titles), "a card of another preset names it"
        assert page.locator(".card:has(img)").count() == sum(": preset " not in title for title in titles)
        assert not set(titles) & set(engram.experiments()), "a card is named by what the command line calls it"
        page.locator(".filter", has_text="memory").click()
        page.locator(".filter", has_text="some open").click()
        shown = page.locator(".card:visible")
        tags = [set(shown.nth(number).get_attribute("data-tags").split()) for number in range(shown.count())]
        assert tags
        assert all({"memory", "open"} <= own for own in tags)
        page.locator(".filter", has_text="memory").click()
        assert len(tags) < shown.count() < cards.count()
        assert not problems
