"""Claims about dynamical similarity analysis, with their criteria."""

from typing import Any

from engram.lab import Measure, Quantity, claims_from, maximum, metric, share

MATTERS, LESS = 0.1, 0.9  # the smallest relevant difference of silhouettes or accuracies, and a relevant ratio
MORE = 1 / LESS
HALF = 0.5  # a ratio of errors
ROUGHLY_FLAT = 0.3  # the largest change by DSA relative to that by Procrustes that counts as far smaller
NO_MARGIN = "the same without its margin of a tenth"
NORMAL = "the same in input-normal coordinates"
REASONABLE = 0.5  # silhouette from which on Kaufman and Rousseeuw (1990) call the structure of clusters reasonable

SHORT = "geometric methods fall short (no figure)"
claim, ours = claims_from("abstract; criterion ours", published=SHORT), claims_from("ours")
# The other presets have more systems with the same geometry, and nothing else.
once: dict[str, Any] = {"presets": ("laptop",)}
claim_once = claims_from("abstract; criterion ours", published=SHORT, **once)
ours_once = claims_from("ours", **once)
alike = claims_from("abstract; criterion ours", published="sees conjugate networks as alike (no figure)", **once)
rank = claims_from("ours; advised are AIC and MASE, and a successor (fastDSA) uses SVHT", **once)
notebook = claims_from(
    "figure 4, notebook; criterion ours",
    published="DSA flat, Procrustes grows (not usable: a loop of the notebook gives all sigmoids one score)",
    **once,
)
input_dsa = claims_from(
    "InputDSA, abstract; criterion ours", published="works if partially observed (no figure)", **once
)
tutorial = claims_from("InputDSA, tutorial of figure 2, one draw; criterion ours", **once)
silhouette, accuracy, ratio = metric("dsa_silhouette"), metric("dsa_accuracy"), metric("dsa_ratio")
angles = {"Procrustes": "procrustes_ratio", "CKA": "cka_angle_ratio"}


def difference(first: str, second: str, arm: str) -> Measure:
    """How much larger the silhouette of one method is than that of another."""
    return metric(first)(arm) - metric(second)(arm)


def deformation(arm: str, measured: str = "most") -> Measure:
    """The change of a ring by DSA relative to that by Procrustes, each relative to its distance to an unrelated ring.

    Args:
        arm: The arm.
        measured: The largest change over the published sigmoids, ``"most"``, or over all of them, ``"widest"``.
    """
    by_dsa, by_shape = (
        metric(f"{kind}_{measured}")(arm) / metric(f"{kind}_unrelated")(arm) for kind in ("dsa", "procrustes")
    )
    return by_dsa / by_shape


def beyond_regression(kind: str) -> Measure:
    """How much larger the silhouette of InputDSA is than that of a regression in the better one of two coordinates."""
    regressions = (metric(f"{name}_{kind}")("driven") for name in ("regression", "regression_normal"))
    return metric(f"balanced_{kind}")("driven") - maximum(*regressions)


claims = [
    claim("dsa-tells-dynamics",
        "If mean trajectories are the same, DSA clusters a saddle, a line and a point attractor (silhouette)",
        silhouette("same-geometry") >= 0.6, source="tutorial of figure 3; criterion ours",
        published="blocks in a heat map (no figure)"),
    claim("geometry-does-not",
        "From mean trajectories that are the same by design, neither Procrustes nor linear CKA clusters such systems "
        "(silhouette)",
        maximum(metric("procrustes_silhouette")("same-geometry"), metric("cka_silhouette")("same-geometry")) <= 0.1,
        sameness="identity"),
    ours("dsa-tells-more-than-spread",
        "DSA clusters such systems better than the ratio of the spreads of the same trials about their mean in two "
        "directions, which like DSA sees no scale, and no temporal order (difference of silhouettes)",
        silhouette("same-geometry") - metric("relative_spread_silhouette")("same-geometry") >= MATTERS),
    ours("dsa-tells-more-than-size-of-spread",
        "DSA clusters such systems better than the spreads with their scale, which is informative only because all "
        "systems have the same noise (difference of silhouettes)",
        silhouette("same-geometry") - metric("spread_silhouette")("same-geometry") >= MATTERS),
    ours("averages-do-not-tell", "On trial averages, which are the same by design, DSA does not separate kinds of "
        "dynamics (silhouette)",
        silhouette("averages") <= 0.1, sameness="identity", source="tutorial of figure 3; criterion ours",
        published="only the noise of single trials shows the dynamics (no figure)"),
    alike("embeddings",
        "With random embeddings of different trajectories, DSA separates systems (ratio of distances)",
        ratio("embeddings") >= 2.0),
    alike("shared-embeddings",
        "With random embeddings of the same trajectories, DSA separates systems (ratio of distances)",
        ratio("shared-embeddings") >= 2.0),
    *(claim_once(f"shared-embeddings-{kind.lower()}",
        f"With random embeddings of the same trajectories, {kind} separates systems less than DSA (ratio of distances, "
        "all of them angles)",
        metric(distance)("shared-embeddings") / ratio("shared-embeddings") <= LESS)
        for kind, distance in angles.items()),
    notebook("deformation-in-units",
        "Seen through ever steeper sigmoids, up to the steepest published one, a ring attractor changes far less by "
        "DSA than by Procrustes, each relative to an unrelated ring",
        deformation("ring") <= ROUGHLY_FLAT),
    *(notebook(f"deformation-in-units-{arm}",
        f"Fitted with {rank_of_arm}, which the notebook has, DSA also changes far less along those sigmoids than "
        "Procrustes, each relative to an unrelated ring",
        deformation(f"ring-{arm}") <= ROUGHLY_FLAT)
        for arm, rank_of_arm in (("full", "full rank"), ("16", "a rank of 16"))),
    ours_once("deformation-beyond",
        "The same with sigmoids up to a steepness of 20, which are ours",
        deformation("ring", "widest") <= ROUGHLY_FLAT),
    notebook("closing",
        "DSA makes its largest step where a line closes to a ring (that step over the largest before)",
        metric("dsa_last_jump")("topology") >= MORE, published="DSA jumps where the ring closes (no figure)",
        revised=NO_MARGIN),
    ours_once("closing-beyond-shape",
        "That step of DSA stands out more than that of Procrustes (ratio of the two)",
        metric("dsa_last_jump")("topology") / metric("procrustes_last_jump")("topology") >= MORE,
        revised=NO_MARGIN),
    *(ours_once(f"{arm}-is-predicted",
        f"Operators fitted to {activity} predict its next sample better than no change does (1 - MASE)",
        metric("prediction")(arm) >= MATTERS, revised=NO_MARGIN)
        for arm, activity in (("ring", "a driven ring"), ("topology", "a line that is closed to a ring"))),
    claim_once("learning-rules",
        "From training statistics, nearest neighbours by DSA identify which of four rules a network learns by",
        accuracy("rules") >= 0.6, published="separates learning rules without supervision (no figure)"),
    ours_once("learning-rules-forest",
        "A supervised random forest identifies the learning rules no better than DSA (difference of accuracies)",
        accuracy("rules") - metric("forest_accuracy")("rules") >= -MATTERS),
    *(ours_once(f"learning-rules-{name}",
        f"Nearest neighbours by plain Euclidean distances between {traces} identify the learning rules no better than "
        "DSA (difference of accuracies)",
        accuracy("rules") - metric(f"{name}_accuracy")("rules") >= -MATTERS)
        for name, traces in (("raw", "statistics over training as they are"), ("euclidean", "z-scored statistics over "
        "training"))),
    alike("same-computation",
        "Three kinds of networks trained to hold three bits are separated less by DSA than by Procrustes",
        ratio("flip-flop") / metric("procrustes_ratio")("flip-flop") <= LESS),
    rank("rank-by-prediction",
        "For noisy linear systems, the rank that best predicts held-out trials (AIC) equals the order (share of "
        "systems)",
        share("aic_found", "systems")("order") >= 0.9),
    input_dsa("driven-noise",
        "From one noisy coordinate of a driven rotation, subspace identification with 20 delays finds how slowly it "
        "decays (largest error over six kinds of noise and inputs of an eigenvalue's modulus of 0.9, of which 0.01 "
        "changes the time of decay by a tenth)",
        metric("n4sid_error")("driven-noise") <= 0.01),
    *(ours_once(f"driven-noise-{control}",
        f"Of such a rotation, subspace identification with 20 delays has less than half the error of {what} with the "
        "delays that are best for it in hindsight (ratio)",
        metric("n4sid_error")("driven-noise") / metric(f"{control}_error")("driven-noise") <= HALF)
        for control, what in (("regression", "a regression on delays and the present inputs"),
            ("autonomous", "DSA, without inputs,"))),
    input_dsa("driven-systems",
        "InputDSA, in the published coordinates, clusters two dynamics, each with two ways of input, by recordings of "
        "two of twenty coordinates (silhouette of the four systems; structure is called reasonable from 0.5 on)",
        metric("balanced_joint")("driven") >= REASONABLE, revised=NORMAL),
    ours_once("driven-systems-autonomous",
        "InputDSA clusters such systems better than DSA does, without inputs (difference of silhouettes)",
        difference("balanced_joint", "autonomous_joint", "driven") >= MATTERS, revised=NORMAL),
    tutorial("driven-state",
        "By their A, InputDSA clusters the two dynamics better than DSA, by as much as published (difference of "
        "silhouettes)",
        difference("balanced_state", "autonomous_state", "driven") >= 0.05, published="0.95 against 0.90",
        revised=NORMAL),
    tutorial("driven-inputs",
        "By their B, InputDSA clusters the two ways of input better than with operators fitted by regression, in "
        "whichever of these coordinates suit it better (difference of silhouettes)",
        beyond_regression("inputs") >= MATTERS, published="0.75 against 0.34", revised=NORMAL),
    ours_once("driven-input-normal-autonomous",
        "In input-normal coordinates too, InputDSA clusters such systems better than DSA does, without inputs "
        "(difference of silhouettes)",
        difference("n4sid_joint", "autonomous_joint", "driven") >= MATTERS),
    *(input_dsa(f"driven-{surrogate}",
        f"With inputs that are {how}, distances between recordings in the published coordinates keep their order (rank "
        "correlation)",
        metric(surrogate)("driven-surrogates") >= 0.8, published="surrogate inputs cost little (no figure)")
        for surrogate, how in (("filtered", "smoothed"), ("delayed", "one sample late"))),
    *(ours_once(f"driven-input-normal-{surrogate}",
        f"With inputs that are {how}, distances in input-normal coordinates keep their order too (rank correlation)",
        metric(f"input_normal_{surrogate}")("driven-surrogates") >= 0.8)
        for surrogate, how in (("filtered", "smoothed"), ("delayed", "one sample late"))),
    ours_once("driven-unrelated",
        "With smoothed inputs, distances between recordings keep their order better than with unrelated ones "
        "(difference of rank correlations)",
        metric("filtered")("driven-surrogates") - metric("unrelated")("driven-surrogates") >= MATTERS),
]  # fmt: skip
quantities = [
    *(
        Quantity(
            f"embeddings-{kind.lower()}",
            f"Ratio of distances by {kind}, which needs samples in pairs, over that by DSA, if trajectories differ",
            metric(distance)("embeddings") / ratio("embeddings"),
        )
        for kind, distance in angles.items()
    ),
    *(
        Quantity(
            f"driven-mixed-{control}",
            f"Silhouette in input-normal coordinates minus that {what}, if inputs and observations differ",
            difference("n4sid_joint", f"{control}_joint", "driven-mixed"),
        )
        for control, what in (
            ("balanced", "in the published ones"),
            ("whitened", "in whitened ones"),
            ("autonomous", "of DSA without inputs"),
        )
    ),
    Quantity(
        "nearest-neighbours", "Accuracy of the nearest other system by DSA at its kind", accuracy("same-geometry")
    ),
    Quantity(
        "over-eigenvalues",
        "Silhouette of kinds of dynamics by operators minus that by their eigenvalues alone",
        silhouette("same-geometry") - metric("spectral_silhouette")("same-geometry"),
    ),
    Quantity(
        "with-delays",
        "Silhouette of kinds of dynamics by DSA with 20 delays minus that without, the state being observed",
        silhouette("same-geometry") - silhouette("no-delays"),
    ),
    Quantity(
        "rules-over-procrustes",
        "Accuracy at learning rules of DSA minus that of Procrustes",
        accuracy("rules") - metric("procrustes_accuracy")("rules"),
    ),
    Quantity(
        "rules-over-cka",
        "Accuracy at learning rules of DSA minus that of linear CKA",
        accuracy("rules") - metric("cka_accuracy")("rules"),
    ),
    Quantity(
        "rank-by-threshold",
        "Share of noisy linear systems whose order hard thresholding misses by at most one",
        share("svht_near", "systems")("order"),
    ),
    Quantity(
        "driven-over-regression",
        "Silhouette of driven systems by InputDSA minus that with operators fitted by regression, the better",
        beyond_regression("joint"),
    ),
    Quantity(
        "driven-by-coordinates",
        "Silhouette of driven systems in input-normal coordinates minus that in the published ones",
        difference("n4sid_joint", "balanced_joint", "driven"),
    ),
]
