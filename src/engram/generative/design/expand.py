"""Additional sequences: mutants of measured ones, one letter at a time."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from engram import checks
from engram.generative.design.sequences import check_tokens

Tokens = UInt8[np.ndarray, "sequences length"]
Grown = UInt8[np.ndarray, "grown length"]
PATIENCE = 200  # mutants of a sequence in a row that were there before, until the next is taken


def expand_hamming1(
    tokens: Tokens,
    n: int,
    rng: np.random.Generator,
    *,
    vocab: int = 20,
    explore: Literal["ham1", "walk"] = "ham1",
) -> Grown:
    """Some sequences without repetitions, followed by mutants of them, n different ones in all.

    A mutant has a random letter at a random place. With ``"ham1"`` the given sequences take turns as parents, each
    until it has a new mutant, as in the published code; with ``"walk"`` a parent is drawn from all sequences, mutants
    included, as in the paper's algorithm, so that they go further.

    Args:
        tokens: The sequences.
        n: How many to return; fewer, with a warning, if all sequences that are one letter away are used up.
        rng: Source of mutants.
        vocab: Letters of the alphabet.
        explore: How parents are chosen.

    Returns:
        The different sequences first, in their order, then the mutants.

    Raises:
        ValueError: An argument is out of range, or n is below the number of different sequences.

    Source: Kirjner et al., ICLR 2024, algorithm 4 and the published code.

    Examples:
        >>> expand_hamming1(np.zeros((1, 3), np.uint8), 4, np.random.default_rng(0), vocab=2).sum(1).tolist()
        [0, 1, 1, 1]
    """
    checks.arguments()
    checks.choice("explore", explore, ("ham1", "walk"))
    vocab = checks.size("vocab", vocab, 2, 255)
    check_tokens("tokens", tokens, vocab)
    pool = tokens[np.sort(np.unique(tokens, axis=0, return_index=True)[1])]
    n = checks.size("n", n, len(pool))
    count, length = pool.shape
    if explore == "ham1" and n - count > count * length * (vocab - 1) / 4:
        shell = hamming1_shell(pool, vocab)
        if n - count >= len(shell):
            if n - count > len(shell):
                warnings.warn(
                    f"n = {n}: there are {count + len(shell)} sequences at most one letter away", UserWarning,
                    stacklevel=2,
                )  # fmt: skip
            return np.concatenate([pool, shell])
    rows = list(pool)
    visited = {row.tobytes() for row in rows}
    parent = misses = 0
    while len(rows) < n:
        places, letters = rng.integers(length, size=4096).tolist(), rng.integers(vocab, size=4096).tolist()
        parents = rng.random(4096).tolist() if explore == "walk" else []
        for draw in range(4096):
            chosen = rows[int(parents[draw] * len(rows))] if parents else pool[parent]
            mutant = chosen.copy()
            mutant[places[draw]] = letters[draw]
            key = mutant.tobytes()
            misses += 1
            if key not in visited:
                visited.add(key)
                rows.append(mutant)
                misses = 0
                if len(rows) == n:
                    break
            if misses == 0 or misses > PATIENCE:
                parent, misses = (parent + 1) % count, 0
    return np.array(rows)


def hamming1_shell(tokens: Tokens, vocab: int) -> Grown:
    """All sequences that are one letter away from one of these, without these, sorted."""
    length = tokens.shape[1]
    mutants = np.repeat(tokens[:, None], length * (vocab - 1), axis=1)
    places = np.repeat(np.arange(length), vocab - 1)
    steps = np.tile(np.arange(1, vocab), length)
    columns = np.arange(length * (vocab - 1))
    mutants[:, columns, places] = (tokens[:, places] + steps) % vocab
    different = np.unique(mutants.reshape(-1, length), axis=0)
    own = {row.tobytes() for row in tokens}
    return different[[row.tobytes() not in own for row in different]]


def random_mutants(tokens: Tokens, n: int, rng: np.random.Generator, *, vocab: int = 20, letters: int = 1) -> Grown:
    """Mutants of randomly chosen sequences, each with a number of random letters at random places.

    Args:
        tokens: The sequences.
        n: How many mutants.
        rng: Source of all draws.
        vocab: Letters of the alphabet.
        letters: Number of places at which the letter is changed.

    Examples:
        >>> random_mutants(np.zeros((2, 5), np.uint8), 3, np.random.default_rng(0), vocab=2).sum(1).tolist()
        [1, 1, 1]
    """
    checks.arguments()
    vocab = checks.size("vocab", vocab, 2, 255)
    check_tokens("tokens", tokens, vocab)
    letters = checks.size("letters", letters, 1, tokens.shape[1])
    mutants = tokens[rng.integers(len(tokens), size=checks.size("n", n))]
    places = rng.random(mutants.shape).argsort(1)[:, :letters]
    steps = rng.integers(1, vocab, size=places.shape)
    current = np.take_along_axis(mutants, places, 1)
    np.put_along_axis(mutants, places, ((current + steps) % vocab).astype(np.uint8), 1)
    return mutants
