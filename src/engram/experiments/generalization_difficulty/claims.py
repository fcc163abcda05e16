"""What is claimed of the bits, and what would show it."""

import itertools
from functools import partial

from engram.experiments.generalization_difficulty.dimensions import SHAPES
from engram.experiments.generalization_difficulty.direct import SIZES
from engram.experiments.generalization_difficulty.regression import MODES
from engram.lab import Measure, claimed, least, most, value


def lead(arm: str, *keys: str) -> Measure:
    """Return the smallest difference of what an arm returned, of each of some results and the next."""
    return least(*(value(arm, one) - value(arm, other) for one, other in itertools.pairwise(keys)))


def rise(key: str) -> Measure:
    """Return the smallest rise of what was measured from digits to MNIST to CIFAR-10."""
    return least(value("mnist", key) - value("digits", key), value("cifar10", key) - value("mnist", key))


script = partial(claimed, source="author script", published="no figure")
# A formula applied to published numbers: what it says tests the code.
table = partial(script, presets=("smoke", "laptop", "paper"), seeds=2, sameness="identity")
derived = partial(table, source="author script; derived")
polynomial = partial(table, source="blog post; author script", published="polynomial (no figure)")
ours = partial(claimed, source="ours", published="no figure")
boopathy = partial(ours, source="Boopathy et al. 2024")
claims = [
    table(
        "table",
        "The published tasks have the published bits (largest relative deviation)",
        value("published", "deviation") <= 1e-3,
        published="MNIST 1.48e16, SVHN 1.21e31, CIFAR-10 3.44e32, ImageNet 3.58e41, Omniglot 1.79e145, 8 control tasks",
    ),
    table(
        "order",
        "MNIST < SVHN < CIFAR-10 < ImageNet < few-shot Omniglot (smallest step of log10 bits)",
        value("published", "least_step") >= 0.0,
        source="abstract; author script",
        published="the order",
    ),
    table(
        "observations",
        "Each observation more that the cart and pole's policy sees multiplies the bits (smallest ratio)",
        value("published", "cartpole_ratio") >= 1e7,
        source="figure Number of Observations; author script",
        published="2.5e7 to 7.5e7",
    ),
    table(
        "exponential-in-dimension",
        "The bits grow exponentially with the dimension (smallest slope of log10 bits, MNIST, m = 8 to 29)",
        value("published", "least_slope") >= 0.0,
        source="blog post; author script",
        published="exponential (no figure)",
    ),
    derived(
        "ever-more-slowly",
        "The bits grow ever more slowly with the dimension (largest rise of the slope, MNIST, m = 8 to 29)",
        value("published", "largest_rise_of_slope") <= 0.0,
    ),
    table(
        "linear-in-log-n",
        "The bits fall linearly with the logarithm of the samples (ImageNet, spread over decades)",
        value("published", "per_decade_spread") <= 1e-6,
        source="imagenet_vary_datasize.png; author script",
        published="3.595e41 falling to 3.425e41 over 17 decades, a straight line",
    ),
    derived(
        "linear-in-log-error",
        "The bits fall by one a free dimension when the target error doubles",
        value("published", "per_doubling").within(1.0, 1e-6),
        published="logarithmic in the error (no figure)",
    ),
    polynomial(
        "polynomial-in-resolution",
        "The bits are polynomial in 1 / resolution, of an order of 0.85 m at least",
        value("published", "least_order") >= 0.85,
    ),
    polynomial(
        "of-order-m",
        "The bits are polynomial in 1 / resolution, of an order of 1.02 m at most",
        value("published", "largest_order") <= 1.02,
    ),
    *(
        ours(
            f"known-{shape}",
            f"{what} of up to {max(SHAPES[shape])} dimensions are found to have them (largest relative error)",
            value("shapes", f"error_{shape}") <= 0.05,
        )
        for shape, what in (("sphere", "Spheres"), ("torus", "Flat tori"), ("cube", "Cubes, which have edges,"))
    ),
    *(
        ours(
            f"dimension-of-{name}",
            f"{what} has the published intrinsic dimension, to 1.5",
            value(arm, key).within(m, 1.5),
            source="author script",
            published=f"{m}",
            sameness="numeric" if name == "alphabets" else "statistical",  # all images of an alphabet: no seed
        )
        for name, arm, key, m, what in (
            ("mnist", "mnist", "m", 14, "MNIST (laptop: the 10,000 test images)"),
            ("cifar10", "cifar10", "m", 27, "CIFAR-10 (laptop: its JPEG copy)"),
            ("omniglot", "omniglot", "m", 29, "Omniglot (laptop: eight alphabets)"),
            ("alphabets", "omniglot", "m_within", 22, "An alphabet of Omniglot"),
        )
    ),
    ours(
        "order-of-measured-dimensions",
        "Measured dimensions rise from digits to MNIST to CIFAR-10 (smallest step)",
        rise("m") >= 0.0,
        published="14 and 27",
    ),
    ours(
        "order-of-measured-bits",
        "Bits by measured dimensions rise from digits to MNIST to CIFAR-10, at one target error (smallest step of "
        "log10)",
        rise("log10_bits") >= 0.0,
        published="16.2 and 32.5, at different errors",
    ),
    ours(
        "noise-adds-dimensions",
        "Three noisy observations fill more dimensions than three exact ones, by 1 at least",
        lead("cartpole", "m_noisy_3", "m_clean_3") >= 1.0,
        source="abstract: partially observed is harder",
    ),
    ours(
        "each-noisy-observation-adds",
        "Each noisy observation more adds to the measured dimension (smallest step, 1 to 3)",
        lead("cartpole", "m_noisy_3", "m_noisy_2", "m_noisy_1") >= 0.0,
        published="two each, by construction",
    ),
    ours(
        "noise-is-hard",
        "Three noisy observations take more bits than three exact ones, and these than one (log10)",
        lead("cartpole", "log10_bits_noisy_3", "log10_bits_clean_3", "log10_bits_clean_1") >= 0.0,
    ),
    ours(
        "modes-must-be-sampled",
        "With one sample less than modes, a band-limited function is not found (least error, m = 1 to 3)",
        least(*(value("regression", f"error_{m}_but_one") for m in MODES)) >= 1e-3,
        sameness="identity",
    ),
    ours(
        "modes-suffice",
        "With as many samples as modes, a band-limited function is found (largest error)",
        # Rounding, squared, times the squared condition of random samples, which is 1e14 in the worst of 15 seeds.
        most(*(value("regression", f"error_{m}_all") for m in MODES)) <= 1e-12,
        sameness="identity",
    ),
    ours(
        "formula-knows-when",
        "The formula's free dimensions end with as many samples (largest ratio to the modes)",
        most(*(value("regression", f"formula_{m}") for m in MODES)).within(1.0, 0.15),
        published="2 E D dimensions, D a sample",
        sameness="numeric",
    ),
    boopathy(
        "samples-bring-bits",
        "Directly computed, bits fall as training digits are added (least fall, 50 to 200 to 800)",
        lead("direct", *(f"bits_ten_{size}" for size in SIZES)) >= 0.0,
    ),
    boopathy(
        "noise-inputs-cost-bits",
        "Inputs that are noise cost bits, with any number of digits (least cost)",
        least(*(lead("direct", f"bits_noise_{size}", f"bits_ten_{size}") for size in SIZES)) >= 0.0,
    ),
    boopathy(
        "ten-classes-cost-more",
        "Ten classes take more bits than two (50 digits)",
        lead("direct", "bits_ten_50", "bits_two_50") >= 0.0,
    ),
    ours(
        "saddlepoint-is-exact",
        "The saddlepoint agrees with 100,000 draws at a probability of 1e-3 (difference in bits)",
        value("direct", "off_by").within(0.0, 0.15),
    ),
    *(
        ours(
            f"{better}-brings-more",
            f"{what} on digits (log10 of the bits, difference)",
            lead("architectures", f"log10_bits_{better}", f"log10_bits_{worse}") >= 0.0,
            source="blog post, architecture information",
            published="Linear < AlexNet < ResNet < ViT on images",
        )
        for better, worse, what in (
            ("mlp", "linear", "A network with a hidden layer brings more bits than a linear one"),
            ("cnn", "mlp", "A convolutional network brings as many bits as one with a hidden layer, or more,"),
        )
    ),
]
