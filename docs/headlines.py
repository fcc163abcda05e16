"""The pages of what papers say: one with all headlines, and one for each paper, with the claims that test them."""

from __future__ import annotations

from html import escape

from engram.claim_rows import Columns, as_markdown
from engram.lab.output.report import place_of
from engram.studies.papers import Headline, Paper, caveat, judgement, outcome, overview, rows_of
from engram.verdicts import Index, Judgements

TONES = {
    "reproduced": "good",
    "agrees": "good",
    "not reproduced": "bad",
    "disagrees": "bad",
    "mixed": "open",
    "undecided": "open",
}
COLUMNS: Columns = {
    "Claim": "claim",
    "Verdict": "verdict",
    "Criterion": "criterion",
    "Ours, interval": "value and seeds",
}
LEGEND = """A headline is a statement of a paper's abstract, in our words; (n of m): n of its m claims support it here.

- *Reproduced*, *not reproduced*: with the published settings and the published statement or figure as criterion.
- *Agrees*, *disagrees*: with the published settings and a criterion of ours, at a reduced size, or on another task.
- *Mixed*: some of its claims support it and some contradict it. *Undecided*: half or more of its claims are undecided,
  and the others agree with each other.
- *By construction*: what is tested holds by definition, which is no evidence.
- *Caveat*: a control or a limit says what the result does not show.

Verdicts are those of our records, adjusted for the number of tests in all of them (false discovery rate)."""


def overview_page(papers: tuple[Paper, ...], index: Index | None) -> str:
    """Return the page with the headlines of all papers."""
    found = {} if index is None else index.judgements
    table = overview.table(papers, found, link="[{name}](papers/{slug}.md)")
    parts = ["# What the papers say", overview.sentence(papers, found), table, LEGEND, overview.expected_errors(index)]
    for paper in papers:
        lines = ["| Headline | Verdict | Tried as |", "|---|---|---|"]
        for headline in paper.headlines:
            but = f"<br>*Caveat: {limit_of(headline, found)}*" if headline.but else ""
            tried = f"*{headline.tried}*: {escape(headline.how or headline.why_not)}".removesuffix(": ")
            lines.append(f"| {escape(headline.says)}{but} | {chip(headline, found)} | {tried} |")
        of_paper = "\n".join(lines)
        rows = f'<div class="rows" markdown="1">\n\n{of_paper}\n\n</div>'
        source = f"{paper.source}. {paper.remarks}".strip()
        parts += [f"## [{paper.name}](papers/{paper.slug}.md)", source, rows]
    return "\n\n".join(parts)


def page(paper: Paper, found: Judgements) -> str:
    """Return the page of a paper."""
    parts = [f"# {paper.name}", f"*{paper.title}*. {paper.source}. {paper.remarks}".strip()]
    for headline in paper.headlines:
        parts += [f"## {escape(headline.says)}", f"{chip(headline, found)} **{headline.tried}**".strip()]
        parts[-1] += f": {escape(headline.how)}" if headline.how else ""
        if headline.why_not:
            parts.append(f"Why not{' as published' * (headline.tried != 'not tried')}: {escape(headline.why_not)}")
        if headline.but:
            parts.append(f"**Caveat**: {limit_of(headline, found)}")
        if headline.cited:  # the pages of experiments have these claims too, and are searched
            table = claims_table(headline, found)
            parts.append(f'<div class="rows" markdown="1" data-search-exclude="true">\n\n{table}\n\n</div>')
    experiments = ", ".join(f"[{name}](../gallery/{name}.md)" for name in paper.experiments)
    parts += [f"Experiments: {experiments}."] * bool(experiments)
    return "\n\n".join([*parts, f"`engram papers {paper.slug}` prints this page. [All papers](../papers.md)."])


def limit_of(headline: Headline, found: Judgements) -> str:
    """Return a caveat for a Markdown page, on which two verdicts in brackets would be a link and its address."""
    return escape(caveat(headline, found)).replace("[", "&#91;")


def claims_table(headline: Headline, found: Judgements) -> str:
    """Return the claims of a headline as a Markdown table, with links to the pages of their experiments."""
    rows = []
    for claim, row in zip(headline.cited, rows_of(headline, found), strict=True):
        experiment, _, claim_id = claim.partition("/")
        place = place_of(experiment, headline.preset if judgement(headline, claim, found) else "laptop")
        rows.append(row._replace(address=f"../gallery/{experiment}.html#claim-{place}-{claim_id}"))
    return as_markdown(rows, COLUMNS)


def chip(headline: Headline, found: Judgements) -> str:
    """Return the verdict on a headline as a coloured label; nothing if it was not tried."""
    result = outcome(headline, found)
    if result.word == "not tried":
        return ""
    return f'<span class="run"><span class="chip {TONES.get(result.word, "none")}">{result}</span></span>'
