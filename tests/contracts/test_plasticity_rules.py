import inspect

import pytest
import torch

from engram import plasticity, registry
from engram.plasticity import Competitive, MLPRule, Oja, PlasticityRule, TaylorRule
from engram.testing.rule import check_rule

RULES = {name: registry.get("plasticity_rules", name) for name in registry.names("plasticity_rules")}


class Modulated(TaylorRule):
    """A linear recursion with a signal."""

    def __init__(self):
        super().__init__({"x y m": 1.0, "w": -0.1, "y w m^2": 0.3}, eta=0.2)


class Bounded(TaylorRule):
    """No linear recursion, and a bound."""

    def __init__(self):
        super().__init__({"1": 0.1, "x^2 y": 0.3, "x w^3": -0.2, "w^2 m": 0.4}, eta=0.5, clip=1.0)


class SmallNetwork(MLPRule):
    """With a signal and a bound."""

    def __init__(self):
        super().__init__(4, modulated=True, eta=0.5, clip=1.0, generator=torch.Generator().manual_seed(0))


OTHERS = {
    "competitive": Competitive,
    "mlp": SmallNetwork,
    "taylor": TaylorRule,
    "taylor-modulated": Modulated,
    "taylor-bounded": Bounded,
}


@pytest.mark.parametrize("rule", [*RULES.values(), *OTHERS.values()], ids=[*RULES, *OTHERS])
def test_rule_keeps_its_promises(rule):
    check_rule(rule)


# Each registered rule is a baseline of comparisons, with its default arguments. These keep the contract all the same.
NOT_REGISTERED = {
    "Competitive": "a rule of one layer, whose units compete: it is registered as a synaptic rule",
    "MLPRule": "a form of rules, not a rule: its initial values are random",
    "TaylorRule": "a form of rules: its default is Oja's rule, which is a baseline already",
}


def test_public_rules_are_registered_or_say_why_not():
    public = {name: getattr(plasticity, name) for name in plasticity.__all__}
    rules = {name for name, part in public.items() if inspect.isclass(part) and issubclass(part, PlasticityRule)}
    registered = {rule.__name__ for rule in RULES.values()}
    assert rules - registered - {"PlasticityRule"} == set(NOT_REGISTERED)
    assert "competitive" in registry.names("synaptic_rules")
    series, oja = TaylorRule(), TaylorRule.from_rule(Oja())
    assert (series.extra_repr(), series.modulated) == (oja.extra_repr(), False)
    assert not torch.equal(MLPRule().weight_in, MLPRule().weight_in)
