"""Additional sequences: mutants of measured ones, one letter at a time."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from engram import checks
from engram.generative.design.constraints import Constraints
from engram.generative.design.sequences import check_tokens

Tokens = UInt8[np.ndarray, "sequences length"]
Grown = UInt8[np.ndarray, "grown length"]
PATIENCE = 200  # known mutants drawn in a row before the next parent takes its turn


def expand_hamming1(
    tokens: Tokens,
    n: int,
    rng: np.random.Generator,
    *,
    vocab: int = 20,
    explore: Literal["ham1", "walk"] = "ham1",
    constraints: Constraints | None = None,
) -> Grown:
    """The distinct sequences among those given, followed by mutants of them, n in all.

    A mutant has a random letter at a random position. With ``"ham1"`` the given sequences take turns as parents, each
    until it yields a new mutant, as in the published code; with ``"walk"`` a parent is drawn from all sequences,
    mutants included, as in the paper's algorithm, so that mutants go further.

    Args:
        tokens: The sequences.
        n: Number of sequences to return; fewer, with a warning, if there are no more sequences (``"walk"``), or none
            one letter away from a given one (``"ham1"``).
        rng: Source of mutants.
        vocab: Size of the alphabet.
        explore: How parents are chosen.
        constraints: Mutants differ from their parents in no fixed position, and have at most as many mutations as
            allowed, or as their parents; None: all mutants.

    Returns:
        The distinct given sequences in their order, then the mutants.

    Raises:
        ValueError: An argument is out of range, or n is below the number of distinct sequences.

    Source: Kirjner et al., ICLR 2024, algorithm 4 and the published code.

    Examples:
        >>> expand_hamming1(np.zeros((1, 3), np.uint8), 4, np.random.default_rng(0), vocab=2).sum(1).tolist()
        [0, 1, 1, 1]
    """
    checks.arguments()
    checks.choice("explore", explore, ("ham1", "walk"))
    vocab = checks.size("vocab", vocab, 2, 255)
    check_tokens("tokens", tokens, vocab)
    free = np.arange(tokens.shape[1])
    if constraints is not None:
        checks.has_shape("constraints.wild_type", constraints.wild_type.shape, tokens.shape[1:])
        free = constraints.free
    pool = tokens[np.sort(np.unique(tokens, axis=0, return_index=True)[1])]
    n = checks.size("n", n, len(pool))
    count, length = len(pool), len(free)
    if explore == "walk":
        most = _reachable(pool, vocab, constraints)
        if n > most:
            warnings.warn(f"n = {n}: there are {most} sequences", UserWarning, stacklevel=2)
        n = min(n, most)
    elif n - count > count * length * (vocab - 1) / 4:
        shell = hamming1_shell(pool, vocab, constraints)
        if n - count >= len(shell):
            return _with_all_of_shell(pool, shell, n)
    rows = list(pool)
    visited = {row.tobytes() for row in rows}
    parent = misses = fruitless = 0  # fruitless: parents in a row that yielded no new mutant
    while len(rows) < n:
        positions, letters = free[rng.integers(length, size=4096)].tolist(), rng.integers(vocab, size=4096).tolist()
        parents = rng.random(4096).tolist() if explore == "walk" else []
        for draw in range(4096):
            source = rows[int(parents[draw] * len(rows))] if parents else pool[parent]
            mutant = source.copy()
            mutant[positions[draw]] = letters[draw]
            key = mutant.tobytes()
            misses += 1
            if key not in visited and (constraints is None or _allowed(constraints, mutant, source)):
                visited.add(key)
                rows.append(mutant)
                misses = 0
                if len(rows) == n:
                    break
            if misses == 0 or misses > PATIENCE:
                fruitless = fruitless + 1 if misses else 0
                parent, misses = (parent + 1) % count, 0
        if explore == "ham1" and fruitless >= count:
            shell = hamming1_shell(pool, vocab, constraints)
            unseen = rng.permutation(shell[[row.tobytes() not in visited for row in shell]])
            return _with_all_of_shell(np.array(rows), unseen[: n - len(rows)], n)
    return np.array(rows)


def _with_all_of_shell(tokens: Tokens, shell: UInt8[np.ndarray, "mutants length"], n: int) -> Grown:
    """The sequences followed by those of the shell, with a warning if there are fewer than n."""
    grown = np.concatenate([tokens, shell])
    if len(grown) < n:
        warnings.warn(f"n = {n}: there are {len(grown)} sequences at most one letter away", UserWarning, stacklevel=3)
    return grown


def _allowed(constraints: Constraints, mutant: np.ndarray, source: np.ndarray) -> bool:
    """Whether a mutant has at most as many mutations as allowed, or as its source."""
    count, before = constraints.mutations(np.stack([mutant, source])).tolist()
    return bool(count <= max(before, constraints.max_mutations))


def _reachable(pool: Tokens, vocab: int, constraints: Constraints | None) -> int:
    """How many sequences a walk from those of the pool can reach, themselves counted."""
    length = pool.shape[1]
    if constraints is None:
        return int(vocab**length)
    reached = 0
    free, fixed = constraints.free, constraints.fixed
    for background in np.unique(pool[:, fixed], axis=0):  # a walk keeps the letters of fixed positions
        same = (pool[:, fixed] == background).all(1)
        at_fixed = int((background != constraints.wild_type[fixed]).sum())
        most = int(np.maximum(constraints.mutations(pool[same]), constraints.max_mutations).max()) - at_fixed
        reached += sum(math.comb(len(free), k) * (vocab - 1) ** k for k in range(min(most, len(free)) + 1))
    return reached


def hamming1_shell(tokens: Tokens, vocab: int, constraints: Constraints | None = None) -> Grown:
    """All sequences one letter away from a given one, without the given ones, sorted.

    Args:
        tokens: The given sequences.
        vocab: Size of the alphabet.
        constraints: What may change, as in ``expand_hamming1``; None: everything.
    """
    length = tokens.shape[1]
    mutants = np.repeat(tokens[:, None], length * (vocab - 1), axis=1)
    positions = np.repeat(np.arange(length), vocab - 1)
    steps = np.tile(np.arange(1, vocab), length)
    columns = np.arange(length * (vocab - 1))
    mutants[:, columns, positions] = (tokens[:, positions] + steps) % vocab
    if constraints is not None:
        letters = mutants[:, columns, positions].astype(np.int64)
        mutants = mutants[constraints.moves(tokens, vocab)[np.arange(len(tokens))[:, None], positions, letters]]
    distinct = np.unique(mutants.reshape(-1, length), axis=0)
    given_keys = {row.tobytes() for row in tokens}
    return distinct[[row.tobytes() not in given_keys for row in distinct]]


def random_mutants(
    tokens: Tokens,
    n: int,
    rng: np.random.Generator,
    *,
    vocab: int = 20,
    letters: int = 1,
    constraints: Constraints | None = None,
) -> Grown:
    """Mutants of randomly chosen sequences, with some letters changed at random positions.

    Args:
        tokens: The sequences.
        n: Number of mutants.
        rng: Source of all random draws.
        vocab: Size of the alphabet.
        letters: Number of letters changed in each mutant.
        constraints: Fixed positions keep the wild type's letters, and of too many mutations random ones are undone;
            None: everything may change.

    Raises:
        ValueError: There is no sequence, a token is outside the alphabet, a number is out of range, or the wild type of
            the constraints has another length.

    Examples:
        >>> random_mutants(np.zeros((2, 5), np.uint8), 3, np.random.default_rng(0), vocab=2).sum(1).tolist()
        [1, 1, 1]
    """
    checks.arguments()
    vocab = checks.size("vocab", vocab, 2, 255)
    check_tokens("tokens", tokens, vocab)
    free = np.arange(tokens.shape[1])
    if constraints is not None:
        checks.has_shape("constraints.wild_type", constraints.wild_type.shape, tokens.shape[1:])
        free = constraints.free
    letters = checks.size("letters", letters, 1, len(free))
    mutants = tokens[rng.integers(len(tokens), size=checks.size("n", n))]
    positions = free[rng.random((len(mutants), len(free))).argsort(1)[:, :letters]]
    steps = rng.integers(1, vocab, size=positions.shape)
    current = np.take_along_axis(mutants, positions, 1)
    np.put_along_axis(mutants, positions, ((current + steps) % vocab).astype(np.uint8), 1)
    return mutants if constraints is None else constraints.restored(mutants, rng)
