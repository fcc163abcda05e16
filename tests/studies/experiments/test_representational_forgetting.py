import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.learned.updates import AdamRule
from engram.studies.experiments import representational_forgetting as experiment
from engram.studies.experiments.representational_forgetting import pairs, students
from engram.studies.experiments.representational_forgetting.characters import draw_tasks

SMALL = dataclasses.replace(
    experiment.experiment.arms("smoke")["finetune"].config, first_steps=30, steps=20, size=16, units=16, channels=4
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def start(config, seed=5):
    return pairs.draw_start(pairs.Scenery.of(config, 0), "test", 2, seed)


@pytest.mark.parametrize(("channels", "parameters"), [(16, 52_720), (32, 109_984)])
def test_the_body_is_of_its_size(channels, parameters):
    body = students.new_body(channels, 28, 64, seeded())
    assert sum(p.numel() for p in body.parameters()) == parameters
    assert body(torch.zeros(2, 1, 28, 28)).shape == (2, 64)


def test_tasks_share_no_character_and_are_of_different_alphabets_first():
    marked = [torch.full((5, 20, 1, 4, 4), float(number)) for number in range(3)]
    for number, alphabet in enumerate(marked):
        alphabet[:, :, 0, 0, 0] = 10 * number + torch.arange(5.0)[:, None]
    tasks = draw_tasks(marked, 2, 5, seeded())
    names = [set(task.train[0][:, 0, 0, 0].tolist()) for task in tasks]
    assert all(names[i].isdisjoint(names[j]) for i in range(5) for j in range(i))
    assert sorted(int(min(name)) // 10 for name in names[:3]) == [0, 1, 2]
    assert [len(part[0]) for part in tasks[0]] == [30, 10]
    with pytest.raises(ValueError, match="7 tasks of 2 characters: expected enough characters, found them for 6"):
        draw_tasks(marked, 2, 7, seeded())


def test_starting_points_are_the_same_for_all_methods():
    methods = [dataclasses.replace(SMALL, method=method) for method in ("finetune", "ewc")]
    initial, other = (start(config) for config in methods)
    assert initial.first is other.first, "arms in one process share what they begin with"
    apart = start(dataclasses.replace(SMALL, first_steps=31))
    assert not torch.equal(apart.first.body[0].weight, initial.first.body[0].weight)
    assert torch.equal(initial.tasks[1].train[0], other.tasks[1].train[0])
    assert all(
        torch.equal(a, b) for a, b in zip(initial.first.body.parameters(), other.first.body.parameters(), strict=True)
    )


@pytest.mark.parametrize("method", ["finetune", "frozen", "l2", "ewc", "lwf", "feature-lwf", "replay", "learned"])
def test_methods_do_what_their_names_say(method):
    config = dataclasses.replace(SMALL, method=method)
    initial = start(config)
    changes = {}
    for strength in (1e-8, 1e8):
        before, after = pairs.stages(config, initial, students.Setting(strength=strength), None)
        with torch.no_grad():
            bodies = zip(before.body.parameters(), after.body.parameters(), strict=True)
            moved = sum(float((a - b).square().sum()) for a, b in bodies)
            head = float((before.heads[0].weight - after.heads[0].weight).abs().max())
        changes[strength] = moved, head
        assert len(after.heads) == 2
        assert (head > 0) == (method in ("lwf", "replay"))
    assert (changes[1e-8][0] == 0) == (method == "frozen")
    if method in ("l2", "ewc"):
        assert changes[1e8][0] < changes[1e-8][0]


def test_one_head_goes_on_with_other_classes():
    config = dataclasses.replace(SMALL, single_head=True, first_steps=80, steps=80, batch_size=16)
    initial = start(config)
    stages = pairs.stages(config, initial, students.Setting(), None)
    assert [len(student.heads) for student in stages] == [1, 1]
    row = pairs.measure(config, initial, stages, None)
    assert row["output_new"] > 0.5  # of four classes
    assert row["five_old"] > row["output_old"]


def test_an_untrained_rule_is_adam():
    assert pairs.gap_to_adam(start(SMALL), 4) < 1e-4


def test_what_students_begin_with_is_not_changed_by_what_they_learn():
    initial = start(SMALL)
    before = [p.detach().clone() for p in (*initial.first.body.parameters(), *initial.untrained.parameters())]
    for method in ("finetune", "lwf", "learned"):
        pairs.stages(dataclasses.replace(SMALL, method=method), initial, students.Setting(), None)
    after = (*initial.first.body.parameters(), *initial.untrained.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.requires_grad for p in initial.first.body.parameters())


def test_strengths_and_rates_are_chosen_by_what_probes_tell(new_run, monkeypatch):
    asked = []
    monkeypatch.setattr(
        pairs, "balance", lambda config, starts, setting: asked.append(setting) or -abs(setting.strength - 1)
    )
    setting = pairs.choose(dataclasses.replace(SMALL, method="lwf"), new_run(), [start(SMALL)])
    assert setting == students.Setting(rate=1e-3, strength=1.0)
    assert {setting.strength for setting in asked[:3]} == {0.1, 1.0, 10.0}
    assert {setting.rate for setting in asked[3:]} == set(pairs.RATES)


def test_a_rule_is_judged_by_whole_lives_of_students_on_pairs_of_validation():
    config = dataclasses.replace(SMALL, method="learned", judged_by=2, teacher_steps=30)
    scenery = pairs.Scenery.of(config, 0)
    far = [pairs.validate(config, scenery, AdamRule(6), 7) for _ in range(2)]
    assert far[0] == far[1] > 0
    begin = pairs.draw_start(scenery, "validation", 2, 7)
    teacher = pairs.teacher_of(scenery, "validation", 7)
    assert pairs.mimicry(begin, students.Student(teacher, []), teacher) == 0


@pytest.mark.parametrize("sequences", [0, 2])
def test_a_trial_that_was_killed_after_its_last_step_ends_as_another(sequences, tmp_path, monkeypatch):
    config = experiment.experiment.arms("smoke")["learned"].config
    config = dataclasses.replace(config, teachers=False, pairs=3, sequences=sequences)

    def drawn(scenery, role, tasks, seed):
        return SimpleNamespace(tasks=[None] * tasks, seed=seed, untrained=None)

    def probed():
        return np.zeros((1, 2))

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(pairs, "draw_start", drawn)
    monkeypatch.setattr(pairs, "meta_trained", lambda config, run, *args: run.log(1, distance=1.0) and None)
    monkeypatch.setattr(pairs, "stages", lambda *args: [])
    monkeypatch.setattr(pairs, "measure", lambda *args: {"balance": 0.5})
    monkeypatch.setattr(pairs, "representational_forgetting", lambda *args, **options: SimpleNamespace(probed=probed))
    results = []
    for name in ("whole", "resumed"):
        folder = TrialFolder(tmp_path / name)
        folder.path.mkdir()
        if name == "resumed":
            monkeypatch.setattr(pairs, "gap_to_adam", killed)
            with pytest.raises(KeyboardInterrupt):
                pairs.trial(config, TrialRun(folder, 3))
        monkeypatch.setattr(pairs, "gap_to_adam", lambda start, batch_size: (len(start.tasks), start.seed))
        results.append(pairs.trial(config, TrialRun(folder, 3)))
    assert results[0] == results[1]
    tasks, seed = results[0]["gap_to_adam"]
    assert (tasks, seed % 10_000) == ((5, 501) if sequences else (2, 2))


def test_too_few_characters_are_told_before_anything_is_trained(new_run, monkeypatch):
    monkeypatch.setattr(pairs, "meta_trained", None)
    monkeypatch.setattr(pairs, "draw_start", None)
    config = dataclasses.replace(experiment.experiment.arms("smoke")["learned"].config, ways=8)
    with pytest.raises(ValueError, match="5 tasks of 8 characters: expected enough characters, found them for 2"):
        pairs.trial(config, new_run())
