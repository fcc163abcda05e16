"""Rules over the activations of one layer, learned from data and then to be proved (Prophecy's layer properties)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.tree import DecisionTreeClassifier

from engram import checks
from engram.analysis.verify.bounds import FREE, OFF, ON, Phases, relax
from engram.analysis.verify.network import AffineReLU, Array
from engram.analysis.verify.specification import Argmax, Box, Polytope
from engram.analysis.verify.verifier import Budget, Result, verify


class LayerRule(NamedTuple):
    """A conjunction over the units of one layer that, on some data, only inputs of one class satisfy.

    Attributes:
        layer: The hidden layer, from 1.
        pattern: Phases of its units, 2 where they do not matter; of a rule over values all are.
        halfspaces: G and h over the pre-activations of the layer, G z <= h, which say the same.
        support: How many of the data satisfy it.
        precision: Share of the class among them; 1, since only pure leaves are kept.
        recall: Share of the class that satisfies it.
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
    """Return rules for a class from a decision tree over the activations of a layer, the best supported first.

    Layers count from 1; ``label`` is the class as the network gives it. The tree sees whether units are on
    (``"bits"``), or thresholds of their pre-activations (``"values"``).

    Source: Gopinath et al., "Property inference for deep neural networks" (2019).
    """
    checks.size("layer", layer, 1, len(net.weights) - 1)
    checks.choice("on", on, ("bits", "values"))
    zs = net.preactivations(X)
    z, target = zs[layer - 1], zs[-1].argmax(1) == label
    seen = (z > 0).astype(float) if on == "bits" else z
    tree = DecisionTreeClassifier(random_state=random_state).fit(seen, target)
    nodes, rules = tree.tree_, []
    waiting: list[tuple[int, list[tuple[int, float, bool]]]] = [(0, [])]
    leaves = tree.apply(seen)
    while waiting:
        node, path = waiting.pop()
        if nodes.children_left[node] >= 0:
            split = int(nodes.feature[node]), float(nodes.threshold[node])
            waiting.append((int(nodes.children_left[node]), [*path, (*split, False)]))
            waiting.append((int(nodes.children_right[node]), [*path, (*split, True)]))
            continue
        here = leaves == node
        if not path or not here.any() or not target[here].all():
            continue
        pattern = np.full(z.shape[1], FREE, dtype=np.int8)
        G, h = np.zeros((len(path), z.shape[1])), np.zeros(len(path))
        for row, (unit, threshold, above) in enumerate(path):
            if on == "bits":
                pattern[unit] = ON if above else OFF
            G[row, unit] = -1.0 if above else 1.0
            h[row] = 0.0 if on == "bits" else threshold * G[row, unit]
        support = int(here.sum())
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
    """Prove that what satisfies a rule is of the class: the layers behind it, over bounds of the layer.

    The proof is for all inputs of ``box``, over the layer's bounds by CROWN; or for inputs whose pre-activations in the
    layer stay between the least and the largest of ``data``. A counterexample is one of pre-activations of the layer,
    which no input need have.

    Raises:
        ValueError: There is both a box and data, or neither; or nothing within the bounds satisfies the rule.
    """
    if (box is None) == (data is None):
        raise ValueError("box and data: expected one of them")
    if box is not None:
        bounds = relax(net, box.low[None], box.high[None])
        low, high = bounds.lower[rule.layer - 1][0], bounds.upper[rule.layer - 1][0]
    elif data is not None:
        z = net.preactivations(data)[rule.layer - 1]
        low, high = z.min(0), z.max(0)
    eye = np.eye(len(low))
    G, h = rule.halfspaces
    rest = AffineReLU((eye, *net.weights[rule.layer :]), (np.zeros(len(low)), *net.biases[rule.layer :]))
    inputs = Polytope(np.vstack([G, eye, -eye]), np.concatenate([h, high, -low]))
    return verify(rest, inputs, Argmax(label), budget=budget)
