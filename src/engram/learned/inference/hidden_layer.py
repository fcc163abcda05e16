"""Choices by a fixed readout of a hidden layer whose weights follow a rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from engram.learned.inference.feed_forward import Path, Rows
from engram.learned.inference.model import Model, has_terms
from engram.learned.inference.series import Powers, Series
from engram.plasticity import PlasticityRule

SLOPES = 1 << 20  # numbers of the slopes of all units that are held together


class HiddenLayer(NamedTuple):
    """A logit l = v . h(t) of the activity h of a plastic layer.

    Rows are the units of the layer, all those of a session one after another; predictions are of sessions.

    Attributes:
        layer: The plastic layer.
        readout: v.
    """

    layer: Model
    readout: Float[np.ndarray, " unit"]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return self.layer.names

    @property
    def start(self) -> Float[np.ndarray, " part"]:
        """Where a search starts."""
        return self.layer.start

    @property
    def series(self) -> Series | None:
        """The series, if the rule is one."""
        return self.layer.series if has_terms(self.layer) else None

    def rule(self, theta: Float[np.ndarray, " part"]) -> PlasticityRule:
        """The rule with these coefficients."""
        return self.layer.rule(theta)

    def part(self, kept: Sequence[int] | Int[np.ndarray, " kept"]) -> HiddenLayer:
        """The network with some of the parts alone."""
        assert has_terms(self.layer)
        return self._replace(layer=self.layer.part(kept))

    def samples(self, places: tuple[np.ndarray, np.ndarray], rows: Rows, rng: np.random.Generator) -> Powers:
        """See ``feed_forward.Layer.samples``.

        Args:
            places: Session and step of each sample.
            rows: The units.
            rng: Source of the weights.
        """
        assert has_terms(self.layer)
        return self.layer.samples(places, rows, rng)

    def visited(self, theta: Float[np.ndarray, " part"], rows: Rows) -> list[Powers]:
        """See ``feed_forward.Layer.visited``."""
        assert has_terms(self.layer)
        return self.layer.visited(theta, rows)

    def run(self, theta: Float[np.ndarray, " part"], rows: Rows, *, keep_weights: bool = False) -> Path | None:
        """The logits of each session, and the weights of the layer; None if one exceeds 10^6.

        Args:
            theta: Coefficients.
            rows: The units.
            keep_weights: Whether to return the weights too.
        """
        path = self.layer.run(theta, rows, keep_weights=keep_weights)
        if path is None:
            return None
        of_units = path.activity.reshape(-1, len(self.readout), path.activity.shape[1])
        return Path(np.einsum("u,kut->kt", self.readout, of_units), path.weights)

    def linearise(
        self, theta: Float[np.ndarray, " part"], rows: Rows, *, by_initial: bool
    ) -> Iterator[tuple[slice, Float[np.ndarray, "session step"], Float[np.ndarray, "session step parameter"]]]:
        """The logits and their derivatives, for some sessions at a time.

        Args:
            theta: Coefficients.
            rows: The units.
            by_initial: Not supported: a readout does not tell the first weights of the units.
        """
        assert not by_initial
        units, steps = len(self.readout), rows.inputs.shape[1]
        sessions = len(rows.session) // units
        size = max(1, SLOPES // (units * steps * max(1, len(theta))))
        for begin in range(0, sessions, size):
            kept = slice(begin, min(begin + size, sessions))
            some = rows.of(slice(kept.start * units, kept.stop * units))
            parts = list(self.layer.linearise(theta, some, by_initial=False))
            h = np.concatenate([part[1] for part in parts]).reshape(-1, units, steps)
            slopes = np.concatenate([part[2] for part in parts]).reshape(*h.shape, len(theta))
            yield kept, np.einsum("u,kut->kt", self.readout, h), np.einsum("u,kutp->ktp", self.readout, slopes)
