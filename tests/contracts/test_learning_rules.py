import pytest
from torch import nn

from engram import registry
from engram.rules import CATALOGUE
from engram.testing import check_learning_rule

NOISE = {"batch": "each sample has noise of its own"}
PERTURBED = {"zero error": "the loss of a perturbed network is above zero"}
UNSETTLED = {"zero error": "twenty steps do not settle it to the last digit"}
OPTIONS = {
    "backprop": {"gradient": True},
    "pc-fixed": {"gradient": True},
    "local-error": {"exempt": {"zero error": "each layer has an error of its own"}},
    "dtp": {"exempt": {"batch": "its inverses learn from noise at each sample, and from the batch before it does"}},
    "ep": {"exempt": UNSETTLED},
    "ep-one-sided": {"exempt": UNSETTLED},
    "node-perturbation": {"exempt": NOISE | PERTURBED},
    "weight-perturbation": {"exempt": PERTURBED},
    "reinforce": {
        "activation": nn.Sigmoid,
        "exempt": NOISE
        | {
            "zero error": "an output that is drawn is not the target",
            "loss": "what it raises is the reward of what is drawn",
            "black box": "its units are Bernoulli, no others",
        },
    },
}


def test_the_catalogue_is_registered():
    registered = set(registry.names("learning_rules"))
    assert set(CATALOGUE) <= registered
    for name, make in CATALOGUE.items():
        assert vars(registry.get("learning_rules", name)()) == vars(make())


@pytest.mark.parametrize("name", CATALOGUE)
def test_rule_keeps_its_promises(name):
    check_learning_rule(registry.get("learning_rules", name), **OPTIONS.get(name, {}))
