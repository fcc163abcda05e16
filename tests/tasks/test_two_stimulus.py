import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.tasks.two_stimulus import (
    AUTHOR_TABLES,
    TABLES,
    Timing,
    TwoStimulus,
    ladder,
    ladder_rung,
    training_tasks,
)
from engram.testing.promises import default_dtype

FUNCTIONS = {
    "and": lambda a, b: a and b,
    "nand": lambda a, b: not (a and b),
    "01": lambda a, b: not a and b,
    "anti-01": lambda a, b: not (not a and b),
    "10": lambda a, b: a and not b,
    "anti-10": lambda a, b: not (a and not b),
    "watch-1": lambda a, b: a,
    "watch-2": lambda a, b: b,
    "dms": lambda a, b: a == b,
    "anti-watch-2": lambda a, b: not b,
    "anti-watch-1": lambda a, b: not a,
    "or": lambda a, b: a or b,
    "nor": lambda a, b: not (a or b),
    "dnms": lambda a, b: a != b,
}
TRAINING = training_tasks(("dms", "dnms"))


def test_the_tables_are_the_functions_that_their_names_say():
    pairs = list(itertools.product((0, 1), repeat=2))
    assert {name: tuple(int(f(*pair)) for pair in pairs) for name, f in FUNCTIONS.items()} == TABLES
    assert list(TABLES) == list(FUNCTIONS), "in this order, on which the halves of the training depend"


def test_the_fourteen_are_distinct_and_closed_under_negation():
    tables = set(TABLES.values())
    assert len(tables) == 14
    assert {tuple(1 - answer for answer in table) for table in tables} == tables


def test_the_published_code_has_eleven_distinct_training_functions():
    assert len({AUTHOR_TABLES[name] for name in TRAINING}) == 11
    assert AUTHOR_TABLES["anti-10"] == TABLES["10"]
    assert AUTHOR_TABLES["nor"] == tuple(np.clip([1 - a + b for a, b in itertools.product((0, 1), repeat=2)], 0, 1))
    fixed = max(np.mean([np.equal(answers, AUTHOR_TABLES[name]) for name in TRAINING]) for answers in TABLES.values())
    assert fixed == pytest.approx(0.542, abs=0.0005), "which a policy that never learns can exploit"
    correct = [np.mean([np.equal(answers, TABLES[name]) for name in TRAINING]) for answers in TABLES.values()]
    assert correct == pytest.approx([0.5] * 14), "and cannot with the correct ones"


def test_the_ladder():
    rungs = ladder({name: TABLES[name] for name in TRAINING})
    assert [round(rung.accuracy, 4) for rung in rungs] == [0.5, 0.6667, 0.8333, 1.0]
    assert [round(rung.loss, 4) for rung in rungs] == [0.32, 0.2667, 0.1067, 0.0]
    on_dms = ladder([TABLES["dms"]])
    assert [(rung.accuracy, round(rung.loss, 4)) for rung in on_dms] == [(0.5, 0.32)] * 3 + [(1.0, 0.0)]


def test_what_a_network_knows_is_read_off_the_ladder():
    rungs = ladder({name: TABLES[name] for name in TRAINING})
    assert [ladder_rung(rung.accuracy, rung.loss, rungs) for rung in rungs] == [rung.knows for rung in rungs]
    assert ladder_rung(0.99, 0.32, rungs) == "nothing", (
        "a high accuracy with the loss of knowing nothing is no knowledge"
    )
    assert ladder_rung(0.3, 0.9, rungs) == "nothing"


def test_the_halves_of_the_training():
    halves = [training_tasks(("dms", "dnms"), parity) for parity in (0, 1)]
    assert [len(half) for half in halves] == [6, 6]
    assert sorted(itertools.chain(*halves)) == sorted(TRAINING)
    assert all(list(TABLES).index(name) % 2 == parity for parity, half in enumerate(halves) for name in half)


def test_what_a_trial_shows_and_when():
    inputs = TwoStimulus().inputs()
    for kind, (first, second) in enumerate(itertools.product((0, 1), repeat=2)):
        expected = torch.zeros(50, 2)
        expected[0:8] = torch.tensor([3.0, -3.0]) * (2 * first - 1)
        expected[10:18] = torch.tensor([3.0, -3.0]) * (2 * second - 1)
        assert torch.equal(inputs[kind], expected)


def test_an_episode_is_its_trials_one_after_another():
    task = TwoStimulus(("dms", "or"), trials=3)
    episode, block = (draw(50, torch.Generator().manual_seed(0)) for draw in (task.sample, task.block))
    assert episode.inputs.shape == (150, 50, 2)
    rows = torch.tensor([TABLES["dms"], TABLES["or"]])
    assert torch.equal(block.answer, rows[block.table[:, None], block.kind])
    for trial in range(3):
        steps = slice(50 * trial, 50 * (trial + 1))
        assert torch.equal(episode.inputs[steps].transpose(0, 1), task.inputs()[block.kind[:, trial]])
        assert (episode.targets[steps].argmax(2) == block.answer[:, trial]).all()
    assert episode.targets.unique().tolist() == pytest.approx([0.1, 0.9])
    assert episode.mask[:, 0].nonzero()[:, 0].tolist() == [50 * t + k for t in range(3) for k in range(25, 35)]
    assert set(block.table.tolist()) == {0, 1}


def test_targets_have_the_default_dtype_as_inputs_have():
    with default_dtype(torch.float64):
        episode = TwoStimulus(trials=2).sample(3, torch.Generator().manual_seed(0))
    assert episode.inputs.dtype == episode.targets.dtype == torch.float64
    usual = TwoStimulus(trials=2).sample(3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(usual.targets.double(), episode.targets)
    assert torch.equal(usual.inputs.double(), episode.inputs)


def test_the_stimuli_are_fair_and_independent():
    block = TwoStimulus(trials=500).block(40, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(torch.bincount(block.kind.flatten()) / 20_000, 0.25, atol=0.015)


@given(st.floats(5, 60))
def test_the_timing_keeps_its_order_at_any_step(dt):
    timing = Timing.default(dt)
    windows = [*timing.stimulus1, *timing.stimulus2, *timing.response, timing.decision]
    assert windows == sorted(windows)
    assert timing.feedback[0] < timing.feedback[1] <= timing.steps
    assert Timing.default() == Timing()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stimulus1": (3, 3)}, r"stimulus1 = \(3, 3\)"),
        (
            {"stimulus2": (7, 18)},
            r"stimulus2 = \(7, 18\): expected from 8 \(the end of stimulus1\)",
        ),
        (
            {"response": (17, 35)},
            r"response = \(17, 35\): expected from 18 \(the end of stimulus2\)",
        ),
        ({"decision": 34}, r"decision = 34: expected from 35 \(the end of response\)"),
        ({"feedback": (35, 46)}, r"feedback = \(35, 46\): expected from 36 \(the decision\) to 50"),
        ({"feedback": (36, 51)}, r"feedback = \(36, 51\)"),
    ],
)
def test_windows_out_of_order_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Timing(**options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TwoStimulus(()), "tasks"),
        (lambda: TwoStimulus(("xor",)), "tasks = 'xor': expected one of 'and', 'nand', '01'"),
        (lambda: training_tasks(()), "tasks"),
        (lambda: training_tasks(tuple(TABLES)), "expected to leave a task"),
        (lambda: training_tasks(tuple(TABLES)[::2], 0), "expected to leave a task in each half"),
        (lambda: ladder([]), "tables"),
        (lambda: ladder([(0, 1, 2, 0)]), "four answers"),
        (lambda: TwoStimulus().block(2, torch.Generator(), table=torch.tensor([0, 14])), "from 0 to 13"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
