"""States are plain tensors to whoever stores them."""

from __future__ import annotations

import pytest
import torch
from torch.utils._pytree import tree_leaves

from engram import plasticity
from engram.plasticity import (
    ClampedLSTM,
    Hebb,
    NodePerturbationRNN,
    PlasticLinear,
    PlasticLSTM,
    PlasticRNN,
    Retroactive,
)

INPUT = torch.ones(2, 3, 4)  # time, batch, features
STATES = {
    "PlasticRNN": lambda: PlasticRNN(4, 5, rule=Hebb())(INPUT)[1],
    "PlasticRNN, eligibility": lambda: PlasticRNN(4, 5, rule=Retroactive())(INPUT)[1],
    "PlasticLSTM": lambda: PlasticLSTM(4, 5, rule=Hebb())(INPUT)[1],
    "PlasticLinear": lambda: PlasticLinear(4, 5, rule=Hebb())(INPUT)[1],
    "ClampedLSTM": lambda: ClampedLSTM(4, 5)(INPUT)[1],
    "NodePerturbationRNN": lambda: NodePerturbationRNN(12).init(3),
    "Retroactive": lambda: Retroactive().init(3, 5, 4),
}


def types(state: object) -> set[str]:
    """Return the names of the state's type and of those within."""
    parts = set().union(*(types(part) for part in state)) if isinstance(state, tuple) else set()
    return parts | {type(state).__name__} if isinstance(state, tuple) else parts


@pytest.mark.parametrize("name", STATES)
def test_torch_loads_what_it_saved_of_a_state_and_unpickles_nothing_else(name, tmp_path):
    state = STATES[name]()
    torch.save(state.detach(), tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert type(loaded) is type(state)
    assert types(loaded) == types(state)
    assert all(torch.equal(one, other) for one, other in zip(tree_leaves(loaded), tree_leaves(state), strict=True))


def test_every_public_type_of_state_is_among_them():
    public = {
        name for name in plasticity.__all__ if name.endswith("State") and isinstance(getattr(plasticity, name), type)
    }
    assert public <= set().union(*(types(make()) for make in STATES.values()))
