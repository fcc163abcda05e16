"""Gibbs sampling with graph-based smoothing, which designs sequences from a few thousand measurements of worse ones."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from engram import checks
from engram.generative.design.baselines import consensus
from engram.generative.design.constraints import Constraints
from engram.generative.design.expand import expand_hamming1
from engram.generative.design.gibbs_with_gradients import Accept, GibbsWithGradients, Population, top
from engram.generative.design.seq_cnn import SeqCNN, optimizer_of, train_epoch
from engram.generative.design.sequences import AMINO_ACIDS, Duplicates, decode, encode, measurements_of
from engram.generative.design.smoother import GraphLabelSmoother
from engram.numeric.rounding import are_equal


class GGS(BaseEstimator):  # type: ignore[misc]
    """Design of sequences that are better than the measured ones, by a network trained on smoothed labels.

    A first network is fitted to the measurements and labels the sequences and many mutants of them. These labels are
    smoothed over a graph of nearest neighbours, and a second network is fitted to the result. Its gradients then guide
    mutations of single letters, round by round. The networks learn the measurements in units of their standard
    deviation, counted from their mean, so designs do not depend on the unit and offset of the measurements. Look at
    ``consensus_`` first: for mutants of one parent it is that parent, and often as good.

    Args:
        alphabet: The letters.
        duplicates: How to treat a sequence that occurs more than once, as in ``measurements``; by default all its
            rows are used, with a warning if their labels differ.
        n_nodes: Number of sequences in the graph; 250,000 as published.
        gamma: Strength of smoothing; 0: none, so that the second network learns the predictions of the first one.
        explore: How parents of mutants are chosen, as in ``expand_hamming1``.
        k: Number of neighbours; ``"sqrt"``: the square root of the number of nodes.
        edge_weight: Weights of edges, as in ``GraphLabelSmoother``.
        laplacian: The graph's Laplacian, as in ``GraphLabelSmoother``.
        channels: Outputs of the networks' convolution; 256 as published.
        kernel: Letters in a window of the convolution.
        epochs: Passes of the first network over the measurements.
        smooth_epochs: Passes of the second network over the nodes.
        lr: Learning rate of both networks; 1e-4 as published.
        batch_size: Sequences in a batch, for both networks; 1024 as published.
        weight_decay: Weight decay of both networks; 1e-4 as published.
        temperature: Temperature of proposals, as in ``GibbsWithGradients``, in units of the standard deviation of the
            measurements.
        n_proposals: Number of proposals drawn for each parent.
        clusters: Largest number of parents in a round.
        accept: The acceptance rule, as in ``GibbsWithGradients``.
        rounds: Number of rounds of the sampler.
        fixed: Positions, counted from 0, that keep the wild type's letters in nodes and designs.
        max_mutations: Largest number of letters in which a design differs from the wild type; None: no limit.
        wild_type: The sequence whose letters and mutations the last two are about; None: the consensus.
        random_state: Seed of all random draws.

    Attributes:
        consensus_: The most frequent letter at each position.
        nodes_: The tokens of the graph's sequences.
        noisy_labels_, labels_: The first network's predictions for the nodes, before and after smoothing.
        noisy_model_, model_: The two networks, whose output is in units of ``scaler_``.
        scaler_: The mean and standard deviation of the measurements, a ``sklearn.preprocessing.StandardScaler``.
        start_: The measured sequences and their fitness.
        history_: Statistics of the rounds of the last ``sample``.

    Raises:
        ValueError: An argument is out of range, sequences differ in length or have letters outside the alphabet, or
            all have the same fitness.

    Source: Kirjner, Yim, Samusevich, Bracha, Jaakkola, Barzilay and Fiete, "Improving protein optimization with
    smoothed fitness landscapes", ICLR 2024.

    Examples:
        >>> sequences = ["AAAAAA", "AAAACA", "ACAAAA", "CAAAAA"]
        >>> design = GGS("AC", n_nodes=12, channels=4, epochs=20, lr=0.01, rounds=2, random_state=0)
        >>> len(design.fit(sequences, [0.0, 1.0, 1.0, 1.0]).sample(3))
        3
    """

    def __init__(
        self,
        alphabet: Annotated[Any, str] = AMINO_ACIDS,
        *,
        duplicates: Annotated[Any, Duplicates] = "warn",
        n_nodes: Annotated[Any, int] = 12_000,
        gamma: Annotated[Any, float] = 1.0,
        explore: Annotated[Any, Literal["ham1", "walk"]] = "ham1",
        k: Annotated[Any, int | Literal["sqrt"]] = "sqrt",
        edge_weight: Annotated[Any, Literal["inverse", "distance", "binary", "gaussian"]] = "inverse",
        laplacian: Annotated[Any, Literal["normalized", "combinatorial", "random_walk"]] = "normalized",
        channels: Annotated[Any, int] = 64,
        kernel: Annotated[Any, int] = 5,
        epochs: Annotated[Any, int] = 60,
        smooth_epochs: Annotated[Any, int] = 20,
        lr: Annotated[Any, float] = 1e-3,
        batch_size: Annotated[Any, int] = 256,
        weight_decay: Annotated[Any, float] = 1e-4,
        temperature: Annotated[Any, float] = 0.1,
        n_proposals: Annotated[Any, int] = 100,
        clusters: Annotated[Any, int] = 32,
        accept: Annotated[Any, Accept] = "balanced",
        rounds: Annotated[Any, int] = 15,
        fixed: Annotated[Any, Collection[int]] = (),
        max_mutations: Annotated[Any, int | None] = None,
        wild_type: Annotated[Any, str | None] = None,
        random_state: Annotated[Any, int | np.random.Generator | None] = None,
    ) -> None:
        self.alphabet = alphabet
        self.duplicates = duplicates
        self.n_nodes = n_nodes
        self.gamma = gamma
        self.explore = explore
        self.k = k
        self.edge_weight = edge_weight
        self.laplacian = laplacian
        self.channels = channels
        self.kernel = kernel
        self.epochs = epochs
        self.smooth_epochs = smooth_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.temperature = temperature
        self.n_proposals = n_proposals
        self.clusters = clusters
        self.accept = accept
        self.rounds = rounds
        self.fixed = fixed
        self.max_mutations = max_mutations
        self.wild_type = wild_type
        self.random_state = random_state

    def fit(self, sequences: Iterable[str], y: ArrayLike) -> GGS:
        """Learn from sequences, strings of equal length, and their fitness ``y``, to be maximised."""
        measured = measurements_of("y", sequences, y, self.alphabet, self.duplicates)
        constraints = self._constraints_of(measured.tokens)
        self._sampler_of(None, constraints)  # checks the sampler's arguments before the networks are trained
        checks.number("gamma", self.gamma, minimum=0)
        checks.size("epochs", self.epochs)
        checks.size("smooth_epochs", self.smooth_epochs)
        checks.size("n_nodes", self.n_nodes, len(np.unique(measured.tokens, axis=0)))
        scaler = StandardScaler().fit(measured.scores[:, None])
        scores = scaler.transform(measured.scores[:, None])[:, 0]
        if are_equal(measured.scores) or np.ptp(scores) < 1e-6:  # the scaler leaves what differs by rounding alone
            raise ValueError(f"y: expected different numbers, not {measured.scores[0]:g} alone")
        rng = checks.rng("random_state", self.random_state)
        noisy_model = self._fit("y", measured.tokens, scores, self.epochs, rng)
        vocab = len(self.alphabet)
        options: dict[str, Any] = {"vocab": vocab, "explore": self.explore, "constraints": constraints}
        nodes = expand_hamming1(measured.tokens, self.n_nodes, rng, **options)
        noisy_labels = noisy_model.predict(nodes)
        smoother = GraphLabelSmoother(self.gamma, k=self.k, edge_weight=self.edge_weight, laplacian=self.laplacian)
        labels = smoother.fit_transform(nodes, noisy_labels) if self.gamma else noisy_labels
        self.model_ = self._fit("labels_", nodes, labels, self.smooth_epochs, rng)
        # Only now, so that a call that fails leaves an earlier fit whole.
        self.noisy_model_, self.nodes_, self.scaler_ = noisy_model, nodes, scaler
        self.noisy_labels_, self.labels_ = self._in_units(noisy_labels), self._in_units(labels)
        self.consensus_ = decode(consensus(measured.tokens)[None], self.alphabet)[0]
        self.start_ = Population(*measured)
        self._constraints = constraints
        self._rng = copy.deepcopy(rng)
        return self

    def sample(self, n: int = 128) -> list[str]:
        """The n best sequences of the sampler's last round, or all if there are fewer, best first.

        They are the same at each call. If no round accepted a new sequence, they are initial ones, with a warning.
        """
        check_is_fitted(self)
        n = checks.size("n", n)
        rng = copy.deepcopy(self._rng)
        final, self.history_ = self._sampler_of(self.model_, self._constraints).run(self.start_, self.rounds, rng)
        if not any(round_.unique for round_ in self.history_):
            none_new = "no round accepted a sequence that was not measured, so that these are initial ones"
            warnings.warn(f"{none_new}: look at accept = {self.accept!r} and at max_mutations", UserWarning,
                          stacklevel=2)  # fmt: skip
        best = top(final, n)
        median = float(np.median(self._in_units(self.model_.predict(best.tokens))))
        if median > self.start_.scores.max() + np.ptp(self.start_.scores):
            far = f"a median of {median:.3g}, where {self.start_.scores.max():.3g} is the most measured"
            warnings.warn(f"extrapolation: the network predicts {far}", UserWarning, stacklevel=2)
        return decode(best.tokens, self.alphabet)

    def predict(self, sequences: Iterable[str]) -> Float[np.ndarray, "sequences"]:
        """The fitness of sequences predicted by the network trained on smoothed labels."""
        check_is_fitted(self)
        return self._in_units(self.model_.predict(encode(sequences, self.alphabet)))

    def _in_units(self, outputs: Float[np.ndarray, "sequences"]) -> Float[np.ndarray, "sequences"]:
        """A network's outputs in the units of the measurements."""
        return np.asarray(self.scaler_.inverse_transform(outputs[:, None])[:, 0])

    def _fit(
        self,
        name: str,
        tokens: UInt8[np.ndarray, "sequences length"],
        labels: Float[np.ndarray, "sequences"],
        epochs: int,
        rng: np.random.Generator,
    ) -> SeqCNN:
        """A new network fitted to labels, with a warning if their mean would have predicted them better."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        net = SeqCNN(tokens.shape[1], len(self.alphabet), self.channels, self.kernel, generator=generator)
        optimizer = optimizer_of(net, self.lr, self.weight_decay)
        for _ in range(epochs):
            train_epoch(net, optimizer, tokens, labels, rng, batch_size=self.batch_size)
        error = float(np.square(net.predict(tokens) - labels).mean())
        if error > labels.var():
            worse = f"their mean would (a squared error of {error:.3g}, where their variance is {labels.var():.3g})"
            more = "more epochs or another lr may help"
            warnings.warn(f"{name}: the network predicts what it learned worse than {worse}; {more}", UserWarning,
                          stacklevel=3)  # fmt: skip
        return net

    def _constraints_of(self, tokens: UInt8[np.ndarray, "sequences length"]) -> Constraints | None:
        """The constraints, if there are any."""
        wild_type = consensus(tokens)
        if self.wild_type is not None:
            with checks.noted(wild_type=self.wild_type):
                wild_type = encode([self.wild_type], self.alphabet)[0]
            if len(wild_type) != tokens.shape[1]:
                raise ValueError(f"wild_type has length {len(wild_type)}: expected {tokens.shape[1]}, as the sequences")
        with checks.noted(fixed=self.fixed):
            fixed = tuple(self.fixed)
        if not fixed and self.max_mutations is None:
            return None
        return Constraints(wild_type, fixed=fixed, max_mutations=self.max_mutations)

    def _sampler_of(self, net: Any, constraints: Constraints | None) -> GibbsWithGradients:
        checks.size("rounds", self.rounds)
        energy: Any = net if net is not None else len
        options: dict[str, Any] = {"clusters": self.clusters, "vocab": len(self.alphabet), "constraints": constraints}
        return GibbsWithGradients(energy, self.temperature, self.n_proposals, self.accept, **options)
