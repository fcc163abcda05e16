"""A stream of snippets to remember: each is shown once, and soon afterwards queried by a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engram import checks

ROUNDS = 1000


class SnippetWindow(NamedTuple):
    """A window of a batch of streams: an ``Episode``, the age of the targets, and the snippets.

    Attributes:
        inputs: Frames of -1 and +1, and 0 where nothing is shown; a flag is a further feature, which snippets lack.
        targets: The hidden part of the queried snippets, -1 and +1; 0 elsewhere.
        mask: Frames with a target.
        age: For each frame, the number of windows since its snippet was shown.
        snippets: The snippets of this window, for later windows.
    """

    inputs: Float[Tensor, "time batch features"]
    targets: Float[Tensor, "time batch answers"]
    mask: Bool[Tensor, "time batch"]
    age: Int[Tensor, "time batch"]
    snippets: Float[Tensor, "batch snippets frames bits"]


@dataclass(frozen=True)
class SnippetStream:
    """A stream of snippets to remember: each window shows some, and then queries them by a part of each.

    A window has ``snippets`` random snippets in random order, ``gap`` frames of other patterns, and one query for each
    snippet in another random order. A query shows a part of its snippet, the cue, and the hidden part is the target.
    The cues of a window differ, unless ``duplicates``; with ``"completion"`` the patterns differ, though
    their visible halves may be equal.
    Queries are not marked as such, unless ``flag``.

    Args:
        bits: D, the number of bits of a pattern.
        snippets: K, the number of snippets and of queries in a window.
        mode: ``"sequence"``: a snippet is ``length`` patterns one after another; a query shows the first ``cue``, and
            then empty frames, whose targets are the others. ``"paired"``: a frame of two patterns, of which a query
            shows the first. ``"completion"``: one pattern, of which a query hides a random half.
        length: L, the number of frames of a sequence.
        cue: Number of frames of a sequence that a query shows.
        gap: Number of frames of random patterns between the last snippet and the first query.
        correlation: rho: with probability (1 + rho) / 2, a bit equals that of the prototype of its window and stream.
        flip: Probability that a bit of a cue is flipped.
        symbols: Number of different patterns in each window and stream; None: every pattern is drawn independently.
        old: Probability that a query is for a snippet of an earlier window.
        duplicates: Whether cues of a window may be equal, which makes targets ambiguous.
        flag: Whether a further feature tells queries (+1) from presentations (-1).

    Raises:
        ValueError: An argument is out of range, or there are fewer cues than snippets.

    Source: Gregor, "Finding online neural update rules by learning to remember" (2020), whose networks remember
    snippets of their recent experience. We could read only its abstract and introduction: the task is ours.

    Examples:
        >>> window = SnippetStream(bits=4, snippets=3).sample(5, torch.Generator().manual_seed(0))
        >>> window.inputs.shape, window.mask[:, 0].long().tolist()
        (torch.Size([12, 5, 4]), [0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1])
    """

    bits: int = 12
    snippets: int = 2
    mode: Literal["sequence", "paired", "completion"] = "sequence"
    length: int = 2
    cue: int = 1
    gap: int = 0
    correlation: float = 0.0
    flip: float = 0.0
    symbols: int | None = None
    old: float = 0.0
    duplicates: bool = False
    flag: bool = False

    def __post_init__(self) -> None:
        checks.arguments()
        checks.choice("mode", self.mode, ("sequence", "paired", "completion"))
        for name in ("bits", "snippets", "cue"):
            checks.size(name, getattr(self, name))
        checks.size("gap", self.gap, minimum=0)
        checks.size("length", self.length, minimum=self.cue + 1)
        checks.number("correlation", self.correlation, minimum=0, below=1)
        for name in ("flip", "old"):
            checks.number(name, getattr(self, name), minimum=0, maximum=1)
        if self.mode == "completion" and self.bits < 2:
            raise ValueError(f"bits = {self.bits}: expected at least 2, so that half can be hidden")
        patterns = self.cue if self.mode == "sequence" else 1
        kinds = 2**self.bits if self.symbols is None else checks.size("symbols", self.symbols)
        if not self.duplicates and self.snippets > min(kinds, 2**self.bits) ** patterns:
            maximum = min(kinds, 2**self.bits) ** patterns
            raise ValueError(f"snippets = {self.snippets}: expected at most {maximum}, the number of cues")

    def sample(
        self, batch_size: int, generator: torch.Generator, past: Sequence[Tensor] | Tensor = ()
    ) -> SnippetWindow:
        """A random window of each of some streams.

        Args:
            batch_size: Number of streams.
            generator: Source of all randomness.
            past: The snippets of earlier windows, latest first, for queries of old ones; all ages are equally likely.

        Raises:
            ValueError: ``past`` has other shapes; or no distinct cues were drawn, since ``correlation`` or ``symbols``
                leave too few likely ones.
        """
        checks.size("batch_size", batch_size)
        checks.generator(generator)
        if self.old and {earlier.shape for earlier in past} - {
            (
                batch_size,
                self.snippets,
                self.length if self.mode == "sequence" else 1,
                self.bits * (2 if self.mode == "paired" else 1),
            )
        }:
            raise ValueError(f"past has {checks.shown(past)}: expected snippets of {batch_size} streams like this one")
        snippets = self._snippets(batch_size, generator)
        order = self._random((batch_size, self.snippets), generator).argsort()
        stored, age = _chosen(snippets, order), torch.zeros_like(order)
        if self.old and len(past):
            earlier = torch.stack(list(past), 1)
            ages = torch.randint(len(past), order.shape, generator=generator, device=order.device)
            snippet = torch.randint(self.snippets, order.shape, generator=generator, device=order.device)
            replaced = self._random(order.shape, generator) < self.old
            old_snippets = _chosen(earlier.flatten(1, 2), ages * self.snippets + snippet)
            stored = torch.where(replaced[..., None, None], old_snippets, stored)
            age = torch.where(replaced, ages + 1, age)
        hidden = self._hidden(stored.shape, generator)
        flips = self._random(stored.shape, generator) < self.flip
        query = torch.where(flips, -stored, stored).masked_fill(hidden, 0.0)
        shown_snippets = _chosen(snippets, self._random((batch_size, self.snippets), generator).argsort())
        filler = self._signs((batch_size, self.gap, snippets.shape[3]), generator)
        inputs = torch.cat((shown_snippets.flatten(1, 2), filler, query.flatten(1, 2)), 1)
        first_query = shown_snippets.shape[1] * shown_snippets.shape[2] + self.gap
        first_target = self.bits if self.mode == "paired" else 0
        queried = (stored * hidden).flatten(1, 2)[..., first_target:]
        targets = torch.cat((queried.new_zeros(batch_size, first_query, self.bits), queried), 1)
        ages = torch.cat((age.new_zeros(batch_size, first_query), age.repeat_interleave(stored.shape[2], 1)), 1)
        if self.flag:
            is_query = torch.where(torch.arange(inputs.shape[1], device=inputs.device) < first_query, -1.0, 1.0)
            inputs = torch.cat((inputs, is_query[None, :, None].expand(batch_size, -1, 1)), 2)
        mask = (targets != 0).any(2)
        return SnippetWindow(inputs.transpose(0, 1), targets.transpose(0, 1), mask.T, ages.T, snippets)

    def _snippets(self, batch: int, generator: torch.Generator) -> Float[Tensor, "batch snippets frames features"]:
        """Random snippets; those whose cue equals an earlier cue of the window are drawn again."""
        frames = self.length if self.mode == "sequence" else 1
        features = self.bits * (2 if self.mode == "paired" else 1)
        shape = (batch, self.snippets, frames, features)
        prototype = self._signs((batch, 1, 1, features), generator)
        symbols = None
        if self.symbols is not None:
            symbols = self._patterns((batch, self.symbols, 1, features), prototype, generator)[:, :, 0]
        snippets = self._random_snippets(shape, prototype, symbols, generator)
        for _ in range(0 if self.duplicates else ROUNDS):
            cues = snippets[:, :, : self.cue, : self.bits].flatten(2)
            repeated = (cues @ cues.transpose(1, 2) == cues.shape[2]).tril(-1).any(2)
            if not repeated.any():
                return snippets
            redrawn = self._random_snippets(shape, prototype, symbols, generator)
            snippets = torch.where(repeated[..., None, None], redrawn, snippets)
        if self.duplicates:
            return snippets
        options = f"bits = {self.bits}, correlation = {self.correlation} and symbols = {self.symbols}"
        message = f"found no different cues, with {options}; expected fewer, or duplicates = True"
        raise ValueError(f"snippets = {self.snippets}: {message}")

    def _random_snippets(
        self, shape: tuple[int, ...], prototype: Tensor, symbols: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        if symbols is None:
            return self._patterns(shape, prototype, generator)
        indices = torch.randint(symbols.shape[1], shape[:3], generator=generator, device=generator.device)
        return _chosen(symbols, indices.flatten(1)).view(shape)

    def _patterns(self, shape: tuple[int, ...], prototype: Tensor, generator: torch.Generator) -> Tensor:
        agrees = self._random(shape, generator) < (1 + self.correlation) / 2
        return torch.where(agrees, prototype, -prototype)

    def _hidden(self, shape: torch.Size, generator: torch.Generator) -> Bool[Tensor, "batch snippets frames features"]:
        """Whether a query hides each bit of its snippet."""
        if self.mode == "completion":
            return self._random(tuple(shape), generator).argsort(3) < self.bits // 2
        hidden = torch.zeros(shape, dtype=torch.bool, device=generator.device)
        if self.mode == "sequence":
            hidden[:, :, self.cue :] = True
        else:
            hidden[..., self.bits :] = True
        return hidden

    def _signs(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.where(self._random(shape, generator) < 0.5, 1.0, -1.0)

    def _random(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)


def _chosen(rows: Tensor, index: Tensor) -> Tensor:
    """The rows of each stream that an index, (batch, rows), selects."""
    return rows[torch.arange(len(rows), device=rows.device)[:, None], index]
