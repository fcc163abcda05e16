import copy
import csv
import math
from inspect import unwrap

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from engram.analysis import ProbedTask, RepresentationReport, extract, gram_distance, linear_cka, nmse
from engram.analysis import representational_forgetting as measured

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES, LABELS = torch.from_numpy(IMAGES).float() / 16, torch.from_numpy(LABELS)


def task(classes, train=200, test=100):
    chosen = torch.isin(LABELS, torch.tensor(classes)).nonzero()[:, 0]
    known, new = chosen[:train], chosen[train : train + test]
    return ProbedTask((IMAGES[known], LABELS[known]), (IMAGES[new], LABELS[new]))


TASKS = [task([0, 1, 2, 3, 4]), task([5, 6, 7, 8, 9])]


def network(units=12, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, units))


def rotated(body, seed=1):
    """Return the body followed by an orthogonal matrix."""
    units = body[-1].out_features
    turn = nn.Linear(units, units, bias=False).double()
    drawn = torch.randn(units, units, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    turn.weight.data.copy_(torch.linalg.qr(drawn).Q)
    return nn.Sequential(copy.deepcopy(body).double(), turn)


class Double(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = copy.deepcopy(body).double()

    def forward(self, x):
        return self.body(x.double())


@pytest.mark.parametrize("probe", ["linear", "nearest-mean", "ridge", "k-nn", LogisticRegression()])
def test_an_unchanged_body_forgets_exactly_nothing(probe):
    body = network()
    report = measured([network(seed=9), body, copy.deepcopy(body)], TASKS, shots=(1, 5, None), probe=probe, draws=3)
    for shots in (1, 5, None):
        assert report.forgetting(shots=shots).tolist() == [0.0]
        assert (report.probed(shots)[2] == report.probed(shots)[1]).all()
    assert report.drift == pytest.approx([0.0], abs=1e-12)


def test_a_random_body_tells_what_random_features_tell():
    report = measured([network(seed=3)] * 3, TASKS, shots=(5,), draws=3)
    assert (report.probed() == report.probed()[0]).all()
    assert np.isnan(report.relative()).all()


@pytest.mark.parametrize("probe", ["ridge", "nearest-mean", "k-nn"])
def test_a_rotation_of_features_changes_outputs_but_no_probe(probe):
    body, head = network(), nn.Linear(12, 5).double()
    trained(body, head, TASKS[0])
    bodies = [Double(network(seed=9)), Double(body), Double(nn.Sequential(*rotated(body)))]
    report = measured(bodies, TASKS, shots=(5,), probe=probe, heads=[[head], [head, head]], draws=3)
    # Invariant but for rounding, since distances do not change; ridge has too weak a penalty for it to matter.
    assert abs(report.forgetting()[0]) < 0.01
    assert abs(report.forgetting(shots=5)[0]) < 0.01
    assert report.drift[0] == pytest.approx(0.0, abs=1e-9)
    assert report.output[1, 0] > 0.8
    assert report.output[2, 0] < 0.6
    assert report.stale_share()[0] > 0.9
    assert report.recovered(5)[0] > 0.2


def trained(body, head, task, steps=150):
    x, y = task.train
    adam = torch.optim.Adam([*body.parameters(), *head.parameters()], 1e-2)
    for _ in range(steps):
        adam.zero_grad()
        nn.functional.cross_entropy(head(body(x).double()), y - y.min()).backward()
        adam.step()
    return body


def test_lost_features_are_forgotten_and_a_teacher_has_them():
    learned = trained(network(), nn.Linear(12, 5).double(), TASKS[0])
    lost = copy.deepcopy(learned)
    lost[-1].weight.data[1:] = 0
    lost[-1].bias.data[1:] = 0
    report = measured([network(), learned, lost], TASKS, shots=(None,), teacher=[learned, learned])
    assert report.forgetting()[0] > 0.05
    assert report.relative()[0] > 0
    assert report.teacher_gap()[1, 0] == 0
    assert report.teacher_gap()[2, 0] == pytest.approx(report.forgetting()[0])
    assert np.isnan(report.teacher_gap()[0]).all()
    assert np.isnan(report.output).all()


def test_one_head_of_all_tasks_is_asked_for_classes_seen_so_far():
    body = nn.Identity()
    head = nn.Linear(64, 10)
    head.weight.data.zero_()
    head.bias.data = torch.arange(10.0)  # the highest class that may be named
    output = measured([body] * 3, TASKS, shots=(None,), heads=[head, head]).output
    share = [float((probed.test[1] == highest).double().mean()) for probed, highest in zip(TASKS, (4, 9), strict=True)]
    assert output[1:].tolist() == [[share[0], pytest.approx(math.nan, nan_ok=True)], [0.0, share[1]]]


def test_draws_are_the_same_in_all_calls_and_few_are_among_many():
    from engram.analysis.forgetting.representational import _supports

    first, again = (dict(_supports(LABELS[:200], [1, 5, None], 4, [7, 0])) for _ in range(2))
    for draw in range(4):
        assert (first[5][draw] == again[5][draw]).all()
        assert set(first[1][draw]) < set(first[5][draw])
        assert np.bincount(LABELS[:200][first[5][draw]]).tolist() == [5] * 10
    assert first[None][0].tolist() == list(range(200))
    other = dict(_supports(LABELS[:200], [5], 4, [8, 0]))
    assert (first[5][0] != other[5][0]).any()


def test_the_measures_by_hand(tmp_path):
    R = np.array([[np.nan, np.nan], [0.9, np.nan], [0.1, 0.8]])
    P = np.array([[0.5, 0.4], [0.95, 0.6], [0.86, 0.9]])
    few = P - 0.2
    report = RepresentationReport(
        R, {5: few, None: P}, np.array([0.3]), {None: np.vstack([[np.nan] * 2, P[1:] + 0.02])}
    )
    assert report.forgetting("output") == pytest.approx([0.8])
    assert report.forgetting() == pytest.approx([0.09])
    assert report.forgetting(shots=5) == pytest.approx([0.09])
    assert report.stale_share() == pytest.approx([1 - 0.09 / 0.8])
    assert report.relative() == pytest.approx([0.09 / 0.45])
    assert report.recovered(5) == pytest.approx([0.56])
    assert report.teacher_gap()[1:] == pytest.approx(np.full((2, 2), 0.02))
    nothing = RepresentationReport(P, {None: np.full((3, 2), 0.5)}, np.array([0.0]))
    assert np.isnan(nothing.relative()).all()
    report.to_csv(tmp_path / "report.csv")
    (row,) = csv.DictReader((tmp_path / "report.csv").read_text().splitlines())
    assert float(row["F_rel"]) == pytest.approx(0.2)
    assert float(row["teacher gap"]) == pytest.approx(0.02)
    lines = nothing.table().splitlines()
    assert len(lines) == 4
    assert lines[-1].split()[0] == "NaN"
    assert sum(map(int, lines[-1].split()[1:])) == 1  # F_rel alone is not defined


BODY = nn.Identity()
NOTHING = RepresentationReport(np.zeros((3, 2)), {None: np.zeros((3, 2))}, np.zeros(1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: measured([BODY] * 3, TASKS, shots=(50,)), ValueError, r"shots = 50: a class of tasks\[\d\].train has"),
        (lambda: measured([BODY] * 2, TASKS), ValueError, "bodies: expected 3, with 2 tasks, found 2"),
        (lambda: measured([BODY] * 2, TASKS[:1]), ValueError, "tasks: expected at least two"),
        (lambda: measured([BODY] * 3, TASKS, teacher=[BODY]), ValueError, "teacher: expected 2"),
        (lambda: measured([BODY] * 3, TASKS, heads=[BODY]), ValueError, "heads: expected 2"),
        (
            lambda: measured([BODY] * 3, TASKS, heads=[[BODY], [BODY] * 2]),
            ValueError,
            "64 outputs: expected 5",
        ),
        (lambda: measured([BODY] * 3, TASKS, heads=[[], [BODY]]), ValueError, "expected a module, or 1 of them"),
        (lambda: measured([BODY] * 3, TASKS, probe="svm"), ValueError, "probe = 'svm': expected one of 'linear'"),
        (lambda: measured([BODY] * 3, [*TASKS[:1], (TASKS[0].train,) * 2]), ValueError, "the same tensor"),
        (lambda: measured([BODY] * 3, [*TASKS[:1], (task([3]).train, task([3]).test)]), ValueError, "at least two cl"),
        (lambda: measured([BODY] * 3, [*TASKS[:1], (TASKS[0].train, TASKS[1].test)]), ValueError, "has class 5"),
        (lambda: measured([BODY] * 3, [*TASKS[:1], 3]), TypeError, r"tasks\[1\] is a int"),
        (NOTHING.teacher_gap, ValueError, "teacher = None"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_constant_features_have_no_drift_that_could_be_told():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 3)

    with pytest.warns(UserWarning, match="body outputs are constant"):
        report = measured([Constant()] * 3, TASKS, shots=(None,))
    assert np.isnan(report.drift).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 10))
def test_distances(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    X, Y = torch.randn(2, 20, 4, dtype=torch.float64, generator=generator)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator)).Q
    assert nmse(X, X) == 0
    assert nmse(Y.mean(0).expand_as(Y), Y).item() == pytest.approx(1.0, abs=1e-6)
    assert nmse(scale * X + 1, scale * Y + 1).item() == pytest.approx(nmse(X, Y).item(), rel=1e-4)
    assert gram_distance(X, scale * X @ turn + 1).item() == pytest.approx(0.0, abs=1e-12)
    assert gram_distance(X, Y).item() == pytest.approx(2 * (1 - linear_cka(X.numpy(), Y.numpy())))


def test_distances_of_other_shapes():
    with pytest.raises(ValueError, match=r"Y.shape = \(4, 2\): expected \(4, 3\)"):
        unwrap(nmse)(torch.ones(4, 3), torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"Y\.shape = "):
        unwrap(gram_distance)(torch.ones(4, 3), torch.ones(5, 3))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool])
def test_labels_of_any_integers_are_classes(dtype):
    x = torch.eye(2).repeat(4, 1)
    examples = x, (torch.arange(8) % 2).to(dtype)
    tasks = [ProbedTask(examples, (x.clone(), examples[1]))] * 2
    bodies = [nn.Identity() for _ in range(3)]
    assert np.nanmin(measured(bodies, tasks, heads=bodies[1:], shots=(1,), draws=1).output) == 1.0


def test_a_buffer_of_nan_is_no_change():
    body = network()
    body.register_buffer("best", torch.tensor(math.nan))
    assert extract(body, IMAGES[:3]).shape == (3, 12)  # and no error


def test_the_distance_of_gram_matrices_has_a_gradient_where_activity_is_constant():
    X = torch.ones(5, 3, requires_grad=True)
    gram_distance(X, torch.randn(5, 4, generator=torch.Generator().manual_seed(0))).backward()
    assert X.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_distances_in_half_precision_are_those_of_the_same_numbers(dtype):
    X, Y = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0)).mul(300).to(dtype)
    for distance in (nmse, gram_distance):
        assert distance(X, Y) == distance(X.float(), Y.float())
    assert nmse(X, torch.ones_like(X)).isfinite()
    assert gram_distance(X, torch.ones_like(X)).isfinite()


def test_reports_are_compared_and_hashed_as_objects():
    first, second = (RepresentationReport(np.zeros((3, 2)), {None: np.zeros((3, 2))}, np.zeros(1)) for _ in range(2))
    assert first == first  # noqa: PLR0124
    assert first != second
    assert len({first, second}) == 2


def test_a_seed_below_0_is_named():
    with pytest.raises(ValueError, match="seed = -1: expected at least 0"):
        measured([network()] * 3, TASKS, seed=-1)
