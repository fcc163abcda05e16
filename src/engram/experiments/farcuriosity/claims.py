"""What was claimed of curiosity in fragments, and what we ask beside it."""

from __future__ import annotations

from engram.lab import claims_from, metric

SOURCE = "Hwang et al. (2023), abstract; criterion ours"
forgets = claims_from(SOURCE, published="curiosity can increase at visited states, by forgetting (no figure was read)")
keeps = claims_from(SOURCE, published="less forgetting (no figure was read)", presets=("laptop",))
explores = claims_from(SOURCE, published="better overall performance (no figure was read)", presets=("laptop",))
ours = claims_from("ours", presets=("laptop",))

orders, learned = map(metric, ("orders", "learned"))  # orders of magnitude by which the first room's error rises
fragments, at_switch, recalled = map(metric, ("fragments", "at_switch", "recalled"))
first, again, stay, cells, modules = map(metric, ("first", "again", "stay", "cells", "modules"))

claims = [
    forgets("forgets-slow", "At a low rate, one predictor's error in the first room doubles while it learns others",
        orders("slow-rnd") >= 0.3),
    forgets("forgets-fast", "At a high rate, one predictor's error in the first room rises twentyfold",
        orders("fast-rnd") >= 1.3),
    ours("learned", "At the high rate, what is forgotten was learned: errors fell to a tenth",
        learned("fast-rnd") <= 0.1),
    ours("width-forgets-too", "Four times the width does not keep it from forgetting", orders("fast-wide") >= 1.0),
    ours("replay-keeps", "A tenth of old observations in each batch keeps most of it",
        orders("fast-replay") - orders("fast-rnd") <= -0.7),
    ours("rooms-over-ewc", "A predictor for each room forgets less than one with EWC, whose strength is chosen",
        orders("fast-ewc") - orders("fast-rooms") >= 0.3),
    ours("rooms-forget-nothing", "A predictor for each room forgets nothing, as no other room is learned by it",
        orders("fast-rooms").within(0.0, 1e-6), sameness="identity"),
    keeps("cuts-at-doors", "Fragments begin where a room is entered for the first time", at_switch("walk-far") >= 0.9,
        published="fragments at high surprisal (no figure was read)"),
    keeps("few-fragments", "New fragments on two laps are about as many as rooms",
        fragments("walk-far").within(5.5, 2.5), published="fragments at high surprisal (no figure was read)"),
    keeps("recalls", "In the second lap most rooms' fragments are taken up again at the door",
        recalled("walk-far") >= 0.7, published="recall at stored fracture points (no figure was read)"),
    keeps("known-again", "Soon after it is entered in the second lap a room is less interesting to fragments than to "
        "one module", again("walk-far") / again("walk-rnd") <= 0.3),
    ours("known-to-the-end", "Until it is left in the second lap, too, a room is no more interesting to fragments than "
        "to one module", stay("walk-far") / stay("walk-rnd") <= 1.0),
    ours("windows-forget-too", "Compared with the latest errors alone, corners of known rooms are surprising as well",
        fragments("walk-window") - fragments("walk-far") >= 2.0),
    keeps("surprise-matters", "A room is less interesting the second time than to as many fragments cut by chance",
        again("walk-far") / again("walk-random") <= 0.5),
    keeps("recall-matters", "A room is less interesting the second time than without recall",
        again("walk-far") / again("walk-no-recall") <= 0.5),
    ours("novelty-stays", "A room that is entered for the first time is as interesting to fragments as to one module",
        first("walk-far") / first("walk-rnd") >= 0.8),
    ours("as-many-cuts", "Fragments by chance are about as many as at surprise",
        (fragments("walk-random").averaged() / fragments("walk-far").averaged()).within(1.0, 0.4)),
    ours("two-modules-forget", "With room for two modules the second lap is more interesting than with room for all",
        again("walk-two-modules") / again("walk-far") >= 1.5),
    ours("released-keys", "Keys by the module at hand, as released, lead back less often than one encoder's",
        recalled("walk-far") - recalled("walk-author-keys") >= 0.3),
    ours("tenfold-is-never", "On so short a walk no error is ten times the mean, which is surprising as published",
        fragments("walk-tenfold") <= 0.5),
    ours("same-rooms", "Where all rooms are alike there are no fragments", fragments("walk-same-rooms") <= 0.5),
    explores("explores-more", "Paid by fragments, an agent sees more cells in 10,000 steps than paid by one module",
        cells("policy-far") / cells("policy-rnd") >= 1.05),
    explores("more-than-by-chance", "Paid by fragments, it sees more cells than paid by fragments cut by chance",
        cells("policy-far") / cells("policy-random") >= 1.05),
    ours("curiosity-explores", "Paid by one module, an agent sees more cells than paid by nothing",
        cells("policy-rnd") / cells("policy-none") >= 1.05),
    ours("policy-fragments", "The agent's curiosity is in several fragments", modules("policy-far") >= 3.0),
]  # fmt: skip
