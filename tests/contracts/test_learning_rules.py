import pytest
from torch import nn

from engram import registry
from engram.testing import check_learning_rule

NOISE = {"batch": "each sample has noise of its own"}
PERTURBED = {"zero error": "the loss of a perturbed network is above zero"}
DRAWN_THERE = {"device": "it draws its noise where it computes, so that nothing is copied there"}
UNSETTLED = {"zero error": "twenty steps do not settle it to the last digit"}
FEED_FORWARD = [name for name in registry.names("learning_rules") if not name.startswith(("eprop", "rtrl"))]
OPTIONS = {
    "backprop": {"gradient": True},
    "pc-fixed": {"gradient": True},
    "local-error": {"exempt": {"zero error": "each layer has an error of its own"}},
    "dtp": {
        "exempt": DRAWN_THERE
        | {"batch": "its inverses learn from noise at each sample, and from the batch before it does"}
    },
    "ep": {"exempt": UNSETTLED},
    "ep-one-sided": {"exempt": UNSETTLED},
    "node-perturbation": {"exempt": NOISE | PERTURBED | DRAWN_THERE},
    "weight-perturbation": {"exempt": PERTURBED | DRAWN_THERE},
    "reinforce": {
        "activation": nn.Sigmoid,
        "exempt": NOISE
        | DRAWN_THERE
        | {
            "zero error": "an output that is drawn is not the target",
            "loss": "what it raises is the reward of what is drawn",
            "black box": "its units are Bernoulli, no others",
        },
    },
}


@pytest.mark.parametrize("name", FEED_FORWARD)
def test_rule_keeps_its_promises(name):
    check_learning_rule(registry.get("learning_rules", name), **OPTIONS.get(name, {}))
