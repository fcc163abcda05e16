"""Papers and their headline statements, read from ``headlines.toml``."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from engram.verdicts import cited

Tried = Literal["published settings", "reduced", "another task", "not tried"]
REASONS = ("theory", "data", "hardware", "open")
CLAIM = re.compile(r"[\w.+=-]+/[\w.+=-]+")


@dataclass(frozen=True)
class Headline:
    """A statement of a paper's abstract, in our words.

    Attributes:
        says: The statement.
        tried: How it was tried: with the ``"published settings"``; ``"reduced"``: in the paper's task, but smaller;
            on ``"another task"``; or ``"not tried"``.
        claims: The claims that test it, as ``experiment/claim-id``; if they hold, so does the headline.
        against: Claims that contradict it if they hold.
        preset: The preset whose record judges them.
        how: What is smaller, and by how much; or what the other task is; or what else a reader has to know of the test.
        why_not: Why it was not tried, or not at the published size: ``theory: ...``; ``data: ...``, which files
            are missing and how to bring them; ``hardware: ...``, how many hours of what; or ``open: ...`` if nobody
            has tried it yet, or only a reader of public files is missing.
        but: What the result does not show, as when a control explains it. Each claim on which this rests is cited as
            ``{experiment/claim-id}``, for which the verdict of the record is set in.

    Raises:
        ValueError: ``tried`` is none of these words, a claim is not of this form, or a reason or an explanation is
            missing.
    """

    says: str
    tried: Tried
    claims: Sequence[str] = ()
    against: Sequence[str] = ()
    preset: str = "laptop"
    how: str = ""
    why_not: str = ""
    but: str = ""

    def __post_init__(self) -> None:
        about = f"in the headline {self.says!r}"
        if self.tried not in get_args(Tried):
            raise ValueError(f"tried = {self.tried!r} {about}: expected one of {', '.join(get_args(Tried))}")
        for claim in self.cited:
            if not CLAIM.fullmatch(claim):
                raise ValueError(f"claim {claim!r} {about}: expected experiment/claim-id")
        if self.why_not and self.why_not.partition(": ")[0] not in REASONS:
            raise ValueError(
                f"why_not = {self.why_not!r} {about}: expected to begin with {', '.join(REASONS)}, and a colon"
            )
        if self.tried == "not tried" and not self.why_not:
            raise ValueError(f"why_not = '' {about}: expected a reason, since it was not tried")
        if self.tried != "not tried" and not (self.claims or self.against):
            raise ValueError(f"claims = [] {about}: expected the claims that test it, or tried = 'not tried'")
        if self.tried in ("reduced", "another task") and not self.how:
            raise ValueError(f"how = '' {about}: expected what is smaller, and by how much, or what the other task is")

    @property
    def limits(self) -> tuple[str, ...]:
        """The claims on which ``but`` rests."""
        return cited(self.but)

    @property
    def cited(self) -> tuple[str, ...]:
        """All claims that it names, each once."""
        return tuple(dict.fromkeys([*self.claims, *self.against, *self.limits]))


@dataclass(frozen=True)
class Paper:
    """A paper with its headline statements.

    Attributes:
        name: The short name of its system.
        title: Its title.
        source: Authors, venue, year, and where to find it.
        headlines: What its abstract says.
        read: What of it could be read; empty if all of it could.
        note: What else a reader has to know of all rows.
    """

    name: str
    title: str
    source: str
    headlines: Sequence[Headline]
    read: str = ""
    note: str = ""

    @property
    def remarks(self) -> str:
        """What could be read of it, if not all, and its note, as sentences."""
        return " ".join([f"Read of it: {self.read}."] * bool(self.read) + [self.note] * bool(self.note))

    @property
    def slug(self) -> str:
        """Its name in addresses of pages."""
        return "-".join(re.findall(r"[a-z0-9]+", self.name.lower()))

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments whose claims it names."""
        claims = [claim for headline in self.headlines for claim in headline.cited]
        return tuple(dict.fromkeys(claim.partition("/")[0] for claim in claims))


@cache
def papers() -> tuple[Paper, ...]:
    """All papers, in the order of the file.

    Examples:
        >>> [paper.slug for paper in papers()][:2]
        ['differentiable-plasticity', 'backpropamine']
    """
    return read(resources.files("engram.studies.papers").joinpath("headlines.toml").read_text(encoding="utf-8"))


def read(text: str) -> tuple[Paper, ...]:
    """The papers of a TOML file: tables ``[[paper]]``, each with tables ``[[paper.headline]]``.

    Args:
        text: The content of the file; names are those of the fields of ``Paper`` and ``Headline``.

    Raises:
        ValueError: A field is unknown or missing, two papers have one name, or a headline is not as expected.
    """
    found = []
    for entry in tomllib.loads(text)["paper"]:
        of_paper = {name: value for name, value in entry.items() if name != "headline"}
        rows = [_made(Headline, row, f"a headline of {entry.get('name')}") for row in entry.get("headline", [])]
        found.append(_made(Paper, {**of_paper, "headlines": rows}, f"the paper {entry.get('name')}"))
    slugs = [paper.slug for paper in found]
    if twice := {slug for slug in slugs if slugs.count(slug) > 1}:
        raise ValueError(f"two papers are named {', '.join(sorted(twice))}")
    return tuple(found)


def _made(kind: type, values: Mapping[str, Any], what: str) -> Any:
    """A dataclass from the fields of a table; ValueError if one is unknown or missing."""
    if unknown := values.keys() - {field.name for field in fields(kind)}:
        raise ValueError(f"{what} has an unknown field: {', '.join(sorted(unknown))}")
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    except TypeError as error:
        raise ValueError(f"{what} lacks a field: {error}") from None


def find(name: str) -> tuple[Paper, ...]:
    """The papers that are meant by a name: of a system, of an experiment, or a part of a title or of the authors.

    Args:
        name: The name; case does not matter.

    Raises:
        ValueError: No paper is meant by it; the message suggests what might be.

    Examples:
        >>> [paper.name for paper in find("anml")]
        ['ANML']
    """
    word = name.strip().lower()
    slug = "-".join(re.findall(r"[a-z0-9]+", word))
    if same := [paper for paper in papers() if paper.slug == slug]:
        return tuple(same)
    if of_experiment := [paper for paper in papers() if word in paper.experiments]:
        return tuple(of_experiment)
    found = [paper for paper in papers() if word and word in f"{paper.name}\n{paper.title}\n{paper.source}".lower()]
    if not found:
        near = difflib.get_close_matches(slug, [paper.slug for paper in papers()], n=3, cutoff=0.4)
        names = ", ".join(paper.name for paper in papers() if paper.slug in near or not near)
        raise ValueError(f"unknown paper {name!r}; {'did you mean' if near else 'known'}: {names}")
    return tuple(found)
