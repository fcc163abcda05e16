"""Penalties: closed forms, what they hold when the network changes, and how they join a training loop."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from inspect import unwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from engram.continual import (
    EWC,
    MAS,
    L2Anchor,
    LwF,
    OnlineEWC,
    QuadraticPenalty,
    SynapticIntelligence,
    TaskData,
    fisher_diagonal,
    gradient_magnitude,
)
from engram.continual.task import task_batches

KINDS = {
    "ewc": lambda net, **options: EWC(net, 3.0, **options),
    "online": lambda net, **options: OnlineEWC(net, 3.0, gamma=0.5, **options),
    "mas": lambda net, **options: MAS(net, 0.1, **options),
    "si": lambda net, **options: SynapticIntelligence(net, 0.5, **options),
    "l2": lambda net, **options: L2Anchor(net, 0.2, **options),
}


def scalar(value=0.0):
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(net.weight, value)
    return net


def samples(seed=0, count=24):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (count,), generator=generator)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def train(net, optimizer, data, steps=4, loss=functional.cross_entropy):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(net(data[0]), data[1]).backward()
        optimizer.step()


def weight(value):
    return {"weight": torch.full((1, 1), value, dtype=torch.float64)}


class Fixed(EWC):
    """EWC with a Fisher information that is given."""

    def consolidate(self, value):
        self._merge(torch.full((1,), value, dtype=torch.float64), self._current())


def test_merged_penalty_in_numbers():  # O9
    net = scalar()
    ewc = Fixed(net)
    ewc.consolidate(1.0)
    net.weight.data.fill_(2.0)
    ewc.consolidate(3.0)
    assert (ewc.importance["weight"].item(), ewc.anchor["weight"].item()) == (4.0, 1.5)
    assert ewc.state_dict()["constant"].item() == 3.0
    net.weight.data.fill_(1.0)
    assert ewc.penalty().item() == 4.0


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-3, 3)), min_size=1, max_size=6), st.floats(-3, 3))
def test_merged_penalty_is_the_sum_of_all(tasks, at):
    net = scalar()
    merged, each = Fixed(net, 0.7), []
    for importance, place in tasks:
        net.weight.data.fill_(place)
        merged.consolidate(importance)
        each.append(QuadraticPenalty(net, 0.7))
        each[-1].consolidate(weight(importance))
    net.weight.data.fill_(at)
    naive = sum(penalty.penalty() for penalty in each)
    assert merged.penalty().item() == pytest.approx(naive.item(), rel=1e-9, abs=1e-9)
    gradients = [torch.autograd.grad(value, net.weight)[0].item() for value in (merged.penalty(), naive)]
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-9, abs=1e-9)


def test_online_fisher_decays():  # O10
    class Online(OnlineEWC):
        def consolidate(self, value):
            self._merge(torch.full((1,), value, dtype=torch.float64), self._current())

    ewc = Online(scalar(), gamma=0.5)
    importances = []
    for _ in range(3):
        ewc.consolidate(1.0)
        importances.append(ewc.importance["weight"].item())
    assert importances == [1.0, 1.5, 1.75]
    assert OnlineEWC(scalar()).gamma == 1


def test_normalised_tasks_count_alike():
    net, data = network(), samples()
    ewc = OnlineEWC(net, normalise=True)
    ewc.end_task(TaskData(data))
    assert torch.cat([p.flatten() for p in ewc.importance.values()]).mean().item() == pytest.approx(1.0)
    with pytest.warns(UserWarning, match="every importance is 0"):
        OnlineEWC(nn.Linear(1, 2, bias=False), normalise=True).end_task(TaskData((torch.zeros(3, 1), torch.arange(3))))


def test_ewc_solves_two_quadratic_tasks():
    """The minimiser of L_B + penalty is (H_B + 2 s F)^-1 (H_B b + 2 s F a)."""
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    hessian, f = torch.rand(3, generator=generator).double() + 0.5, torch.rand(3, generator=generator).double()
    net = nn.Linear(3, 1, bias=False).double()
    net.weight.data = a[None].clone()
    penalty = QuadraticPenalty(net, 0.5)
    penalty.consolidate({"weight": f[None]})
    optimizer = torch.optim.LBFGS(net.parameters(), tolerance_grad=1e-14, tolerance_change=1e-16, max_iter=100)

    def closure():
        optimizer.zero_grad()
        loss = (hessian * (net.weight[0] - b) ** 2).sum() / 2 + penalty.penalty()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(net.weight.data[0], (hessian * b + f * a) / (hessian + f), rtol=1e-8, atol=1e-8)


def test_an_optimiser_that_makes_gradients_itself_is_refused():
    net = nn.Linear(2, 1)
    optimizer, penalty = torch.optim.SGD(net.parameters(), lr=0.1), QuadraticPenalty(net, applied="gradient")
    penalty.attach(optimizer)
    penalty.consolidate({})
    for arguments, named in (((lambda: 0.0,), {}), ((), {"closure": lambda: 0.0})):
        with pytest.raises(ValueError, match="closure is given"):
            optimizer.step(*arguments, **named)


def quadratic(net, optimizer, curvature, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        (curvature * net.weight.square() / 2).sum().backward()
        optimizer.step()


def test_path_integral_is_the_fall_of_the_loss():  # O11
    net = scalar(1.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    si = SynapticIntelligence(net, xi=0.1)
    si.attach(optimizer)
    quadratic(net, optimizer, 2.0, 1)
    assert si.state_dict()["path.weight"].item() == pytest.approx(0.4)
    net = scalar(1.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    si = SynapticIntelligence(net, xi=0.1)
    si.attach(optimizer)
    quadratic(net, optimizer, 2.0, 6000)
    assert si.state_dict()["path.weight"].item() == pytest.approx(1.0, abs=2e-3)
    si.end_task(TaskData(()))
    assert si.importance["weight"].item() == pytest.approx(1 / 1.1, abs=2e-3)
    assert si.state_dict()["path.weight"].item() == 0


def test_a_weight_without_a_gradient_has_no_path():
    net = nn.ModuleDict({"used": scalar(1.0), "unused": scalar(1.0)})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    si = SynapticIntelligence(net, xi=0.1)
    si.attach(optimizer)
    quadratic(net["used"], optimizer, 2.0, 1)
    path = {name: value.item() for name, value in si.state_dict().items() if name.startswith("path.")}
    assert path == {"path.used.weight": pytest.approx(0.4), "path.unused.weight": 0}


def test_importance_of_a_separable_quadratic_is_half_its_curvature():
    curvature = torch.tensor([[1.0, 4.0]], dtype=torch.float64)
    net = nn.Linear(2, 1, bias=False).double()
    nn.init.ones_(net.weight)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    si = SynapticIntelligence(net, xi=1e-12)
    si.attach(optimizer)
    quadratic(net, optimizer, curvature, 8000)
    si.end_task(TaskData(()))
    torch.testing.assert_close(si.importance["weight"], curvature / 2, rtol=3e-3, atol=0)


@pytest.mark.parametrize("applied", ["proximal", "gradient"])
def test_path_integral_takes_the_gradient_of_the_task_alone(applied):  # O12
    net = scalar(1.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    si = SynapticIntelligence(net, 2.0, xi=0.1, applied=applied)
    si.attach(optimizer)
    quadratic(net, optimizer, 2.0, 1)
    si.end_task(TaskData(()))
    net.weight.data.fill_(2.0)
    before = net.weight.item()
    quadratic(net, optimizer, 2.0, 1)
    moved = net.weight.item() - before
    assert abs(moved + 0.1 * 2.0 * before) > 1e-3  # the penalty did act
    assert si.state_dict()["path.weight"].item() == pytest.approx(-2.0 * before * moved)


def test_importance_of_si_is_never_below_zero():
    net = scalar(1.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer.param_groups[0]["lr"] = -0.1  # uphill
    si = SynapticIntelligence(net)
    si.attach(optimizer)
    quadratic(net, optimizer, 2.0, 3)
    si.end_task(TaskData(()))
    assert si.importance["weight"].item() == 0


def test_a_task_that_undoes_lowers_the_importance_of_si():
    """What the second task adds is below 0: the bound is on the sum, not on what is added."""
    net = scalar(1.0)
    si = SynapticIntelligence(net, 0.0)
    expected = 0.0
    for curvature, lr in ((2.0, 0.1), (1.0, -0.1)):  # downhill, and uphill
        before = net.weight.item()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        optimizer.param_groups[0]["lr"] = lr
        si.attach(optimizer)
        quadratic(net, optimizer, curvature, 1)
        si.end_task(TaskData(()))
        change = net.weight.item() - before
        expected += -curvature * before * change / (change**2 + 0.1)
        assert si.importance["weight"].item() == pytest.approx(expected)
    assert 0 < expected < 0.4 / 0.14


def test_mas_adds_up_over_tasks():
    net, data = network(), samples()
    mas = MAS(net)
    mas.end_task(TaskData(data))
    once = {name: p.clone() for name, p in mas.importance.items()}
    mas.end_task(TaskData([data]))
    torch.testing.assert_close(mas.importance, {name: 2 * p for name, p in once.items()})


@pytest.mark.parametrize("kind", [EWC, OnlineEWC, MAS, SynapticIntelligence, L2Anchor])
def test_all_penalties_have_the_options_of_one(kind):
    generator = torch.Generator()
    penalty = kind(network(), 0.7, applied="gradient", select="weight", generator=generator)
    assert (penalty.strength, penalty.applied, penalty.generator) == (0.7, "gradient", generator)
    assert list(penalty.importance) == ["0.weight", "2.weight"]
    usual = kind(network())
    assert (usual.strength, usual.applied, len(usual.importance)) == (1.0, "proximal", 4)


@pytest.mark.parametrize("kind", [EWC, OnlineEWC, MAS])
def test_importance_is_that_of_the_task_given(kind):
    """Of its classes and its first samples, as the plain functions measure it."""
    net, (x, y) = network(), samples()
    data, options = (x, y % 2), {"n_samples": 10} | ({} if kind is MAS else {"fisher": "true"})
    penalty = kind(net, **options)
    penalty.end_task(TaskData(data, (0, 1)))
    measure = gradient_magnitude if kind is MAS else fisher_diagonal
    torch.testing.assert_close(penalty.importance, measure(net, [data], classes=(0, 1), **options))
    assert kind(net, n_samples=None).n_samples is None
    assert kind(net).n_samples == 1024


def test_mas_counts_all_outputs_if_asked():
    net, data = network(), samples()
    mas = MAS(net, all_outputs=True, output="softmax", norm="l1", batched=True)
    mas.end_task(TaskData(data, (0, 1)))
    expected = gradient_magnitude(net, [data], output="softmax", norm="l1", batched=True)
    torch.testing.assert_close(mas.importance, expected)


def test_a_drawn_fisher_information_comes_from_the_generator():
    net, data = network(), samples()
    ewc = EWC(net, fisher="sample", generator=torch.Generator().manual_seed(4))
    ewc.end_task(TaskData(data))
    expected = fisher_diagonal(net, [data], fisher="sample", generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(ewc.importance, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_penalty(kind):  # O14
    net, data = network(), samples()
    penalty = KINDS[kind](net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    penalty.attach(optimizer)
    train(net, optimizer, data)
    assert penalty.penalty().item() == 0
    penalty.end_task(TaskData(data))
    assert penalty.penalty().item() == pytest.approx(0)
    train(net, optimizer, samples(1))
    penalty.detach()
    optimizer.zero_grad()
    penalty.penalty().backward()
    expected = [p.grad.clone() for p in net.parameters()]
    assert all(g.any() for g in expected)
    optimizer.zero_grad()
    penalty.add_grad_()
    torch.testing.assert_close([p.grad for p in net.parameters()], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("applied", ["proximal", "gradient"])
def test_training_goes_on_from_a_stored_state(kind, applied):  # O14
    net, data = network(), samples()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    penalty = KINDS[kind](net, applied=applied)
    penalty.attach(optimizer)
    train(net, optimizer, data)
    penalty.end_task(TaskData(data))
    train(net, optimizer, samples(1))  # in the middle of a task
    twin = copy.deepcopy(net)
    resumed = KINDS[kind](twin, applied=applied)
    resumed.load_state_dict(penalty.state_dict())
    other = torch.optim.SGD(twin.parameters(), lr=0.05)
    resumed.attach(other)
    for model, steps in ((net, optimizer), (twin, other)):
        train(model, steps, samples(1))
    penalty.end_task(TaskData(samples(1)))
    resumed.end_task(TaskData(samples(1)))
    torch.testing.assert_close(resumed.state_dict(), penalty.state_dict(), rtol=0, atol=0)
    assert all(map(torch.equal, net.parameters(), twin.parameters()))


def test_the_gradient_of_a_penalty_passes_the_hooks_of_parameters():
    net = nn.Linear(3, 2, bias=False)
    penalty = QuadraticPenalty(net, strength=2.0, applied="gradient")
    penalty.consolidate({"weight": torch.ones(2, 3)})
    with torch.no_grad():
        net.weight += 0.25
    net.weight.register_hook(lambda grad: grad * torch.tensor([[0.0], [1.0]]))
    penalty.add_grad_()
    assert net.weight.grad.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_proximal_step_is_stable():  # O15
    net = scalar(0.0)
    penalty = QuadraticPenalty(net, 1e6)
    penalty.consolidate(weight(1.0))
    net.weight.data.fill_(1.0)
    penalty.prox_(0.1)
    assert net.weight.item() == pytest.approx(1 / (1 + 2e5))
    penalty.importance["weight"].zero_()
    net.weight.data.fill_(1.0)
    penalty.prox_(0.1)
    assert net.weight.item() == 1
    penalty.consolidate(weight(1.0))
    net.weight.data.fill_(2.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    penalty.applied = "gradient"
    penalty.attach(optimizer)
    with pytest.warns(UserWarning, match="proximal"):
        quadratic(net, optimizer, 2.0, 1)


def test_a_gradient_that_may_be_unstable_is_warned_of_once_a_task():
    net = scalar()
    penalty, optimizer = QuadraticPenalty(net, 0.5, applied="gradient"), torch.optim.SGD(net.parameters(), lr=2.0)
    penalty.attach(optimizer)
    for rate in (2.0, 2.01, 2.01):
        optimizer.param_groups[0]["lr"] = rate  # which is lr 2 strength Omega
        penalty.consolidate(weight(1.0))
        if rate > 2:
            with pytest.warns(UserWarning, match="may be unstable"):
                quadratic(net, optimizer, 1.0, 1)
        quadratic(net, optimizer, 1.0, 2)


@given(st.floats(0, 1e8), st.floats(0, 10), st.floats(-5, 5), st.floats(-5, 5))
def test_proximal_step_minimises_what_it_says(importance, lr, anchor, place):
    """It minimises lr strength Omega (theta - theta*)^2 + (theta - place)^2 / 2."""
    net = scalar(anchor)
    penalty = QuadraticPenalty(net, 0.3)
    penalty.consolidate(weight(importance))
    net.weight.data.fill_(place)
    penalty.prox_(lr)
    k = 2 * lr * 0.3 * importance
    assert net.weight.item() == pytest.approx((place + k * anchor) / (1 + k), rel=1e-9, abs=1e-9)


def test_each_group_has_its_learning_rate():
    net = network()
    anchor = L2Anchor(net, 1.0)
    anchor.end_task(TaskData(()))
    start = copy.deepcopy(net)
    groups = [{"params": net[0].parameters(), "lr": 0.5}, {"params": net[2].parameters(), "lr": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    anchor.attach(optimizer)
    for p in net.parameters():
        p.data += 1.0
        p.grad = torch.zeros_like(p)
    optimizer.step()
    gaps = [(p - q).mean().item() for p, q in zip(net.parameters(), start.parameters(), strict=True)]
    assert gaps == pytest.approx([0.5, 0.5, 1.0, 1.0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_penalty_holds_alike(kind):
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    penalty = KINDS[kind](net)
    penalty.attach(optimizer)
    train(net, optimizer, samples())
    twin = pickle.loads(pickle.dumps(penalty))
    twin.end_task(TaskData(samples()))
    for p in twin.model.parameters():
        p.data += 1
    twin.add_grad_()
    expected = torch.autograd.grad(twin.penalty(), list(twin.model.parameters()))
    torch.testing.assert_close([p.grad for p in twin.model.parameters()], list(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_any_optimiser_will_do(kind):
    for make in (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop):
        net = network()
        optimizer = make(net.parameters(), lr=0.01)
        penalty = KINDS[kind](net)
        penalty.attach(optimizer)
        train(net, optimizer, samples())
        penalty.end_task(TaskData(samples()))
        anchor = {name: p.clone() for name, p in penalty.anchor.items()}
        penalty.strength = 1e9
        train(net, optimizer, samples(1))
        for name, p in net.named_parameters():
            important = penalty.importance[name] > 1e-3
            assert (p - anchor[name])[important].abs().max() < 1e-3


def test_growing_and_shrinking_networks_are_matched_by_name():
    net = network()
    penalty = QuadraticPenalty(net)
    penalty.consolidate({name: torch.ones_like(p) for name, p in net.named_parameters()})
    old = net[2]
    net[2] = nn.Linear(6, 5).double()
    assert penalty.importance["2.weight"][:3].eq(1).all()
    assert not penalty.importance["2.weight"][3:].any()
    torch.testing.assert_close(penalty.anchor["2.weight"][:3], old.weight.data)
    net.append(nn.Linear(5, 2).double())
    assert not penalty.importance["3.weight"].any()
    del net[3], net[2]
    with pytest.warns(UserWarning, match=r"2\.weight, 2\.bias"):
        penalty.penalty()
    assert list(penalty.importance) == ["0.weight", "0.bias"]


def test_a_network_that_changes_its_precision_is_held_as_before():
    net = scalar(1.0)
    penalty = QuadraticPenalty(net, 0.5)
    penalty.consolidate(weight(3.0))
    net.float().weight.data.fill_(2.0)
    penalty.prox_(1.0)
    assert net.weight.item() == pytest.approx((2 + 3) / 4)
    assert penalty.importance["weight"].dtype == torch.float32


def test_what_is_frozen_keeps_its_importance():
    net, data = network(), samples()
    ewc = EWC(net)
    ewc.end_task(TaskData(data))
    before = ewc.importance["0.weight"].clone()
    net[0].requires_grad_(False)
    ewc.end_task(TaskData(data))
    assert torch.equal(ewc.importance["0.weight"], before)


def test_a_shared_parameter_counts_once():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert list(L2Anchor(net).importance) == ["0.weight", "0.bias", "1.bias"]


def test_an_unused_head_has_no_importance():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.first(self.body(x))

    fisher = fisher_diagonal(Heads(), [samples()[0].float()])
    assert not fisher["second.weight"].any()
    assert fisher["first.weight"].any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda net: EWC(net, -1.0), ValueError, "strength = -1"),
        (lambda net: OnlineEWC(net, gamma=1.5), ValueError, "gamma = 1.5"),
        (lambda net: EWC(net, fisher="none"), ValueError, "fisher = 'none'"),
        (lambda net: MAS(net, norm="none"), ValueError, "norm = 'none'"),
        (lambda net: MAS(net, output="none"), ValueError, "output = 'none'"),
        (lambda net: MAS(net, n_samples=0), ValueError, "n_samples = 0"),
        (lambda net: EWC(net, n_samples=0), ValueError, "n_samples = 0"),
        (lambda net: L2Anchor(net, applied="none"), ValueError, "applied = 'none'"),
        (lambda net: SynapticIntelligence(net, applied="loss"), ValueError, "^applied = 'loss': expected 'proximal'"),
        (lambda net: SynapticIntelligence(net, xi=0.0), ValueError, "^xi = 0"),
        (lambda net: EWC(net).end_task(TaskData([])), ValueError, "task.train holds no sample: expected at least one"),
        (
            lambda net: SynapticIntelligence(net).end_task(TaskData(())),
            ValueError,
            "^end_task: expected a step",
        ),
        (lambda net: QuadraticPenalty(net).consolidate({"head": torch.ones(1)}), ValueError, "'head'"),
        (lambda net: QuadraticPenalty(net).consolidate({"0.bias": torch.ones(6)}), ValueError, "float32"),
        (lambda net: QuadraticPenalty(net).consolidate({"0.bias": -torch.ones(6).double()}), ValueError, "at least 0"),
        (lambda net: QuadraticPenalty(net).consolidate({"0.bias": torch.ones(5).double()}), ValueError, "shape"),
        (lambda net: QuadraticPenalty(net).load_state_dict({}), ValueError, "missing"),
        (lambda net: QuadraticPenalty(net).attach(torch.optim.SGD(scalar().parameters(), lr=1)), ValueError, "none of"),
        (lambda net: QuadraticPenalty(nn.ReLU()), ValueError, "none"),
        (lambda net: EWC(nn.Linear(2, 2, dtype=torch.cfloat)), ValueError, "'weight' is complex"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(network())


def test_importance_that_is_not_finite_is_named():
    net = network()
    with pytest.raises(FloatingPointError, match=r"'2\.bias'"):
        QuadraticPenalty(net).consolidate({"2.bias": torch.full((3,), float("inf"), dtype=torch.float64)})


def test_the_data_alone_are_no_task_and_no_importances():
    net, data = nn.Linear(2, 2), (torch.eye(2), torch.tensor([0, 1]))
    for call in (unwrap(task_batches), partial(unwrap(LwF.end_task), LwF(net))):
        with pytest.raises(TypeError, match="task is a tuple: expected an instance of Task"):
            call(data)
    with pytest.raises(TypeError, match=r"importance = \(tensor.*: expected .*Mapping"):
        unwrap(EWC.consolidate)(EWC(net), data)


def test_a_parameter_unfrozen_later_is_penalised_too():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    net[0].requires_grad_(False)
    method = EWC(net)
    net[0].requires_grad_(True)
    method.attach(torch.optim.SGD(net.parameters(), lr=0.1))
    method.end_task(TaskData((torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2)))
    assert method.importance.keys() == dict(net.named_parameters()).keys()
    assert method.importance["0.weight"].any()


def test_parameters_that_are_frozen_later_keep_their_importance():
    for select in (["0.weight", "2.weight"], "^0", None):
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        method = EWC(net, select=select)
        task = TaskData((torch.randn(8, 3), torch.arange(8) % 2))
        method.end_task(task)
        before = method.state_dict()
        net[0].weight.requires_grad_(False)
        assert method.state_dict().keys() == before.keys()
        assert method.penalty() == 0
        if select != "^0":
            method.end_task(task)
        net.requires_grad_(False)
        assert method.state_dict().keys() == before.keys()


@pytest.mark.parametrize("kind", [EWC, MAS])
def test_importance_is_measured_within_an_evaluation(kind):
    task = TaskData((samples()[0], torch.arange(24) % 2))
    net = nn.Sequential(nn.Linear(5, 2)).double()
    inside, outside = kind(net), kind(net)
    with torch.no_grad():
        inside.end_task(task)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode is on: expected it off"):
        outside.end_task(task)
    outside.end_task(task)
    for name, value in outside.state_dict().items():
        torch.testing.assert_close(inside.state_dict()[name], value)
