"""A plastic output layer tells characters apart from one drawing, better than pixels do and worse than discriminants.

After Miconi, Clune and Stanley (2018). Each episode shows one drawing of each of five characters with its label, then
asks for the label of a sixth drawing. An encoder turns drawings into features; plastic connections from features to
labels are all that can remember. Beside it stand the label of the drawing that is nearest in its pixels, and methods
that were made for the task: the same encoder trained to bring drawings of a character together, and discriminants of
random features. Rates, and how many discriminants, are chosen for each on characters that nothing is learned from.
"""

from __future__ import annotations

from engram.experiments.one_shot_characters.config import Config, omniglot, synthetic
from engram.experiments.one_shot_characters.training import trial
from engram.lab import Experiment, Points, Preset, Study, claims_from, metric
from engram.tasks.data import load

presets = {
    "smoke": Preset(
        seeds=1,
        changes={"size": 8, "classes": 30, "drawings": 3, "withheld": 10, "validation": 6, "updates": 20}
        | {"tried_updates": 5, "batch_size": 4, "test_episodes": 20},
        arms=list(synthetic),
    ),
    "laptop": Preset(seeds=10),
    "paper": Preset(
        seeds=10,
        changes={"encoder": "convolution", "characters": "omniglot", "size": 31, "withheld": 100}
        | {"updates": 5_000_000, "batch_size": 1, "rates": (3e-5,), "test_episodes": 100}
        | {"alpha_init": 0.01, "eta_init": 0.01},
        arms=list(synthetic),
    ),
}


def check_requirements(config: Config) -> None:
    """Read the characters, so that a run without them does not begin."""
    if config.characters != "glyphs":
        load(config.characters, size=config.size)


KEY = "accuracy_other_drawing"
accuracy = metric(KEY)
claim = claims_from(
    "abstract; author code, omniglot/omniglot.py; criterion ours",
    published="competitive with specialised methods (no figure found)",
)
MATTERS = 0.02  # a difference of accuracy that matters
rivals = {"the same encoder does that is trained to bring drawings of a character together": "matching",
    "discriminants of random features do": "discriminants"}  # fmt: skip
claims = [
    claim("beats-nearest-pixels", "A plastic output layer tells characters never seen in training from one drawing of "
        "each, better than the drawing does that is nearest in its pixels, blurred as is best",
        accuracy("connection") - accuracy("blurred-pixels") >= MATTERS),
    claim("beats-nearest-pixels-on-omniglot", "Handwritten characters of Omniglot's small background sets are "
        "recognised from one drawing better than by which drawing is nearest in its pixels",
        accuracy("omniglot-connection") - accuracy("omniglot-blurred-pixels") >= MATTERS,
        presets=("laptop",)),
    *(claim(f"competitive-with-{arm}", f"A plastic output layer tells characters as well as {words}",
        accuracy("connection") - accuracy(arm) >= -MATTERS) for words, arm in rivals.items()),
    *(claim(f"competitive-with-{arm}-on-omniglot", f"A plastic output layer tells Omniglot's characters as well as "
        f"{words}", accuracy("omniglot-connection") - accuracy(f"omniglot-{arm}") >= -MATTERS, presets=("laptop",))
        for words, arm in rivals.items()),
    claim("one-coefficient-suffices", "A single plasticity coefficient is no worse than one for each connection",
        accuracy("homogeneous") - accuracy("connection") >= -MATTERS,
        source="author code, omniglot/omniglot.py, where it is an option; criterion ours", published=""),
    claim("non-plastic-guesses",
        "Without plasticity a network guesses which character it is shown: it has nothing to remember with",
        metric("accuracy")("non-plastic") <= 0.25, published="", presets=("laptop",), sameness="identity"),
]  # fmt: skip
experiment = Experiment(
    name="one-shot-characters",
    about=__doc__,
    paper="Miconi, Clune & Stanley, Differentiable plasticity, ICML 2018 (arXiv 1804.02464)",
    studies=Study(trial, synthetic | omniglot),
    presets=presets,
    claims=claims,
    figure=Points(
        KEY,
        "Accuracy on other drawings of withheld characters, one point a seed",
        "share of right answers",
        chance=1 / Config().ways,
        range=(0, 1),
    ),
    headline="accuracy",
    check_requirements=check_requirements,
    answer="""A plastic output layer tells Omniglot's characters from one drawing far better than the nearest
    drawing by pixels does (.23 more often right) [beats-nearest-pixels-on-omniglot: holds]. With the same encoder,
    matching by nearest code is as good or a little better, on glyphs [competitive-with-matching: is open] and on
    Omniglot [competitive-with-matching-on-omniglot: is open], as are discriminants of random features
    [competitive-with-discriminants-on-omniglot: is open]; five seeds decide neither within .02. Without plasticity
    the network guesses [non-plastic-guesses: holds].""",
)
