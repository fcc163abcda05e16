from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from engram.agents import RandomActions
from engram.testing import check_agent


class Flawed:
    """An agent that prefers what paid last; ``flaw`` says what is wrong with it."""

    shared = [0.0]  # noqa: RUF012 - shared on purpose

    def __init__(self, observation_space, action_space, *, rng, flaw="", learning_rate=0.1):
        if not isinstance(action_space, gymnasium.spaces.Discrete):
            raise TypeError(f"action_space = {action_space!r}: expected a Discrete")
        if learning_rate < 0 and flaw != "any rate":
            raise ValueError(f"learning_rate = {learning_rate}: expected at least 0")
        self.flaw, self.rng, self.space, self.rate = flaw, rng, action_space, learning_rate
        self.values, self.seen, self.action = np.zeros(int(action_space.n)), [], 0
        if flaw == "shared":
            self.values = self.shared * int(action_space.n)
        if flaw == "changes spaces":
            action_space.n = np.int64(int(action_space.n) + 1)

    def act(self, observation):
        match self.flaw:
            case "global":
                return int(np.random.randint(len(self.values)))  # noqa: NPY002
            case "own seed":
                return self.space.sample()
            case "beyond":
                return len(self.values)
            case "in place" if isinstance(observation, np.ndarray):
                observation += 1
            case "keeps":
                self.seen.append(observation)
                if sum(float(np.sum(seen)) for seen in self.seen) > 5:
                    return 0
            case "shared":
                self.shared[0] += 1
                return int(self.shared[0]) % len(self.values)
        noisy = self.values + self.rng.normal(size=len(self.values))
        self.action = int(noisy.argmax())
        return self.action

    def observe(self, reward, terminated, truncated, observation):
        self.values[self.action] += self.rate * (reward - self.values[self.action])

    def learn(self):
        pass


class Stored(Flawed):
    def state_dict(self):
        return {"values": self.values.copy(), "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.values[...] = state["values"]
        if self.flaw != "forgets":
            self.rng.bit_generator.state = state["rng"]


class Mute(Flawed):
    observe = None


class Nowhere(Flawed):
    def __init__(self, *spaces, **options):
        raise TypeError("not here")


@pytest.mark.parametrize("make", [RandomActions, Flawed, Stored])
def test_a_sound_agent_keeps_the_contract(make):
    check_agent(make)


@pytest.mark.parametrize(
    ("make", "flaw", "promise", "finding"),
    [
        (Flawed, "beyond", "lies in the action space", r"in CartPole-v1, step 0, 2 is not in Discrete\(2\)"),
        (Flawed, "global", "same generator and environment", "used the global generator of numpy"),
        (Flawed, "own seed", "same generator and environment", "two agents with the same seed behave differently"),
        (Flawed, "in place", "neither the spaces nor the observations", "changed in place"),
        (Flawed, "changes spaces", "neither the spaces nor the observations", "the action space was changed"),
        (Flawed, "keeps", "keeps copies of observations", "relies on an array"),
        (Flawed, "shared", "(same generator and environment|do not influence each other)", "behave"),
        (Flawed, "any rate", "below 0 is refused", "nothing was raised"),
        (Stored, "forgets", "continues bit for bit", "the continuation differs"),
        (Mute, "", "has act, observe and learn", "has no observe"),
        (Nowhere, "", "has act, observe and learn", "it fits none; CartPole-v1: TypeError: not here"),
    ],
)
def test_a_flawed_agent_is_refused(make, flaw, promise, finding):
    with pytest.raises(AssertionError, match=f"(?s){make.__name__} breaks a promise: .*{promise}.*Found: .*{finding}"):
        check_agent(make, flaw=flaw)
