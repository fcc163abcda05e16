"""A curiosity that breaks one promise is refused, and the message says which promise."""

import numpy as np
import pytest
import torch
from torch import nn

from engram.testing import check_curiosity


class Distance(nn.Module):
    """How far observations are from the mean of what was learned, which a weight scales: keeps all promises."""

    def __init__(self, obs_shape, num_envs=1, *, generator):
        super().__init__()
        self.generator = generator
        self.register_buffer("weight", torch.rand((), generator=generator))
        self.register_buffer("mean", torch.zeros(obs_shape))

    def bonus(self, next_obs, done):
        return self.weight * (next_obs - self.mean).flatten(2).square().mean(-1)

    def update(self, obs, valid=None, envs=None):
        rows = obs[valid]
        rows = rows[torch.randint(len(rows), (4,), generator=self.generator)]
        self.mean += 0.1 * (rows.mean(0) - self.mean)
        return float((rows - self.mean).square().mean())


class Stateless:
    def __init__(self, obs_shape, num_envs=1, *, generator):
        pass

    def bonus(self, next_obs, done):
        return torch.zeros(done.shape)

    def update(self, obs, valid=None, envs=None):
        return 0.0


class Flat(Distance):
    def __init__(self, obs_shape, num_envs=1, *, generator):
        (_,) = obs_shape
        super().__init__(obs_shape, num_envs, generator=generator)


class Negative(Distance):
    def bonus(self, next_obs, done):
        return -super().bonus(next_obs, done)


class Infinite(Distance):
    def bonus(self, next_obs, done):
        return super().bonus(next_obs, done) / 0.0


class OneForAll(Distance):
    def bonus(self, next_obs, done):
        return super().bonus(next_obs, done).mean(1, keepdim=True)


class NoTensor(Distance):
    def bonus(self, next_obs, done):
        return super().bonus(next_obs, done).numpy()


class NoLoss(Distance):
    def update(self, obs, valid=None, envs=None):
        super().update(obs, valid, envs)


class CountsAll(Distance):
    def update(self, obs, valid=None, envs=None):
        return super().update(obs, torch.ones_like(valid), envs)


class DrawsGlobally(Distance):
    def bonus(self, next_obs, done):
        return super().bonus(next_obs, done) + 1e-3 * torch.rand(done.shape)


class Unseeded(Distance):
    def __init__(self, obs_shape, num_envs=1, *, generator):
        generator.seed()
        super().__init__(obs_shape, num_envs, generator=generator)


class Centres(Distance):
    def bonus(self, next_obs, done):
        next_obs -= self.mean
        return self.weight * next_obs.flatten(2).square().mean(-1)


class Marks(Distance):
    def update(self, obs, valid=None, envs=None):
        loss = super().update(obs, valid, envs)
        valid[0] = False
        return loss


class Remembers(Distance):
    last = torch.zeros(())

    def bonus(self, next_obs, done):
        paid = super().bonus(next_obs, done) + self.last.abs().mean()
        self.last = next_obs[0]
        return paid

    def state_dict(self):
        return {**super().state_dict(), "last": self.last.clone()}

    def load_state_dict(self, state_dict):
        self.last = state_dict["last"]
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "last"})


class Shared(Distance):
    calls = np.zeros(1)

    def __init__(self, obs_shape, num_envs=1, *, generator):
        super().__init__(obs_shape, num_envs, generator=generator)
        self.calls[:] = 0

    def bonus(self, next_obs, done):
        self.calls += 1
        return super().bonus(next_obs, done) / self.calls[0]


class Forgets(Distance):
    calls = 0

    def bonus(self, next_obs, done):
        self.calls += 1
        return super().bonus(next_obs, done) / self.calls


BROKEN = {
    Stateless: "has bonus.*make_bonus makes a Stateless: expected an ExplorationBonus",
    Flat: "It is made from a shape.*values to unpack",
    Negative: "at least 0, one for each.*bonus of Negative is -.*: expected at least 0",
    Infinite: r"bonus of Infinite at \(time=0, env=0\) is inf: expected a finite number",
    OneForAll: r"bonus of OneForAll.shape = \(12, 1\): expected \(12, 3\)",
    NoTensor: "bonus of NoTensor is a ndarray: expected an instance of Tensor",
    NoLoss: "loss of NoLoss = None: expected a finite number",
    CountsAll: "masked steps change nothing.*other observations in masked steps",
    DrawsGlobally: "used the global generator of torch",
    Unseeded: "two curiosities that were made alike pay different bonuses",
    Centres: "changed in place",
    Marks: "changed in place",
    Remembers: "relies on a tensor that was overwritten later",
    Shared: "pays different bonuses if another one runs next to it",
    Forgets: "the continuation differs",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_promise_is_found(broken):
    with pytest.raises(AssertionError, match=f"(?s){broken.__name__} breaks a promise.*{BROKEN[broken]}"):
        check_curiosity(broken)


def test_a_curiosity_keeps_all_promises_also_with_options():
    check_curiosity(Distance)

    class Scaled(Distance):
        def __init__(self, *given, factor, **more):
            super().__init__(*given, **more)
            self.weight *= factor

    check_curiosity(Scaled, factor=2.0)
    with pytest.raises(AssertionError, match=r"Scaled breaks.*expected at least 0"):
        check_curiosity(Scaled, factor=-2.0)
