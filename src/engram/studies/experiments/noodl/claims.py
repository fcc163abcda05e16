"""Claims about NOODL, with their criteria."""

from typing import Any

from engram.lab import Quantity, claims_from, maximum, met, metric, minimum
from engram.studies.experiments.noodl.synthetic import ALPHAS, NOISES

LASSOS = tuple(f"lasso-{alpha}" for alpha in ALPHAS)
ARORA = ("arora-biased", "arora-unbiased")
BLIND = ("blind-64-3", "blind-96-3", "blind-96-5")
MENDED = ("mended-64-3", "mended-96-3", "mended-96-5")
DEMONSTRATION = "author code, main demonstration"
LAPTOP: dict[str, Any] = {"presets": ("laptop",)}
exact = claims_from(
    f"abstract; {DEMONSTRATION}",
    published="recovers dictionary and coefficients exactly at a geometric rate (curves)",
    **LAPTOP,
)
demonstration = claims_from(f"{DEMONSTRATION}; criterion ours", **LAPTOP)
beaten = claims_from(DEMONSTRATION, published="Arora et al. and Mairal et al. are beaten by NOODL (curves)", **LAPTOP)
LARGE: dict[str, Any] = {
    "source": "author code, TensorFlow demonstration; criterion ours",
    "published": "scales to large dictionaries (curve)",
}
large, large_iht = claims_from(**LARGE, **LAPTOP), claims_from(**LARGE, presets=("published",))
ours = claims_from("ours", **LAPTOP)
solver = claims_from("ours: codes by least squares", **LAPTOP)
hypothesis = claims_from("ours, a hypothesis", **LAPTOP)

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
    solver("up-to-16-atoms", "With up to 4, 8 and 16 atoms in a sample the dictionary is recovered",
        maximum(error("nonzero-4"), error("noodl"), error("nonzero-16")) <= 1e-4),
    solver("not-with-32-atoms", "With 32 of 250 atoms the dictionary is not recovered",
        error("nonzero-32") >= 1e-4),
    ours("basin-ends",
        "From initialisations at 14 / log n, the dictionary of samples with up to 8 atoms is mostly not recovered in "
        "400 batches (matched)",
        met(matched_error("start-14") >= 1e-4) >= 0.5),
    solver("least-squares-in-fewer-iterations", "Pruned least squares needs far fewer iterations than published",
        iterations("noodl") / iterations("noodl-iht") <= 0.25),
    hypothesis("mending-finds-more", "Repairing atoms that mix several true ones lets NOODL find more of them",
        minimum(*map(atoms, MENDED)) - minimum(*map(atoms, BLIND)) >= 0.01),
    hypothesis("lasso-lags",
        "A lasso with the best rate of forgetting tracks a rotating dictionary less well than NOODL",
        late_error("drift") / late_error("drift-lasso") <= LESS),
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
    large_iht("large-iht-dictionary",
        "With 1500 atoms and up to 100 in a sample, and codes by the published local iterations, the error becomes "
        "small in 50 batches",
        error("large-iht") <= 1e-2),
    large_iht("large-iht-dictionary-is-learned",
        "With 1500 atoms and up to 100 in a sample, and codes by the published local iterations, the error after 50 "
        "batches is far below that after 5 (ratio)",
        error("large-iht") / early_error("large-iht") <= 0.1),
    large("large-codes", "With 1500 atoms and up to 100 in a sample, the codes by least squares of nearly all samples "
        "have exactly the right atoms and signs from the sixth batch on",
        support("large") >= 0.99),
]  # fmt: skip
quantities = [
    Quantity("decades-per-batch", "Decades by which NOODL's error falls with a batch", -1.0 * metric("slope")("noodl")),
    Quantity("support", "Share of samples whose codes have exactly the right atoms and signs from the sixth batch on, "
        "by least squares or by the published iterations, whichever is smaller",
        minimum(support("noodl"), support("noodl-iht"))),
    Quantity("support-without-pruning", "Share of samples in which least squares without pruning selects exactly the "
        "right atoms and signs, from the sixth batch on",
        support("noodl-unpruned")),
    Quantity("least-squares-over-iterations", "Error of the dictionary with codes by pruned least squares over that "
        "with the published iterations",
        error("noodl") / error("noodl-iht")),
    Quantity("error-from-near", "Largest error of the dictionary after 400 batches from initialisations at a distance "
        "of 1, 4, 6 and 10 / log n (matched)",
        maximum(*(matched_error(f"start-{radius}") for radius in (1, 4, 6, 10)))),
    Quantity("error-from-near-with-16-atoms", "Largest error of the dictionary of samples with up to 16 atoms from "
        "initialisations at 4 and 10 / log n (matched)",
        maximum(matched_error("start-4-nonzero-16"), matched_error("start-10-nonzero-16"))),
    Quantity("recovered-from-afar-with-16-atoms", "Share of dictionaries of samples with up to 16 atoms that are "
        "recovered to an error of 1e-4 in 400 batches from 14 / log n (matched)",
        met(matched_error("start-14-nonzero-16") <= 1e-4)),
    Quantity("error-with-small-batches", "Largest error of the dictionary with batches of 250, 100 and 50 samples and "
        "the automatic step size",
        maximum(error("batch-250"), error("batch-100"), error("batch-50"))),
    Quantity("error-with-large-steps", "Error of the dictionary with batches of 100 samples and the step size for "
        "large ones",
        error("batch-100-fixed")),
    *(
        Quantity(f"floor-of-noise-{noise}", "Error of the dictionary over the standard deviation of the noise, "
            f"which is {noise}",
            error(f"noise-{noise}") / noise)
        for noise in NOISES
    ),
    *(
        Quantity(f"average-over-last-{arm}", f"Error of the average dictionary over the second half over that of the "
            f"last, with noise of {arm.removeprefix('noise-')}",
            averaged_error(arm) / matched_error(arm))
        for arm in ("noise-0.03", "noise-0.1")
    ),
    Quantity("found-from-samples", "Smallest share of the atoms that NOODL finds if it is initialised with samples",
        minimum(*map(atoms, BLIND))),
    Quantity("nearly-all-found-if-mended", "Share of seeds in which NOODL, initialised with samples, finds 98 % of the "
        "atoms if those that mix several true ones are repaired",
        met(minimum(*map(atoms, MENDED)) >= 0.98)),
    Quantity("error-on-drift", "Error of NOODL at the end for a dictionary that rotates by half a degree per batch",
        late_error("drift")),
    Quantity("patches-over-random", "Share of a photograph's patches that 4 of NOODL's atoms explain less that of 4 "
        "random patches",
        explained("patches-noodl") - explained("patches-random")),
]  # fmt: skip
