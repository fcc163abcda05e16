"""Values of transitions between states instead of actions, on grids (Edwards et al., 2020).

QSS learns what it is worth to go from one state to another, and apart from it which action does so. Compared with
Q-learning are many actions that do the same, actions that are renamed after learning, unreliable actions, and a windy
cliff, where it has to fail: it takes the best next state as reached for certain. Settings are those of the published
code; the published curves could not be read, so that all criteria are ours.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import plotly.graph_objects as go
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from plotly.subplots import make_subplots

from engram.agents import EpsilonGreedy, TabularQ, TabularQSS
from engram.lab import Arm, Experiment, Preset, Results, Run, arms_of, claimed, largest, share, value
from engram.lab.curves import add_line, colors
from engram.numeric.finite_mdp import FiniteMDP
from engram.tasks.environments.grid_transfer import MOVES, grid_transfer

Learner = TabularQ | TabularQSS
RENAMED = (3, 2, 1, 0)  # right, left, down, up
BEST = -18.0  # the return of a shortest walk
CHUNKS = 100
NOISES = (0.25, 0.5, 0.75)
ACTIONS = (4, 40, 400)


@dataclass(frozen=True)
class Grid:
    """Some learners, each alone on a grid."""

    learner: Literal["qss", "qsa"] = "qss"
    """Values of transitions, or of actions."""
    inverse: Literal["learned", "known"] = "learned"
    """How QSS knows which action causes a transition."""
    n_actions: Annotated[int, Ge(4)] = 4
    """Action labels, a quarter of which move in each direction."""
    noise: Annotated[float, Ge(0), Le(1)] = 0.0
    """Probability that a random action is executed."""
    cliff: bool = False
    """Whether the walk is along a windy cliff."""
    renamed: bool = False
    """Whether the actions are renamed."""
    source_episodes: Annotated[int, Ge(0)] = 0
    """Episodes before they are renamed, none of which is measured."""
    episodes: Annotated[int, Ge(CHUNKS)] = 20_000
    """Episodes measured."""
    evaluations: Annotated[int, Ge(0)] = 1
    """Greedy episodes before each episode."""
    last_evaluations: Annotated[int, Ge(0)] = 0
    """Greedy episodes in the end."""
    agents: Annotated[int, Ge(1)] = 5
    """Learners in one trial."""
    explore_until: Annotated[int, Ge(1)] = 100_000
    """Step at which a tenth of the actions is random, after all at first."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 0.01
    """Of the values."""


@dataclass(frozen=True)
class Config:
    """Episodes of each study."""

    grid: Grid = Grid()
    """What all arms share."""
    redundant: Annotated[int, Ge(CHUNKS)] = 50_000
    """Episodes with many actions."""
    source: Annotated[int, Ge(1)] = 50_000
    """Episodes before the actions are renamed."""
    target: Annotated[int, Ge(CHUNKS)] = 10_000
    """Episodes after it."""
    noisy: Annotated[int, Ge(CHUNKS)] = 20_000
    """Episodes with unreliable actions."""
    cliff: Annotated[int, Ge(CHUNKS)] = 50_000
    """Episodes along the cliff."""
    last_evaluations: Annotated[int, Ge(1)] = 4000
    """Greedy episodes along the cliff in the end."""


def arms(config: Config) -> dict[str, Arm]:
    """QSS and Q-learning in each of the four studies."""
    found: dict[str, Grid] = {}
    for learner in ("qss", "qsa"):
        grid = replace(config.grid, learner=learner)
        for actions in ACTIONS:
            found[f"{learner}-{actions}"] = replace(grid, n_actions=actions, episodes=config.redundant)
        renamed = replace(grid, renamed=True, episodes=config.target)
        found[f"{learner}-transfer"] = replace(renamed, source_episodes=config.source)
        found[f"{learner}-scratch"] = renamed
        for noise in NOISES:
            noisy = replace(grid, noise=noise, inverse="known", evaluations=10, episodes=config.noisy)
            found[f"{learner}-noise-{noise}"] = noisy
        on_cliff = replace(grid, cliff=True, evaluations=0, episodes=config.cliff)
        found[f"{learner}-cliff"] = replace(on_cliff, last_evaluations=config.last_evaluations)
    return arms_of(trial, found, seconds)


def build(config: Grid, rng: np.random.Generator) -> Learner:
    """Build a learner."""
    plain = grid_transfer(cliff=config.cliff)  # whose four actions are the four directions
    cells = len(plain.terminal)
    options: dict[str, Any] = {
        "rng": rng,
        "exploration": EpsilonGreedy(0.1, 0, config.explore_until),
        "learning_rate": config.learning_rate,
        "initial_value": 0.001,
    }
    if config.learner == "qsa":
        return TabularQ([0], [cells], [cells], config.n_actions, **options)

    def causes(s: int, following: int) -> list[int]:
        return np.flatnonzero(plain.successors[s, :, 0] == following).tolist()

    options["inverse"] = causes if config.inverse == "known" else "learned"
    options["neighbours"] = lambda s: plain.successors[s].ravel().tolist()
    return TabularQSS([0], [cells], [cells], config.n_actions, **options)


def trial(config: Grid, run: Run) -> dict[str, Any]:
    """Let each learner live; the results are of its greedy episodes before each episode."""
    make = partial(grid_transfer, n_actions=config.n_actions, noise=config.noise, cliff=config.cliff)
    source, mdp = make(), make(perm=RENAMED if config.renamed else None)
    agents = [build(config, run.rng) for _ in range(config.agents)]
    part = config.episodes // CHUNKS
    returns = np.zeros((config.agents, CHUNKS * part))
    if config.source_episodes:
        for _ in run.steps(1, **_named(agents)):
            for agent in agents:
                _live(agent, source, config.source_episodes, 0)
                agent.steps = 0  # so that they explore again
                if isinstance(agent, TabularQSS):
                    agent.clear_inverse()
    for chunk in run.steps(CHUNKS, returns=returns, **_named(agents)):
        now = slice(chunk * part, (chunk + 1) * part)
        for agent, own in zip(agents, returns, strict=True):
            own[now] = _live(agent, mdp, part, config.evaluations)
        if config.evaluations:
            run.log((chunk + 1) * part, **{"return": float(returns[:, now].mean())})
    result = measured(returns) if config.evaluations else {}
    if config.last_evaluations:
        result["success"] = float(np.mean([_live(agent, mdp, 1, config.last_evaluations) for agent in agents]))
    if isinstance(agents[0], TabularQSS) and config.source_episodes:
        result["transitions"] = by_direction(agents[0], mdp)
    return result


def _named(agents: list[Learner]) -> dict[str, Learner]:
    return {f"agent_{i}": agent for i, agent in enumerate(agents)}


def _live(
    agent: TabularQ | TabularQSS, mdp: FiniteMDP, episodes: int, evaluations: int
) -> Float[np.ndarray, "episodes"]:
    with warnings.catch_warnings():  # that the grid may be stochastic is what is studied
        warnings.filterwarnings("ignore", "TabularQSS: action", RuntimeWarning)
        return agent.train(mdp, episodes, evaluations=evaluations)


def measured(returns: Float[np.ndarray, "agents episodes"]) -> dict[str, Any]:
    """Return what is claimed of greedy returns."""
    episodes = returns.shape[1]
    first = returns[:, :20_000]
    late = returns[:, -max(1, episodes // 100) :]
    failed = returns != BEST
    last_failure = np.where(failed.any(1), episodes - failed[:, ::-1].argmax(1), 0)
    return {
        "agents": len(returns),
        "mean_return": float(first.mean()),
        "first_200": float(returns[:, :200].mean()),
        "late_return": float(late.mean()),
        "solved_20k": float((first[:, -1] == BEST).mean()),
        "solved": float((returns[:, -1] == BEST).mean()),
        "solved_at": float(last_failure.mean()),
    }


def by_direction(agent: TabularQSS, mdp: FiniteMDP) -> list[list[float]]:
    """Return the value of the transition in each direction, cell by cell."""
    plain, values = grid_transfer(), agent.transition_values()
    return [
        np.where(mdp.terminal[s], 0.0, values[s, plain.successors[s, :, 0]]).tolist() for s in range(len(mdp.terminal))
    ]


def seconds(config: Grid) -> float:
    """Time of a trial on one core, by its steps; measured."""
    each = {"qss": 0.7, "qsa": 0.1 + 0.007 * config.n_actions}[config.learner]
    played = config.episodes * (1 + 0.2 * config.evaluations) + config.source_episodes
    return 0.3 + config.agents * 1e-5 * each * played


published = partial(
    claimed, source="Edwards et al. (2020), abstract; criterion ours", published="stated (curves could not be read)"
)
claims = [
    *(
        published(
            f"{actions}-actions-cost-nothing",
            f"With {actions} actions, of which many do the same, QSS learns as with 4: its mean return over the first "
            "20,000 episodes is within 5 % (ratio)",
            (value(f"qss-{actions}", "mean_return") / value("qss-4", "mean_return")).within(1.0, 0.05),
        )
        for actions in ACTIONS[1:]
    ),
    published(
        "redundancy-stops-q-learning",
        "With 40 and with 400 actions Q-learning hardly ever reaches the goal in 20,000 episodes (mean return, the "
        "better of both)",
        largest("mean_return", "qsa-40", "qsa-400") <= -470.0,
    ),
    published(
        "qss-ahead-with-redundant-actions",
        "With 40 actions the mean return of QSS over the first 20,000 episodes is above that of Q-learning by 100 or "
        "more",
        value("qss-40", "mean_return") - value("qsa-40", "mean_return") >= 100.0,
    ),
    published(
        "solved-in-20k",
        "With 400 actions half of the QSS learners or more walk a shortest way after 20,000 episodes",
        share("qss-400", "solved_20k", "agents") >= 0.5,
    ),
    published(
        "solved-in-50k",
        "With 400 actions nine in ten QSS learners or more walk a shortest way after 50,000 episodes",
        share("qss-400", "solved", "agents") >= 0.9,
    ),
    published(
        "q-learning-never-in-20k",
        "With 40 actions no Q-learner walks a shortest way after 20,000 episodes",
        value("qsa-40", "solved_20k") <= 0.0,
        sameness="numeric",
    ),
    published(
        "renamed-actions-are-relearned",
        "After the actions were renamed QSS, which keeps its values, walks a shortest way always from episode 50 on, "
        "or sooner (mean episode)",
        value("qss-transfer", "solved_at") <= 50.0,
    ),
    published(
        "transfer-from-the-start",
        "Over the first 200 episodes after the renaming the mean return of QSS is -60 or better",
        value("qss-transfer", "first_200") >= -60.0,
    ),
    published(
        "q-learning-has-to-unlearn",
        "Over the first 200 episodes after the renaming the mean return of Q-learning that keeps its values is -200 or "
        "worse",
        value("qsa-transfer", "first_200") <= -200.0,
    ),
    published(
        "scratch-is-slow",
        "From scratch the mean return over 10,000 episodes is -400 or worse, of QSS as of Q-learning (the better one)",
        largest("mean_return", "qss-scratch", "qsa-scratch") <= -400.0,
    ),
    *(
        published(
            f"noise-{noise}-is-bearable",
            f"Where one action in {round(1 / noise)} is random, QSS ends with a return at most 3 below that of "
            "Q-learning (mean over the last hundredth of 20,000 episodes)",
            value(f"qss-noise-{noise}", "late_return") - value(f"qsa-noise-{noise}", "late_return") >= -3.0,
            source="ours",
            published="the paper's limit is determinism; its noisy grid could not be read",
        )
        for noise in NOISES[:2]
    ),
    *(
        published(
            f"noise-{noise}-is-learned-sooner",
            f"Where a share of {noise} of the actions is random, the mean return of QSS over 20,000 episodes is no "
            "less than that of Q-learning",
            value(f"qss-noise-{noise}", "mean_return") - value(f"qsa-noise-{noise}", "mean_return") >= 0.0,
            source="ours",
            published="the paper's limit is determinism; its noisy grid could not be read",
        )
        for noise in NOISES
    ),
    published(
        "q-learning-avoids-the-cliff",
        "Along a windy cliff Q-learning reaches the goal in 45 % of the episodes or more, of 50 % that can be",
        value("qsa-cliff", "success") >= 0.45,
    ),
    published(
        "qss-falls-off-the-cliff",
        "Along a windy cliff QSS, which takes its best next state as certain, reaches the goal in at most 25 %",
        value("qss-cliff", "success") <= 0.25,
        published="the method needs a deterministic environment (stated)",
    ),
]


def figure(results: Results) -> go.Figure:
    """The value of each transition on the grid, and the returns after the actions were renamed."""
    titles = "value of going on, by direction (QSS)", "greedy return after the actions were renamed"
    plot = make_subplots(rows=1, cols=2, subplot_titles=titles, column_widths=[0.45, 0.55], horizontal_spacing=0.16)
    values = np.array(next(iter(results.by_seed.values()))["qss-transfer"]["transitions"])
    row, column = np.divmod(np.arange(len(values)), int(len(values) ** 0.5))
    for direction, symbol in enumerate(("triangle-up", "triangle-down", "triangle-left", "triangle-right")):
        up, left = MOVES[direction]
        marker: dict[str, Any] = {"symbol": symbol, "size": 8, "color": values[:, direction], "coloraxis": "coloraxis"}
        plot.add_scatter(
            x=column + 0.27 * left, y=row + 0.27 * up, mode="markers", marker=marker, showlegend=False, row=1, col=1
        )
    plot.update_yaxes(autorange="reversed", scaleanchor="x", title="row", row=1, col=1)
    shown = [f"{learner}-{way}" for way in ("transfer", "scratch") for learner in ("qss", "qsa")]
    for arm, color in colors(shown).items():
        add_line(plot, results, arm, "return", place=(1, 2), name=arm, line_color=color)
    plot.update_xaxes(title="column", row=1, col=1).update_xaxes(title="episodes", row=1, col=2)
    return plot.update_layout(coloraxis={"colorscale": "Viridis", "colorbar": {"x": 0.43, "thickness": 12}})


SMALL = Grid(agents=1)
SMOKE = Config(SMALL, redundant=100, source=100, target=100, noisy=100, cliff=100, last_evaluations=10)
experiment = Experiment(
    name="qss",
    summary="Values of transitions survive redundant, renamed and unreliable actions; a windy cliff shows their limit",
    paper="Edwards et al., Estimating Q(s,s') with Deep Deterministic Dynamics Gradients, ICML 2020 (arXiv 2002.09505)",
    presets={  # what was published is small enough for a laptop
        "smoke": Preset(SMOKE, seeds=1),
        "laptop": Preset(Config(), seeds=10),
        "paper": Preset(Config(), seeds=10),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="return",
)
