"""The classifier of a stream of tasks: what it forgets, and what it does not."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.datasets import load_digits

from engram.continual import (
    EWC,
    MAS,
    ContinualClassifier,
    ContinualMethod,
    OnlineEWC,
    Replay,
    SynapticIntelligence,
)

X, Y = load_digits(return_X_y=True)
X = X / 16


def after_two_tasks(**options):
    """Return the accuracy on permuted digits, first and second permutation, after both were learned."""
    orders = [np.random.default_rng(seed).permutation(64) for seed in (0, 1)]
    net = ContinualClassifier((64,), learning_rate=0.05, epochs=12, random_state=0, **options)
    for order in orders:
        net.partial_fit(X[:1200][:, order], Y[:1200], classes=np.arange(10))
    return [net.score(X[1200:][:, order], Y[1200:]) for order in orders]


def test_what_holds_on_forgets_less():
    first, _ = after_two_tasks()
    for method in (
        partial(OnlineEWC, strength=30.0),
        partial(SynapticIntelligence, strength=1.0),
        partial(MAS, strength=0.1),
        partial(Replay, capacity=300),
    ):
        accuracy, second = after_two_tasks(method=method)
        assert accuracy > first + 0.02, method
        assert second > 0.75, method


class Told(ContinualMethod):
    """It keeps the tasks that end."""

    def end_task(self, task):
        self.task = task


def test_the_loss_of_an_epoch_is_the_mean_of_its_samples_and_a_task_ends_with_all_of_them_in_random_order():
    order = np.argsort(Y[:50], kind="stable")
    x, y = X[:50][order].astype(np.float32), Y[:50][order]
    net = ContinualClassifier(method=Told, learning_rate=1e-9, epochs=3, random_state=0).fit(x, y)  # of 32 and 18
    loss = -np.log(net.predict_proba(x)[np.arange(50), y]).mean()
    assert net.loss_curve_ == pytest.approx([loss] * 3, rel=1e-5)
    inputs, labels = (part.numpy() for part in net.method_.task.train)
    assert labels.tolist() != y.tolist()
    shown = [(*row, label) for row, label in zip(inputs.tolist(), labels.tolist(), strict=True)]
    assert sorted(shown) == sorted((*row, label) for row, label in zip(x.tolist(), y.tolist(), strict=True))


def test_a_plastic_head_learns():
    net = ContinualClassifier(head="dhp", random_state=0).fit(X[:900], Y[:900])
    assert net.score(X[900:], Y[900:]) > 0.85
    assert net.network_[-1].trace.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "cosine"}, "head"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"method": partial(EWC, strength=-1.0)}, "strength"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ContinualClassifier(**options).fit(X[:50], Y[:50])


@pytest.mark.parametrize("method", ["ewc", lambda net, generator: net])
def test_a_method_that_is_none_is_named(method):
    with pytest.raises(TypeError, match="method"):
        ContinualClassifier(method=method).fit(X[:50], Y[:50])


def test_classes_are_said_beforehand():
    with pytest.raises(ValueError, match="classes"):
        ContinualClassifier().partial_fit(X[:50], Y[:50])
    for classes, held in (([], "no class"), ([3], "1 class")):
        with pytest.raises(ValueError, match=rf"classes holds {held}.*expects at least two"):
            ContinualClassifier().partial_fit(X[:50], Y[:50], classes=classes)
    net = ContinualClassifier(epochs=1).partial_fit(X[:50], Y[:50], classes=range(10))
    with pytest.raises(ValueError, match="y holds 11"):
        net.partial_fit(X[:2], [1, 11])


def test_a_first_call_that_fails_leaves_nothing_and_classes_stay():
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    model = ContinualClassifier(method="none", random_state=0)
    with pytest.raises(TypeError, match="method"):
        model.partial_fit(X, y, classes=[0, 1])
    model.set_params(method=EWC).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"expected .*as in the first call"):
        model.partial_fit(X, y, classes=[0, 1, 2])


def test_a_network_has_the_precision_of_its_data_and_goes_on_with_its_losses():
    probabilities = []
    for kind in (np.float32, np.float64, np.float64):
        net = ContinualClassifier(hidden=(8, 4), epochs=3, random_state=0)
        for start in (0, 50):
            net.partial_fit(X[start : start + 50].astype(kind), Y[start : start + 50], classes=range(10))
        assert {str(p.dtype) for p in net.network_.parameters()} == {f"torch.{np.dtype(kind)}"}
        assert [p.shape[0] for p in net.network_.parameters() if p.ndim == 2] == [8, 4, 10]
        assert len(net.loss_curve_) == 6
        probabilities.append(net.predict_proba(X))
    np.testing.assert_array_equal(probabilities[1], probabilities[2])
    np.testing.assert_array_equal(net.predict(X), probabilities[2].argmax(1))
    with pytest.raises(TypeError, match="hidden is a list"):
        ContinualClassifier(hidden=[8]).fit(X[:50], Y[:50])
