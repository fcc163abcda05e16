"""The results of the judge, and how they read: a sentence, a table, Markdown, JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from engram.lab.claims.inference import POWER
from engram.lab.claims.power import REASON
from engram.lab.judging.assess import ALPHA
from engram.storage.files import finite_or_none

Answer = Literal["holds", "fails", "undecided"]
EXITS: dict[Answer, int] = {"holds": 0, "fails": 1, "undecided": 3}


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim about a table of results.

    Attributes:
        claim: The claim.
        verdict: ``"holds"`` or ``"fails"`` if the whole interval lies on one side of the criterion, else
            ``"undecided"``.
        effect: The estimate of what the claim measures.
        low, high: Its interval.
        confidence: The probability that the interval covers the truth.
        p: The p-value of the criterion, over all looks and, with a ledger, all claims in it.
        seeds: The number of units, such as seeds or pairs, that were judged.
        unit: What a unit is called.
        resolution: The smallest distance from the threshold that so many units decide four times in five.
        more: How many more units would decide it four times in five, if the truth is the estimate; 0 if it is decided,
            None if none within reason would, or it is not known.
        why: Why it is undecided, if the interval alone does not say so.
        assumed: What was assumed or guessed, in sentences.
        doubts: What is doubtful, in sentences.
        look: The number of the planned look, from 1; 0 without.
        line: The number of its line in the ledger; 0 without one.
        level: The probability by which this test may err.
    """

    claim: str
    verdict: Answer
    effect: float
    low: float
    high: float
    confidence: float
    p: float
    seeds: int
    unit: str
    resolution: float
    more: int | None
    why: str
    assumed: tuple[str, ...]
    doubts: tuple[str, ...]
    look: int = 0
    line: int = 0
    level: float = ALPHA

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 0 holds, 1 fails, 3 undecided."""
        return EXITS[self.verdict]

    def sentence(self) -> str:
        """The verdict in one sentence."""
        return sentence(self)

    def rows(self) -> list[tuple[str, str]]:
        """The table of what it rests on: names and contents."""
        return rows(self)

    def markdown(self) -> str:
        """The sentence and the table in Markdown, for a pull request."""
        return markdown(self)

    def to_json(self) -> dict[str, Any]:
        """The judgement as JSON values; null where a number is not finite."""
        return dict(finite_or_none({**vars(self), "sentence": self.sentence(), "exit_code": self.exit_code}))

    def __str__(self) -> str:
        return text(self)


@dataclass(frozen=True)
class Compared:
    """One method against the baseline.

    Attributes:
        arm: The method.
        verdict: ``"holds"`` if it is better by the margin, ``"fails"`` if it is not, else ``"undecided"``.
        effect: The difference from the baseline.
        low, high: Its interval, which covers the differences that are decided as often as it says, although these
            were selected (Benjamini and Yekutieli, 2005).
        p: The p-value, before the correction.
        seeds, unit: The number of units, and what a unit is called.
        more: How many more would decide it four times in five; None if none within reason would.
    """

    arm: str
    verdict: Answer
    effect: float
    low: float
    high: float
    p: float
    seeds: int
    unit: str
    more: int | None


@dataclass(frozen=True)
class BestOf:
    """Which of many methods are better than a baseline.

    Attributes:
        metric, baseline: The metric, and the method that the others are compared with.
        rows: The other methods, the best first.
        assumed: What was assumed or guessed, in sentences.
        doubts: What is doubtful, in sentences.
        line: The number of its line in the ledger; 0 without one.
    """

    metric: str
    baseline: str
    rows: tuple[Compared, ...]
    assumed: tuple[str, ...]
    doubts: tuple[str, ...]
    line: int = 0

    @property
    def verdict(self) -> Answer:
        """``"holds"`` if any method is better, ``"fails"`` if all are shown not to be, else ``"undecided"``."""
        verdicts = {row.verdict for row in self.rows}
        return "holds" if "holds" in verdicts else "fails" if verdicts == {"fails"} else "undecided"

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 0 some are better, 1 none is, 3 undecided."""
        return EXITS[self.verdict]

    def sentence(self) -> str:
        """Which are better, in one sentence."""
        return best_sentence(self)

    def markdown(self) -> str:
        """The sentence and the table in Markdown, for a pull request."""
        return best_markdown(self)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values; null where a number is not finite."""
        content = {**vars(self), "rows": [vars(row) for row in self.rows]}
        return dict(
            finite_or_none(
                {**content, "verdict": self.verdict, "sentence": self.sentence(), "exit_code": self.exit_code}
            )
        )

    def __str__(self) -> str:
        return best_text(self)


def sentence(judged: Judgement) -> str:
    """The verdict in one sentence."""
    begin = {"holds": "Holds", "fails": "Fails", "undecided": "Undecided"}[judged.verdict]
    unit = judged.unit if judged.seeds == 1 else f"{judged.unit}s"
    text = f"{begin}: {judged.claim}"
    if not math.isinf(judged.low) or not math.isinf(judged.high):
        text += f"; {judged.effect:.4g}, {100 * judged.confidence:.4g} % interval {_interval(judged)}"
    elif not math.isnan(judged.effect):
        text += f"; {judged.effect:.4g}, without an interval"
    text += f", {judged.seeds} {unit}"
    if judged.why:
        text += f": {judged.why}"
    return f"{text}.{_more(judged)}"


def _more(judged: Judgement) -> str:
    if judged.verdict != "undecided" or judged.seeds < 2:
        return ""
    if judged.more is None:
        planned = " of the plan" if judged.look else f" (up to {REASON:,})"
        return f" No number{planned} is known that would decide it, if the effect is as estimated."
    power = f"decide it with {100 * POWER:.0f} % if the effect is as estimated"
    unit = judged.unit if judged.more == 1 else f"{judged.unit}s"
    return f" {judged.more:,} more {unit} would {power}."


def _interval(judged: Judgement) -> str:
    return f"[{judged.low:.4g}, {judged.high:.4g}]"


def rows(judged: Judgement) -> list[tuple[str, str]]:
    """What a judgement rests on: names and contents."""
    table = [("claim", judged.claim), ("verdict", judged.verdict), ("effect", f"{judged.effect:.4g}")]
    table.append((f"{100 * judged.confidence:.4g} % interval", _interval(judged)))
    if not math.isnan(judged.p):
        table.append(("p", f"{judged.p:.2g}"))
    table.append((f"{judged.unit}s", f"{judged.seeds}"))
    if judged.look:
        table.append(("planned interim analysis", f"{judged.look}"))
    if math.isfinite(judged.resolution):
        table.append(("smallest detectable difference", f"{judged.resolution:.3g} from the threshold"))
    if judged.verdict == "undecided":
        table.append((f"more {judged.unit}s", "none within reason" if judged.more is None else f"{judged.more:,}"))
    table += [("assumed", text) for text in judged.assumed] + [("doubtful", text) for text in judged.doubts]
    return table


def text(judged: Judgement) -> str:
    """The sentence, and the table below."""
    table = rows(judged)
    width = max(len(name) for name, _ in table)
    shown = [name if not number or name != table[number - 1][0] else "" for number, (name, _) in enumerate(table)]
    lines = [f"  {name:<{width}}  {content}" for name, (_, content) in zip(shown, table, strict=True)]
    return "\n".join([sentence(judged), "", *lines])


def markdown(judged: Judgement) -> str:
    """The sentence and the table in Markdown."""
    table = [f"| {_cell(name)} | {_cell(content)} |" for name, content in rows(judged)]
    return "\n".join([f"**{_cell(sentence(judged))}**", "", "| | |", "|---|---|", *table])


def _cell(content: str) -> str:
    return content.replace("|", "\\|").replace("\n", " ")


def best_sentence(found: BestOf) -> str:
    """Which arms are better than the baseline, in one sentence."""
    better = [row.arm for row in found.rows if row.verdict == "holds"]
    count = len(found.rows)
    if better:
        are = "is" if len(better) == 1 else "are"
        text = f"{len(better)} of {count} {are} better than {found.baseline}: {', '.join(better)}"
    else:
        text = f"None of {count} is shown to be better than {found.baseline}"
    open_ones = sum(row.verdict == "undecided" for row in found.rows)
    return f"{text}; {open_ones} undecided, corrected over all {count}."


def best_rows(found: BestOf) -> list[tuple[str, ...]]:
    """A row for each arm."""
    return [
        (row.arm, row.verdict, f"{row.effect:.4g}", f"[{row.low:.4g}, {row.high:.4g}]", f"{row.p:.2g}",
         f"{row.seeds} {row.unit}s", "" if row.more is None else str(row.more))
        for row in found.rows
    ]  # fmt: skip


BEST_COLUMNS = ("", "better?", "difference", "interval", "p", "from", "more needed")


def best_text(found: BestOf) -> str:
    """The sentence, the table and what is assumed and doubtful."""
    table = [BEST_COLUMNS, *best_rows(found)]
    widths = [max(len(row[column]) for row in table) for column in range(len(BEST_COLUMNS))]
    lines = [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    ]
    notes = [f"  assumed   {line}" for line in found.assumed] + [f"  doubtful  {line}" for line in found.doubts]
    return "\n".join([best_sentence(found), "", *lines, *([""] if notes else []), *notes])


def best_markdown(found: BestOf) -> str:
    """The sentence and the table in Markdown."""
    lines = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in (BEST_COLUMNS, *best_rows(found))]
    lines.insert(1, "|" + "---|" * len(BEST_COLUMNS))
    notes = [f"- assumed: {line}" for line in found.assumed] + [f"- doubtful: {line}" for line in found.doubts]
    return "\n".join([f"**{_cell(best_sentence(found))}**", "", *lines, "", *notes])
