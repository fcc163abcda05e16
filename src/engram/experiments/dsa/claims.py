"""What is claimed of dynamical similarity analysis, and what would show it."""

from engram.lab import claims_from, maximum, metric, share

MATTERS, LESS = 0.1, 0.9  # a difference of silhouettes or accuracies, and a ratio, that matter

claim = claims_from("abstract; criterion ours", published="geometric methods fall short (no figure)")
alike = claims_from("abstract; criterion ours", published="sees conjugate networks as alike (no figure)")
ours = claims_from("ours")
rank = claims_from("ours", published="advises to choose by AIC and MASE; a successor (fastDSA) uses SVHT (no figure)")
notebook = claims_from(
    "figure 4, notebook; criterion ours",
    published="DSA flat, Procrustes grows (not usable: a loop of the notebook gives all sigmoids one score)",
)
silhouette, accuracy, ratio = metric("dsa_silhouette"), metric("dsa_accuracy"), metric("dsa_ratio")
deformation = metric("dsa_most")("ring") / metric("procrustes_most")("ring")
unrelated = metric("dsa_unrelated")("ring") / metric("procrustes_unrelated")("ring")
claims = [
    claim("dsa-tells-dynamics",
        "Where mean trajectories are the same, DSA clusters a saddle, a line and a point attractor (silhouette)",
        silhouette("same-geometry") >= 0.6, source="tutorial of figure 3; criterion ours",
        published="blocks in a heat map (no figure)"),
    claim("geometry-does-not",
        "Of mean trajectories that are the same by design, neither Procrustes nor linear CKA clusters such systems "
        "(silhouette)",
        maximum(metric("procrustes_silhouette")("same-geometry"), metric("cka_silhouette")("same-geometry")) <= 0.1,
        sameness="identity"),
    claim("dsa-tells-more-than-spread",
        "DSA clusters such systems better than does how far the same trials spread about their mean, whatever their "
        "order (difference of silhouettes)",
        silhouette("same-geometry") - metric("spread_silhouette")("same-geometry") >= MATTERS),
    ours("nearest-neighbour", "The nearest other system by DSA is nearly always of the same kind",
        accuracy("same-geometry") >= 0.9),
    ours("more-than-eigenvalues",
        "Operators tell kinds of dynamics apart no worse than their eigenvalues alone (difference of silhouettes)",
        silhouette("same-geometry") - metric("spectral_silhouette")("same-geometry") >= -MATTERS),
    ours("delays-help",
        "DSA with 20 delays does no worse than without, though all of the state is seen (difference of silhouettes)",
        silhouette("same-geometry") - silhouette("no-delays") >= -MATTERS),
    ours("averages-do-not-tell", "On the averages of the trials DSA does not tell kinds of dynamics apart (silhouette)",
        silhouette("averages") <= 0.1, published="dynamics are seen by the noise of single trials (no figure)"),
    alike("embeddings",
        "Through random embeddings of trajectories of their own, systems stand out by DSA (ratio of distances)",
        ratio("embeddings") >= 2.0),
    alike("shared-embeddings",
        "Through random embeddings of the same trajectories, systems stand out by DSA (ratio of distances)",
        ratio("shared-embeddings") >= 2.0),
    *(claim(f"{arm}-{kind.lower()}",
        f"Through random embeddings of {trajectories}, systems stand out less by {kind} than by DSA",
        metric(f"{kind.lower()}_ratio")(arm) / ratio(arm) <= LESS)
        for arm, trajectories in (("embeddings", "trajectories of their own"), ("shared-embeddings", "the same "
        "trajectories")) for kind in ("Procrustes", "CKA")),
    notebook("deformation-in-units",
        "Seen through ever steeper sigmoids, a ring attractor changes less by DSA than by Procrustes, each in units of "
        "an unrelated ring",
        deformation / unrelated <= 0.3),
    notebook("closing",
        "Where a line is closed to a ring, DSA makes its largest step (that step over the largest before)",
        metric("dsa_last_jump")("topology") >= 1.0, published="DSA jumps where the ring closes (no figure)",
        untestable="sampled as in the notebook no step stands out, whatever the drive"),
    claim("learning-rules",
        "From statistics of training, the nearest networks by DSA tell by which of four rules one learns",
        accuracy("rules") >= 0.6, published="separates learning rules without supervision (no figure)"),
    claim("learning-rules-procrustes",
        "From statistics of training, DSA tells the learning rule better than Procrustes (difference of accuracies)",
        accuracy("rules") - metric("procrustes_accuracy")("rules") >= MATTERS),
    claim("learning-rules-cka",
        "From statistics of training, DSA tells the learning rule better than linear CKA (difference of accuracies)",
        accuracy("rules") - metric("cka_accuracy")("rules") >= MATTERS),
    ours("learning-rules-forest",
        "A random forest that is taught the learning rules tells them no better than DSA (difference of accuracies)",
        accuracy("rules") - metric("forest_accuracy")("rules") >= -MATTERS),
    alike("same-computation",
        "Trained networks of three kinds that hold three bits are told apart less by DSA than by Procrustes",
        ratio("flip-flop") / metric("procrustes_ratio")("flip-flop") <= LESS),
    rank("rank-by-prediction",
        "Of noisy linear systems, the rank that best predicts held-out trials (AIC) is the order (share of systems)",
        share("aic_found", "systems")("order") >= 0.9),
    rank("rank-by-singular-values",
        "Of noisy linear systems, the hard threshold of singular values misses the order by one at most (share)",
        share("svht_near", "systems")("order") >= 0.9),
]  # fmt: skip
