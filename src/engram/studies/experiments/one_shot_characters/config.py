"""The settings of a trial, and the arms."""

from __future__ import annotations

from typing import Any, Literal

from engram import registry
from engram.lab import setting, settings

CONVOLUTION_SIZE = 31  # reduced to one pixel by four convolutions of stride 2


@settings
class Config:
    """The settings of a trial."""

    network: Literal[
        "connection", "stepwise", "homogeneous", "non-plastic", "matching", "discriminants", "blurred-pixels"
    ] = setting(
        "connection",
        "a plasticity coefficient for each connection, in closed form or simulated step by step; a single one or none; "
        "or another classifier",
    )
    rule: str = setting("oja", "plasticity rule of the output layer: oja or hebb; any one if stepwise")
    encoder: Literal["dense", "convolution"] = setting(
        "dense", "two dense layers of 128 and 64 units, or four convolutions of 64 channels; both with tanh"
    )
    characters: Literal["glyphs", "omniglot", "omniglot-small"] = setting(
        "glyphs", "synthetic characters that need no download, Omniglot, or its small background sets"
    )
    inverted: bool = setting(False, "whether to invert ink and paper, which are 1 and 0 in synthetic characters")
    size: int = setting(16, "side of the drawings in pixels; 31 for the convolutions", ge=4, le=105)
    classes: int = setting(240, "synthetic characters", ge=1)
    drawings: int = setting(10, "drawings of each synthetic character", ge=2)
    variability: float = setting(
        2.0, "variability of these drawings; at 2 they vary in pixels as much as Omniglot's", ge=0, le=10
    )
    withheld: int = setting(40, "characters kept for the test", ge=1)
    validation: int = setting(40, "characters on which a learning rate is chosen", ge=1)
    ways: int = setting(5, "characters in an episode", ge=2)
    updates: int = setting(2500, "steps of the optimiser, each on a batch of new episodes", ge=10)
    batch_size: int = setting(32, "episodes in a batch", ge=1)
    rates: tuple[float, ...] = setting((3e-4, 1e-3, 3e-3), "candidate initial learning rates of Adam")
    tried_updates: int = setting(1250, "steps of the optimiser for trying each of several rates", ge=1)
    decay: float = setting(0.666, "factor by which the learning rate is periodically multiplied", gt=0, le=1)
    decay_updates: int = setting(1_000_000, "steps of the optimiser between these multiplications", ge=1)
    test_episodes: int = setting(2000, "test episodes with withheld characters", ge=1)
    # With the published 0.01 nothing is learned on Omniglot in the same number of steps.
    alpha_init: float = setting(
        1.0, "upper bound of initial plasticity coefficients, or the initial value of a single one", gt=0, le=10
    )
    eta_init: float = setting(0.1, "initial plasticity rate; published: 0.01", gt=0, le=1)

    def __post_init__(self) -> None:
        if self.network == "stepwise":
            registry.check("plasticity_rules", self.rule, "rule")
        elif self.rule not in ("oja", "hebb"):
            raise ValueError(f"rule = {self.rule!r}: expected 'oja' or 'hebb', because network = {self.network!r}")
        if self.encoder == "convolution" and self.size != CONVOLUTION_SIZE:
            raise ValueError(f"size = {self.size}: expected {CONVOLUTION_SIZE}, because encoder = 'convolution'")
        for name, count in (("withheld", self.withheld), ("validation", self.validation)):
            if count < self.ways:
                raise ValueError(f"{name} = {count}: expected at least ways = {self.ways}")
        total = self.withheld + self.validation + self.ways
        if self.characters == "glyphs" and self.classes < total:
            raise ValueError(f"classes = {self.classes}: expected at least withheld + validation + ways = {total}")
        if not self.rates or not all(0 < rate <= 1 for rate in self.rates):
            raise ValueError(f"rates = {self.rates}: expected numbers above 0 and at most 1")


PLASTIC = ("connection", "homogeneous")
RIVALS = ("matching", "discriminants", "blurred-pixels")
synthetic: dict[str, dict[str, Any]] = {network: {"network": network} for network in (*PLASTIC, *RIVALS)}
synthetic["non-plastic"] = {"network": "non-plastic", "rates": (1e-3,)}
omniglot = {
    f"omniglot-{network}": {"network": network, "characters": "omniglot-small", "inverted": True}
    | {"updates": lambda arm: 4 * arm.updates, "tried_updates": lambda arm: 2 * arm.tried_updates}
    for network in (*PLASTIC, *RIVALS)
}
