import pytest
from sklearn.datasets import load_iris

from engram.rules import RuleClassifier


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
