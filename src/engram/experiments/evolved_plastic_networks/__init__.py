"""Networks evolved to learn: plastic networks that acquire cognitive tasks from rewards alone (Miconi, 2023).

Three nested loops. Evolution shapes the innate weights and plasticities of a recurrent network. In its lifetime,
dropped into an unknown task, its connections change by a reward-modulated Hebbian rule. In a trial, its activity holds
a stimulus until the answer is due. No gradient is propagated back anywhere. The question is whether what evolved on
some tasks learns one that evolution has never seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engram.experiments.evolved_plastic_networks import evolution, gru
from engram.experiments.evolved_plastic_networks.claims import claims
from engram.experiments.evolved_plastic_networks.figures import figure
from engram.lab import Arm, Experiment, Preset, arms_of


@dataclass(frozen=True)
class Config:
    """The studies, and which arms there are."""

    evolution: evolution.Config
    """Evolution of plastic networks."""
    rung: evolution.Config
    """The arm that is to reach the first rung of the ladder, with networks of published size."""
    gru: gru.Config
    """The arm without evolution."""
    first_rung: bool = True
    """Whether there is the arm of the first rung."""
    variants: bool = False
    """Whether there are arms with another withheld task and with the published code's tables."""


def arms(config: Config) -> dict[str, Arm]:
    """Evolution with plasticity and without, a GRU, and, by preset, the first rung or the published variants."""
    plain = replace(config.evolution, decoded_lives=0, controls=False)
    evolved = {"evolved": config.evolution, "no-plasticity": replace(plain, plastic=False)}
    variants = {"withhold-nand": replace(plain, withheld="nand"), "author-tables": replace(plain, author_tables=True)}
    return {
        **arms_of(evolution.trial, {"first-rung": config.rung} if config.first_rung else {}, evolution.seconds),
        **arms_of(evolution.trial, evolved, evolution.seconds),
        **arms_of(gru.trial, {"gru": config.gru}, gru.seconds),
        **arms_of(evolution.trial, variants if config.variants else {}, evolution.seconds),
    }


FIRST_RUNG = evolution.Config(
    population=100, generations=250, trials=150, scored=50, units=70, dt=20.0, decoded_lives=0, controls=False
)
SMALL = evolution.Config(
    population=4, generations=4, trials=64, scored=4, units=12, dt=60.0, test_lives=2, decoded_lives=24
)
PUBLISHED = evolution.Config(population=500, generations=1000, trials=400, scored=100, units=70, dt=20.0)
experiment = Experiment(
    name="evolved-plastic-networks",
    summary="Plastic networks, evolved on some cognitive tasks, learn others in their lifetime from rewards alone",
    paper="Miconi, Learning to acquire novel cognitive tasks, ICML 2023 (arXiv 2112.08588)",
    presets={
        "smoke": Preset(
            Config(
                SMALL,
                replace(SMALL, decoded_lives=0, controls=False),
                gru.Config(iterations=10, test_lives=2),
            ),
            seeds=2,
        ),
        "laptop": Preset(Config(evolution.Config(), FIRST_RUNG, gru.Config()), seeds=3),
        "paper": Preset(
            Config(PUBLISHED, FIRST_RUNG, gru.Config(iterations=20_000), first_rung=False, variants=True), seeds=3
        ),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
)
