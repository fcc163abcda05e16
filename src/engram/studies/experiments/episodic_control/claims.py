"""Claims about memories that are too small; LRU replaces the least recently used row."""

from engram.lab import Measure, Quantity, claims_from, maximum, metric
from engram.lab.claims.measure import ResultsOfSeed
from engram.studies.experiments.episodic_control.control import GAMES, OTHERS
from engram.studies.experiments.episodic_control.stream import BATCHES

late = metric("late_return")


def of_stream(form: str, over: str, moment: str) -> Measure:
    """The error of a form of dynamic k-means over both batch sizes, relative to that of another policy."""

    def error(policy: str) -> Measure:
        single, batches = (metric(f"{moment}_{batch}")(f"stream-{policy}") for batch in BATCHES)
        return single + batches

    return error(form) / error(over)


def gain(memory: str, policy: str = "dkm", over: str = "lru") -> Measure:
    """The ratio of late returns on CartPole under two policies."""
    return late(f"cartpole-{memory}-{policy}") / late(f"cartpole-{memory}-{over}")


def better_games(learner: str) -> Measure:
    """The number of games in which a learner scores higher with dynamic k-means than with LRU."""
    arms = {game: (f"{game}-{learner}-dkm-author", f"{game}-{learner}-lru") for game in GAMES}

    def count(results: ResultsOfSeed) -> float:
        score = {arm: float(results[arm]["late_score"]) for pair in arms.values() for arm in pair}
        return float(sum(score[dkm] > score[lru] for dkm, lru in arms.values()))

    return Measure(count, tuple(arm for pair in arms.values() for arm in pair))


MORE = 1.15  # the smallest relevant ratio
of_paper = {
    "source": "abstract; task and criterion ours",
    "published": "significantly better at smaller memory sizes (abstract; no figure found)",
}
FORMS = {"dkm": "corrected", "dkm-fixed": "corrected, with a fixed loss of counts", "dkm-author": "as published"}
ours = claims_from("ours", presets=("laptop",), seeds=5)
claims = [
    *(
        ours(f"{form}-beats-lru",
            f"With 100 rows on CartPole, MFEC has a higher return with dynamic k-means ({name}) than with LRU",
            gain("100", form) >= MORE, **(of_paper if form == "dkm-author" else {}))
        for form, name in FORMS.items()
    ),
    ours("lru-is-better-with-1000-rows",
        "With 1000 rows on CartPole, MFEC has a higher return with LRU than with corrected dynamic k-means",
        gain("1000", "lru", "dkm") >= MORE),
    ours("small-is-no-worse",
        "With 100 rows and corrected dynamic k-means the return of MFEC is no lower than with a memory that forgets "
        "nothing",
        late("cartpole-100-dkm") / late("cartpole-unlimited") >= 1 / MORE),
    *(
        ours(f"{form}-beats-a-table",
            f"With 100 rows and dynamic k-means ({name}) MFEC has a higher return than tabular Q-learning on a grid at "
            "a tuned learning rate",
            late(f"cartpole-100-{form}") / late("cartpole-tabular-q") >= MORE, source="ours: the trivial baseline")
        for form, name in FORMS.items()
    ),
    ours("corrected-finds-the-goal",
        "In four rooms, where only the goal is rewarded, corrected dynamic k-means reaches it nearly as often as LRU",
        late("four-room-dkm") - late("four-room-lru") >= -0.1),
    ours("fixed-loss-finds-the-goal",
        "In four rooms dynamic k-means corrected with a fixed loss of counts reaches the goal nearly as often as LRU",
        late("four-room-dkm-fixed") - late("four-room-lru") >= -0.1),
    ours("published-form-loses-the-goal",
        "In four rooms dynamic k-means as published hardly ever reaches the goal: it averages the rare return away",
        late("four-room-dkm-author") <= 0.1),
    *(
        ours(f"{form}-follows-a-stream",
            f"After a stream's centres have jumped, dynamic k-means ({name}) ends with at most half the error of "
            "online k-means",
            of_stream(form, "k-means", "end") <= 0.5)
        for form, name in FORMS.items()
    ),
    *(
        ours(f"no-slower-than-{other}",
            "An episode, with a query for each step and a write at its end, takes at most 15 % longer with dynamic "
            f"k-means as published than with {name}: with 100 rows as on CartPole, and with 10,000 as on Atari (larger "
            "ratio of processor times)",
            maximum(*(metric(f"ratio_of_seconds_{other}")(arm) for arm in ("cost-cartpole", "cost-atari"))) <= MORE,
            source="abstract; sizes of CartPole and criterion ours", published="computationally efficient (no figure)")
        for other, name in (("k-means", "online k-means"), ("lru", "LRU"))
    ),
    *(
        ours(f"atari-{learner}",
            f"With 10,000 rows on Atari, {learner.upper()} scores higher with dynamic k-means than with LRU in most of "
            "five games",
            better_games(learner) >= 3, **of_paper, presets=("published",), seeds=3)
        for learner in ("mfec", "nec")
    ),
]  # fmt: skip
quantities = [
    *(
        quantity
        for form, name in FORMS.items()
        for quantity in (
            Quantity(
                f"{form}-over-other-rules",
                f"Return with 100 rows and dynamic k-means ({name}) over that with the best other rule of the seed",
                late(f"cartpole-100-{form}") / maximum(*(late(f"cartpole-100-{rule}") for rule in ("lru", *OTHERS))),
            ),
            Quantity(
                f"{form}-before-the-jump",
                f"Error of dynamic k-means ({name}) over that of online k-means before a stream's centres jump",
                of_stream(form, "k-means", "before"),
            ),
            Quantity(
                f"{form}-over-samples",
                f"Error of dynamic k-means ({name}) over that of LRU, the largest ratio before and after the jump",
                maximum(*(of_stream(form, "lru", moment) for moment in ("before", "after", "end"))),
            ),
        )
    ),
    Quantity(
        "gain-of-few-rows",
        "Gain of corrected dynamic k-means over LRU with 100 rows over that with 1000 (ratio of ratios)",
        gain("100") / gain("1000"),
    ),
    Quantity(
        "longer-averages",
        "Error of dynamic k-means whose rows average over 8 samples over that over 1 sample",
        of_stream("dkm", "dkm-short", "end"),
    ),
    Quantity(
        "bytes",
        "Bytes of a memory on CartPole over those of the published layout",
        metric("bytes")("cartpole-100-dkm") / metric("published_bytes")("cartpole-100-dkm"),
    ),
    Quantity(
        "look-up",
        "Exponent by which the time of a look-up grows with the memory, from 16,000 to 64,000 rows",
        metric("exponent")("look-up"),
    ),
]
