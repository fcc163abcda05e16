from dataclasses import replace

import pytest
import torch

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.learned.learning_to_remember import GatedRule, LSTMMemory, OuterRule, StaticRule
from engram.studies.experiments.learning_to_remember import experiment, references, remembering

ARMS = experiment.arms("laptop")


def built(arm):
    config = ARMS[arm].config
    return config, remembering.build(config, torch.Generator().manual_seed(0)), remembering.stream_of(config)


@pytest.mark.parametrize(
    ("arm", "groups", "mode", "bidirectional"),
    [
        ("two", (12,), "sequence", False),
        ("recurrent", (12, 12), "sequence", True),
        ("layered", (12, 12, 12), "paired", True),
        ("feedforward", (12, 12, 12), "paired", False),
        ("deep", (12, 12, 12, 12), "paired", True),
        ("sparse", (12, 12), "sequence", True),
    ],
)
def test_networks_are_of_their_types(arm, groups, mode, bidirectional):
    _, net, stream = built(arm)
    assert (net.topology.groups, stream.mode, net.topology.bidirectional) == (groups, mode, bidirectional)
    assert net.rule.types == len(groups)


def test_rules_are_of_their_kinds():
    assert isinstance(built("static")[1].rule, StaticRule)
    assert built("static")[1].init(2).synapses[0].any()
    assert (built("two")[1].rule.product, built("additive")[1].rule.product) == (True, False)
    assert isinstance(built("mean")[1].rule, GatedRule)
    assert isinstance(built("outer")[1].rule, OuterRule)
    assert (built("outer")[1].rule.delta, built("delta")[1].rule.delta) == (False, True)
    assert built("scalar-synapse")[1].init(1).synapses[0].shape[1] == 1
    assert built("no-types")[1].rule.types == 1
    assert built("sparse")[1].topology.fan_in == 4
    config, lstm, _ = built("lstm")
    assert isinstance(lstm, LSTMMemory)
    assert 2 * lstm.hidden_size == config.bits * config.body_size + config.bits**2 * config.channels


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": "lstm", "carry": True}, "network = 'lstm': expected carry = False and further = 0"),
        ({"network": "lstm", "further": 5}, "network = 'lstm': expected carry = False and further = 0"),
        ({"old": 0.5}, "old = 0.5: expected 0 unless carry = True"),
        ({"network": "recurrent", "transfer": (24,)}, r"transfer = \(24,\) with network = 'recurrent': expected"),
        ({"transfer": (24, 1)}, r"transfer = \(24, 1\) with network = 'visible': expected"),
    ],
)
def test_settings_that_a_network_cannot_have_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        remembering.Remembering(**fields)


def test_rates_of_gradient_descent_are_seven_from_a_thousandth_to_one():
    assert tuple(pytest.approx(r) for r in (1e-3, 10**-2.5, 1e-2, 10**-1.5, 0.1, 10**-0.5, 1.0)) == references.RATES


def test_rates_of_gradient_descent_are_chosen_on_other_windows(new_run):
    run = new_run()
    shares = references.trial(references.References(bits=6, windows=300, snippets=(4,)), run)
    assert set(run.choices) == {"sgd_linear_4", "sgd_deep_4"}
    linear = run.choices["sgd_linear_4"]
    assert shares["sgd_linear_4"] == pytest.approx(max(linear["scores"]), abs=0.03)
    assert shares["sgd_linear_4"] not in linear["scores"]


def test_the_search_that_recalls_most_goes_on(new_run, monkeypatch):
    nets, recalls, build = [], iter([0.6, 0.9, 0.7]), remembering.build
    monkeypatch.setattr(remembering, "build", lambda *arguments: nets.append(build(*arguments)) or nets[-1])
    monkeypatch.setattr(remembering, "mean_recall", lambda _: next(recalls))
    run = new_run()
    remembering.trial(remembering.Remembering(bits=4, windows=12, searches=3, batch_size=2, tested=2), run)
    assert len(nets) == 3
    assert run.kept["net"] is nets[1]
    steps = {name: frame["step"].to_list() for (name,), frame in run.metrics().group_by("metric")}
    assert steps["search_0_accuracy"] == steps["search_1_accuracy"] == steps["search_2_accuracy"] == [1, 2]
    assert steps["accuracy"] == list(range(3, 13))


def test_several_searches_resume_exactly(new_run, tmp_path, monkeypatch):
    config = remembering.Remembering(bits=4, windows=18, searches=3, batch_size=2, tested=5)
    folder = TrialFolder(tmp_path)
    whole, train_window, calls = new_run(), remembering.train_window, []
    expected = remembering.trial(config, whole)

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 11:  # in the last loop, so that the choice is made again
            raise KeyboardInterrupt
        return train_window(*arguments)

    monkeypatch.setattr(remembering, "train_window", interrupted)
    with pytest.raises(KeyboardInterrupt):
        remembering.trial(config, TrialRun(folder, 0, checkpoint_seconds=0))
    resumed = TrialRun(folder, 0, checkpoint_seconds=0)
    assert remembering.trial(config, resumed) == expected
    assert resumed.metrics().equals(whole.metrics())


def test_streams_of_a_large_test_follow_one_another_and_change_no_number(monkeypatch):
    for name in remembering.arms:
        config, net, _ = built(name)
        for bits in (None, *config.transfer):
            tested = net if bits is None else remembering.build(replace(config, bits=bits), torch.Generator())
            assert remembering.streams_at_once(tested) >= config.tested * config.batch_size, "a record is in one part"
    config, net, stream = built("four")
    config = replace(config, tested=25)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    whole = remembering.recall_of(config, net, stream, generators[0])
    monkeypatch.setattr(remembering, "STATES", 30 * (12 * 12 * 2 + 12 * 4))
    assert remembering.streams_at_once(net) == 30
    assert remembering.recall_of(config, net, stream, generators[1]) == whole
    assert torch.equal(*(generator.get_state() for generator in generators))
    window = stream.sample(100, generators[0])
    parts = [net(part, net.init(part.shape[1]))[0] for part in window.inputs.split(30, dim=1)]
    assert torch.equal(torch.cat(parts, 1), net(window.inputs, net.init(100))[0])
