"""Associative recall of pairs: keys and values are tokens, the pairs of an episode are new."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

from engram import checks
from engram.tasks.episode import Episode


@dataclass(frozen=True)
class AssociativeRecall:
    """Multi-query associative recall: see pairs of a key and a value, then give the value of each key that is asked.

    Each episode draws its keys without and its values with replacement. A step shows one pair, as one-hot features of
    key and value; then each key is asked once, in random order, at steps whose distances follow a power law; the other
    steps are empty. The answer is the value to which the key was bound last. As published, key and value are steps of
    their own; here they share a step, so that no network needs a convolution in time.

    Args:
        pairs: Number of keys that are asked.
        bindings: Number of times that each of them is bound, each time to a new value, in rounds of random order.
        noise: Number of pairs of other keys that come first and are never asked; a step with a mark follows them.
        keys: Number of tokens that are keys.
        values: Number of tokens that are values; a guess is right once in so many.
        length: Number of steps of an episode.
        power: Exponent p of the power law: a step that comes d steps after the last pair is asked with a probability
            proportional to d^(p-1).

    Raises:
        ValueError: A number is out of range, or the pairs need more keys or steps than there are.

    Source: Arora et al., "Zoology: Measuring and improving recall in efficient language models" (2023), MQAR. Bindings
    and noise are ours.

    Examples:
        >>> episode = AssociativeRecall(pairs=2, keys=3, values=4, length=6).sample(1, torch.Generator().manual_seed(0))
        >>> episode.inputs.shape, episode.mask[:, 0].tolist()
        (torch.Size([6, 1, 8]), [False, False, True, False, True, False])
    """

    pairs: int = 8
    bindings: int = 1
    noise: int = 0
    keys: int = 128
    values: int = 128
    length: int = 64
    power: float = 0.01

    def __post_init__(self) -> None:
        checks.arguments()
        for name in ("pairs", "bindings", "keys", "values", "length"):
            checks.size(name, getattr(self, name))
        checks.size("noise", self.noise, minimum=0)
        checks.number("power", self.power, above=0)
        if self.keys < self.pairs + self.noise:
            raise ValueError(
                f"keys = {self.keys}: expected at least {self.pairs + self.noise}, with pairs = {self.pairs} and "
                f"noise = {self.noise}"
            )
        if self.length < self.shown + self.pairs:
            raise ValueError(
                f"length = {self.length}: expected at least {self.shown + self.pairs}, for the pairs and a question "
                "for each key"
            )

    @property
    def shown(self) -> int:
        """Number of steps before the first that may be a question."""
        return self.noise + (self.noise > 0) + self.pairs * self.bindings

    @property
    def features(self) -> int:
        """Number of input features: keys, values, and the mark after the noise."""
        return self.keys + self.values + 1

    def sample(self, batch_size: int, generator: torch.Generator) -> Episode:
        """Episodes with one-hot inputs, the one-hot value as target, and a mask of the steps that ask."""
        checks.size("batch_size", batch_size)
        device = checks.generator(generator).device
        tokens = self._order((batch_size, self.keys), generator)[:, : self.pairs + self.noise]
        noise, asked = torch.split(tokens, [self.noise, self.pairs], 1)
        rounds = self._order((batch_size, self.bindings, self.pairs), generator).flatten(1)
        shown = torch.cat((noise, asked.gather(1, rounds)), 1)
        bound = torch.randint(self.values, shown.shape, generator=generator, device=device)
        # The last round's order says at which of its steps each key was bound.
        last = bound[:, -self.pairs :].gather(1, rounds[:, -self.pairs :].argsort(1))
        places = self.shown + self._places(batch_size, generator)

        inputs = torch.zeros(batch_size, self.length, self.features, device=device)
        steps = torch.arange(shown.shape[1], device=device)
        steps = steps + (steps >= self.noise) * int(self.noise > 0)
        rows = torch.arange(batch_size, device=device).unsqueeze(1)
        inputs[rows, steps, shown] = 1.0
        inputs[rows, steps, self.keys + bound] = 1.0
        inputs[rows, places, asked] = 1.0
        if self.noise:
            inputs[:, self.noise, -1] = 1.0
        targets = torch.zeros(batch_size, self.length, self.values, device=device)
        targets[rows, places] = functional.one_hot(last, self.values).to(targets)
        mask = torch.zeros(batch_size, self.length, dtype=torch.bool, device=device)
        mask[rows, places] = True
        return Episode(inputs.transpose(0, 1), targets.transpose(0, 1), mask.t())

    def _order(self, shape: tuple[int, ...], generator: torch.Generator) -> Int[Tensor, "..."]:
        """Random permutations along the last axis."""
        return torch.rand(shape, generator=generator, device=generator.device).argsort(-1)

    def _places(self, batch_size: int, generator: torch.Generator) -> Int[Tensor, "batch pairs"]:
        """The step of each question, counted from the last pair; drawn by the power law without replacement."""
        distance = torch.arange(1, self.length - self.shown + 1, device=generator.device)
        uniform = torch.rand((batch_size, len(distance)), generator=generator, device=generator.device)
        # The largest of log p plus Gumbel noise are a sample without replacement (Efraimidis and Spirakis, 2006).
        gumbel = -(-uniform.clamp_min(1e-30).log()).log()
        chosen = ((self.power - 1) * distance.log() + gumbel).topk(self.pairs, 1).indices
        return chosen.gather(1, self._order((batch_size, self.pairs), generator))
