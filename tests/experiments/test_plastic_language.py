import math

import pytest
import torch
from torch import nn

import engram.experiments.plastic_language as language
from engram.experiments.plastic_language import Config, LanguageModel, arms, count, experiment, in_rows, perplexity
from engram.lab.folder import TrialFolder
from engram.lab.loop import Run
from engram.tasks import PennTreebank


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in arms(config).items()}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("alpha", ["connection", "post"])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_networks_have_equally_many_parameters(alpha, layers):
    config = Config(alpha=alpha, layers=layers)
    budget = None
    for arm, own in configs(config).items():
        net = LanguageModel(own, own.words, seeded())
        trained = sum(p.numel() for p in net.parameters())
        assert trained == count(own, own.network, own.hidden_size) + own.words * own.embedding_size, arm
        budget = budget or trained
        larger = count(own, own.network, own.hidden_size + 1) + own.words * own.embedding_size
        assert trained <= budget < larger, f"{arm} is as large as fits"


def test_the_paper_preset_is_the_basic_model():
    config = experiment.presets["paper"].config
    nets = {arm: LanguageModel(own, 10_000, seeded()) for arm, own in configs(config).items()}
    sizes = {arm: sum(p.numel() for p in net.parameters()) for arm, net in nets.items()}
    assert (
        sizes["lstm"] == 2_000_000 + 2 * (4 * 200 * 400 + 8 * 200) + 201 * 10_000
    )  # 4.65 million; published: about 4.8
    for size in sizes.values():
        assert 0.995 * sizes["lstm"] < size <= sizes["lstm"]


def test_without_plasticity_the_plastic_network_is_an_lstm():
    config = Config(words=9, name_words=2, embedding_size=5, hidden_size=6, network="plastic", layers=2)
    plastic = LanguageModel(config, 9, seeded())
    lstm = LanguageModel(language.replace(config, network="lstm"), 9, seeded())
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


@pytest.mark.parametrize("network", ["lstm", "plastic", "modulated"])
def test_what_is_carried_on_makes_two_halves_one_text(network):
    config = Config(words=9, name_words=2, embedding_size=5, hidden_size=6, network=network, layers=2, alpha_init=1.0)
    net = LanguageModel(config, 9, seeded())
    words = torch.randint(9, (8, 3), generator=seeded())
    whole, _ = net(words)
    first, carried = net(words[:3])
    second, _ = net(words[3:], carried)
    torch.testing.assert_close(torch.cat((first, second)), whole)
    alone, _ = net(words[3:])
    assert not torch.allclose(second, alone, atol=1e-4)
    assert perplexity(net, words, 3) == pytest.approx(perplexity(net, words, 100), rel=1e-5)


def test_perplexity_of_guessing_is_the_number_of_words():
    net = LanguageModel(Config(words=50), 50, seeded())
    with torch.no_grad():
        net.decoder.weight.zero_()
        net.decoder.bias.zero_()
    assert perplexity(net, torch.randint(50, (9, 2), generator=seeded()), 4) == pytest.approx(50, rel=1e-5)


def test_a_text_is_cut_into_rows():
    assert in_rows(torch.arange(11), 3).tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


TREEBANK = Config(
    corpus="penn-treebank",
    words=7,
    name_words=3,
    embedding_size=8,
    hidden_size=8,
    layers=2,
    batch_size=2,
    window=5,
    epochs=3,
    learning_rate=1.0,
    decay=0.5,
    decay_from=2,
)


@pytest.fixture
def treebank(monkeypatch):
    """A corpus in the place of the real one: 0 1 2 ... 6 over and over, so that the next word is certain."""
    text = torch.arange(7).repeat(60)
    corpus = PennTreebank(text, text[:70], text[:84], tuple("abcdefg"))
    monkeypatch.setattr(language, "read_penn_treebank", lambda: corpus)
    return corpus


def trial_in(folder, config, stop=None):
    folder.mkdir(exist_ok=True)
    run = Run(TrialFolder(folder), seed=0, checkpoint_seconds=0, stop=stop)
    return language.trial(config, run), run.metrics()


@pytest.mark.parametrize("network", ["lstm", "plastic", "modulated"])
def test_the_treebank_is_learned_window_by_window(treebank, tmp_path, network):
    config = language.replace(TREEBANK, network=network, layers=1, learning_rate=3.0, epochs=5, decay_from=999)
    result, metrics = trial_in(tmp_path / "trial", config)
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    assert result["perplexity"] < 4.5, "guessing is 7"
    valid = metrics.filter(metrics["metric"] == "valid_perplexity")
    windows = math.ceil((210 - 1) / 5)
    assert valid["step"].to_list() == [windows * epoch for epoch in range(1, 6)]


@pytest.mark.parametrize("network", ["lstm", "modulated"])
def test_an_interrupted_treebank_trial_goes_on_exactly(treebank, tmp_path, network, monkeypatch):
    config = configs(TREEBANK)[network]
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
    assert len(calls) < 60 + 3 * 42 - 50, "it did not start anew"
    assert again == whole
    assert after.equals(metrics)


def test_learning_rate_falls_from_the_epoch_that_was_said(treebank, tmp_path, monkeypatch):
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
