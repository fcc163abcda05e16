"""The picture of rules that fit about as well: their terms, and by how much each is behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engram.learned.inference.averaging import Rival
from engram.learned.inference.selection import AMBIGUOUS, NEARBY

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SHOWN = 30
DARK, LIGHT = "#0072B2", "#56B4E9"  # of Okabe and Ito's colours, which colour-blind readers can distinguish


def rivals_figure(rivals: Sequence[Rival], criterion: str) -> Figure:
    """The rules by their criterion over that of the best, with their weights; those within two units are dark.

    Args:
        rivals: The rules, the best first.
        criterion: The name of the criterion.
    """
    import plotly.graph_objects as go

    shown = rivals[:SHOWN]
    behind = np.array([each.criterion - rivals[0].criterion for each in shown])
    names = [" + ".join(each.coefficients) or "no change" for each in shown]
    plot = go.Figure(
        layout={
            "title": f"{len(rivals)} rules within {NEARBY:g} units of the smallest {criterion.upper()}",
            "xaxis_title": f"{criterion.upper()} above the smallest",
            "yaxis": {"autorange": "reversed", "automargin": True},
        }
    )
    plot.add_scatter(
        x=behind,
        y=names,
        mode="markers+text",
        text=[f"{each.weight:.2f}" for each in shown],
        textposition="middle right",
        marker={"size": 12, "color": np.where(behind <= AMBIGUOUS, DARK, LIGHT).tolist()},
        hovertext=["<br>".join(f"{name} {theta:.3f}" for name, theta in each.coefficients.items()) for each in shown],
        name="weight",
    )
    return plot.add_vline(AMBIGUOUS, line_dash="dot", annotation_text="no preference to the left")
