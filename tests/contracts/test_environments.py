import pytest

from engram import registry
from engram.testing.environment import check_environment

# An entry of `engram.environments` loads the Gymnasium id of the environment, and importing it registers that id.
REGISTERED = {name: registry.get("environments", name) for name in registry.names("environments")}
REFERENCE = {"cliff-walking": "CliffWalking-v1", "cart-pole": "CartPole-v1"}
SHARED_GENERATOR = {"cart-pole": "Gymnasium's own batch of it draws all starts from one generator"}


@pytest.mark.parametrize("name", [*REFERENCE, *REGISTERED])
def test_the_contract_of_environments(name, effort):
    env_id = (REFERENCE | REGISTERED)[name]
    check_environment(env_id, shared_generator=name in SHARED_GENERATOR, steps=50 * effort)
