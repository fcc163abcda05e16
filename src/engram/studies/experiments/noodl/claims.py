"""Claims about NOODL, with their criteria."""

from engram.lab import claims_from, maximum, met, metric, minimum
from engram.studies.experiments.noodl.synthetic import ALPHAS, NOISES

LASSOS = tuple(f"lasso-{alpha}" for alpha in ALPHAS)
ARORA = ("arora-biased", "arora-unbiased")
BLIND = ("blind-64-3", "blind-96-3", "blind-96-5")
MENDED = ("mended-64-3", "mended-96-3", "mended-96-5")
DEMONSTRATION = "author code, main demonstration"
exact = claims_from(
    f"abstract; {DEMONSTRATION}", published="recovers dictionary and coefficients exactly at a geometric rate (curves)"
)
demonstration = claims_from(f"{DEMONSTRATION}; criterion ours")
beaten = claims_from(DEMONSTRATION, published="Arora et al. and Mairal et al. are beaten by NOODL (curves)")
large = claims_from(
    "author code, TensorFlow demonstration; criterion ours", published="scales to large dictionaries (curve)"
)
ours = claims_from("ours")
solver = claims_from("ours: codes by least squares")
hypothesis = claims_from("ours, a hypothesis")

error, code_error, matched_error = metric("error"), metric("code_error"), metric("matched_error")
early_error, late_error, averaged_error = metric("error_5"), metric("late_error"), metric("averaged_error")
support, iterations, atoms, explained = metric("support"), metric("iterations"), metric("found"), metric("explained_4")
MATTERS, LESS, MORE = 0.01, 0.9, 1.1  # the smallest relevant difference in explained share, and relevant ratios
rivals = [measure(arm) for arm in (*ARORA, *LASSOS) for measure in (error, averaged_error)]
claims = [
    exact("exact-dictionary", "NOODL with the published iterations recovers the dictionary in 60 batches",
        error("noodl-iht") <= 1e-6, sameness="numeric", threshold="paper",
        source=f"abstract; {DEMONSTRATION}, whose tolerance is the criterion"),
    exact("exact-codes", "NOODL with the published iterations recovers the codes in 60 batches",
        code_error("noodl-iht") <= 2e-6, sameness="numeric"),
    solver("least-squares-recover", "NOODL with codes by least squares also recovers the dictionary",
        error("noodl") <= 1e-6, sameness="numeric"),
    beaten("arora-stalls", "The dictionaries of Arora et al. stall at a bias, even averaged and at the best of several "
        "step sizes", minimum(*map(error, ARORA), *map(averaged_error, ARORA)) >= 0.01),
    beaten("arora-codes-stall", "The codes of Arora et al. stall at a bias, even at the best of several step sizes",
        minimum(*map(code_error, ARORA)) >= 0.15),
    beaten("lasso-stays-behind", "No lasso recovers the dictionary in 60 batches",
        minimum(*map(error, LASSOS)) >= 1e-3),
    exact("noodl-beats-all", "The error of NOODL with the published iterations is far below that of the best other "
        "method, averaged or not",
        error("noodl-iht") / minimum(*rivals) <= 1e-2,
        published="beats current techniques (curves)"),
    demonstration("lasso-leads-early", "The best lasso leads after 5 batches (ratio of errors)",
        minimum(*map(early_error, LASSOS)) / early_error("noodl") <= LESS, source="ours"),
    exact("geometric", "With the published iterations the logarithm of NOODL's error is linear in the batch, from 5 to "
        "45 (share explained)",
        metric("linearity")("noodl-iht") >= 0.99),
    demonstration("rate", "NOODL's error falls fast (decades per batch)", metric("slope")("noodl") <= -0.08),
    demonstration("exact-supports",
        "From the sixth batch on, the codes of nearly all samples have exactly the right atoms and signs",
        minimum(support("noodl"), support("noodl-iht")) >= 0.99),
    solver("pruning-is-needed", "Least squares without pruning selects wrong atoms", support("noodl-unpruned") <= 0.8),
    solver("up-to-16-atoms", "With up to 4, 8 and 16 atoms in a sample the dictionary is recovered",
        maximum(error("nonzero-4"), error("noodl"), error("nonzero-16")) <= 1e-4),
    solver("not-with-32-atoms", "With 32 of 250 atoms the dictionary is not recovered",
        error("nonzero-32") >= 1e-4),
    ours("wide-basin", "In 400 batches the dictionary is recovered from initialisations at a distance of 1, 4, 6 and "
        "10 / log n (matched)",
        maximum(*(matched_error(f"start-{radius}") for radius in (1, 4, 6, 10))) <= 1e-4),
    ours("basin-with-16-atoms",
        "With 16 atoms in a sample the dictionary is also recovered from initialisations at up to 10 / log n (matched)",
        maximum(matched_error("start-4-nonzero-16"), matched_error("start-10-nonzero-16")) <= 1e-4),
    ours("basin-ends",
        "From initialisations at 14 / log n, the dictionary of samples with up to 8 atoms is mostly not recovered in "
        "400 batches (matched)",
        met(matched_error("start-14") >= 1e-4) >= 0.5),
    ours("basin-is-wider-with-16-atoms",
        "With up to 16 atoms in a sample it is mostly recovered in 400 batches from 14 / log n as well (matched)",
        met(matched_error("start-14-nonzero-16") <= 1e-4) >= 0.5),
    ours("small-batches", "With the automatic step size, batches of 250, 100 and 50 samples are enough",
        maximum(error("batch-250"), error("batch-100"), error("batch-50")) <= 1e-3),
    ours("large-steps-need-large-batches", "The step size for large batches fails with small ones",
        error("batch-100-fixed") >= 1e-2),
    demonstration("noise-floor", "With noise the final error is twice its standard deviation (largest deviation of the "
        "ratio)",
        maximum(*(abs(error(f"noise-{noise}") / noise - 2) for noise in NOISES)) <= 0.5,
        source="ours, outside the theory"),
    hypothesis("averaging-lowers-the-floor",
        "With noise the average dictionary over the second half is closer to the true one than the last",
        maximum(*(averaged_error(arm) / matched_error(arm) for arm in ("noise-0.03", "noise-0.1"))) <= 0.8),
    solver("least-squares-as-exact", "Pruned least squares is as exact as the iterations",
        error("noodl") / error("noodl-iht") <= MORE),
    solver("least-squares-in-fewer-iterations", "Pruned least squares needs far fewer iterations than published",
        iterations("noodl") / iterations("noodl-iht") <= 0.25),
    demonstration("blind-start", "Initialised with samples, NOODL finds most atoms (smallest share)",
        minimum(*map(atoms, BLIND)) >= 0.9, source="ours, outside the theory"),
    hypothesis("mending-finds-nearly-all",
        "Initialised with samples, NOODL mostly finds nearly all atoms if those that mix several true ones are "
        "repaired",
        met(minimum(*map(atoms, MENDED)) >= 0.98) >= 0.5),
    hypothesis("mending-finds-more", "Repairing atoms that mix several true ones lets NOODL find more of them",
        minimum(*map(atoms, MENDED)) - minimum(*map(atoms, BLIND)) >= 0.01),
    hypothesis("tracks", "NOODL tracks a dictionary that rotates by half a degree per batch",
        late_error("drift") <= 0.04),
    hypothesis("lasso-lags",
        "A lasso with the best rate of forgetting tracks a rotating dictionary less well than NOODL",
        late_error("drift") / late_error("drift-lasso") <= LESS),
    ours("patches-beat-random",
        "For a photograph's patches, 4 of NOODL's atoms explain more than 4 random patches",
        explained("patches-noodl") - explained("patches-random") >= MATTERS),
    ours("lasso-is-better-on-patches",
        "For patches, whose coefficients are not bounded below, 4 atoms of a lasso explain more than 4 of NOODL's",
        maximum(explained("patches-lasso-0.05"), explained("patches-lasso-0.2")) - explained("patches-noodl")
        >= MATTERS),
    large("large-dictionary", "With 1500 atoms and up to 100 in a sample, and codes by least squares, the error "
        "becomes small in 50 batches",
        error("large") <= 1e-2),
    large("large-dictionary-is-learned", "With 1500 atoms and up to 100 in a sample, and codes by least squares, the "
        "error after 50 batches is far below that after 5 (ratio)",
        error("large") / early_error("large") <= 0.1),
    large("large-codes", "With 1500 atoms and up to 100 in a sample, the codes by least squares of nearly all samples "
        "have exactly the right atoms and signs from the sixth batch on",
        support("large") >= 0.99),
]  # fmt: skip
