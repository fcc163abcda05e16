"""Language modelling that needs a memory of the document."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from engram import checks
from engram.tasks.episode import Episode

_CHAIN_SEED = 0
_CONCENTRATION = 0.1  # of the Dirichlet distribution from which the chain's rows are drawn: few likely successors


@dataclass(frozen=True)
class DocumentBigrams:
    """A language in which every document has its own bigrams, to be learned while reading it.

    The words are, in this order, names, the same number of attributes, and plain words. Every document draws its own
    one-to-one mapping from names to attributes; in it, a name is always followed by its attribute, after ``gap``
    repetitions of the first plain word, like "is" in "snow is white". Elsewhere, the next word is a name with
    probability ``name_rate`` (each name equally likely), or else a plain word, by a Markov chain that is the same in
    all documents and all runs. So the chain can be learned once, but the attribute of a name is known only from the
    document, once the name has occurred: without a memory, an attribute's cross-entropy is log(names).

    Args:
        words: Size of the vocabulary, more than twice ``names``.
        names: Number of names, and of attributes.
        document_length: Number of words in a document.
        name_rate: Probability of a name after a word that is not a name.
        gap: Number of words between a name and its attribute. Recurrent plastic connections transmit the activity of
            the previous step and cannot answer before the second word after a name: with a gap of 0 they are no use.

    Source: our own stand-in for the language modelling of Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019).

    Examples:
        >>> DocumentBigrams(document_length=100).sample(3, torch.Generator().manual_seed(0)).inputs.shape
        torch.Size([99, 3, 50])
    """

    words: int = 50
    names: int = 10
    document_length: int = 200
    name_rate: float = 0.25
    gap: int = 0

    def __post_init__(self) -> None:
        for name, bound in {"words": 1, "names": 1, "document_length": 2, "gap": 0}.items():
            object.__setattr__(self, name, checks.size(name, getattr(self, name), bound))
        if self.words <= 2 * self.names:
            raise ValueError(f"words = {self.words}: expected more than 2 * names = {2 * self.names}")
        checks.number("name_rate", self.name_rate, above=0, below=1)

    @property
    def length(self) -> int:
        """Number of steps in an episode, at each of which the next word is predicted."""
        return self.document_length - 1

    def transitions(self) -> Float[Tensor, "words words"]:
        """The probabilities of the next word (column) after each word (row); zero after names."""
        return torch.tensor(_chain(self.words, self.names, self.name_rate))

    def sample(self, batch_size: int, generator: torch.Generator) -> Episode:
        """Documents whose words are one-hot, with the next word as target.

        The mask is true where the next word is an attribute that has occurred before in this document.
        """
        checks.size("batch_size", batch_size)
        checks.generator(generator)
        document = self._documents(batch_size, generator)
        one_hot = functional.one_hot(document, self.words).to(torch.get_default_dtype())
        occurred, next_word = one_hot[:-1].cumsum(0), document[1:].unsqueeze(2)
        attribute = (next_word >= self.names) & (next_word < 2 * self.names)
        is_known = (attribute & (occurred.gather(2, next_word) > 0)).squeeze(2)
        return Episode(one_hot[:-1], one_hot[1:], is_known)

    def _documents(self, batch_size: int, generator: torch.Generator) -> Int64[Tensor, "length batch"]:
        device = generator.device
        attributes = self.names + torch.rand((batch_size, self.names), generator=generator, device=device).argsort()
        shape = (self.document_length, batch_size, 1)
        chance = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
        cumulative = self.transitions().cumsum(1).to(device)
        plain_words = torch.arange(2 * self.names, self.words, device=device)
        word = plain_words[(chance[0, :, 0] * len(plain_words)).long()]
        next_attribute, wait = word, torch.full_like(word, -1)  # the next attribute, and in how many words it comes
        document = [word]
        for uniform in chance[1:]:
            chained = torch.searchsorted(cumulative[word], uniform, right=True).squeeze(1).clamp(max=self.words - 1)
            attribute = attributes.gather(1, word.clamp(max=self.names - 1).unsqueeze(1)).squeeze(1)
            next_attribute = torch.where(word < self.names, attribute, next_attribute)
            wait = torch.where(word < self.names, self.gap, wait - 1)
            word = torch.where(wait > 0, 2 * self.names, torch.where(wait == 0, next_attribute, chained))
            document.append(word)
        return torch.stack(document)


@functools.cache
def _chain(words: int, names: int, name_rate: float) -> Float[np.ndarray, "words words"]:
    n_plain_words = words - 2 * names
    rows = np.random.default_rng(_CHAIN_SEED).dirichlet(np.full(n_plain_words, _CONCENTRATION), size=words)
    chain = np.zeros((words, words))
    chain[names:, :names] = name_rate / names
    chain[names:, 2 * names :] = (1 - name_rate) * rows[names:]
    return chain
