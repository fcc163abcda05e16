"""Rules over the activations of one layer, which are learned from data and can then be proved (Prophecy)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.tree import DecisionTreeClassifier

from engram import checks
from engram.verify.bounds import FREE, OFF, ON, Phases, relax
from engram.verify.network import AffineReLU, Array
from engram.verify.specification import Argmax, Box, Polytope
from engram.verify.verifier import Budget, Result, verify


class LayerRule(NamedTuple):
    """A conjunction over the units of one layer that, in some data, only inputs of one class satisfy.

    Hidden layers are counted from 1. ``pattern`` has the phases of the layer's units, 2 where they do not matter; in a
    rule over values, all are 2. ``halfspaces`` are G and h of the same rule over pre-activations, G z <= h. ``support``
    is the number of inputs in the data that satisfy it, ``precision`` the share of the class among them (1, since only
    pure leaves are kept), and ``recall`` the share of the class that satisfies it.
    """

    layer: int
    pattern: Phases
    halfspaces: tuple[Array, Array]
    support: int
    precision: float
    recall: float


def layer_rules(
    net: AffineReLU,
    layer: int,
    X: Float[np.ndarray, "points inputs"],
    label: int,
    *,
    on: Literal["bits", "values"] = "bits",
    random_state: int = 0,
) -> list[LayerRule]:
    """Rules for a class from a decision tree over the activations of a layer, in descending order of support.

    Args:
        net: The network.
        layer: The hidden layer, counted from 1.
        X: Inputs that the tree is fitted to.
        label: The class, as the network predicts it.
        on: Inputs of the tree: ``"bits"``, whether the units are on, or ``"values"``, their pre-activations.
        random_state: Seed of the tree.

    Raises:
        ValueError: There is no such hidden layer or class, ``on`` is unknown, or ``X`` is empty or does not fit the
            network.

    Source: Gopinath et al., "Property inference for deep neural networks" (2019).
    """
    checks.arguments()
    checks.size("layer", layer, 1, len(net.weights) - 1)
    checks.choice("on", on, ("bits", "values"))
    checks.size("label", label, 0, net.sizes[-1] - 1)
    preactivations = net.preactivations(X)
    z, target = preactivations[layer - 1], preactivations[-1].argmax(1) == label
    features = (z > 0).astype(float) if on == "bits" else z
    tree = DecisionTreeClassifier(random_state=random_state).fit(features, target)
    nodes, rules = tree.tree_, []
    waiting: list[tuple[int, list[tuple[int, float, bool]]]] = [(0, [])]
    leaves = tree.apply(features)
    while waiting:
        node, path = waiting.pop()
        if nodes.children_left[node] >= 0:
            split = int(nodes.feature[node]), float(nodes.threshold[node])
            waiting.append((int(nodes.children_left[node]), [*path, (*split, False)]))
            waiting.append((int(nodes.children_right[node]), [*path, (*split, True)]))
            continue
        in_leaf = leaves == node
        if not path or not in_leaf.any() or not target[in_leaf].all():
            continue
        pattern = np.full(z.shape[1], FREE, dtype=np.int8)
        G, h = np.zeros((len(path), z.shape[1])), np.zeros(len(path))
        for row, (unit, threshold, above) in enumerate(path):
            if on == "bits":
                pattern[unit] = ON if above else OFF
            G[row, unit] = -1.0 if above else 1.0
            h[row] = 0.0 if on == "bits" else threshold * G[row, unit]
        support = int(in_leaf.sum())
        rules.append(LayerRule(layer, pattern, (G, h), support, 1.0, support / int(target.sum())))
    return sorted(rules, key=lambda rule: -rule.support)


def prove_rule(
    net: AffineReLU,
    rule: LayerRule,
    label: int,
    *,
    box: Box | None = None,
    data: Float[np.ndarray, "points inputs"] | None = None,
    budget: Budget | None = None,
) -> Result:
    """Prove that all inputs that satisfy a layer rule get a class, from bounds of that layer and the layers above it.

    A counterexample consists of pre-activations of the layer, which may not occur for any input. A rule that no input
    satisfies is proved.

    Args:
        net: The network.
        rule: The rule.
        label: The class.
        box: The proof is for all inputs of this box, with the layer's bounds by CROWN.
        data: Instead of ``box``: the proof is for inputs whose pre-activations in the layer stay between the minimum
            and the maximum over these inputs.
        budget: Limits of time, nodes and memory; None: 60 seconds.

    Raises:
        ValueError: Both or neither of ``box`` and ``data`` are given; or one of them, the rule or the class does not
            fit the network.
        RuntimeError: As for ``verify``.
    """
    checks.arguments()
    if (box is None) == (data is None):
        raise ValueError("box and data: expected exactly one of them")
    checks.size("rule.layer", rule.layer, 1, len(net.weights) - 1)
    if box is not None:
        net.check_inputs("box.low", box.low)
        bounds = relax(net, box.low[None], box.high[None])
        low, high = bounds.lower[rule.layer - 1][0], bounds.upper[rule.layer - 1][0]
    elif data is not None:
        z = net.preactivations(data)[rule.layer - 1]
        low, high = z.min(0), z.max(0)
    eye = np.eye(len(low))
    G, h = rule.halfspaces
    upper_layers = AffineReLU((eye, *net.weights[rule.layer :]), (np.zeros(len(low)), *net.biases[rule.layer :]))
    inputs = Polytope.maybe_empty(np.vstack([G, eye, -eye]), np.concatenate([h, high, -low]))
    return verify(upper_layers, inputs, Argmax(label), budget=budget)
