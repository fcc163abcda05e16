import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.studies.experiments import plastic_language as language
from engram.studies.experiments.plastic_language import training
from engram.studies.experiments.plastic_language.model import LanguageModel, Model, in_rows, perplexity
from engram.studies.experiments.plastic_language.training import Config
from engram.tasks import DocumentBigrams, PennTreebank


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("alpha", "layers", "rates"), [("connection", 1, "layer"), ("post", 2, "layer"), ("connection", 2, "connection")]
)
def test_the_networks_have_equally_many_parameters(alpha, layers, rates):
    changes = {"model": {"alpha": alpha, "layers": layers, "rates": rates}}
    budget = None
    for name, arm in language.experiment.arms("laptop", changes).items():
        own, words = arm.config.model, arm.config.words
        features = words * own.embedding_size
        trained = parameters(LanguageModel(own, words, seeded()))
        assert trained == own.count(words) + features, name
        budget = budget or trained
        larger = replace(own, hidden_size=own.hidden_size + 1).count(words) + features
        assert trained <= budget < larger, f"{name} is as large as fits"


def test_the_paper_preset_is_the_basic_model():
    arms = language.experiment.arms("large")
    nets = {name: LanguageModel(arm.config.model, 10_000, seeded()) for name, arm in arms.items()}
    sizes = {arm: parameters(net) for arm, net in nets.items()}
    # The four gates, of the cell input no bias for the hidden units; alpha and eta of every connection.
    units = {arm: net.decoder.in_features for arm, net in nets.items()}
    assert units["plastic"] == 200
    assert sizes["plastic"] == 2_000_000 + 2 * (4 * 200 * 400 + 7 * 200 + 2 * 200**2) + 201 * 10_000
    for size in sizes.values():
        assert size == pytest.approx(4.8e6, rel=0.01), "published: about 4.8 million"
        assert 0.995 * sizes["lstm"] < size <= sizes["lstm"]
    for arm in ("modulated", "retroactive"):
        for layer in nets[arm].layers:
            assert layer.modulator_source == "previous"
            assert layer.neuromodulator.fan_weight.shape == layer.alpha.shape == (units[arm], units[arm])
    for net in nets.values():
        weights = [net.embedding.weight, net.decoder.weight, *(list(layer.parameters())[1] for layer in net.layers)]
        assert all(weight.abs().max().item() == pytest.approx(0.1, rel=0.01) for weight in weights)


SMALL = Model(embedding_size=5, hidden_size=6, layers=2)


def test_without_plasticity_the_plastic_network_is_an_lstm():
    plastic = LanguageModel(replace(SMALL, network="plastic"), 9, seeded())
    lstm = LanguageModel(SMALL, 9, seeded())
    lstm.embedding, lstm.decoder = plastic.embedding, plastic.decoder
    with torch.no_grad():
        for ours, theirs in zip(plastic.layers, lstm.layers, strict=True):
            ours.alpha.zero_()
            theirs.weight_ih_l0.copy_(ours.weight_ih)
            theirs.weight_hh_l0.copy_(ours.weight_hh)
            theirs.bias_ih_l0.copy_(ours.bias_ih)
            admit, forget, emit = ours.bias_hh.chunk(3)
            theirs.bias_hh_l0.copy_(torch.cat((admit, forget, torch.zeros(6), emit)))
    words = torch.randint(9, (7, 3), generator=seeded())
    torch.testing.assert_close(plastic(words)[0], lstm(words)[0])


@pytest.mark.parametrize("rates", ["layer", "connection"])
@pytest.mark.parametrize("network", ["lstm", "plastic", "modulated", "retroactive"])
def test_what_is_carried_on_makes_two_halves_one_text(network, rates):
    net = LanguageModel(replace(SMALL, network=network, rates=rates), 9, seeded())
    words = torch.randint(9, (8, 3), generator=seeded())
    whole, _ = net(words)
    first, carried = net(words[:3])
    second, _ = net(words[3:], carried)
    torch.testing.assert_close(torch.cat((first, second)), whole)
    alone, _ = net(words[3:])
    assert not torch.allclose(second, alone, atol=1e-4)
    assert perplexity(net, words, 3) == pytest.approx(perplexity(net, words, 100), rel=1e-5)


def test_perplexity_of_guessing_is_the_number_of_words():
    net = LanguageModel(Model(), 50, seeded())
    with torch.no_grad():
        net.decoder.weight.zero_()
        net.decoder.bias.zero_()
    assert perplexity(net, torch.randint(50, (9, 2), generator=seeded()), 4) == pytest.approx(50, rel=1e-5)


def test_a_text_is_cut_into_rows():
    assert in_rows(torch.arange(11), 3).tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


TREEBANK = Config(
    corpus="penn-treebank",
    model=Model(embedding_size=8, hidden_size=8, layers=2, alpha="post", alpha_init=0.1),
    batch_size=2,
    learning_rate=1.0,
    window=5,
    epochs=3,
    decay=0.5,
    decay_from=2,
)


@pytest.fixture
def corpus(monkeypatch):
    """A corpus in the place of the real one: 0 1 2 ... 6 over and over, so that the next word is certain."""
    text = torch.arange(7).repeat(60)
    corpus = PennTreebank(text, text[:70], text[:84], tuple("abcdefg"))
    monkeypatch.setattr(training, "read_penn_treebank", lambda: corpus)


def trial_in(folder, config, stop=None):
    folder.mkdir(exist_ok=True)
    run = TrialRun(TrialFolder(folder), seed=0, checkpoint_seconds=0, stop=stop)
    return training.trial(config, run), run.metrics()


@pytest.mark.parametrize("network", ["lstm", pytest.param("plastic", marks=pytest.mark.soak), "modulated"])
def test_the_treebank_is_learned_window_by_window(corpus, tmp_path, network):
    model = replace(TREEBANK.model, network=network, layers=1)
    config = replace(TREEBANK, model=model, learning_rate=3.0, epochs=5, decay_from=999)
    result, metrics = trial_in(tmp_path / "trial", config)
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    assert result["perplexity"] < 4.5, "guessing is 7"
    valid = metrics.filter(metrics["metric"] == "valid_perplexity")
    windows = math.ceil((210 - 1) / 5)
    assert valid["step"].to_list() == [windows * epoch for epoch in range(1, 6)]


@pytest.mark.parametrize("network", ["lstm", "modulated"])
def test_an_interrupted_treebank_trial_goes_on_exactly(corpus, tmp_path, network, monkeypatch):
    config = replace(TREEBANK, model=replace(TREEBANK.model, network=network), epochs=2)
    whole, metrics = trial_in(tmp_path / "whole", config)

    clip, calls = nn.utils.clip_grad_norm_, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 60:  # in the second epoch, between its windows
            raise KeyboardInterrupt
        return clip(*arguments)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", dies)
    with pytest.raises(KeyboardInterrupt):
        trial_in(tmp_path / "killed", config)
    again, after = trial_in(tmp_path / "killed", config)
    assert len(calls) < 60 + 2 * 42 - 50, "it did not start anew"
    assert again == whole
    assert after.equals(metrics)


def test_learning_rate_falls_from_the_epoch_that_was_said(corpus, tmp_path, monkeypatch):
    rates = []
    step = torch.optim.SGD.step

    def noting(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", noting)
    trial_in(tmp_path / "trial", TREEBANK)
    assert rates == [1.0] * 42 + [0.5] * 42 + [0.25] * 42


def test_impossible_configs_are_refused():
    with pytest.raises(ValueError, match=r"words = 20: expected more than 2 \* name_words = 20"):
        Config(words=20, name_words=10)


@pytest.mark.parametrize("gap", [0, 1, 3])
def test_documents_are_long_enough_for_an_attribute_to_occur_again(gap):
    shortest = 5 + 2 * gap
    config = Config(words=3, name_words=1, name_rate=0.9, gap=gap, document_length=shortest)
    assert training.documents_of(config).sample(50, seeded()).mask.any()
    too_short = DocumentBigrams(3, 1, shortest - 1, 0.9, gap)
    assert not too_short.sample(50, seeded()).mask.any()
    with pytest.raises(ValueError, match=f"document_length = {shortest - 1}: expected at least {shortest} with gap"):
        replace(config, document_length=shortest - 1)
    assert replace(config, corpus="penn-treebank", document_length=2).document_length == 2


def test_an_lstm_too_small_for_a_plastic_network_of_its_size_is_named():
    with pytest.raises(ValueError, match=r"model.hidden_size = 1: expected more"):
        language.experiment.arms("laptop", {"model.hidden_size": 1})
