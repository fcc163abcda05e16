"""A meta-task as a picture: states, transitions, rewards and stimuli, or the map of a grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from engram import checks
from engram.tasks.meta.explain import explain, pays, shown
from engram.tasks.meta.instance import Instance, sample_instance
from engram.tasks.meta.task import MetaTask

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_COLOURS = ("#1f77b4", "#d9730d", "#2a9d4a", "#9156c9", "#c23b3b", "#7f6a4f")  # of actions, in turn
_ANY = "#8a8a8a"  # of a transition by any action
_RADIUS = 0.17  # of a state; neighbours in a column are 1 apart
_CURVE = 0.16  # offset of the middle of an edge, as a share of its length
_PIXELS = 150  # from a state to the next in its column: enough for the texts between them
_POINTS, _LINE = 24, 1.6
_HEAD = {"xref": "x", "yref": "y", "axref": "x", "ayref": "y", "text": "", "arrowhead": 2, "arrowsize": 1.2}


def draw(task: MetaTask, instance: Instance | None = None) -> Figure:
    """A picture of the states of a task, its transitions by action, its stimuli and rewards.

    States are arranged from left to right in the order in which they are reached from state 0. A transition is an arrow
    in the colour of its action, grey if all actions do the same, with its probability unless that is one. Below a state
    is its stimulus, above it are its rewards in the ``instance`` (None: the first of seed 0). States in the range of
    a variable are ringed. A grid is drawn as a map.

    Examples:
        >>> from engram.tasks.meta import named
        >>> draw(named.t_maze()).layout.title.text
        '4 states, 2 actions, lifetimes of 100 steps.'
    """
    checks.arguments()
    import plotly.graph_objects as go

    if instance is None:
        instance = sample_instance(task, np.random.default_rng(0))
    figure = go.Figure()
    (_draw_graph if task.topology is None else _draw_map)(figure, task, instance)
    title, legend = explain(task, instance).splitlines()[0], {"orientation": "h", "y": -0.02}
    figure.update_layout(
        title=title, template="plotly_white", legend=legend, margin={"l": 20, "r": 20, "t": 50, "b": 20}
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x", scaleratio=1)
    return figure


def _layout(T: Any) -> Any:
    """The positions of states: a column for each distance from state 0; unreachable ones are in the last column."""
    depth = np.full(len(T), -1)
    depth[0], level = 0, 0
    while (depth == level).any():
        near = (T[depth == level].sum((0, 1)) > 0) & (depth < 0)
        level += 1
        depth[near] = level
    depth[depth < 0] = level
    positions = np.zeros((len(T), 2))
    for column in range(level + 1):
        members = np.flatnonzero(depth == column)
        heights = (len(members) - 1) / 2 - np.arange(len(members))
        # Odd columns are moved a little, so that no arrow passes through a third state.
        positions[members] = np.stack([np.full(len(members), 1.25 * column), heights + 0.12 * (column % 2)], axis=1)
    return positions


def _draw_graph(figure: Figure, task: MetaTask, instance: Instance) -> None:
    T = np.array(task.transition)
    positions, states = _layout(T), range(task.n_states)
    named_curves = set()
    for state in states:
        together = task.n_actions > 1 and (T[state] == T[state, 0]).all()
        for action in range(1 if together else task.n_actions):
            colour, name = (_ANY, "any action") if together else (_COLOURS[action % len(_COLOURS)], f"action {action}")
            for next_state in np.flatnonzero(T[state, action]).tolist():
                curve = _curve(positions[state], positions[next_state], turn=action)
                _draw_arrow(figure, curve, T[state, action, next_state], colour, None if name in named_curves else name)
                named_curves.add(name)
    ranged = {state for k in range(len(task.state_vars)) for state in task.state_range(k)}
    above = [_above(task, instance, state) for state in states]
    colours = ["#ffe9a8" if state in instance.states else "#ffffff" for state in states]
    rims = {"width": [4 if state in ranged else 1.5 for state in states], "color": "#333333"}
    marker, hover = {"size": 34, "color": colours, "line": rims}, [text or "nothing pays" for text in above]
    named_states = {"mode": "markers+text", "text": list(map(str, states)), "hovertext": hover, "hoverinfo": "text"}
    figure.add_scatter(x=positions[:, 0], y=positions[:, 1], marker=marker, showlegend=False, **named_states)
    for state, (x, y) in enumerate(positions.tolist()):
        figure.add_annotation(x=x, y=y, yshift=22, text=above[state], showarrow=False, yanchor="bottom")
        figure.add_annotation(x=x, y=y, yshift=-22, text=_below(task, instance, state), showarrow=False, yanchor="top")
    margin = np.array([0.7, 0.8])
    low, high = positions.min(0) - margin, positions.max(0) + margin
    figure.update_xaxes(range=[low[0], high[0]])
    figure.update_yaxes(range=[low[1], high[1]])
    width, height = (high - low) * _PIXELS
    figure.update_layout(width=max(420, round(width) + 40), height=round(height) + 110)


def _curve(start: Any, end: Any, *, turn: int) -> Any:
    """The points of an arrow from rim to rim; ``turn`` separates the actions of a state."""
    if (start == end).all():
        centre = start + 1.5 * _RADIUS * np.array([math.cos(0.4 - 0.8 * turn), math.sin(0.4 - 0.8 * turn)])
        facing = math.atan2(*(start - centre)[::-1])
        angle = facing + 2 * math.pi * np.linspace(0.12, 0.88, _POINTS)
        return centre + _RADIUS * (0.85 + 0.18 * turn) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    t, along = np.linspace(0, 1, _POINTS)[:, None], end - start
    middle = (start + end) / 2 + np.array([-along[1], along[0]]) * _CURVE * (1 + 1.1 * turn)
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    return curve[(np.hypot(*(curve - start).T) > _RADIUS) & (np.hypot(*(curve - end).T) > _RADIUS)]


def _draw_arrow(figure: Figure, curve: Any, p: float, colour: str, name: str | None) -> None:
    """Draw one transition, with ``name`` in the legend."""
    line = {"color": colour, "width": _LINE + 1.6 * p, "dash": "solid" if p > 0.5 else "dot"}
    x, y = curve.T
    figure.add_scatter(x=x, y=y, mode="lines", line=line, name=name, showlegend=name is not None, hoverinfo="skip")
    figure.add_annotation(x=x[-1], y=y[-1], ax=x[-3], ay=y[-3], arrowwidth=_LINE, arrowcolor=colour, **_HEAD)
    if p < 1:
        index = (2 * len(curve)) // 5
        label = {"text": f"{p:.2g}", "font": {"size": 11, "color": colour}, "bgcolor": "#ffffff", "borderpad": 1}
        figure.add_annotation(x=x[index], y=y[index], showarrow=False, **label)


def _above(task: MetaTask, instance: Instance, state: int) -> str:
    """The rewards for leaving a state, a line for each different reward."""
    payments: dict[tuple[Any, ...], set[int]] = {}
    uses_flag = any(rule.flag != -1 for rule in task.reward_rules)
    for start_state, action, flag, _, probability, value in pays(task, instance):
        if start_state == state and (uses_flag or flag == 0):
            payments.setdefault((flag if uses_flag else -1, probability, value), set()).add(action)
    lines = []
    for flag, probability, value in sorted(payments):
        actions = payments[flag, probability, value]
        by = "" if len(actions) == task.n_actions else f"action {', '.join(map(str, sorted(actions)))}: "
        any_flag = uses_flag and payments.get((0, probability, value)) == payments.get((1, probability, value))
        condition = f" if flag {flag}" if uses_flag and not any_flag else ""
        if not (any_flag and flag == 1):
            lines.append(f"{by}<b>{value:+g}</b>{'' if probability == 1 else f' ({probability:.2g})'}{condition}")
    return "<br>".join(lines)


def _below(task: MetaTask, instance: Instance, state: int) -> str:
    lines = [] if set(task.parts_of(state)) == {-1} else [shown(task, state)]
    lines += [f"variable {k}" for k in range(len(task.state_vars)) if state in task.state_range(k)]
    for rule in task.flag_rules:
        if (rule.old if isinstance(rule.old, int) else instance.states[rule.old.index]) == state:
            action = rule.action if isinstance(rule.action, int) else instance.actions[rule.action.index]
            lines.append(f"{'' if action == -1 else f'action {action} '}sets the flag to {rule.set_to}")
    return f"<span style='font-size:11px;color:#555555'>{'<br>'.join(lines)}</span>" if lines else ""


def _draw_map(figure: Figure, task: MetaTask, instance: Instance) -> None:
    grid = task.topology
    assert grid is not None
    wall = grid.wall_map().astype(float)
    wall[list(instance.walls)] = 1.0
    cells_of = {"zmin": 0, "zmax": 1, "xgap": 1, "ygap": 1, "colorscale": [[0, "#f6f6f4"], [1, "#4a4a4a"]]}
    figure.add_heatmap(z=wall.reshape(grid.height, grid.width), showscale=False, hoverinfo="skip", **cells_of)
    marks: dict[int, list[str]] = {} if grid.start_cell is None else {grid.start_cell: ["start"]}
    for k, cell in enumerate(instance.states):
        marks.setdefault(cell, []).append(f"variable {k}")
    marker = {"size": 14, "color": ["#ffb400" if cell in instance.states else "#1f77b4" for cell in marks]}
    texts = {"text": ["<br>".join(text) for text in marks.values()], "textposition": "top center"}
    y, x = np.divmod(list(marks), grid.width)
    figure.add_scatter(x=x, y=y, mode="markers+text", marker=marker, showlegend=False, **texts)
    rules = [line.strip() for line in explain(task, instance).splitlines() if "pays" in line or "sets it" in line]
    corner = {"x": 0, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top", "xanchor": "left", "align": "left"}
    figure.add_annotation(text="<br>".join(rules), showarrow=False, **corner)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(plot_bgcolor="#ffffff")
