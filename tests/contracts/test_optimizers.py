import pytest
import torch

from engram import registry
from engram.testing.optimizer import check_optimizer

REGISTERED = {name: registry.get("optimizers", name) for name in registry.names("optimizers")}
REFERENCE = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}


@pytest.mark.filterwarnings("ignore:structure = 'auto' finds no kernel")
@pytest.mark.parametrize("name", [*REFERENCE, *REGISTERED])
def test_the_contract_of_optimizers(name):
    check_optimizer((REFERENCE | REGISTERED)[name])
