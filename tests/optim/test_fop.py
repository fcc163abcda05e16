"""First-order preconditioning: closed forms, derivatives against finite differences, and the contract of torch."""

from __future__ import annotations

import copy
import itertools
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engram.optim import FOP, apply_preconditioner, auto_groups, block_view, hypergradient
from engram.optim.fop.base import sgd_gains
from engram.optim.fop.functional import updated_preconditioner
from engram.testing import check_optimizer
from engram.testing.promises import assert_refused, stored

VARIANTS = [
    {"structure": "left", "momentum": 0.9},
    {"structure": "left", "hypergrad_norm": "none"},
    {"structure": "left", "momentum": 0.5, "nesterov": True},
    {"structure": "scalar"},
    {"structure": "scalar", "base": "adam"},
    {"structure": "left", "base": "adamw", "placement": "gradient"},
    {"structure": "left", "placement": "gradient", "momentum": 0.9},
]


def name(options):
    return " ".join(map(str, options.values())) or "default"


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def problem(*shape, seed=0):
    """A parameter and a smooth loss of it that is no quadratic function."""
    mixed, target = normal(12, torch.Size(shape).numel(), seed=seed + 1), normal(12, seed=seed + 2)
    p = normal(*shape, seed=seed).requires_grad_()
    return p, lambda p: torch.cosh((mixed @ p.flatten() - target) / 3).log().sum()


def step(optimizer, p, loss):
    optimizer.zero_grad()
    loss(p).backward()
    optimizer.step()


def trajectory(start, loss, steps, **options):
    """Points after each step, and the preconditioners that the steps were made with."""
    p = torch.tensor(start, dtype=torch.float64)[:, None].requires_grad_()
    optimizer = FOP([p], structure="left", hypergrad_norm="none", rho=0.5, lr=0.1, eig_range=None, **options)
    points, factors = [], []
    for _ in range(steps):
        step(optimizer, p, lambda p: loss(p[:, 0]))
        points.append(p[:, 0].tolist())
        factors.append(optimizer.state[p]["M"].tolist())
    return points, factors


@pytest.mark.parametrize("options", VARIANTS, ids=name)
def test_every_kind_keeps_the_contract_of_optimizers(options):
    check_optimizer(FOP, **options)


@pytest.mark.parametrize(
    ("ours", "reference", "options"),
    [
        ({}, torch.optim.SGD, {"weight_decay": 0.1}),
        ({}, torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
        ({}, torch.optim.SGD, {"momentum": 0.8, "nesterov": True, "maximize": True, "weight_decay": 0.1}),
        ({"base": "adam"}, torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
        ({"base": "adamw"}, torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
@pytest.mark.parametrize("placement", ["velocity", "gradient"])
@pytest.mark.parametrize("foreach", [True, False])
def test_without_learning_it_is_the_base(ours, reference, options, placement, foreach):
    (p, loss), (q, _) = problem(4, 3), problem(4, 3)
    optimizer = FOP([p], lr=0.01, rho=0.0, structure="left", placement=placement, foreach=foreach, **ours, **options)
    known = reference([q], lr=0.01, **options)
    for _ in range(20):
        step(optimizer, p, loss)
        step(known, q, loss)
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", VARIANTS, ids=name)
def test_the_first_step_is_the_base_s(options):
    (p, loss), (q, _) = problem(4, 3), problem(4, 3)
    step(FOP([p], rho=10.0, **options), p, loss)
    given = {key: options[key] for key in ("base", "momentum", "nesterov") if key in options}
    step(FOP([q], structure="none", **given), q, loss)
    torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "points", "factors"),
    [
        (
            {},
            [0.8, 0.521216, 0.2739409270679394, 0.12870892864964606],
            [1, 1.32, 1.5401616384, 1.6281248249005698],
        ),
        (
            {"momentum": 0.9, "placement": "gradient"},
            [0.8, 0.341216, -0.2179808825722533, -0.633280196821826],
            [1, 1.32, 1.4641296384, 1.4205696939096002],
        ),
        (
            {"momentum": 0.9},
            [0.8, 0.207584, -0.580939344905237, -0.7395002852593302],
            [1, 1.32, 1.5063273984, 0.8981140233816538],
        ),
        (
            {"base": "adam"},
            [0.9000000005, 0.761333987222274, 0.5794973413343601, 0.35959558491699894],
            [1, 1.1799999992, 1.3589341497974943, 1.5140172387976585],
        ),
    ],
)
def test_one_dimension_by_hand(options, points, factors):
    thetas, multiplied = trajectory([1.0], lambda theta: theta.square().sum(), 4, **options)
    assert [x for (x,) in thetas] == pytest.approx(points, abs=1e-12)
    assert [m for ((m,),) in multiplied] == pytest.approx(factors, abs=1e-12)


def test_two_dimensions_by_hand():
    A = torch.tensor([[3.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    points, factors = trajectory([1.0, -1.0], lambda theta: theta @ A @ theta / 2, 4)
    expected = [[0.8, -1.0], [0.569656, -0.973608], [0.41659427, -0.92121386], [0.33554247, -0.85931425]]
    torch.testing.assert_close(torch.tensor(points), torch.tensor(expected), rtol=0, atol=1e-8)
    expected = [[1.41248912, -0.05768925], [-0.06576829, 1.00879164]]
    torch.testing.assert_close(torch.tensor(factors[1]), torch.tensor([[1.28, -0.02], [-0.02, 1.0]]), rtol=0, atol=1e-7)
    torch.testing.assert_close(torch.tensor(factors[2]), torch.tensor(expected), rtol=0, atol=1e-8)
    losses = [float(theta @ A @ theta / 2) for theta in torch.tensor(points, dtype=torch.float64)]
    assert losses == pytest.approx([0.66, 0.40609657, 0.30087125, 0.24975719], abs=1e-8)


ROWS = [
    {},
    {"momentum": 0.9, "dampening": 0.3},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "dampening": 0.3, "placement": "gradient"},
    {"momentum": 0.9, "nesterov": True, "placement": "gradient"},
    {"momentum": 0.9, "weight_decay": 0.2},
    {"base": "adam"},
    {"base": "adam", "placement": "gradient", "eps": 0.1},
    {"base": "adamw", "weight_decay": 0.2},
]
KINDS = ["spatial", "left", "scalar"]


@pytest.mark.parametrize(
    ("options", "structure"),
    [*((row, "left") for row in ROWS), *(({"momentum": 0.9}, kind) for kind in KINDS)],
)
@pytest.mark.parametrize("before", [0, 3])
def test_hypergradients_are_derivatives(options, structure, before):
    p, data_loss = problem(3, 2, 2)
    decay = 0.0 if options.get("base") == "adamw" else options.get("weight_decay", 0.0)

    def loss(p):
        return data_loss(p) + decay / 2 * p.square().sum()

    optimizer = FOP([p], lr=0.1, rho=0.0, structure=structure, hypergrad_norm="none", eig_range=None, **options)
    step(optimizer, p, data_loss)
    keys = [key for key in optimizer.state[p] if key.startswith("M")]
    for key in keys:
        drawn = normal(*optimizer.state[p][key].shape, seed=5)
        optimizer.state[p][key].add_(0.2 * drawn)
    if not before:  # a first step, but with a preconditioner
        optimizer.state[p] = {key: value for key, value in optimizer.state[p].items() if key in (*keys, "structure")}
        optimizer.state[p]["step"] = torch.zeros(())
    for _ in range(before):
        step(optimizer, p, data_loss)

    def after(key, place, change):
        own, theta = copy.deepcopy((optimizer, p))
        own.state[theta][key][place] += change
        step(own, theta, data_loss)
        return loss(theta).item()

    optimizer_, theta = copy.deepcopy((optimizer, p))
    optimizer_.param_groups[0]["rho"] = 1.0
    step(optimizer_, theta, data_loss)
    used = {key: optimizer_.state[theta][key].clone() for key in keys}
    step(optimizer_, theta, data_loss)
    for key in keys:
        hypergrad = used[key] - optimizer_.state[theta][key]
        for place in itertools.product(*map(range, hypergrad.shape)):
            difference = (after(key, place, 1e-5) - after(key, place, -1e-5)) / 2e-5
            assert float(hypergrad[place]) == pytest.approx(difference, abs=1e-7)


SCHEDULES = {
    "one cycle": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, 30, cycle_momentum=True),
    "cyclic": lambda optimizer: torch.optim.lr_scheduler.CyclicLR(optimizer, 1e-3, 0.05, 5, cycle_momentum=True),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    ("ours", "reference", "options"),
    [
        ({}, torch.optim.SGD, {"momentum": 0.9}),
        ({}, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ({"base": "adam"}, torch.optim.Adam, {}),
        ({"base": "adamw"}, torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_a_scheduler_changes_what_the_base_has(schedule, ours, reference, options):
    (p, loss), (q, _) = problem(4, 3), problem(4, 3)
    optimizer, known = FOP([p], lr=0.01, structure="none", **ours, **options), reference([q], lr=0.01, **options)
    schedulers, seen = [SCHEDULES[schedule](each) for each in (optimizer, known)], set()
    for _ in range(25):
        step(optimizer, p, loss)
        step(known, q, loss)
        for scheduler in schedulers:
            scheduler.step()
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12)
        group, reference_group = optimizer.param_groups[0], known.param_groups[0]
        keys = {"lr", "momentum", "dampening", "nesterov", "betas", "eps"} & reference_group.keys()
        assert {key: group[key] for key in keys} == {key: reference_group[key] for key in keys}
        assert not group.keys() & ({"momentum", "betas"} - reference_group.keys())
        seen.add(group["betas"][0] if "betas" in group else group["momentum"])
    assert len(seen) > 5, "the scheduler changed nothing"


def test_the_gain_of_sgd_is_exact_in_double_precision():
    states, group = [{"step": 1}, {"step": 2}], {"momentum": 0.9, "dampening": 0.3, "nesterov": False}
    assert [float(gain) for gain in sgd_gains(states, group)] == [1, 0.7]
    assert [float(gain) for gain in sgd_gains(states, group | {"nesterov": True})] == [1.9, 1.9]


@given(st.integers(1, 6), st.floats(-2, 2), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_determinant_changes_as_two_vectors_say(k, c, seed):
    M, x, y = normal(k, k, seed=seed), *normal(2, k, 1, seed=seed + 1)
    new = M - hypergradient(x, y, M, lr=c)
    factor = (1 + c * (x * y).sum()) ** 2 - c**2 * x.square().sum() * y.square().sum()
    torch.testing.assert_close(torch.linalg.det(new), torch.linalg.det(M) * factor, rtol=1e-8, atol=1e-8)


def test_the_scaled_inverse_curvature_is_reached_in_a_step_and_kept():
    places = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0)).double()
    C = torch.exp(-torch.cdist(places, places).square() / 8) + 0.01 * torch.eye(9).double()
    assert float(torch.linalg.cond(C)) == pytest.approx(647.4, abs=0.1)
    target, theta = normal(9, 32), torch.zeros(9, 32, dtype=torch.float64, requires_grad=True)
    optimizer = FOP([theta], lr=0.1, structure="left", hypergrad_norm="none", eig_range=None)
    theta.grad = torch.zeros_like(theta)
    optimizer.step()
    best = torch.linalg.cholesky(torch.linalg.inv(C) / 0.1)
    optimizer.state[theta]["M"].copy_(best)
    optimizer.reset_trace()

    def loss(theta):
        return ((theta - target) * (C @ (theta - target))).sum() / 2

    for _ in range(3):
        step(optimizer, theta, loss)
        assert loss(theta).item() < 1e-20
        torch.testing.assert_close(optimizer.state[theta]["M"], best, rtol=1e-10, atol=1e-10)


def test_a_kernel_s_matrix_is_shared_by_all_channels():
    (p, loss), (q, _) = problem(1, 1, 3, 3), problem(1, 1, 3, 3)
    q = q.detach().reshape(9, 1).requires_grad_()  # the same numbers as outputs of a layer
    both = [FOP([p], structure="spatial"), FOP([q], structure="left")]
    for _ in range(10):
        step(both[0], p, loss)
        step(both[1], q, loss)
    torch.testing.assert_close(p.flatten(), q.flatten(), rtol=0, atol=1e-12)
    assert (both[0].preconditioner(p) - torch.eye(9)).abs().max() > 0.01
    order = torch.randperm(4, generator=torch.Generator().manual_seed(0))
    p, loss = problem(4, 2, 3, 3)
    q = p.detach()[order].clone().requires_grad_()
    both = [FOP([p]), FOP([q])]
    for _ in range(5):
        step(both[0], p, loss)
        step(both[1], q, lambda q: loss(q[torch.argsort(order)]))
    torch.testing.assert_close(p[order], q, rtol=0, atol=1e-12)
    torch.testing.assert_close(both[0].preconditioner(p), both[1].preconditioner(q), rtol=0, atol=1e-12)


def test_noise_alone_shrinks_a_preconditioner():
    lr, curvature, chains, steps = 0.1, 2.0, 20_000, 400
    generator = torch.Generator().manual_seed(0)
    theta, g, mean = torch.zeros(1, chains).double(), torch.zeros(1, chains).double(), 0.0
    for number in range(steps + 100):
        last, g = g, curvature * theta + torch.randn(1, chains, generator=generator, dtype=torch.float64)
        theta = theta - lr * g
        if number >= 100:
            mean += float(hypergradient(g, last, torch.ones(()).double(), lr=-0.5)) / (chains * steps)
    assert mean == pytest.approx(-lr * curvature / (2 - lr * curvature), rel=0.01)


def test_a_hypergradient_has_the_learning_rate_of_its_own_step():
    p, loss = problem(3, 2)
    optimizer = FOP([p], lr=0.1, rho=0.5, structure="left", hypergrad_norm="none", eig_range=None)
    for number in range(4):
        if number == 3:
            optimizer.param_groups[0]["lr"] = 0.01
            z, M = optimizer.state[p]["z_prev"].clone(), optimizer.state[p]["M"].clone()
        step(optimizer, p, loss)
    expected = M + 0.5 * 0.1 * (p.grad @ z.T + z @ p.grad.T) @ M
    torch.testing.assert_close(optimizer.state[p]["M"], expected, rtol=0, atol=1e-14)
    optimizer.param_groups[0]["lr"] = 0.0
    step(optimizer, p, loss)
    M = optimizer.state[p]["M"].clone()
    step(optimizer, p, loss)
    assert torch.equal(optimizer.state[p]["M"], M), "a step of length 0 was judged"


@pytest.mark.parametrize("options", VARIANTS, ids=name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_run_goes_on_bit_for_bit(options, dtype):
    p, mixed = normal(4, 3).to(dtype).requires_grad_(), normal(5, 12).to(dtype)

    def loss(p):
        return (mixed @ p.flatten()).square().sum()

    optimizer = FOP([p], lr=0.003, rho=0.1, **options)
    for _ in range(13):
        step(optimizer, p, loss)
    pickled, deep = pickle.loads(pickle.dumps((optimizer, p))), copy.deepcopy((optimizer, p))
    q = p.detach().clone().requires_grad_()
    loaded = FOP([q], base=options.get("base", "sgd"))
    loaded.load_state_dict(stored(optimizer.state_dict()))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert all(value.dtype == wide for key, value in loaded.state[q].items() if key.startswith("M"))
    for _ in range(11):
        for opt, theta in ((optimizer, p), pickled, deep, (loaded, q)):
            step(opt, theta, loss)
    for _, theta in (pickled, deep, (loaded, q)):
        assert torch.equal(theta, p)
    assert p.isfinite().all()


def test_the_scale_of_the_loss_does_not_matter():
    (p, loss), (q, _) = problem(4, 3), problem(4, 3)
    both = [FOP([p], lr=0.1, structure="left", rho=0.1), FOP([q], lr=1e-4, structure="left", rho=0.1)]
    for _ in range(15):
        step(both[0], p, loss)
        step(both[1], q, lambda q: 1000 * loss(q))
    torch.testing.assert_close(both[0].preconditioner(p), both[1].preconditioner(q), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("structure", KINDS)
def test_eigenvalues_stay_within_bounds(structure):
    p, loss = problem(4, 3, 2)
    optimizer = FOP([p], lr=1e-4, rho=0.4, structure=structure, eig_range=(0.9, 1.1))
    for number in range(1, 41):
        step(optimizer, p, loss)
        if number % 10:
            continue
        P = optimizer.preconditioner(p)
        values = torch.linalg.eigvalsh(P) if structure != "scalar" else P
        assert values.min() >= 0.9 - 1e-9
        assert values.max() <= 1.1 + 1e-9
        assert (values - 1).abs().max() > 0.01


def test_what_does_not_go_well_harms_nothing():
    p, loss = problem(4, 3)
    optimizer = FOP([p], structure="left", lr=0.1)
    step(optimizer, p, loss)
    M, before = optimizer.state[p]["M"].clone(), p.detach().clone()
    p.grad = torch.zeros_like(p)
    p.grad[0, 0] = torch.inf
    optimizer.step()
    assert torch.equal(optimizer.state[p]["M"], M)
    assert torch.equal(p[1:], before[1:])
    with torch.no_grad():
        p.copy_(before)
    for gradient in (1e-20, 1e-20, 0.0, 1e-20):  # a layer that is nearly dead, and dead
        p.grad = torch.full_like(p, gradient)
        optimizer.step()
        assert optimizer.state[p]["M"].isfinite().all()
    empty = torch.zeros(0, 3, requires_grad=True)
    empty.grad = torch.zeros_like(empty)
    FOP([empty], structure="left").step()


def test_changes_from_outside_do_not_update_the_preconditioner():
    p, loss = problem(4, 3)
    optimizer = FOP([p], structure="left")
    for _ in range(3):
        step(optimizer, p, loss)
    M = optimizer.preconditioner(p)
    with torch.no_grad():
        p.mul_(2)
    optimizer.reset_trace()
    step(optimizer, p, loss)
    assert torch.equal(optimizer.preconditioner(p), M)
    optimizer.param_groups[0]["rho"] = 0  # frozen
    for _ in range(10):
        step(optimizer, p, loss)
        assert torch.equal(optimizer.preconditioner(p), M)
    optimizer.param_groups[0]["rho"] = 0.03
    step(optimizer, p, loss)
    assert torch.equal(optimizer.preconditioner(p), M), "it was judged by a step from before it was frozen"
    step(optimizer, p, loss)
    assert not torch.equal(optimizer.preconditioner(p), M)


@pytest.mark.parametrize("structure", KINDS)
def test_a_preconditioner_is_what_multiplies(structure):
    p, loss = problem(3, 2, 2)
    optimizer = FOP([p], structure=structure, rho=0.2, lr=0.01)
    for _ in range(5):
        step(optimizer, p, loss)
    P, before = optimizer.preconditioner(p), p.detach().clone()
    optimizer.param_groups[0]["rho"] = 0
    step(optimizer, p, loss)
    z, inverse = block_view(p.grad, structure)
    moved = P * z if structure == "scalar" else P @ z
    torch.testing.assert_close(before - p, 0.01 * inverse(moved), rtol=1e-10, atol=1e-12)


def test_an_inner_loop_can_be_differentiated_through():
    theta, M = normal(3, 2), normal(3, 3, seed=1).mul(0.3).requires_grad_()

    def outer(M):
        point = theta
        for _ in range(2):
            g = torch.func.grad(lambda point: point.pow(4).sum())(point)
            point = point - 0.1 * apply_preconditioner(M, g)
            M = M - 0.1 * hypergradient(torch.func.grad(lambda point: point.pow(4).sum())(point), g, M, 0.1)
        return point.pow(4).sum()

    assert torch.autograd.gradcheck(outer, (M,))


def test_groups_by_the_types_of_layers():
    shared = nn.Linear(8, 8)
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Conv1d(4, 4, 1), nn.ConvTranspose2d(1, 2, 3), shared, shared
    )
    groups = {group["structure"]: group["params"] for group in auto_groups(net, linear="left")}
    assert list(groups) == ["spatial", "left", "none"]
    assert [tuple(p.shape) for p in groups["spatial"]] == [(4, 2, 3), (1, 2, 3, 3)]
    assert [tuple(p.shape) for p in groups["left"]] == [(8, 8)]
    assert sum(map(len, groups.values())) == len(list(net.parameters()))
    FOP(auto_groups(net))
    for structure in ("left", "scalar"):
        assert auto_groups(shared, structure)[0]["structure"] == structure


def test_who_gets_no_preconditioner_is_told():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    with pytest.warns(UserWarning, match="no kernels of convolutions: all of it is left alone; linear = 'left'"):
        groups = auto_groups(net)
    for params, options, warned in [
        (net.parameters(), {}, True),
        (net.parameters(), {"rho": 0.0}, False),
        (net.parameters(), {"structure": "left"}, False),
        (groups, {}, False),  # who made the groups was told
        ([*net.parameters(), torch.ones(2, 2, 3, 3, requires_grad=True)], {}, False),
    ]:
        optimizer = FOP(params, lr=0.0, **options)
        net(torch.ones(2, 3)).sum().backward()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            optimizer.step()
            optimizer.step()
        assert ["'auto' finds no kernel" in str(warning.message) for warning in said] == [True] * warned, options


@pytest.mark.parametrize(("places", "taken"), [(1, False), (2, True), (64, True), (65, False)])
def test_kernels_have_2_to_64_positions(places, taken):
    p = torch.ones(2, 2, places, requires_grad=True)
    if taken:
        assert FOP([p]).preconditioner(p).shape == (places, places)
    else:
        with pytest.raises(ValueError, match="has no preconditioner"):
            FOP([p]).preconditioner(p)


def test_bad_input_is_refused():
    p, image = torch.ones(4, 3), torch.ones(2, 2, 3, 3)
    wrong = [
        ({"lr": torch.tensor(-1.0)}, "lr = -1.0"), ({"eig_range": (2.0, 3.0)}, "eig_range = 2.0"),
        ({"structure": "spatial"}, r"structure = 'spatial': .*\(4, 3\)"),
        ({"momentum": 0.9, "base": "adam"}, "momentum = 0.9 with base = 'adam'"), ({"nesterov": True}, "nesterov"),
        ({"betas": (0.5, 0.9)}, r"betas = \(0.5, 0.9\) with base = 'sgd'"),
        ({"eps": 0.1}, "eps = 0.1 with base = 'sgd'"),
        ({"dampening": 0.1, "base": "adamw"}, "dampening = 0.1 with base = 'adamw'"),
    ]  # fmt: skip
    calls = [
        (lambda options=options: FOP([p.requires_grad_()], **options), ValueError, said) for options, said in wrong
    ]
    assert_refused(calls)
    optimizer = FOP([p.requires_grad_()], structure="left")
    sparse = torch.ones(4, 3, requires_grad=True)
    with torch.sparse.check_sparse_tensor_invariants():
        sparse.grad = torch.ones(4, 3).to_sparse()
    assert_refused(
        [
            (
                lambda: optimizer.add_param_group({"params": [image], "base": "adam"}),
                ValueError,
                "base = 'adam'.*sgd",
            ),
            (
                lambda: optimizer.load_state_dict(FOP([p], base="adam", structure="left").state_dict()),
                ValueError,
                r"param_groups'\]\[0\]\['base'\] = 'adam'.*'sgd'",
            ),
            (lambda: FOP([torch.ones(2, dtype=torch.complex64).requires_grad_()]), RuntimeError, "complex"),
            (FOP([sparse], structure="none").step, RuntimeError, "sparse"),
            (lambda: optimizer.add_param_group({"params": [image], "rho": -1}), ValueError, "rho = -1"),
            (lambda: optimizer.preconditioner(image), ValueError, "not a parameter"),
            (lambda: FOP([image.requires_grad_()], structure="none").preconditioner(image), ValueError, "structure"),
            (lambda: auto_groups(nn.ReLU()), ValueError, "without parameters"),
            (lambda: block_view(p, "spatial"), ValueError, "spatial"),
        ]
    )
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [image.requires_grad_()], "structure": "scalar", "rho": 0.1})
    assert float(optimizer.preconditioner(image)) == 1


@pytest.mark.filterwarnings("default")
def test_a_sharded_parameter_is_refused_where_the_whole_is_needed():
    from torch import distributed
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        sharded = distribute_tensor(torch.ones(4, 3), init_device_mesh("cpu", (1,)), [Shard(0)]).requires_grad_()
        assert_refused([(lambda: FOP([sharded], structure="left"), RuntimeError, r"\(4, 3\) is sharded")])
        FOP([sharded])
    finally:
        distributed.destroy_process_group()


def test_weights_that_are_computed_from_others_are_told_to_be_left_alone():
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 3, 3)), nn.Conv2d(3, 2, 3))
    with pytest.warns(UserWarning, match="weights of ParametrizedConv2d are computed from others, as by weight_norm"):
        groups = auto_groups(net)
    assert [(group["structure"], len(group["params"])) for group in groups] == [("spatial", 1), ("none", 4)]


@pytest.mark.parametrize("base", ["adam", "adamw"])
def test_an_input_that_is_always_silent_does_not_stop_the_learning_of_what_multiplies_gradients(base):
    (p, loss), silent = problem(3, 4), torch.tensor([0.0, 1.0, 1.0, 1.0])
    p = p.detach().float().requires_grad_()
    optimizer = FOP([p], structure="left", base=base, placement="gradient")
    for _ in range(3):
        step(optimizer, p, lambda p: loss((p * silent).double()))
    assert optimizer.state[p]["gain_prev"].isfinite().all()
    assert not torch.equal(optimizer.preconditioner(p), torch.eye(3))


@pytest.mark.parametrize("scale", [1e-24, 1e-28])
def test_gradients_whose_squares_vanish_count_as_much_as_others(scale):
    g, z = normal(2, 3, 4).float()
    expected = updated_preconditioner(torch.eye(3), g, z, 0.1, 0.03)
    actual = updated_preconditioner(torch.eye(3), scale * g, scale * z, 0.1, 0.03)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
