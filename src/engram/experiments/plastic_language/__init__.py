"""Language models with plastic and neuromodulated LSTMs (Miconi, Rawal, Clune and Stanley, 2019).

Four models with equally many parameters are compared: an LSTM, one whose recurrent connections are plastic, and two
whose plasticity is modulated by the network itself, at once or retroactively. The language of the small presets has
bigrams that hold in one document only; the published one is the Penn Treebank, for users who have its files. The small
language is dense in names, and the gates are open at first, because otherwise no network finds out within minutes that
names tell anything. Its size is the one at which all networks learn: between networks that only guess there is nothing
to compare. Among 50 words of which 10 are names, in documents of 200 words, three minutes on one core are 2800 updates
of the modulated network and 3100 of the LSTM (one seed each): the first still guesses, at 2.31 nats where guessing is
2.30, and the second just begins not to, at 2.27. Where all know every name in the end, what can be compared is how
soon they do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import plotly.graph_objects as go

from engram.experiments.plastic_language import documents, treebank
from engram.experiments.plastic_language.documents import Documents
from engram.experiments.plastic_language.model import Model
from engram.experiments.plastic_language.treebank import Treebank
from engram.lab import Arm, Experiment, Preset, Results, arms_of, claimed, value
from engram.lab.curves import points_by_arm
from engram.tasks import read_penn_treebank


@dataclass(frozen=True)
class Config:
    """The text and how it is learned."""

    corpus: Literal["document-bigrams", "penn-treebank"] = "document-bigrams"
    """Language of document-specific bigrams, or the Penn Treebank from the user's files."""
    documents: Documents = Documents()
    treebank: Treebank = Treebank()


def arms(config: Config) -> dict[str, Arm]:
    """The four networks, the plastic ones with as many units as fit into the parameters of the LSTM."""
    if config.corpus == "penn-treebank":
        of_text = config.treebank.model.matched(treebank.TYPES)
        read = {arm: replace(config.treebank, model=model) for arm, model in of_text.items()}
        return arms_of(treebank.trial, read, treebank.seconds)
    of_language = config.documents.model.matched(config.documents.words)
    heard = {arm: replace(config.documents, model=model) for arm, model in of_language.items()}
    return arms_of(documents.trial, heard, documents.seconds)


IN_TRAINING = "known_attributes_in_training"
ours = partial(claimed, source="ours, after section 4.3", threshold="laptop", presets=("laptop",), seeds=10)
paper = partial(claimed, threshold="paper", presets=("paper",), seeds=16)
on_treebank = partial(paper, source="table 1: test perplexity on the Penn Treebank, basic model, 16 runs")
claims = [
    ours(
        "plastic-at-most-lstm",
        "On document-specific bigrams, a plastic LSTM learns to predict attributes that it has met at least as soon as "
        "an LSTM with as many parameters (difference of the mean cross-entropies over training, nats)",
        value("plastic", IN_TRAINING) - value("lstm", IN_TRAINING) <= 0.0,
        published="plastic is better than the LSTM on the Penn Treebank",
    ),
    ours(
        "modulated-at-most-plastic",
        "On document-specific bigrams, a neuromodulated LSTM learns at least as soon as a plastic one (difference of "
        "the mean cross-entropies over training, nats)",
        value("modulated", IN_TRAINING) - value("plastic", IN_TRAINING) <= 0.0,
        published="modulated is better than plastic on the Penn Treebank",
    ),
    ours(
        "modulated-at-most-lstm",
        "On document-specific bigrams, a neuromodulated LSTM learns at least as soon as an LSTM with as many "
        "parameters (difference of the mean cross-entropies over training, nats)",
        value("modulated", IN_TRAINING) - value("lstm", IN_TRAINING) <= 0.0,
        published="modulated is better than the LSTM on the Penn Treebank",
    ),
    ours(
        "retroactive-at-most-lstm",
        "On document-specific bigrams, a retroactively modulated LSTM learns at least as soon as an LSTM with as many "
        "parameters (difference of the mean cross-entropies over training, nats)",
        value("retroactive", IN_TRAINING) - value("lstm", IN_TRAINING) <= 0.0,
        published="retroactive is better than the LSTM on the Penn Treebank",
    ),
    on_treebank(
        "treebank-plastic",
        "On the Penn Treebank, a plastic LSTM has a lower perplexity than an LSTM with as many parameters",
        value("plastic", "perplexity") - value("lstm", "perplexity") <= 0.0,
        published="103.80 +- 0.25 against 104.26 +- 0.22 (p = 0.0044)",
    ),
    on_treebank(
        "treebank-modulated",
        "On the Penn Treebank, a neuromodulated LSTM has a lower perplexity than a plastic one",
        value("modulated", "perplexity") - value("plastic", "perplexity") <= 0.0,
        published="102.65 +- 0.30 against 103.80 +- 0.25 (p = 1e-6)",
    ),
    on_treebank(
        "treebank-retroactive",
        "On the Penn Treebank, a retroactively modulated LSTM has a lower perplexity than a plastic one",
        value("retroactive", "perplexity") - value("plastic", "perplexity") <= 0.0,
        published="102.48 +- 0.28 against 103.80 +- 0.25; against 102.65 +- 0.30 of the other not significant",
    ),
]


def figure(results: Results) -> go.Figure:
    """Each trial's score, arm by arm: cross-entropy of known attributes, with guessing, or test perplexity."""
    if results.config.corpus == "penn-treebank":
        return points_by_arm(results, "perplexity", "Penn Treebank, test part", "perplexity")
    title, guessing = (
        "Attributes that have occurred in the document, over all of training",
        math.log(results.config.documents.name_words),
    )
    return points_by_arm(results, IN_TRAINING, title, "cross-entropy (nats)", chance=guessing)


SMALL = Model(embedding_size=4, hidden_size=6)
SMOKE = Documents(SMALL, words=12, document_length=20, batch_size=4, updates=10, test_documents=8)
experiment = Experiment(
    name="plastic-language",
    summary="LSTM, plastic and neuromodulated LSTM with equally many parameters, as models of a language whose "
    "bigrams change with the document",
    paper="Miconi, Rawal, Clune & Stanley, Backpropamine, ICLR 2019 (arXiv 2002.10585)",
    presets={
        "smoke": Preset(Config(documents=SMOKE), seeds=1),
        "laptop": Preset(Config(), seeds=10),
        "paper": Preset(Config(corpus="penn-treebank"), seeds=16),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    ready=lambda config: read_penn_treebank() if isinstance(config, Treebank) else None,
)
