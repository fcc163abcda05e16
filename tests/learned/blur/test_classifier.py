import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from engram.learned.blur import BlurClassifier, Genome

X, Y = load_digits(return_X_y=True)
X = StandardScaler().fit_transform(X)


def fitted(**options):
    return BlurClassifier(random_state=0, **options)


def test_it_learns_data_that_its_genome_was_not_found_on():
    x, asked, y, answers = train_test_split(X, Y, random_state=0)
    scores = {steps: fitted(n_steps=steps).fit(x, y).score(asked, answers) for steps in (1, 10)}
    assert scores[10] >= 0.7
    assert scores[10] > scores[1] + 0.1


def test_classes_keep_their_names_and_features_no_order():
    names = np.array(["zero", "one", "two"])[Y % 3]
    model = fitted().fit(X, names)
    assert model.classes_.tolist() == ["one", "two", "zero"]
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)
    assert (model.predict(X) == model.classes_[model.predict_proba(X).argmax(1)]).all()


def test_partial_fit_of_whole_batches_is_fit_on_them():
    model = fitted(n_steps=1, batch_size=len(X))
    partial = fitted().partial_fit(X, Y, classes=np.arange(10))
    np.testing.assert_allclose(model.fit(X, Y).predict_proba(X), partial.predict_proba(X), atol=1e-9)
    x = (torch.tensor(X) - partial.mean_) / partial.scale_
    learned = partial._network.forward(partial._genome, partial.state_, x)  # by the moments of the same batch
    np.testing.assert_allclose(partial.predict_proba(X), learned.softmax(1), atol=1e-9)
    again = fitted().partial_fit(X[:50], np.zeros(50, int), classes=np.arange(10))
    assert again.predict_proba(X).shape == (len(X), 10)


@pytest.mark.parametrize(
    ("options", "labels", "message"),
    [
        ({"hidden_layer_sizes": (0,)}, Y, r"hidden_layer_sizes\[0\] = 0: expected at least 1"),
        ({}, np.zeros(len(X), int), "y holds 1 class, 0: expected at least 2"),
        ({"genome": Genome.backprop(0.1)._replace(keep_s=torch.tensor(1e300))}, Y, "synapses did not stay finite"),
    ],
)
def test_bad_input_is_named(options, labels, message):
    with pytest.raises(ValueError, match=message):
        fitted(**options).fit(X, labels)


@pytest.mark.parametrize(("classes", "held"), [([], "no class"), ([3], "1 class, 3")])
def test_too_few_classes_are_named_by_their_argument(classes, held):
    with pytest.raises(ValueError, match=f"classes holds {held}: expected at least 2"):
        fitted().partial_fit(X, Y, classes=classes)


def test_an_unknown_class_is_named_and_few_samples_are_warned_of():
    model = fitted().partial_fit(X, Y, classes=np.arange(10))
    with pytest.raises(ValueError, match="y holds 10: expected one of the classes"):
        model.partial_fit(X, Y + 2)
    with pytest.warns(RuntimeWarning, match="batches of 5 samples"):
        model.partial_fit(X[:5], Y[:5])


def test_later_data_are_scaled_as_the_first_and_a_feature_may_be_constant():
    x = np.concatenate([3 * X[:16] + 5, np.full((16, 1), 7.0)], 1)  # of 16 samples no warning is given
    model = fitted().partial_fit(x, Y[:16], classes=np.arange(10))
    np.testing.assert_allclose(model.mean_, x.mean(0))
    np.testing.assert_allclose(model.scale_, np.where(x.std(0) > 1e-9, x.std(0), 1.0))
    before, scale = model.predict_proba(x), model.scale_.clone()
    model.partial_fit(x + 100, Y[:16])
    assert torch.equal(model.scale_, scale)
    assert not np.allclose(model.predict_proba(x), before)
    assert np.isfinite(before).all()
    np.testing.assert_array_equal(fitted().fit(X, Y).predict(X), fitted().fit(X, Y).predict(X))
    with pytest.raises(ValueError, match="as in the first call"):
        model.partial_fit(x, Y[:16], classes=[0, 1])
    with pytest.raises(ValueError, match="n_samples = 1: expected at least 2"):
        model.partial_fit(x[:1], Y[:1])
