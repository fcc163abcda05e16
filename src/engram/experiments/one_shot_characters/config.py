"""The settings of a trial, and the arms."""

from __future__ import annotations

from typing import Any, Literal

from engram.lab import setting, settings

CONVOLUTION_SIZE = 31  # which four convolutions of stride 2 bring down to one pixel


@settings
class Config:
    """What one trial is made of."""

    network: Literal["connection", "homogeneous", "non-plastic", "matching", "discriminants", "blurred-pixels"] = (
        setting("connection", "a plasticity coefficient for each connection, one or none; or what else names drawings")
    )
    rule: Literal["oja", "hebb"] = setting("oja", "plasticity rule of the output layer")
    encoder: Literal["dense", "convolution"] = setting(
        "dense", "two dense layers of 128 and 64 units, or four convolutions of 64 channels; both with tanh"
    )
    characters: Literal["glyphs", "omniglot", "omniglot-small"] = setting(
        "glyphs", "synthetic characters that need no download, Omniglot, or its small background sets"
    )
    inverted: bool = setting(False, "exchange ink and paper, which of synthetic characters are 1 and 0")
    size: int = setting(16, "side of the drawings, in pixels; 31 for the convolutions", ge=4, le=105)
    classes: int = setting(240, "synthetic characters", ge=1)
    drawings: int = setting(10, "drawings of each synthetic character", ge=2)
    variability: float = setting(2.0, "how different these are; at 2 as much, in pixels, as Omniglot's", ge=0, le=10)
    withheld: int = setting(40, "characters that are kept for the test", ge=1)
    validation: int = setting(40, "characters on which a rate is chosen", ge=1)
    ways: int = setting(5, "characters in an episode", ge=2)
    updates: int = setting(2500, "steps of the optimiser, each on a batch of new episodes", ge=10, scales=True)
    batch_size: int = setting(32, "episodes in a batch", ge=1)
    rates: tuple[float, ...] = setting((3e-4, 1e-3, 3e-3), "initial learning rates of Adam to choose from")
    tried_updates: int = setting(1250, "steps of the optimiser with which one of several is tried", ge=1)
    decay: float = setting(0.666, "what the learning rate is multiplied by from time to time", gt=0, le=1)
    decay_updates: int = setting(1_000_000, "steps of the optimiser after which it is", ge=1)
    test_episodes: int = setting(2000, "episodes with withheld characters on which the network is judged", ge=1)
    # With the published 0.01 nothing is learned of Omniglot in as many steps.
    alpha_init: float = setting(1.0, "initially coefficients are between 0 and this, a single one is this", gt=0, le=10)
    eta_init: float = setting(0.1, "initial plasticity rate; 0.01 is published", gt=0, le=1)

    def __post_init__(self) -> None:
        if self.encoder == "convolution" and self.size != CONVOLUTION_SIZE:
            raise ValueError(f"size = {self.size}: expected {CONVOLUTION_SIZE}, because encoder = 'convolution'")
        for name, count in (("withheld", self.withheld), ("validation", self.validation)):
            if count < self.ways:
                raise ValueError(f"{name} = {count}: expected at least ways = {self.ways}")
        least = self.withheld + self.validation + self.ways
        if self.characters == "glyphs" and self.classes < least:
            raise ValueError(f"classes = {self.classes}: expected at least withheld + validation + ways = {least}")
        if not self.rates or not all(0 < rate <= 1 for rate in self.rates):
            raise ValueError(f"rates = {self.rates}: expected numbers above 0 and at most 1")


RIVALS = ("matching", "discriminants", "blurred-pixels")
synthetic: dict[str, dict[str, Any]] = {
    network: {"network": network} for network in ("connection", "homogeneous", *RIVALS)
}
synthetic["non-plastic"] = {"network": "non-plastic", "rates": (1e-3,)}
omniglot = {
    f"omniglot-{network}": {"network": network, "characters": "omniglot-small", "inverted": True}
    | {"updates": lambda arm: 4 * arm.updates, "tried_updates": lambda arm: 2 * arm.tried_updates}
    for network in ("connection", *RIVALS)
}
