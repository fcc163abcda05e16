"""Claims about curiosity in fragments, published and ours."""

from __future__ import annotations

from engram.lab import Measure, claims_from, metric

SOURCE = "Hwang et al. (2023), abstract; criterion ours"
forgets = claims_from(
    SOURCE,
    published="curiosity can increase at visited states, by forgetting (no figure was read)",
    presets=("laptop",),
)
keeps = claims_from(SOURCE, published="less forgetting (no figure was read)", presets=("laptop",))
rewarded = claims_from("ours", presets=("large",))
ours = claims_from("ours", presets=("laptop",))

# orders of magnitude by which the first room's error rises; errors relative to those before training
orders, learned, novelty = map(metric, ("orders", "learned", "novelty"))
fragments, at_switch, recalled = map(metric, ("fragments", "at_switch", "recalled"))
first, again, whole, stay, cells, modules = map(metric, ("first", "again", "whole", "stay", "cells", "modules"))
untrained_error, last_error = metric("stages", 0, 0), metric("stages", -1, 0)  # in the first room
success = metric("success")  # share of episodes that end at the goal


def unlearned(arm: str) -> Measure:
    """The error in the first room after the last one, relative to that before training."""
    return last_error(arm) / untrained_error(arm)


claims = [
    forgets("forgets-slow", "At a low learning rate, a single predictor's error in the first room doubles while it "
        "learns others",
        orders("slow-rnd") >= 0.3),
    forgets("forgets-fast", "At a high learning rate, a single predictor's error in the first room rises twentyfold",
        orders("fast-rnd") >= 1.3),
    ours("learned", "At the high learning rate, what is forgotten had been learned: errors fell to a tenth",
        learned("fast-rnd") <= 0.1),
    ours("width-forgets-too", "After the last room, a single predictor of four times the width, like its target, has "
        "nearly as large an error in the first, relative to that before training",
        unlearned("fast-wide") / unlearned("fast-rnd") >= 0.8),
    ours("replay-keeps", "Replay of old observations, a tenth of each batch, prevents most of the forgetting",
        orders("fast-replay") - orders("fast-rnd") <= -0.7),
    ours("rooms-over-ewc", "After the last room, a predictor with EWC at its chosen strength has a larger error in the "
        "first, relative to that before training, than the predictor of this room",
        unlearned("fast-ewc") - unlearned("fast-rooms") >= 0.1),
    ours("rooms-forget-nothing", "A predictor for each room forgets nothing, since it learns no other room",
        orders("fast-rooms").within(0.0, 1e-6), sameness="identity"),
    ours("novelty-fades", "To a single predictor that has learned other rooms, a new room is less novel than to an "
        "untrained one",
        novelty("fast-rnd") <= 0.75),
    ours("rooms-stay-novel", "To its own predictor, which learned no other room, a new room is as novel as to an "
        "untrained one",
        novelty("fast-rooms").within(1.0, 1e-6), sameness="identity"),
    keeps("cuts-at-doors", "Fragments begin where rooms are entered for the first time", at_switch("walk-far") >= 0.9,
        published="fragments at high surprisal (no figure was read)"),
    keeps("few-fragments", "The number of fragments made on two laps is about the number of rooms",
        fragments("walk-far").within(5.5, 2.5), published="fragments at high surprisal (no figure was read)"),
    ours("recalls", "In the second lap, in most rooms the fragment of the first lap is active throughout steps 129 to "
        "192 after entry",
        recalled("walk-far") >= 0.8),
    keeps("known-at-entry", "In the first 256 steps after entry in the second lap, a room is far less interesting to "
        "fragments than to a single module",
        whole("walk-far") / whole("walk-rnd") <= 0.3),
    ours("known-again", "In steps 65 to 320 after entry in the second lap, a room is far less interesting to "
        "fragments than to a single module",
        again("walk-far") / again("walk-rnd") <= 0.3),
    ours("known-to-the-end", "From the 65th step after entry to the end of the stay in the second lap, a room is "
        "less interesting to fragments than to a single module by a fifth", stay("walk-far") / stay("walk-rnd") <= 0.8),
    ours("windows-forget-too", "If errors are compared only with recent ones, corners of known rooms are surprising as "
        "well",
        fragments("walk-window") - fragments("walk-far") >= 2.0),
    ours("surprise-matters", "In steps 65 to 320 after return a room is less interesting than with as many fragments "
        "cut at random",
        again("walk-far") / again("walk-random") <= 0.5),
    ours("recall-matters", "In steps 65 to 320 after return a room is less interesting than without recall, since then "
        "each visit begins a fragment, whose module has learned nothing",
        again("walk-far") / again("walk-no-recall") <= 0.5, sameness="identity"),
    ours("novelty-stays", "A room entered for the first time is as interesting to fragments as to a single module, "
        "since it begins a fragment, whose module has learned nothing",
        first("walk-far") / first("walk-rnd") >= 0.8, sameness="identity"),
    ours("as-many-cuts", "Random cuts make about as many fragments as surprise",
        (fragments("walk-random") / fragments("walk-far")).averaged().within(1.0, 0.4)),
    ours("two-modules-forget", "With a capacity of two modules, known rooms are more interesting in the second lap "
        "than with enough for all, since the module of each of four rooms is gone when the lap returns to it",
        again("walk-two-modules") / again("walk-far") >= 1.5, sameness="identity"),
    ours("released-keys", "Keys from the active module, as in the released code, are recalled less often than keys "
        "from one fixed encoder",
        recalled("walk-far") - recalled("walk-author-keys") >= 0.3),
    ours("tenfold-is-never", "On so short a walk no error reaches ten times the mean, the published threshold for "
        "surprise",
        fragments("walk-tenfold") <= 0.5),
    ours("same-rooms", "If all rooms are identical, no fragments are made", fragments("walk-same-rooms") <= 0.5),
    ours("explores-more", "Rewarded by fragments, an agent sees more cells in 10,000 steps than rewarded by a "
        "single module",
        cells("policy-far") / cells("policy-rnd") >= 1.05),
    ours("more-than-by-chance", "Rewarded by fragments, an agent sees more cells than rewarded by fragments cut at "
        "random",
        cells("policy-far") / cells("policy-random") >= 1.05),
    ours("as-many-modules-by-chance", "In agents, random cuts make about as many fragments as surprise",
        (modules("policy-random") / modules("policy-far")).averaged().within(1.0, 0.4)),
    ours("curiosity-explores", "Rewarded by a single module, an agent sees more cells than without a reward",
        cells("policy-rnd") / cells("policy-none") >= 1.05),
    ours("policy-fragments", "The agent's curiosity has several fragments", modules("policy-far") >= 3.0),
    rewarded("more-goals", "Rewarded by fragments and by goals, an agent reaches the goal behind three doors in more "
        "episodes than with a single module",
        success("doors-far") - success("doors-rnd") >= 0.05),
    rewarded("more-goals-by-curiosity", "Rewarded by fragments and by goals, an agent reaches the goal in more "
        "episodes than rewarded by goals alone",
        success("doors-far") - success("doors-none") >= 0.05),
    claims_from("Hwang et al. (2023), abstract; game and criterion ours", presets=("large",))(
        "atari",
        "In Jamesbond, an Atari game, an agent rewarded by fragments scores higher than one with a single module",
        metric("score")("atari-far") / metric("score")("atari-rnd") >= 1.05,
        published="better overall performance in games with varied scenes (no figure was read)"),
]  # fmt: skip
