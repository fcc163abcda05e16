import math

import pytest
import torch

from engram.learned.blur import BlurNetwork, Genome, cross_entropy, lifetime, meta_step
from engram.optim import CMAES

NETWORK = BlurNetwork((2, 6, 2))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batches(steps, *shape, seed=0):
    x = 2 * torch.rand(steps, *shape, 32, 2, generator=seeded(seed), dtype=torch.float64) - 1
    inside = (x[..., :1] > x[..., 1:]).double()
    return x, 2 * torch.cat([inside, 1 - inside], -1) - 1


def loss_of(vector, lives, checkpointed=False):
    x, y = lives
    genome, state = Genome.from_vector(vector), NETWORK.init(seeded(1), tuple(x.shape[1:-2]), torch.float64)
    end = lifetime(NETWORK, genome, state, (x[:-1], y[:-1]), checkpointed=checkpointed)
    return cross_entropy(NETWORK.forward(genome, end, x[-1]), y[-1])


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_gradient_through_a_life_is_that_of_differences(checkpointed):
    vector, lives = Genome.near_backprop(0.1, seeded()).to_vector().double().requires_grad_(), batches(6)
    (gradient,) = torch.autograd.grad(loss_of(vector, lives, checkpointed), vector)
    for place in range(len(vector)):
        moved = torch.zeros_like(vector).index_fill_(0, torch.tensor(place), 1e-6)
        with torch.no_grad():
            difference = (loss_of(vector + moved, lives) - loss_of(vector - moved, lives)) / 2e-6
        assert gradient[place].item() == pytest.approx(difference.item(), rel=1e-4, abs=1e-6)


def test_gradients_lower_the_loss_on_fresh_lives():
    vector = Genome.near_backprop(0.1, seeded()).to_vector().double().requires_grad_()
    fresh, adam, skipped = batches(6, 8, seed=77), torch.optim.Adam([vector], lr=0.02), 0
    before = loss_of(vector.detach(), fresh).mean()
    for step in range(60):
        skipped = meta_step(adam, loss_of(vector, batches(6, 2, seed=step)).mean(), skipped)
    assert skipped == 0
    assert loss_of(vector.detach(), fresh).mean() < before - 0.1


def test_evolution_lowers_the_loss_on_fresh_lives():
    vector = Genome.near_backprop(0.0, seeded()).to_vector().double()
    search, fresh = CMAES([vector], 0.3, population_size=12, generator=seeded()), batches(6, 100, seed=77)
    before = loss_of(vector, fresh).mean()
    for step in range(40):
        loss = loss_of(search.ask()[0][:, None], batches(6, 16, seed=step)).mean(1)
        search.tell(loss=loss.nan_to_num(100.0))
    assert loss_of(vector, fresh).mean() < before - 0.06  # of eight seeds, the worst is lower by 0.09


def test_steps_that_are_not_finite_are_skipped_and_ten_of_them_refused():
    vector = torch.ones(2, requires_grad=True)
    sgd, skipped = torch.optim.SGD([vector], lr=1.0), 0
    for expected in range(1, 10):
        skipped = meta_step(sgd, (vector * math.inf).sum(), skipped)
        assert skipped == expected
    assert vector.tolist() == [1, 1]
    assert meta_step(sgd, vector.sum(), skipped) == 0
    assert vector.tolist() == [0, 0]
    with pytest.raises(RuntimeError, match=r"not finite 10 times in a row.*synapse_std"):
        meta_step(sgd, (vector * math.inf).sum(), 9)


def test_a_long_gradient_is_shortened():
    vector = torch.zeros(1, requires_grad=True)
    assert meta_step(torch.optim.SGD([vector], lr=1.0), 100 * vector.sum(), 0, clip=2.0) == 0
    assert vector.item() == pytest.approx(-2.0, rel=1e-5)


def test_batches_of_other_numbers_are_refused():
    x, y = batches(3)
    with pytest.raises(ValueError, match="batches of 3 and 2 steps"):
        lifetime(NETWORK, Genome.backprop(0.1), NETWORK.init(seeded()), (x, y[:2]))
