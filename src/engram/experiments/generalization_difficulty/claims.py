"""What is claimed of the bits, and what would show it."""

import itertools
from functools import partial

from engram.experiments.generalization_difficulty.direct import SIZES
from engram.experiments.generalization_difficulty.regression import MODES
from engram.lab import Claim, Measure, at_least, at_most, least, most, value, within


def lead(arm: str, *keys: str) -> Measure:
    """Return the smallest difference of what an arm returned, of each of some results and the next."""
    return least(*(value(arm, one) - value(arm, other) for one, other in itertools.pairwise(keys)))


# No seed changes the published table.
table = partial(
    Claim,
    source="author script",
    published="no figure",
    presets=("smoke", "laptop", "paper"),
    seeds=2,
    sameness="numeric",
)
ours = partial(Claim, source="ours", published="no figure")
boopathy = partial(ours, source="Boopathy et al. 2024")
claims = [
    table(
        "table",
        "The published tasks have the published bits (largest relative deviation)",
        published="MNIST 1.48e16, SVHN 1.21e31, CIFAR-10 3.44e32, ImageNet 3.58e41, Omniglot 1.79e145, 8 control tasks",
        metric=value("published", "deviation"),
        holds=at_most(1e-3),
    ),
    table(
        "order",
        "MNIST < SVHN < CIFAR-10 < ImageNet < few-shot Omniglot (smallest step of log10 bits)",
        source="abstract; author script",
        published="the order",
        metric=value("published", "least_step"),
        holds=at_least(0.0),
    ),
    table(
        "observations",
        "Each observation more that the cart and pole's policy sees multiplies the bits (smallest ratio)",
        source="figure Number of Observations; author script",
        published="2.5e7 to 7.5e7",
        metric=value("published", "cartpole_ratio"),
        holds=at_least(1e7),
    ),
    table(
        "exponential-in-dimension",
        "The bits grow exponentially with the dimension (smallest slope of log10 bits, MNIST, m = 8 to 29)",
        source="blog post; author script",
        published="exponential (no figure)",
        metric=value("published", "least_slope"),
        holds=at_least(0.0),
    ),
    table(
        "ever-more-slowly",
        "ever more slowly (largest rise of the slope)",
        source="author script; derived",
        metric=value("published", "largest_rise_of_slope"),
        holds=at_most(0.0),
    ),
    table(
        "linear-in-log-n",
        "The bits fall linearly with the logarithm of the samples (ImageNet, spread over decades)",
        source="imagenet_vary_datasize.png; author script",
        published="3.595e41 falling to 3.425e41 over 17 decades, a straight line",
        metric=value("published", "per_decade_spread"),
        holds=at_most(1e-6),
    ),
    table(
        "linear-in-log-error",
        "and by one bit a free dimension when the target error doubles",
        source="author script; derived",
        published="logarithmic in the error (no figure)",
        metric=value("published", "per_doubling"),
        holds=within(1.0, 1e-6),
    ),
    table(
        "polynomial-in-resolution",
        "They are polynomial in 1 / resolution, of an order of 0.85 m at least",
        source="blog post; author script",
        published="polynomial (no figure)",
        metric=value("published", "least_order"),
        holds=at_least(0.85),
    ),
    table(
        "of-order-m",
        "and 1.02 m at most",
        source="blog post; author script",
        published="polynomial (no figure)",
        metric=value("published", "largest_order"),
        holds=at_most(1.02),
    ),
    ours(
        "known-shapes",
        "Spheres, tori and cubes of up to 5 dimensions have the dimension that they have (largest error)",
        metric=value("shapes", "error"),
        holds=at_most(0.05),
    ),
    *(
        ours(
            f"dimension-of-{name}",
            f"{what} has the published intrinsic dimension, to 1.5",
            source="author script",
            published=f"{m}",
            metric=value(arm, key),
            holds=within(m, 1.5),
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
        published="14 and 27",
        metric=least(value("mnist", "m") - value("digits", "m"), value("cifar10", "m") - value("mnist", "m")),
        holds=at_least(0.0),
    ),
    ours(
        "order-of-measured-bits",
        "and so do the bits, at one target error (smallest step of log10)",
        published="16.2 and 32.5, at different errors",
        metric=least(
            value("mnist", "log10_bits") - value("digits", "log10_bits"),
            value("cifar10", "log10_bits") - value("mnist", "log10_bits"),
        ),
        holds=at_least(0.0),
    ),
    ours(
        "noise-adds-dimensions",
        "Three noisy observations fill more dimensions than three exact ones, by 1 at least",
        source="abstract: partially observed is harder",
        metric=lead("cartpole", "m_noisy_3", "m_clean_3"),
        holds=at_least(1.0),
    ),
    ours(
        "each-noisy-observation-adds",
        "Each noisy observation more adds some (smallest step, 1 to 3)",
        published="two each, by construction",
        metric=lead("cartpole", "m_noisy_3", "m_noisy_2", "m_noisy_1"),
        holds=at_least(0.0),
    ),
    ours(
        "noise-is-hard",
        "so that three noisy observations take more bits than three exact ones, and these than one (log10)",
        metric=lead("cartpole", "log10_bits_noisy_3", "log10_bits_clean_3", "log10_bits_clean_1"),
        holds=at_least(0.0),
    ),
    ours(
        "modes-must-be-sampled",
        "With one sample less than modes, a band-limited function is not found (least error, m = 1 to 3)",
        metric=least(*(value("regression", f"error_{m}_but_one") for m in MODES)),
        holds=at_least(1e-3),
    ),
    ours(
        "modes-suffice",
        "with as many, it is (largest error)",
        metric=most(*(value("regression", f"error_{m}_all") for m in MODES)),
        holds=at_most(1e-20),
    ),
    ours(
        "formula-knows-when",
        "The formula's free dimensions end with as many samples (largest ratio to the modes)",
        published="2 E D dimensions, D a sample",
        metric=most(*(value("regression", f"formula_{m}") for m in MODES)),
        holds=within(1.0, 0.15),
        sameness="numeric",
    ),
    boopathy(
        "samples-bring-bits",
        "Directly computed, bits fall as training digits are added (least fall, 50 to 200 to 800)",
        metric=lead("direct", *(f"bits_ten_{size}" for size in SIZES)),
        holds=at_least(0.0),
    ),
    boopathy(
        "noise-inputs-cost-bits",
        "Inputs that are noise cost bits, with any number of digits (least cost)",
        metric=least(*(lead("direct", f"bits_noise_{size}", f"bits_ten_{size}") for size in SIZES)),
        holds=at_least(0.0),
    ),
    boopathy(
        "ten-classes-cost-more",
        "Ten classes take more bits than two (50 digits)",
        metric=lead("direct", "bits_ten_50", "bits_two_50"),
        holds=at_least(0.0),
    ),
    ours(
        "saddlepoint-is-exact",
        "The saddlepoint agrees with 100,000 draws at a probability of 1e-3 (difference in bits)",
        metric=value("direct", "off_by"),
        holds=within(0.0, 0.15),
    ),
    *(
        ours(
            f"{better}-brings-more",
            f"{what} on digits (log10 of the bits, difference)",
            source="blog post, architecture information",
            published="Linear < AlexNet < ResNet < ViT on images",
            metric=lead("architectures", f"log10_bits_{better}", f"log10_bits_{worse}"),
            holds=at_least(0.0),
        )
        for better, worse, what in (
            ("mlp", "linear", "A network with a hidden layer brings more bits than a linear one"),
            ("cnn", "mlp", "and a convolutional one as many as that, or more,"),
        )
    ),
]
