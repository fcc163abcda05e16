"""What a designed sequence may change of its wild type: not the fixed positions, and not more letters than allowed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int, UInt8

from engram import checks
from engram.generative.design.sequences import check_tokens

Tokens = UInt8[np.ndarray, "sequences length"]


class Constraints:
    """The sequences that have a wild type's letters at fixed positions, and differ from it in a few letters at most.

    Args:
        wild_type: The tokens of the wild type.
        fixed: Positions, counted from 0, that keep the wild type's letters.
        max_mutations: Largest number of letters that differ from the wild type's; None: no limit.

    Attributes:
        free: The positions that are not fixed, in ascending order.

    Raises:
        ValueError: A position or the number of mutations is out of range, or all positions are fixed.

    Examples:
        >>> constraints = Constraints(np.zeros(4, np.uint8), fixed=[0], max_mutations=1)
        >>> constraints.hold(np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0]], np.uint8)).tolist()
        [True, False, False]
    """

    __repr__ = checks.described

    def __init__(
        self, wild_type: UInt8[np.ndarray, "length"], *, fixed: Iterable[int] = (), max_mutations: int | None = None
    ) -> None:
        checks.arguments()
        check_tokens("wild_type", wild_type[None], 256)
        length = len(wild_type)
        with checks.noted(fixed=fixed):
            self.fixed = sorted({checks.size("fixed", position, 0, length - 1) for position in fixed})
        self.wild_type = wild_type.copy()
        self.free = np.setdiff1d(np.arange(length), self.fixed)
        if not len(self.free):
            raise ValueError(f"fixed: all {length} positions are fixed: expected one at least that is not")
        most = len(self.free)
        self.max_mutations = most if max_mutations is None else checks.size("max_mutations", max_mutations, 1, length)

    def mutations(self, tokens: Tokens) -> Int[np.ndarray, "sequences"]:
        """The number of letters of each sequence that differ from the wild type's."""
        checks.arguments()
        checks.has_shape("tokens", tokens.shape, ("sequences", len(self.wild_type)))
        return np.asarray((tokens != self.wild_type).sum(1))

    def hold(self, tokens: Tokens) -> Bool[np.ndarray, "sequences"]:
        """Whether each sequence is one of those allowed."""
        within = self.mutations(tokens) <= self.max_mutations
        return np.asarray(within & (tokens[:, self.fixed] == self.wild_type[self.fixed]).all(1))

    def restored(self, tokens: Tokens, rng: np.random.Generator) -> Tokens:
        """The sequences with fixed letters, and random ones of too many mutations, set to the wild type's.

        Args:
            tokens: The sequences; those that are allowed stay as they are.
            rng: Source of the mutations that are undone; it is drawn from only if a sequence has too many.
        """
        checks.arguments()
        restored = tokens.copy()
        restored[:, self.fixed] = self.wild_type[self.fixed]
        for row in np.flatnonzero(self.mutations(restored) > self.max_mutations):
            mutated = rng.permutation(np.flatnonzero(restored[row] != self.wild_type))[self.max_mutations :]
            restored[row, mutated] = self.wild_type[mutated]
        return restored

    def moves(self, tokens: Tokens, vocab: int) -> Bool[np.ndarray, "sequences length vocab"]:
        """Whether each letter may be set at each position: not at a fixed one, nor as one mutation too many.

        A sequence that already has more mutations than allowed may keep their number.

        Args:
            tokens: The sequences.
            vocab: Size of the alphabet.

        Raises:
            ValueError: ``vocab`` is not from 2 to 255, or the sequences have another length than the wild type.
        """
        checks.size("vocab", vocab, 2, 255)
        count = self.mutations(tokens)
        stays = tokens == self.wild_type  # where another letter is one mutation more
        most = np.maximum(count, self.max_mutations)
        after = count[:, None, None] - ~stays[:, :, None] + (np.arange(vocab) != self.wild_type[:, None])
        allowed = after <= most[:, None, None]
        allowed[:, self.fixed] = False
        return np.asarray(allowed)
