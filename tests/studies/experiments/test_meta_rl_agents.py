import dataclasses

import pytest
import torch

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.studies.experiments import meta_rl_agents as agents
from engram.tasks.meta import digest


def configs(preset: str) -> dict:
    return {name: arm.config for name, arm in agents.experiment.arms(preset).items()}


LAPTOP, SMOKE = (configs(preset)["modulated"] for preset in ("laptop", "smoke"))


@pytest.mark.parametrize("preset", ["laptop", "smoke", "large"])
def test_networks_have_as_many_parameters_as_counted_and_as_each_other(preset):
    arms = configs(preset)
    counts = {arm: agents.parameter_count(arms[arm]) for arm in ("memoryless", *agents.LEARNERS)}
    for arm, count in counts.items():
        assert count == sum(p.numel() for p in agents.build(arms[arm], torch.Generator()).parameters())
    if preset != "smoke":
        del counts["memoryless"]
        assert max(counts.values()) <= 1.05 * min(counts.values())


def test_a_unit_less_and_the_network_of_ppo_is_smaller_than_the_modulated_one():
    arms = configs("laptop")
    one_less = dataclasses.replace(arms["lstm-ppo"], hidden_size=arms["lstm-ppo"].hidden_size - 1)
    counts = [agents.parameter_count(config) for config in (one_less, arms["modulated"], arms["lstm-ppo"])]
    assert counts == sorted(counts)


def test_every_arm_is_a_network_of_its_own_kind():
    networks = {arm: agents.build(configs("smoke")[arm], torch.Generator()).network for arm in agents.LEARNERS}
    kinds = {arm: (type(net).__name__, type(getattr(net, "rule", None)).__name__) for arm, net in networks.items()}
    assert kinds == {
        "rnn": ("PlasticRNN", "NoneType"),
        "lstm": ("LSTM", "NoneType"),
        "plastic": ("PlasticRNN", "ClippedHebb"),
        "modulated": ("PlasticRNN", "Modulated"),
    }


@pytest.mark.parametrize("config", [SMOKE, pytest.param(LAPTOP, marks=pytest.mark.soak)])
def test_no_task_of_the_test_is_one_of_training(config):
    train = {digest(task) for task in agents.sample_many(config.train_tasks, agents.TASKS_SEED, split="train")}
    tests = agents.test_set(config)
    assert len(tests) == 8 + config.test_tasks
    assert not train & {digest(task) for task in tests.values()}
    assert {task.horizon for task in tests.values()} == {config.horizon}


@pytest.mark.parametrize("memory", [True, False])
def test_what_the_networks_see(memory):
    env = agents.observed(list(agents.test_set(SMOKE).values()), 20, memory=memory)
    assert env.single_observation_space.shape == (agents.OBSERVATION if memory else agents.OBSERVATION - 3,)
    assert env.single_action_space.n == agents.ACTIONS


def test_scores_are_shares_of_what_the_oracle_gains_over_chance(tmp_path):
    config = dataclasses.replace(SMOKE, agent="bayes", test_lifetimes=60, horizon=32, points=3)
    for name in ("oracle", "bayes"):
        (tmp_path / name).mkdir()
    tests = agents.test_set(config).values()
    oracle = agents.evaluate(config, TrialRun(TrialFolder(tmp_path / "oracle"), 0), [agents.OracleAgent()] * len(tests))
    assert oracle["score"] == oracle["random"] == oracle["literature"] == 1
    assert set(oracle["tasks"].values()) == {1.0}
    bayes = agents.evaluate(
        config,
        TrialRun(TrialFolder(tmp_path / "bayes"), 0),
        [agents.BayesFilterAgent(agents.pomdp(task, points=3)) for task in tests],
    )
    assert 0.5 < bayes["score"] < 1.05
    assert bayes["gain"] > 0.1, "it has to find out first"


def test_tasks_beyond_a_batch_are_trained_on_in_their_turn(monkeypatch, new_run):
    seen = []
    play = agents.learn

    def learn(envs, *args, **options):
        seen.extend(digest(task) for env in envs for task in env.unwrapped.tasks)
        play(envs, *args, **options)

    monkeypatch.setattr(agents, "learn", learn)
    config = dataclasses.replace(SMOKE, train_tasks=5, agent="lstm")
    tasks = agents.sample_many(5, agents.TASKS_SEED, split="train", horizon=config.horizon)
    agents.train(config, new_run(), tasks)
    assert seen == [digest(task) for task in tasks]


def test_ppo_learns_from_whole_lifetimes_and_lives_like_the_others(new_run, monkeypatch):
    config = dataclasses.replace(SMOKE, agent="ppo", iterations=10, batch_size=6, train_tasks=2)
    seen = []
    update = agents.ppo_update
    monkeypatch.setattr(
        agents, "ppo_update", lambda *given, **options: seen.append(given[2]) or update(*given, **options)
    )
    run = new_run()
    tasks = [*agents.training_set(2, config.horizon)]
    network = agents.train(config, run, tasks)
    assert len(seen) == 10
    for lived in seen:
        assert lived.mask.all()
        assert lived.starts.sum() == lived.done.sum() == 6  # lifetimes: all begin with the rollout, and end with it
        assert lived.starts[0].all()
    env = agents.observed(tasks, 6)
    lives = [agents.play(env, agents.PPOAgent(network, torch.Generator().manual_seed(s)), seed=1) for s in (0, 0, 1)]
    assert (lives[0].actions == lives[1].actions).all()
    assert (lives[0].actions != lives[2].actions).any()


def test_an_agent_of_ppo_acts_by_the_policy_that_it_learned():
    network = agents.build(dataclasses.replace(SMOKE, agent="ppo"), torch.Generator().manual_seed(0))
    env = agents.observed([*agents.training_set(2, SMOKE.horizon)], 500)
    player = agents.PPOAgent(network, torch.Generator().manual_seed(1))
    observations, _ = env.reset(seed=0)
    player.reset(None, observations)
    seen, actions, starts = [], [torch.zeros(500, dtype=torch.int64)], [True, False, False]
    for _ in starts:
        seen.append(torch.as_tensor(observations))
        actions.append(torch.as_tensor(player.act()))
        observations, rewards, *_ = env.step(actions[-1].numpy())
        player.learn(actions[-1], rewards, observations)
    before = torch.stack(actions[:-1])
    output, _ = network(torch.stack(seen), before, torch.tensor(starts)[:, None].expand(3, 500))
    expected, frequency = output.logits.softmax(-1)[..., 1].mean(1), torch.stack(actions[1:]).float().mean(1)
    torch.testing.assert_close(frequency, expected, atol=0.07, rtol=0)


def test_trained_on_each_a_network_lives_in_its_own_task_alone(monkeypatch, new_run):
    trained_on, lived_in = [], []
    monkeypatch.setattr(agents, "train", lambda config, run, tasks: trained_on.append(tasks) or len(trained_on))
    monkeypatch.setattr(agents, "evaluate", lambda config, run, each: lived_in.extend(each) or {})
    monkeypatch.setattr(agents, "TrainedAgent", lambda agent, generator: agent)
    agents.trial(dataclasses.replace(SMOKE, agent="lstm", train_on="each"), new_run())
    assert [len(tasks) for tasks in trained_on] == [1] * 8
    assert lived_in == [*range(1, 9)]
