"""A call that is refused changes nothing."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from engram.continual import ContinualClassifier
from engram.learned.blur import BlurClassifier
from engram.rules import HebbianFeatures, RuleClassifier
from engram.rules.synaptic import PairSTDP, ThreeFactor, TripletSTDP

X, Y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (RuleClassifier, {"batch_size": 0}),
        (RuleClassifier, {"learning_rate": -1.0}),
        (RuleClassifier, {"epochs": 0}),
        (RuleClassifier, {"hidden": (0,)}),
        (ContinualClassifier, {"learning_rate": -1.0}),
        (ContinualClassifier, {"hidden": (0,)}),
        (ContinualClassifier, {"method": 3}),
        (BlurClassifier, {"hidden_layer_sizes": (0,)}),
    ],
)
def test_a_refused_fit_changes_nothing(kind, wrong):
    with pytest.raises((TypeError, ValueError)):
        (first := kind(random_state=0, **wrong)).fit(X, Y)
    with pytest.raises(NotFittedError):
        first.predict(X)
    fitted = kind(random_state=0).fit(X, Y)
    before = fitted.predict_proba(X)
    with pytest.raises((TypeError, ValueError)):
        fitted.set_params(**wrong).fit(100 * X + 500, np.array(["a", "b"])[Y])
    np.testing.assert_array_equal(fitted.predict_proba(X), before)
    with pytest.raises(ValueError, match="1 class"):
        fitted.set_params(**kind().get_params()).fit(X[:, :2], 0 * Y)
    assert fitted.n_features_in_ == 3
    assert set(fitted.predict(X)) <= {0, 1}


@pytest.mark.parametrize("kind", [ContinualClassifier, BlurClassifier])
def test_a_refused_first_task_is_not_learned(kind):
    classifier = kind(random_state=0)
    with pytest.raises(ValueError, match="y holds 0"):
        classifier.partial_fit(X, Y, classes=[1, 2])
    with pytest.raises(NotFittedError):
        classifier.predict(X)


def test_an_interrupted_fit_leaves_features_that_no_longer_learn():
    images = np.random.default_rng(0).normal(size=(20, 64))
    features = HebbianFeatures((6,), (3,), (None,), (0.1,), image_shape=(1, 8, 8), n_epochs=1, random_state=0)
    features.fit(images)

    def interrupt(*_):
        raise KeyboardInterrupt

    hook = features.network_.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        features.partial_fit(images)
    hook.remove()
    np.testing.assert_array_equal(features.transform(images), features.transform(images))


@pytest.mark.parametrize("kind", [PairSTDP, TripletSTDP, ThreeFactor])
def test_a_rule_with_traces_asks_for_its_state(kind):
    signals = {"modulator": torch.ones(5)} if kind is ThreeFactor else {}
    with pytest.raises(TypeError, match=r"state.*Traces"):
        kind().update(torch.ones(5, 6), torch.ones(5, 4), torch.rand(4, 6), None, **signals)
