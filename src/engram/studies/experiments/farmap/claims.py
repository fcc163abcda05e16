"""Claims about exploring with a fragmented map, with their criteria."""

from engram.lab import Measure, Quantity, claims_from, metric

coverage, coverage_large, memory, memory_large, work_large, cuts = map(
    metric, ("coverage", "coverage_large", "memory", "memory_large", "work_large", "cuts")
)
at_door, near_door, stored = map(metric, ("at_door", "near_door", "stored"))
DRAWN, LONG = ("laptop", "large"), ("large", "published-mazes")  # presets
MUCH = 1.2  # the smallest ratio that counts as much more
SOURCE = "Hwang et al. (2024), abstract; criterion ours"
smaller = claims_from(SOURCE, published="smaller active memory (no figure was read)")
faster = claims_from(
    SOURCE,
    published="covers the world much more rapidly in steps and in wall-clock time, without loss (no figure read)",
)
surprise = claims_from(SOURCE, published="cuts match animals (no figure was read)", presets=DRAWN)
ours = claims_from("ours", presets=DRAWN)


def microseconds(explorer: str) -> Measure:
    """The computing time for each cell that an explorer has seen, in the mazes of the trial in which all are timed."""
    return metric(f"microseconds_{explorer}")("clock")


claims = [
    smaller("memory", "FARMap has at most half the active map of an explorer with one map, averaged over steps",
        memory("farmap") / memory("frontier") <= 0.50,
        source=f"{SOURCE}, since a part of a map is smaller by construction", revised="at most 0.8 of it"),
    smaller("memory-large", "In large mazes FARMap has a far smaller active map than an explorer with one map",
        memory_large("farmap") / memory_large("frontier") <= 0.65),
    faster("no-loss", "FARMap covers no less than an explorer with one map, averaged over steps",
        coverage("farmap") / coverage("frontier") >= 0.98),
    *(
        faster(f"steps-to-{ending}", "An explorer with one map takes a fifth more steps than FARMap until, on average "
            f"over all mazes, it has seen {what} of the world (ratio)",
            metric(f"time_to_{share}")("frontier") / metric(f"time_to_{share}")("farmap") >= MUCH,
            presets=LONG, revised="the mean over all steps")
        for ending, share, what in (("half", 50, "half"), ("70", 70, "70 %"), ("80", 80, "80 %"))
    ),
    ours("steps-to-half-by-taste", "One map with the same preferences among frontiers takes no more steps than FARMap "
        "by a fifth until, on average over all mazes, it has seen half of the world (ratio)",
        metric("time_to_50")("frontier-taste") / metric("time_to_50")("farmap") <= MUCH, presets=LONG),
    ours("less-time", "In large mazes FARMap computes less for each cell that it has seen than an explorer with one "
        "map (processor time of both in one process; ratio)",
        microseconds("farmap") / microseconds("frontier") <= 1 / MUCH),
    faster("planning-large", "In large mazes FARMap examines fewer cells for frontiers and paths than an explorer "
        "with one map",
        work_large("farmap") / work_large("frontier") <= 0.8,
        source=f"{SOURCE}; time is counted in cells, since that by a clock depends on how each explorer is written; a "
        "theory of such maps has orders of magnitude (bioRxiv 2021.10.29.466499)"),
    ours("memory-not-by-taste", "FARMap has a smaller active map than one map with the same preferences among "
        "frontiers",
        memory("farmap") / memory("frontier-taste") <= 0.80),
    ours("coverage-not-by-taste", "FARMap covers no less than one map with the same preferences among frontiers",
        coverage("farmap") / coverage("frontier-taste") >= 0.98),
    ours("coverage-large-not-by-taste",
        "In large mazes FARMap covers no less than one map with the same preferences among frontiers",
        coverage_large("farmap") / coverage_large("frontier-taste") >= 0.98),
    ours("all-maps", "All of FARMap's maps together are larger than the one map of the frontier explorer",
        stored("farmap") / stored("frontier") >= 1.1),
    ours("surprise-memory", "Cuts at surprise give a smaller active map than as many random cuts",
        memory("farmap") / memory("farmap-random") <= 0.95),
    ours("surprise-memory-clock", "Cuts at surprise give a smaller active map than as many cuts at regular "
        "intervals",
        memory("farmap") / memory("farmap-uniform") <= 0.95),
    ours("recall-matters", "FARMap covers more with recall than without",
        coverage("farmap") / coverage("farmap-no-recall") >= 1.02),
    ours("other-maps-matter", "FARMap covers more with walks to other maps than without",
        coverage("farmap") / coverage("farmap-no-others") >= 1.02),
    surprise("cuts-at-doors", "In two rooms, most cuts are at the door", at_door("two-rooms") >= 0.7),
    surprise("cuts-at-doors-chance", "In two rooms, a larger share of cuts than of steps is at the door",
        at_door("two-rooms") - near_door("two-rooms") >= 0.2),
    surprise("cuts-at-doors-clock", "In two rooms, a larger share of cuts is at the door than with cuts at regular "
        "intervals",
        at_door("two-rooms") - at_door("two-rooms-uniform") >= 0.2),
]  # fmt: skip
quantities = [
    Quantity(
        "coverage-large",
        "Coverage of large mazes by FARMap over that by an explorer with one map",
        coverage_large("farmap") / coverage_large("frontier"),
    ),
    Quantity(
        "time-not-by-taste",
        "Computing time of FARMap for each cell over that of one map with the same preferences, in large mazes",
        microseconds("farmap") / microseconds("frontier_taste"),
    ),
    Quantity(
        "near-frontiers",
        "Coverage of an explorer that prefers near frontiers over that of one that chooses any",
        coverage("frontier") / coverage("frontier-any"),
    ),
    Quantity(
        "coverage-by-surprise",
        "Coverage with cuts at surprise minus that with as many random cuts",
        coverage("farmap") - coverage("farmap-random"),
    ),
    Quantity("cuts-by-chance", "Random cuts over cuts at surprise", cuts("farmap-random") / cuts("farmap")),
    Quantity(
        "cuts-by-clock", "Cuts at regular intervals over cuts at surprise", cuts("farmap-uniform") / cuts("farmap")
    ),
]
