import hashlib
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import engram.studies.experiments.plastic_treebank as treebank
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.plasticity import PlasticLSTM
from engram.studies.experiments.plastic_treebank import (
    Config,
    LanguageModel,
    count,
    experiment,
    fitting,
    trial,
    window_sizes,
)
from engram.tasks import penn_treebank
from engram.tasks.data import DataError


def configs(preset: str) -> dict:
    return {name: arm.config for name, arm in experiment.arms(preset).items()}


SMALL = Config(
    corpus="penn-treebank",
    layers=2,
    embedding_size=8,
    hidden_size=8,
    batch_size=4,
    window=10,
    epochs=3,
    average_from=3,
    dropout_embedding=0.1,
    dropout_input=0.1,
    dropout_hidden=0.1,
    dropout_output=0.1,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("arm", "published"), [("lstm", 24_221_600), ("modulated", 24_198_893)])
def test_the_paper_preset_has_as_many_parameters_as_the_published_networks(arm, published):
    config = configs("published")[arm]
    with torch.device("meta"):
        net = LanguageModel(config, 10_000, None)
    assert sum(p.numel() for p in net.parameters()) == published
    assert config.hidden_size == {"lstm": 1150, "modulated": 1149}[arm]
    assert count(config, config.network, config.hidden_size) == published - 10_000 * 401


@pytest.mark.parametrize("preset", ["smoke", "laptop"])
def test_the_plastic_network_is_the_largest_that_fits(preset):
    made = configs(preset)
    numel = {
        arm: sum(p.numel() for p in LanguageModel(own, 50, seeded()).layers.parameters()) for arm, own in made.items()
    }
    assert numel == {arm: count(own, own.network, own.hidden_size) for arm, own in made.items()}
    larger = count(made["modulated"], "modulated", made["modulated"].hidden_size + 1)
    assert numel["modulated"] <= numel["lstm"] < larger


def write(folder, monkeypatch, sentences=120):
    """Write three tiny files in the form of the corpus, where the next word is certain, and let them count as it."""
    folder.mkdir()
    lines = {"train": sentences, "valid": 20, "test": 10}
    for part, number in lines.items():
        content = b" one two three four five six \n" * number
        (folder / f"ptb.{part}.txt").write_bytes(content)
        monkeypatch.setitem(penn_treebank.MD5, part, hashlib.md5(content, usedforsecurity=False).hexdigest())
    monkeypatch.setattr(penn_treebank, "TOKENS", {part: 7 * number for part, number in lines.items()})
    monkeypatch.setattr(penn_treebank, "TYPES", 7)
    monkeypatch.setenv("ENGRAM_DATA", str(folder.parent))


def trial_in(folder, config, **options):
    folder.mkdir(exist_ok=True)
    run = TrialRun(TrialFolder(folder), seed=0, **options)
    return trial(config, run), run.metrics()


@pytest.mark.parametrize("network", ["lstm", "modulated"])
def test_the_text_of_the_users_files_is_learned(tmp_path, monkeypatch, network):
    write(tmp_path / "penn-treebank", monkeypatch)
    config = replace(
        SMALL, network=network, layers=1, learning_rate=10.0, epochs=8, average_from=8, activity_penalty=0.0
    )
    result, metrics = trial_in(tmp_path / "trial", config)
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    assert result["perplexity"] < 3, "guessing is 7"
    valid = metrics.filter(metrics["metric"] == "valid_perplexity")["value"].to_list()
    assert len(valid) == 8
    assert valid[-1] < valid[0]


def test_without_the_files_the_first_of_them_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_DATA", str(tmp_path))
    missing = re.escape(str(tmp_path / "penn-treebank" / "ptb.train.txt"))
    with pytest.raises(DataError, match=f"cannot read {missing} as text: .*No such file"):
        trial_in(tmp_path / "trial", configs("published")["lstm"])


@pytest.mark.parametrize("network", ["lstm", "modulated"])
def test_an_interrupted_trial_goes_on_exactly(tmp_path, monkeypatch, network):
    write(tmp_path / "penn-treebank", monkeypatch, 60)
    size = SMALL.hidden_size if network == "lstm" else fitting(SMALL)
    config = replace(SMALL, network=network, hidden_size=size)
    whole, metrics = trial_in(tmp_path / "whole", config)
    clip, calls = torch.nn.utils.clip_grad_norm_, []
    steps = len(clipped_lengths(tmp_path / "lengths", config))

    def dies(*arguments):
        calls.append(1)
        if len(calls) == steps - 3:  # while the weights are averaged
            raise KeyboardInterrupt
        return clip(*arguments)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", dies)
    with pytest.raises(KeyboardInterrupt):
        trial_in(tmp_path / "killed", config, checkpoint_seconds=0)
    again, after = trial_in(tmp_path / "killed", config, checkpoint_seconds=0)
    assert len(calls) == steps + 1, "it did not start anew"
    assert again == whole
    assert after.equals(metrics)


def clipped_lengths(folder, config):
    """Return the learning rates at which a trial steps, one for each window."""
    rates = []
    step = torch.optim.SGD.step

    def noting(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    torch.optim.SGD.step = noting
    try:
        trial_in(folder, config)
    finally:
        torch.optim.SGD.step = step
    return rates


def test_the_rate_is_in_proportion_to_the_window(tmp_path, monkeypatch):
    write(tmp_path / "penn-treebank", monkeypatch, 60)
    lengths = [rate / SMALL.learning_rate * SMALL.window for rate in clipped_lengths(tmp_path / "trial", SMALL)]
    assert sum(lengths) == pytest.approx(SMALL.epochs * (60 * 7 // 4 - 1))
    assert len({round(length) for length in lengths}) > 3


def test_windows_are_as_long_as_published():
    sizes = window_sizes(1_000_000, 70, np.random.default_rng(0))
    assert sizes.sum() == 1_000_000
    assert (sizes[:-1].min(), sizes.max()) >= (5, 80)
    assert sizes.max() == 80
    short = sizes[sizes < 52]
    assert len(short) / len(sizes) == pytest.approx(0.05, abs=0.01)
    # Rounded down to whole words.
    assert sizes[sizes >= 52].mean() == pytest.approx(69.4, abs=0.3)
    assert short[:-1].mean() == pytest.approx(34.5, abs=0.5)
    assert window_sizes(3, 70, np.random.default_rng(0)).tolist() == [3]


def test_one_mask_serves_a_whole_window_and_none_where_nothing_is_learned():
    config = replace(SMALL, dropout_embedding=0.0, dropout_input=0.0, dropout_hidden=0.0, dropout_output=0.5)
    net = LanguageModel(config, 7, seeded())
    words = torch.randint(7, (6, 3), generator=seeded())
    reading = net.read(words, None, seeded(1))
    mask = reading.dropped != 0
    assert torch.equal(mask, mask[:1].expand_as(mask))
    assert 0 < mask[0].float().mean() < 1
    torch.testing.assert_close(reading.dropped[mask], 2 * reading.activity[mask])
    still = net.read(words, None, None)
    assert torch.equal(still.dropped, still.activity)
    assert torch.equal(net(words)[0], net.predict(still.activity))


def test_a_word_is_dropped_wherever_it_stands():
    config = replace(SMALL, network="lstm", dropout_embedding=0.5, dropout_input=0.0)
    net = LanguageModel(config, 7, seeded())
    seen = []
    net.layers[0].register_forward_pre_hook(lambda layer, arguments: seen.append(arguments[0]))
    words = torch.randint(7, (20, 3), generator=seeded())
    net.read(words, None, seeded(1))
    gone = {int(w): not seen[0][words == w].any() for w in words.unique()}
    assert 0 < sum(gone.values()) < 7
    for word, dropped in gone.items():
        if not dropped:
            assert torch.equal(seen[0][words == word][0], 2 * net.embedding[word])


def test_what_is_run_again_in_parts_gives_the_same_gradient(monkeypatch):
    config = replace(SMALL, network="modulated")
    net, words = LanguageModel(config, 7, seeded()), torch.randint(7, (11, 3), generator=seeded())
    with torch.no_grad():
        for layer in net.layers:
            layer.alpha.fill_(1.0)
    gradients = []
    for many in (2**28, 0):
        monkeypatch.setattr(treebank, "MANY", many)
        net.zero_grad()
        _, carried = net(words[:4])
        logits, after = net(words[4:], [tuple(t.detach() for t in layer) for layer in carried])
        (logits.square().sum() + sum(t.sum() for layer in after for t in layer)).backward()
        gradients.append([logits, *[p.grad for p in net.parameters()]])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("network", ["lstm", "modulated"])
def test_the_gradient_of_alpha_is_divided_before_it_is_clipped(tmp_path, monkeypatch, network):
    write(tmp_path / "penn-treebank", monkeypatch, 60)
    config = replace(SMALL, network=network, epochs=1)
    before, divided = [], []
    clip = torch.nn.utils.clip_grad_norm_

    def noting(parameters, norm):
        divided.extend(layer.alpha.grad.clone() for layer in nets[-1].layers if isinstance(layer, PlasticLSTM))
        return clip(parameters, norm)

    nets = []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", noting)

    class Noted(LanguageModel):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            nets.append(self)
            for layer in self.layers:
                if isinstance(layer, PlasticLSTM):
                    layer.alpha.register_hook(lambda grad: before.append(grad.clone()))

    monkeypatch.setattr(treebank, "LanguageModel", Noted)
    trial_in(tmp_path / "trial", config)
    assert bool(divided) == (network == "modulated")
    pairs = zip(sorted(before, key=lambda g: g.tolist()), sorted(divided, key=lambda g: g.tolist()), strict=True)
    for whole, part in pairs:
        torch.testing.assert_close(part, whole / config.hidden_size)


def test_an_lstm_too_small_for_a_plastic_network_of_its_size_is_named():
    with pytest.raises(ValueError, match="hidden_size = 1: expected more"):
        experiment.arms("laptop", {"hidden_size": 1})


def test_parts_of_the_text_that_are_read_in_parallel_have_two_words_or_more():
    with pytest.raises(ValueError, match="batch_size = 501: expected at most 500, with tokens = 1000"):
        Config(tokens=1000, batch_size=501)
    assert Config(tokens=1000, batch_size=501, corpus="penn-treebank").batch_size == 501
