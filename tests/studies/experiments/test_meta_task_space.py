import pytest

from engram.studies.experiments import meta_task_space as space
from engram.studies.experiments.meta_task_space import learning
from engram.studies.experiments.meta_task_space.learning import ManyTasks, tasks_of
from engram.tasks.meta import digest, named, split_of


def test_stay_probabilities_are_read_as_they_stand():
    measure = {claim.id: claim for claim in space.claims}["model-based"].measure
    # [rewarded, common]: stays after a rewarded common transition and after an unrewarded rare one.
    assert measure({"lstm-two-step-wang2018": {"stays": [[0.9, 0.5], [0.4, 1.0]]}}) == pytest.approx(0.4)
    assert (
        measure({"lstm-two-step-wang2018": {"stays": [[0.5, 0.5], [1.0, 1.0]]}}) == 0
    )  # only repeats what was rewarded


def test_tasks_to_train_on_and_to_test_on_have_nothing_in_common():
    train, test = tasks_of(ManyTasks(horizon=8, train_tasks=3, test_tasks=2), 0)
    assert [len(train), len(test)] == [3, 2]
    assert {split_of(digest(task)) for task in train} == {"train"}
    assert {split_of(digest(task)) for task in test} == {"test"}


def test_all_tasks_are_trained_on_also_if_there_are_more_than_lifetimes_in_a_batch(monkeypatch, new_run):
    seen = []

    def learn(envs, *_, **__):
        seen.extend(env.unwrapped.tasks for env in envs)
        raise InterruptedError

    monkeypatch.setattr(learning, "learn", learn)
    tasks = [named.bandit(2), *(named.dependent_bandit(kind) for kind in ("uniform", "easy", "medium", "hard"))]
    with pytest.raises(InterruptedError):
        learning.lives(ManyTasks(batch_size=2, hidden_size=2), new_run(), tasks, tasks, 1)
    assert [task for part in seen for task in part] == tasks
    assert [len(part) for part in seen] == [2, 2, 1]
