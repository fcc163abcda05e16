"""The results of a comparison, with figures and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engram.storage.files import write_atomic
from engram.studies.standings.figures import figures_of
from engram.studies.standings.page import page
from engram.studies.standings.scores import Scores

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Standing(Scores):
    """The result of ``engram.compare``: scores, with figures and a report."""

    @property
    def figures(self) -> dict[str, go.Figure]:
        """Mean ranks with their critical difference, results against cost, and learning curves, by name."""
        return figures_of(self)

    def report(self, path: str | Path) -> Path:
        """Write one HTML file that opens offline; return its path.

        Args:
            path: The file.

        Raises:
            CannotWriteError: It cannot be written.
        """
        write_atomic(Path(path), page(self).encode())
        return Path(path)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.kind}, {len(self.candidates)} methods, {len(self.tasks)} tasks)\n"
            + "\n".join(self.lines)
        )
