import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn

from engram.rules import KolenPollack, RuleClassifier, output_loss
from engram.rules.temporal import EProp


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *[("learning_rate", 0.0), ("momentum", 1.0), ("weight_decay", -0.1), ("batch_size", 0), ("epochs", 0)],
        *[("hidden", (3, 0)), ("activation", "sine"), ("rule", 3)],
    ],
)
def test_a_bad_argument_is_named(argument, value):
    with pytest.raises((TypeError, ValueError), match=argument):
        RuleClassifier(**{argument: value}).fit(*load_iris(return_X_y=True))


def test_weights_decay_as_kolen_and_pollack_ask_so_that_feedback_does_not_read_them():
    classifier = RuleClassifier(rule=KolenPollack(0.01), learning_rate=1e-9, epochs=30, random_state=0)
    classifier.fit(*load_iris(return_X_y=True))
    network = classifier.network_
    before = classifier.rule_.init(network, torch.Generator())
    for name, feedback in classifier.state_.items():
        weight = network.get_parameter(name)
        assert feedback.norm() < 0.5 * before[name].norm()
        assert torch.cosine_similarity(feedback.flatten(), weight.flatten(), dim=0).abs() < 0.3
    read = RuleClassifier(rule=KolenPollack(0.01), learning_rate=1e-9, weight_decay=0.0, epochs=30, random_state=0)
    read.fit(*load_iris(return_X_y=True))
    name, feedback = next(iter(read.state_.items()))
    assert torch.cosine_similarity(feedback.flatten(), read.network_.get_parameter(name).flatten(), dim=0) > 0.8


def test_rules_that_decay_weights_of_their_own_say_how_fast():
    assert KolenPollack(0.01).weight_decay(0.1, momentum=0.5) == pytest.approx(0.05)
    assert EProp("adaptive", 0.01).weight_decay(0.1) == pytest.approx(0.1)
    assert EProp("adaptive", 0.01).weight_decay(0.1, momentum=0.5) == pytest.approx(0.05)
    assert EProp("random", 0.01).weight_decay(0.1) == 0
    with pytest.raises(ValueError, match="lr = 0"):
        KolenPollack().weight_decay(0.0)


def test_predictions_and_losses_are_those_of_the_rule():
    X, y = load_iris(return_X_y=True)
    classifier = RuleClassifier("ep", learning_rate=1e-12, batch_size=40, epochs=2, random_state=0).fit(X, y)
    output = classifier.rule_.predict(classifier.network_, torch.tensor(X))
    assert classifier.loss_curve_ == pytest.approx([output_loss(output, torch.tensor(y)).item()] * 2)
    np.testing.assert_allclose(classifier.predict_proba(X), output.softmax(1).numpy())
    assert [type(part).__name__ for part in classifier.network_] == ["Linear", "Tanh", "Linear", "Tanh", "Linear"]


def test_a_network_predicts_in_eval_mode_and_is_trained_in_its_own():
    X = np.random.default_rng(0).normal(size=(60, 4))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 2))
    classifier = RuleClassifier("fa", network=network, batch_size=30, epochs=2, random_state=0).fit(X, X[:, 0] > 0)
    assert classifier.network_[1].num_batches_tracked == 4
    whole = classifier.predict_proba(X)
    np.testing.assert_allclose(
        whole, np.concatenate([classifier.predict_proba(X[:1]), classifier.predict_proba(X[1:])])
    )
    assert classifier.network_[1].num_batches_tracked == 4
    still = RuleClassifier("fa", network=network.eval(), epochs=1, random_state=0).fit(X, X[:, 0] > 0)
    assert still.network_[1].num_batches_tracked == 0


def test_a_network_that_keeps_its_last_activity_is_copied_without_its_graph():
    class Keeping(nn.Linear):
        def forward(self, input):
            self.seen = [super().forward(input).tanh()]
            return self.seen[0]

    network, X = nn.Sequential(Keeping(4, 4), nn.Linear(4, 2)), np.random.default_rng(0).normal(size=(20, 4))
    network(torch.ones(1, 4))
    RuleClassifier("weight-mirror", network=network, epochs=1).fit(X, X[:, 0] > 0)


def test_a_network_of_ones_own_is_trained_and_left_as_it_was():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner, self.head = nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            hidden = self.first(x).tanh()
            return self.head(hidden + self.inner(hidden).tanh())

    torch.manual_seed(0)
    network, X = Residual(), np.random.default_rng(0).normal(size=(200, 2))
    before = [parameter.clone() for parameter in network.parameters()]
    y = (X[:, 0] * X[:, 1] > 0).astype(int)  # no straight line divides them
    classifier = RuleClassifier("fa", network=network, learning_rate=0.1, epochs=60, random_state=0).fit(X, y)
    assert classifier.score(X, y) > 0.9
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"network gives \(1, 2\) for one sample: expected \(1, 3\)"):
        RuleClassifier("fa", network=network).fit(X, np.arange(200) % 3)
    with pytest.raises(TypeError, match="network"):
        RuleClassifier("fa", network="residual").fit(X, y)
