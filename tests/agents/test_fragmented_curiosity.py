import copy
import warnings

import numpy as np
import psutil
import pytest
import torch

from engram.agents import RND, FragmentedCuriosity
from engram.memory import SurprisalMonitor


class Told(torch.nn.Module):
    """A curiosity whose errors and features are parts of what it sees."""

    obs_shape = (5,)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = 0

    def observe(self, obs):
        self.seen += len(obs)

    def error(self, obs):
        return obs[:, 0]

    def reward(self, error, done, envs=None):
        return error * ~done

    def features(self, obs):
        return obs[:, 1:]

    def update(self, obs, valid=None, envs=None):
        self.weight.data += 1
        return float(len(obs) if valid is None else valid.sum())

    def reset_parameters(self):
        self.weight.data.zero_()


def stream(calls, time, envs, seed=0, jump=0.02):
    """Errors of mean 1 with jumps of 30, beside features near one of six directions, among which an env moves."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(6, 4))
    at, rollouts = rng.integers(0, 6, envs), []
    for _ in range(calls):
        obs = np.zeros((time, envs, 5), np.float32)
        done = np.zeros((time, envs), bool)
        for t in range(time):
            moves = rng.random(envs) < jump
            at = np.where(moves, rng.integers(0, 6, envs), at)
            obs[t, :, 0] = np.where(moves, rng.uniform(5, 40, envs), rng.exponential(size=envs))
            repeated = (rng.random(envs) < 0.05) & (t > 0)
            obs[t, repeated, 0] = obs[t - 1, repeated, 0]
            obs[t, :, 1:] = places[at] + 0.05 * rng.normal(size=(envs, 4)) * ~moves[:, None]
        if envs > 1:
            done[time // 2 :, 0] = rng.random() < 0.3
        rollouts.append((torch.from_numpy(obs), torch.from_numpy(done)))
    return rollouts


def plain(rollouts, envs, capacity, recall=0.99, novelty=(0.75, 0.5)):
    """The published procedure step by step, with lists; return events, and the fragments in the end."""
    current, burning = [0] * envs, [False] * envs
    samples, previous, used, keys, events = {0: []}, {0: None}, {0: 0}, [], []
    clock, cos_th, made = 1, novelty[0], 1

    def similarity(a, b):
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / norms if norms else 0.0

    for call, (obs, done) in enumerate(rollouts):
        values = obs.double().numpy()
        if call == 0:
            keys.append((values[0, 0, 1:], 0, 0))
        for n in range(envs):
            if burning[n]:
                burning[n] = False
                continue
            for t in range(len(values)):
                e, feature, m = values[t, n, 0], values[t, n, 1:], current[n]
                if done[t, n]:
                    continue
                if e == previous[m]:
                    continue
                cosines = [similarity(feature, key) for key, _, _ in keys]
                best = int(np.argmax(cosines))
                if cosines[best] >= recall and keys[best][2] != m:
                    current[n] = keys[best][2]
                    clock += 1
                    used[current[n]] = clock
                    events.append(("recall", call, t, n, m, current[n]))
                    break
                previous[m] = e
                clock += 1
                used[m] = clock
                if len(samples[m]) < 25 or e < 10 * np.mean(samples[m]):
                    samples[m].append(e)
                elif max(cosines) < cos_th and feature.any():
                    if len(samples) == capacity:
                        idle = [i for i in samples if i not in current]
                        if not idle:
                            continue
                        gone = min(idle, key=lambda i: used[i])
                        del samples[gone], previous[gone], used[gone]
                        keys = [(k, -1 if p == gone else p, q) for k, p, q in keys if q != gone]
                    new, made = made, made + 1
                    clock += 1
                    samples[new], previous[new], used[new] = [], None, clock
                    keys.append((feature, m, new))
                    current[n], burning[n] = new, True
                    events.append(("fragment", call, t, n, m, new))
                    break
        cos_th = max(novelty[1], cos_th - (len(samples) - 1) * (novelty[0] - novelty[1]) / capacity)
    return events, current, samples, cos_th


@pytest.mark.parametrize(("envs", "capacity", "seed"), [(1, 800, 0), (4, 800, 1), (3, 4, 2), (2, 2, 3)])
def test_events_are_those_of_the_published_procedure_step_by_step(envs, capacity, seed):
    rollouts = stream(40, 64, envs, seed)
    curiosity = FragmentedCuriosity(Told, envs, capacity=capacity)
    for obs, done in rollouts:
        bonus = curiosity.bonus(obs, done)
        torch.testing.assert_close(bonus, obs[..., 0] * ~done)
    made = [curiosity.store.get(number).module for number in curiosity.store.ids]
    if len(made) == len([event for event in curiosity.events if event.kind == "fragment"]) + 1:  # none was dropped
        assert sum(module.seen for module in made) == sum((~done).sum() for _, done in rollouts)
    events, current, samples, threshold = plain(rollouts, envs, capacity)
    kinds = [event.kind for event in curiosity.events]
    assert kinds.count("fragment") >= 2
    assert kinds.count("recall") >= 2
    assert [tuple(event) for event in curiosity.events] == events
    assert curiosity.current.tolist() == current
    assert curiosity.novelty_threshold == pytest.approx(threshold)
    assert set(curiosity.store.ids) == set(samples)
    for number, values in samples.items():
        monitor = curiosity.store.get(number).monitor
        assert monitor.state_dict()["counts"] == len(values)
        if values:
            assert monitor.state_dict()["means"][0] == pytest.approx(np.mean(values))


def test_without_a_threshold_nothing_is_recalled_and_rewards_may_be_watched_in_place_of_errors():
    class Unpaid(Told):
        def reward(self, error, done, envs=None):
            return torch.ones_like(error)

    rollouts = stream(40, 64, 1, 0)
    kinds = []
    for make, options in ((Told, {"recall_threshold": None}), (Unpaid, {}), (Unpaid, {"normalised_surprisal": True})):
        curiosity = FragmentedCuriosity(make, **options)
        for obs, done in rollouts:
            curiosity.bonus(obs, done)
        kinds.append({event.kind for event in curiosity.events})
    assert kinds == [{"fragment"}, {"fragment", "recall"}, set()]


def test_an_environment_is_not_scanned_for_so_many_calls_after_a_new_fragment():
    errors = np.ones((6, 40, 1)) + 0.1 * np.random.default_rng(0).random((6, 40, 1))
    features = np.repeat(np.eye(4)[[0, 1, 0, 0, 0, 0]][:, None, None], 40, 1)
    errors[1, 0] = 99.0
    obs = torch.from_numpy(np.concatenate([errors[..., None], features], -1)).float()
    for burn_in in (0, 1, 3):
        curiosity = FragmentedCuriosity(Told, burn_in=burn_in)
        for part in obs:
            curiosity.bonus(part, torch.zeros(40, 1, dtype=torch.bool))
        assert [(event.kind, event.call) for event in curiosity.events] == [("fragment", 1), ("recall", 2 + burn_in)]


def test_the_first_key_is_stored_although_the_first_rollout_is_empty():
    (obs, done), *_ = stream(1, 64, 1)
    curiosity = FragmentedCuriosity(Told)
    curiosity.bonus(obs[:0], done[:0])
    curiosity.bonus(obs, done)
    assert len(curiosity.store.keys) >= 1


def test_keys_may_come_from_an_encoder_that_is_given():
    obs = torch.from_numpy(np.random.default_rng(0).random((2, 40, 1, 5))).float()
    obs[1, 0, 0, 0] = 99.0
    for encoder, events in ((lambda x: x[:, 1:] * 0 + 1, 0), (lambda x: torch.stack((x[:, 0] < 9, x[:, 0] > 9), 1), 1)):
        curiosity = FragmentedCuriosity(Told, key_encoder=lambda x, encoder=encoder: encoder(x).float())
        for part in obs:
            curiosity.bonus(part, torch.zeros(40, 1, dtype=torch.bool))
        assert len(curiosity.events) == events


def test_scan_is_observe_step_by_step():
    for criterion, threshold in (("ratio", 3.0), ("zscore", 2.0), ("uniform", 40.0), ("random", 0.02)):
        options = {"min_samples": 5, "window": 30, "append_on_trigger": False, "reset_on_trigger": False}
        scanned, stepped = (
            SurprisalMonitor(criterion, threshold, **options, generator=torch.Generator().manual_seed(0))
            for _ in range(2)
        )
        xs = np.random.default_rng(0).exponential(size=300)
        fired, at = [], 0
        while (place := scanned.scan(xs[at:])) is not None:
            fired.append(at + place)
            at += place + 1
        assert fired == [t for t, x in enumerate(xs) if stepped.observe(float(x))]
        assert len(fired) > 1
        assert scanned.previous == xs[-1]
        for name, value in scanned.state_dict().items():
            np.testing.assert_array_equal(value, stepped.state_dict()[name])
    with pytest.raises(ValueError, match="streams = 2"):
        SurprisalMonitor(streams=2).scan(xs)


def test_only_fragments_with_an_environment_learn_and_each_by_itself():
    generator = torch.Generator().manual_seed(0)

    def make():
        return RND((5,), 2, hidden=8, feature_dim=4, keep_prob=1.0, learning_rate=1e-2, generator=generator)

    curiosity = FragmentedCuriosity(make, 2)
    second = curiosity.store.write(curiosity._make())
    third = curiosity.store.write(curiosity._make())
    curiosity.current[1] = second
    modules = [curiosity.store.get(number).module for number in (0, second, third)]
    before = [copy.deepcopy(module.predictor) for module in modules]
    obs = torch.randn(6, 2, 5, generator=generator)
    errors = [module.error(obs[:, env]).mean() for env, module in enumerate(modules[:2])]
    for _ in range(30):
        curiosity.update(obs, torch.ones(6, 2, dtype=torch.bool))
    for env, module in enumerate(modules[:2]):
        assert module.error(obs[:, env]).mean() < 0.5 * errors[env]  # also of one that was made later
    for old, new in zip(before[2].parameters(), modules[2].predictor.parameters(), strict=True):
        assert torch.equal(old, new)
    curiosity.update(obs[:, 1:], envs=np.array([1]))
    assert modules[1].optimizer.state[modules[1].predictor[1].weight]["step"] == 31
    assert modules[0].optimizer.state[modules[0].predictor[1].weight]["step"] == 30


def test_the_loss_is_the_mean_over_the_fragments_that_learn():
    curiosity, obs = FragmentedCuriosity(Told, 3), torch.zeros(6, 3, 5)
    curiosity.current[2] = curiosity.store.write(curiosity._make())
    valid = torch.ones(6, 3, dtype=torch.bool)
    valid[4:, 0] = valid[0, 2] = False
    assert curiosity.update(obs, valid) == (10 + 5) / 2  # of two environments, and of one


def test_modules_may_imitate_the_one_network_that_makes_the_keys():
    generator = torch.Generator().manual_seed(0)

    def make():
        return RND((5,), 2, hidden=8, feature_dim=4, keep_prob=1.0, learning_rate=1e-2, generator=generator)

    curiosity, other = (FragmentedCuriosity(make, 2, shared_target=True) for _ in range(2))
    second = curiosity.store.write(curiosity._make())
    curiosity.current[1] = second
    first, last = (curiosity.store.get(number).module for number in (0, second))
    obs = torch.randn(6, 2, 5, generator=generator)
    for module in (first, last):
        torch.testing.assert_close(module.features(obs[0]), curiosity.key_module.features(obs[0]))
    assert (first.error(obs[0]) != last.error(obs[0])).all()
    before = first.error(obs[:, 0]).mean()
    for _ in range(30):
        curiosity.update(obs)
    assert first.error(obs[:, 0]).mean() < 0.5 * before
    other.load_state_dict(curiosity.state_dict())
    assert other.store.get(second).module.target is other.key_module.target
    torch.testing.assert_close(other.store.get(second).module.error(obs[0]), last.error(obs[0]))


def test_the_rest_of_a_rollout_is_paid_by_the_fragment_that_an_event_led_to_if_asked():
    made = []

    class Numbered(Told):
        """Pays by its number."""

        def __init__(self):
            super().__init__()
            made.append(self)
            self.number = len(made)

        def error(self, obs):
            return self.number * obs[:, 0]

    here, there = np.eye(4)[[0, 1]]
    errors = 1 + 0.1 * np.random.default_rng(0).random((3, 60, 2))
    features = np.broadcast_to(here, (3, 60, 2, 4)).copy()
    features[0, 40:, 1], errors[0, 40, 1] = there, 99.0  # the second environment is surprised, and then goes back
    obs = torch.from_numpy(np.concatenate([errors[..., None], features], -1)).float()
    done = torch.zeros(60, 2, dtype=torch.bool)
    for again in (False, True):
        made.clear()
        curiosity = FragmentedCuriosity(Numbered, 2, recompute_after_event=again, burn_in=0)
        bonuses = [curiosity.bonus(part, done) for part in obs]
        assert [event[2:] for event in curiosity.events] == [(40, 1, 0, 1), (0, 1, 1, 0)]
        number = torch.ones(3, 60, 2)
        number[0, 40:, 1] = made[-1].number if again else 1
        number[1, :, 1] = 1 if again else made[-1].number
        torch.testing.assert_close(torch.stack(bonuses), number * obs[..., 0])
        torch.testing.assert_close(curiosity.errors, obs[2, ..., 0])


class ForwardModel(torch.nn.Module):
    """A curiosity about transitions: how badly the next place is predicted from a place and an action."""

    obs_shape = (8,)  # a place, (3,), an action, (2,), and the next place

    def __init__(self, generator):
        super().__init__()
        layers = torch.nn.Linear(5, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3)
        self.network = torch.nn.Sequential(*layers)
        for parameter in self.network.parameters():
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-2)

    def observe(self, obs):
        pass

    def error(self, obs):
        return (self.network(obs[:, :5]) - obs[:, 5:]).square().mean(-1)

    def reward(self, error, done, envs=None):
        return error * ~done

    def features(self, obs):
        return obs[:, :3]

    def update(self, obs, valid=None, envs=None):
        loss = self.error(obs.reshape(-1, 8)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def reset_parameters(self):
        for parameter in self.network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)


def test_a_forward_model_forgets_the_first_of_two_worlds_and_one_in_fragments_does_not():
    """In the second world, which is elsewhere, each action does the opposite."""
    generator, errors = torch.Generator().manual_seed(0), {}

    def rollout(world):
        height = torch.full((60, 1, 1), 5.0 * world)
        places = torch.cat((torch.rand(60, 1, 2, generator=generator), height), -1)
        actions = torch.eye(2)[torch.randint(2, (60, 1), generator=generator)]
        return torch.cat((places, actions, places + torch.cat((world * actions, 0 * height), -1)), -1)

    def monitor():
        options = {"window": 256, "append_on_trigger": False, "reset_on_trigger": False}
        return SurprisalMonitor("ratio", 3.0, min_samples=25, **options)

    single = ForwardModel(generator)
    several = FragmentedCuriosity(lambda: ForwardModel(generator), make_monitor=monitor, recall_threshold=0.9)
    done = torch.zeros(60, 1, dtype=torch.bool)
    for world in (1, -1):
        for _ in range(40):
            seen = rollout(world)
            several.bonus(seen, done)
            for _ in range(10):
                single.update(seen)
                several.update(seen)
    assert [event[4:] for event in several.events] == [(0, 1)]
    again = rollout(1)
    several.bonus(again, done)
    assert [event[:1] + event[4:] for event in several.events[1:]] == [("recall", 1, 0)]
    for name, model in (("single", single), ("several", several.store.get(0).module)):
        errors[name] = model.error(again.flatten(0, 1)).mean().item()
    assert errors["several"] < 0.1 * errors["single"]


def test_keys_of_one_encoder_lead_back_from_anywhere_and_those_of_modules_do_not():
    here, there, beyond = (torch.eye(5)[k].expand(60, 1, 5) for k in (1, 2, 3))
    generator = torch.Generator().manual_seed(0)

    def make():
        return RND((5,), hidden=64, feature_dim=64, running=False, generator=generator)

    recalls = {}
    for author in (False, True):
        curiosity = FragmentedCuriosity(make, author_keys=author, make_monitor=lambda: SurprisalMonitor(
            "ratio", 1.5, min_samples=5, append_on_trigger=False, reset_on_trigger=False))  # fmt: skip
        for place in (here, there, beyond, here):
            for _ in range(18):
                noisy = place + 0.01 * torch.randn(place.shape, generator=generator)
                curiosity.bonus(noisy, torch.zeros(60, 1, dtype=torch.bool))
                for _ in range(20):
                    curiosity.update(noisy)
        recalls[author] = [event[4:] for event in curiosity.events if event.kind == "recall"]
    assert (2, 0) in recalls[False]
    assert (2, 0) not in recalls[True]


def test_with_bidirectional_keys_a_fragment_that_was_left_is_recalled_where_it_was_left():
    errors = np.ones((4, 40, 1)) + 0.1 * np.random.default_rng(0).random((4, 40, 1))
    features = np.repeat(np.eye(4)[[0, 1, 2, 1]][:, None, None], 40, 1)
    features[1, 20:], errors[1, 20] = np.eye(4)[3], 99.0
    obs = torch.from_numpy(np.concatenate([errors[..., None], features], -1)).float()
    done = torch.zeros(40, 1, dtype=torch.bool)
    at_once = obs.clone()  # the surprise is at the first step, after one rollout in both places
    at_once[0, 20:], at_once[1, :20] = obs[1, :20], obs[1, 20:]
    for stays in (obs, at_once):
        for both in (False, True):
            curiosity = FragmentedCuriosity(Told, bidirectional=both, burn_in=0)
            for part in stays:
                curiosity.bonus(part, done)
            assert [event.kind for event in curiosity.events] == ["fragment", *["recall"] * both]


def test_one_fragment_is_never_cut_and_one_in_use_never_goes():
    with pytest.warns(UserWarning, match="capacity = 1"):
        curiosity = FragmentedCuriosity(Told, 2, capacity=1)
    for obs, done in stream(20, 64, 2, seed=4):
        curiosity.bonus(obs, done)
    assert not curiosity.events
    with warnings.catch_warnings(action="error"):
        curiosity = FragmentedCuriosity(Told, 3, capacity=2, burn_in=0)
    for obs, done in stream(30, 64, 3, seed=5):
        curiosity.bonus(obs, done)
        assert set(curiosity.current.tolist()) <= set(curiosity.store.ids)
        assert len(curiosity.store) <= 2
    assert curiosity.events


def test_more_fragments_than_memory_has_room_for_are_warned_of():
    def make():
        return RND((5,), hidden=64, feature_dim=64, generator=torch.Generator().manual_seed(0))

    each = sum(4 * p.nbytes for p in make().predictor.parameters()) + sum(p.nbytes for p in make().target.parameters())
    most = psutil.virtual_memory().total // each + 1
    with pytest.warns(UserWarning, match=f"capacity = {most}: {most} modules of .* need .* GiB, and .* GiB are free"):
        FragmentedCuriosity(make, capacity=most)
    with warnings.catch_warnings(action="error"):
        FragmentedCuriosity(make, capacity=2)


def test_constant_errors_and_zero_features_cut_nothing_and_nothing_done_counts():
    curiosity = FragmentedCuriosity(Told)
    obs = torch.zeros(64, 1, 5)
    obs[40, 0, 0] = 50.0  # beside features of zeros
    for _ in range(3):
        curiosity.bonus(obs + torch.tensor([1.0, 0, 0, 0, 0]), torch.zeros(64, 1, dtype=torch.bool))
    assert not curiosity.events
    before = curiosity.store.get(0).monitor.state_dict()
    bonus = curiosity.bonus(obs, torch.ones(64, 1, dtype=torch.bool))
    assert not bonus.any()
    for name, value in curiosity.store.get(0).monitor.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    empty = curiosity.bonus(torch.zeros(0, 1, 5), torch.zeros(0, 1, dtype=torch.bool))
    assert empty.shape == (0, 1)


def test_a_saved_state_goes_on_alike_with_as_many_fragments():
    original, rollouts = FragmentedCuriosity(Told, 3, bidirectional=True), stream(40, 64, 3, seed=6)
    for obs, done in rollouts[:20]:
        original.bonus(obs, done)
        original.update(obs, ~done)
    assert len(original.store) > 2
    restored = FragmentedCuriosity(Told, 3, bidirectional=True)
    restored.load_state_dict(original.state_dict())
    for obs, done in rollouts[20:]:
        for curiosity in (original, restored):
            curiosity.bonus(obs, done)
            curiosity.update(obs, ~done)
    assert original.events == restored.events
    assert len(original.events) > 4
    for number in original.store.ids:
        assert original.store.get(number).module.weight == restored.store.get(number).module.weight
    with pytest.raises(ValueError, match="current"):
        FragmentedCuriosity(Told, 2).load_state_dict(original.state_dict())


@pytest.mark.parametrize(
    ("bad", "error", "said"),
    [
        (lambda: FragmentedCuriosity(lambda: torch.nn.Linear(1, 1)), TypeError, "make_module makes a Linear"),
        (lambda: FragmentedCuriosity(lambda: RND((5,), 3), 2), ValueError, "num_envs = 2"),
        (lambda: FragmentedCuriosity(Told, capacity=0), ValueError, "capacity = 0"),
        (lambda: FragmentedCuriosity(Told, shared_target=True), ValueError, "shared_target = True"),
        (
            lambda: FragmentedCuriosity(lambda: RND((5,)), shared_target=True, author_keys=True),
            ValueError,
            "no author_keys",
        ),
        (lambda: FragmentedCuriosity(Told, recall_threshold=2.0), ValueError, "recall_threshold = 2.0"),
        (
            lambda: FragmentedCuriosity(Told).bonus(torch.zeros(3, 2, 5), torch.zeros(3, 2).bool()),
            ValueError,
            "next_obs",
        ),
        (lambda: FragmentedCuriosity(Told, 2).update(torch.zeros(3, 1, 5)), ValueError, "obs.shape"),
        (
            lambda: FragmentedCuriosity(Told).update(torch.zeros(3, 1, 5), envs=np.array([-1])),
            ValueError,
            r"envs = \[-1\]",
        ),
    ],
)
def test_wrong_arguments_are_named(bad, error, said):
    with pytest.raises(error, match=said):
        bad()


def test_errors_that_are_not_finite_reach_no_monitor():
    curiosity = FragmentedCuriosity(lambda: RND((5,), 2, hidden=4, feature_dim=4), 2)
    curiosity.store.get(0).module.predictor[-1].bias.data[0] = torch.nan
    with pytest.raises(FloatingPointError, match="environment 0"):
        curiosity.bonus(torch.zeros(3, 2, 5), torch.zeros(3, 2, dtype=torch.bool))
    assert curiosity.store.get(0).monitor.state_dict()["counts"] == 0
