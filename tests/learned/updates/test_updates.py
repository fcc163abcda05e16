import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from engram.continual import TaskData, fisher_diagonal
from engram.learned.updates import (
    AdamRule,
    GatedCoordinateRule,
    LearnedOptimizer,
    LearnedUpdate,
    MimicryEpisode,
    TaskMemory,
    TeacherMimicTrainer,
    train_teacher,
)
from engram.meta import FastWeights
from engram.storage import checkpoint
from engram.testing import check_optimizer

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES, LABELS = torch.from_numpy(IMAGES).float() / 16, torch.from_numpy(LABELS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def untrained(**options):
    rule = GatedCoordinateRule(generator=seeded(), **options)
    nn.init.zeros_(rule.network[-1].weight)
    return rule


def trained(seed=5, **options):
    """Return a rule whose answers differ from Adam's, as those of a trained one."""
    rule = GatedCoordinateRule(generator=seeded(), **options)
    nn.init.normal_(rule.network[-1].weight, std=0.5, generator=seeded(seed))
    return rule


def body(seed=0, units=12):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, units), nn.ReLU())


def digits(classes):
    rows = torch.isin(LABELS, torch.tensor(classes)).nonzero()[:, 0]
    return IMAGES[rows], torch.tensor([classes.index(label) for label in LABELS[rows].tolist()])


@pytest.mark.parametrize("make", [untrained, AdamRule])
@pytest.mark.parametrize("double", [False, True])
def test_an_untrained_rule_is_adam(make, double):
    x, y = digits([0, 1, 2])
    nets = [nn.Sequential(body(), nn.Linear(12, 3)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    if double:
        x, nets = x.double(), [net.double() for net in nets]
    ours = LearnedOptimizer(nets[0].parameters(), lr=1e-3, rule=make())
    theirs = torch.optim.Adam(nets[1].parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-8)
    for step in range(20):
        for net, optimizer in zip(nets, (ours, theirs), strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(net(x[step * 10 : step * 10 + 32]), y[step * 10 : step * 10 + 32]).backward()
            optimizer.step()
    start = nn.Sequential(body(), nn.Linear(12, 3))
    for parameter, other, before in zip(*(net.parameters() for net in (*nets, start)), strict=True):
        assert (parameter - other).abs().max() <= (1e-10 if double else 1e-4) * other.abs().max()
        assert before.shape == parameter.shape


def test_sizes():
    rule = GatedCoordinateRule(6, generator=seeded())
    assert sum(p.numel() for p in rule.network.parameters()) == 1602
    assert rule.log_rates.tolist() == [0.0] * 6
    assert rule.network[-1].weight.detach().std().item() == pytest.approx(1e-3, rel=0.3)


def test_the_inputs_by_hand():
    """All fourteen, of one weight of the second of three tensors at the third step of a task."""
    rule = GatedCoordinateRule(generator=seeded()).double()
    names = ("first", "second", "third")
    w = {name: drawn(4, 3, seed=k) for k, name in enumerate(names)}
    memory = {"second": TaskMemory(drawn(4, 3, seed=8), drawn(4, 3, seed=9).abs())}
    state, seen = rule.init(w), []
    rule.network[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    history = []
    for step in range(3):
        grads = {name: drawn(4, 3, seed=10 * step + k) for k, name in enumerate(names)}
        history.append(grads["second"][2, 1].item())
        _, state = rule(grads, w, state, memory)
    inputs = seen[-1][12 + 2 * 3 + 1].tolist()

    def rms(tensor):
        return math.sqrt(sum(v * v for v in tensor.flatten().tolist()) / tensor.numel())

    g, weight = grads["second"], w["second"]
    v = 0.0
    for entry in history:
        v = 0.99 * v + 0.01 * entry**2
    v /= 1 - 0.99**3
    expected = [g[2, 1].item() / (rms(g) + 1e-8)]
    for b in (0.5, 0.9, 0.99):
        m = 0.0
        for entry in history:
            m = b * m + (1 - b) * entry
        expected.append(m / (1 - b**3) / (math.sqrt(v) + 1e-8))
    logs = [math.log(f + 1e-12) for f in memory["second"].importance.flatten().tolist()]
    mean = sum(logs) / 12
    std = math.sqrt(sum((entry - mean) ** 2 for entry in logs) / 12)
    anchor = memory["second"].anchor
    expected += [
        weight[2, 1].item() / (rms(weight) + 1e-8),
        (weight - anchor)[2, 1].item() / (rms(anchor) + 1e-8),
        (logs[7] - mean) / (std + 1e-6),
        math.log10(rms(g) + 1e-12) / 4,
        math.log10(rms(weight) + 1e-12),
        0.5,
        math.log10(3) / 4,
        *(math.tanh(3 / scale) for scale in (10, 100, 1000)),
    ]
    assert inputs == pytest.approx([max(-10, min(10, value)) for value in expected])


def test_the_direction_by_hand():
    rule = trained(tensors=1).double()
    nn.init.constant_(rule.log_rates, 0.3)
    w, g = {"w": drawn(5)}, {"w": drawn(5, seed=1)}
    outputs = {}
    rule.network.register_forward_hook(lambda module, given, output: outputs.update(found=output))
    directions, _ = rule(g, w, rule.init(w), {})
    a, r = outputs["found"].unbind(1)
    u = g["w"] / (g["w"].abs() + 1e-8)  # of the first step
    assert torch.allclose(directions["w"], math.exp(0.3) * (2 * torch.sigmoid(a) * u + 0.1 * r))
    assert torch.allclose(rule.gates(g, w, rule.init(w), {})["w"], 2 * torch.sigmoid(a))
    rule.residual = False
    assert torch.allclose(rule(g, w, rule.init(w), {})[0]["w"], math.exp(0.3) * 2 * torch.sigmoid(a) * u)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 1e-30, 1e-8, 1.0, 1e8, 1e15]), st.permutations(range(6)))
def test_directions_are_finite_and_of_each_weight_alone(seed, scale, order):
    rule = trained()
    w = {"w": torch.randn(6, generator=seeded(seed))}
    g = {"w": scale * torch.randn(6, generator=seeded(seed + 1))}
    memory = {"w": TaskMemory(torch.randn(6, generator=seeded(seed + 2)), torch.rand(6, generator=seeded(seed + 3)))}
    directions, state = rule(g, w, rule.init(w), memory)
    assert directions["w"].isfinite().all()
    assert ((gates := rule.gates(g, w, rule.init(w), memory)["w"]) >= 0).all()
    assert (gates <= 2).all()
    assert state["w"].steps == 1
    mixed = [{"w": tensors["w"][order]} for tensors in (g, w)]
    again = rule(*mixed, rule.init(w), {"w": TaskMemory(*(part[order] for part in memory["w"]))})[0]
    assert torch.allclose(again["w"], directions["w"][order], rtol=1e-4, atol=1e-5)


def test_without_a_gradient_the_residual_alone_is_left():
    rule = trained()
    w, g = {"w": torch.randn(6, generator=seeded())}, {"w": torch.zeros(6)}
    outputs = {}
    rule.network.register_forward_hook(lambda module, given, output: outputs.update(found=output))
    assert torch.allclose(rule(g, w, rule.init(w), {})[0]["w"], 0.1 * outputs["found"][:, 1])
    rule.residual = False
    assert not rule(g, w, rule.init(w), {})[0]["w"].any()


def test_memory_is_seen_unless_it_is_not_to_be():
    w, g = {"w": torch.randn(6, generator=seeded())}, {"w": torch.randn(6, generator=seeded(1))}
    memory = {"w": TaskMemory(w["w"] + 1, torch.arange(6.0))}
    indifferent = {"w": TaskMemory(w["w"], torch.ones(6))}
    for remembers in (True, False):
        rule = trained(remembers=remembers)
        plain, remembering, same = (rule(g, w, rule.init(w), m)[0]["w"] for m in ({}, memory, indifferent))
        assert torch.allclose(plain, remembering) != remembers
        assert torch.allclose(plain, same)


def test_the_outer_gradient_is_the_sum_of_what_each_step_gave():
    """Of a linear loss, whose gradient no step changes, in closed form."""
    rule, slope, lr = AdamRule(1).double(), drawn(4), 0.01
    nn.init.constant_(rule.log_rates, 0.2)
    net = nn.Linear(4, 1, bias=False).double()
    fast = FastWeights(net, rule.as_update(lr), order=1)
    for step in range(5):
        fast = fast.step((fast.params["weight"][0] * slope * (1 + step)).sum())
    moments, summed = rule.init({"w": slope}), torch.zeros(4, dtype=torch.float64)
    for step in range(5):
        moments = rule.advanced({"w": slope * (1 + step)}, moments)
        summed += rule.normalised(moments["w"])[0]
    fast.params["weight"].square().sum().backward()
    expected = -lr * math.exp(0.2) * (2 * fast.params["weight"].detach()[0] * summed).sum()
    assert rule.log_rates.grad.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("make", [None, AdamRule, trained])
def test_the_contract_of_optimizers(make):
    check_optimizer(LearnedOptimizer, **({} if make is None else {"rule": make()}))


def stepped(optimizer, params, grads):
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    optimizer.step()
    return [p.detach().clone() for p in params]


def test_a_task_ends_and_what_it_left_is_kept():
    rule, grads = trained(), [torch.ones(3), torch.tensor([0.5, -2.0])]
    params = [torch.zeros(3, requires_grad=True), torch.ones(2, requires_grad=True)]
    optimizer = LearnedOptimizer(params, lr=0.1, rule=rule)
    stepped(optimizer, params, grads)
    ended = [p.detach().clone() for p in params]
    optimizer.consolidate([torch.ones(3), torch.tensor([0.0, 2.0])])
    optimizer.consolidate([torch.ones(3), torch.tensor([1.0, 2.0])])
    assert torch.equal(optimizer.state[params[0]]["anchor"], ended[0])
    assert optimizer.state[params[1]]["importance"].tolist() == [1.0, 4.0]
    assert "steps" not in optimizer.state[params[0]]
    left = zip(ended, (2 * torch.ones(3), torch.tensor([1.0, 4.0])), strict=True)
    memory = {str(number): TaskMemory(*parts) for number, parts in enumerate(left)}
    w, g = ({str(k): part for k, part in enumerate(of)} for of in (ended, grads))
    directions, _ = rule(g, w, rule.init(w), memory)
    state = copy.deepcopy(optimizer.state_dict())
    moved = stepped(optimizer, params, grads)
    assert all(
        torch.allclose(m, e - 0.1 * directions[str(k)]) for k, (m, e) in enumerate(zip(moved, ended, strict=True))
    )
    again = [p.clone().requires_grad_() for p in ended]
    resumed = LearnedOptimizer(again, rule=rule)
    resumed.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(stepped(resumed, again, grads), moved, strict=True))
    new = torch.zeros(2, requires_grad=True)
    optimizer.add_param_group({"params": [new]})
    new.grad = torch.ones(2)
    optimizer.step()
    assert new.abs().sum() > 0  # of which no task has ended yet


def test_a_tensor_without_a_gradient_rests_and_keeps_the_rates_of_the_others():
    rule = AdamRule(3)
    rule.log_rates.data = torch.tensor([0.0, 1.0, 2.0])
    params = [torch.zeros(2, requires_grad=True) for _ in range(3)]
    optimizer = LearnedOptimizer(params, lr=0.1, rule=rule)
    moved = stepped(optimizer, params, [torch.ones(2), None, torch.ones(2)])
    expected = torch.tensor([-0.1, 0.0, -0.1 * math.exp(2)])
    assert torch.allclose(torch.stack(moved), expected[:, None].expand(3, 2))
    assert not optimizer.state[params[1]]


def test_a_learned_update_moves_the_body_and_another_optimiser_the_head():
    x, y = digits([0, 1, 2])
    nets = [nn.Sequential(body(), nn.Linear(12, 4)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    (ours, theirs), sgd = nets, torch.optim.SGD(nets[0].parameters(), lr=0.1)
    method = LearnedUpdate(ours, 1e-2, rule=AdamRule(), generator=seeded())
    method.attach(sgd)
    optimizers = [torch.optim.Adam(theirs[0].parameters(), 1e-2, betas=(0.9, 0.99)),
                  torch.optim.SGD(theirs[1].parameters(), lr=0.1)]  # fmt: skip
    for step in range(5):
        for net, steps in ((ours, [sgd]), (theirs, optimizers)):
            for optimizer in steps:
                optimizer.zero_grad()
            functional.cross_entropy(net(x[10 * step : 10 * step + 32]), y[10 * step : 10 * step + 32]).backward()
            for optimizer in steps:
                optimizer.step()
    torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()), rtol=1e-3, atol=1e-5)
    method.end_task(TaskData((x, y), (0, 1, 2)))
    expected = fisher_diagonal(ours, [(x, y)], fisher="sample", classes=(0, 1, 2), generator=seeded())
    for (name, p), state in zip(ours[0].named_parameters(), method.optimizer.state.values(), strict=True):
        torch.testing.assert_close(state["importance"], expected[f"0.{name}"])
        assert torch.equal(state["anchor"], p)


def test_a_learned_update_leaves_the_named_head_alone():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    LearnedUpdate(net, head="0").attach(sgd)
    assert [tuple(p.shape) for p in sgd.param_groups[0]["params"]] == [(4, 3), (4,)]
    with pytest.raises(ValueError, match="optimizer has none of the model's parameters"):
        LearnedUpdate(copy.deepcopy(net)).attach(sgd)


def test_a_learned_update_follows_the_last_optimiser_alone():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    method, optimizers = LearnedUpdate(net, rule=AdamRule()), [torch.optim.SGD(net.parameters(), 0.1) for _ in range(2)]
    for optimizer in optimizers:
        method.attach(optimizer)
    for optimizer, moves in zip(optimizers, (False, True), strict=True):
        before = net[0].weight.detach().clone()
        net(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
        assert torch.equal(net[0].weight, before) != moves
        assert (net[0].weight.grad is None) == moves  # the body's gradients are used once
    LearnedUpdate(net).attach(torch.optim.SGD(net[1].parameters(), 0.1))  # which has the head already


def test_a_state_of_a_learned_update_stays_as_it_was():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    sgd, method = torch.optim.SGD(net.parameters(), lr=0.1), LearnedUpdate(net, rule=AdamRule())
    method.attach(sgd)
    states = []
    for _ in range(2):
        net(torch.ones(2, 3)).square().sum().backward()
        sgd.step()
        states.append((method.state_dict(), copy.deepcopy(method.state_dict())))
    (kept, then), (now, _) = states
    torch.testing.assert_close(kept["optimizer"], then["optimizer"], rtol=0, atol=0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(kept["optimizer"], now["optimizer"])


def test_a_rule_is_saved_with_the_version_of_its_inputs(tmp_path):
    rule = trained()
    checkpoint.save(tmp_path / "rule", rule.state_dict())
    again = GatedCoordinateRule(generator=seeded(1))
    again.load_state_dict(checkpoint.load(tmp_path / "rule"))
    assert torch.equal(again.network[-1].weight, rule.network[-1].weight)
    with pytest.raises(ValueError, match="version = 7 of the inputs"):
        again.load_state_dict({**rule.state_dict(), "version": torch.tensor(7)})


def consolidated(importance):
    optimizer = LearnedOptimizer([torch.zeros(3, requires_grad=True)])
    optimizer.consolidate(importance)


def stepped_once(grad, **options):
    p = torch.zeros(3, requires_grad=True)
    optimizer = LearnedOptimizer([p], **options)
    p.grad = grad
    optimizer.step()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: consolidated([]), ValueError, "importance: expected 1 tensors"),
        (lambda: consolidated([torch.ones(2)]), ValueError, r"importance\[0\].shape = \(2,\): expected \(3\)"),
        (lambda: consolidated([-torch.ones(3)]), ValueError, r"importance\[0\] has -1.0"),
        (lambda: stepped_once(torch.tensor([1, torch.nan, 0])), ValueError, r"parameter 0, .*\[1\] is NaN"),
        (lambda: stepped_once(torch.ones(3), rule=AdamRule(2)), ValueError, "expected 2 tensors, one for each learned"),
        (lambda: stepped_once(torch.ones(3), rule=3), TypeError, "rule"),
        (lambda: GatedCoordinateRule(hidden=0, generator=seeded()), ValueError, "hidden = 0"),
        (lambda: GatedCoordinateRule(-1, generator=seeded()), ValueError, "tensors = -1"),
        (lambda: AdamRule().as_update(-1.0), ValueError, "lr = -1.0"),
        (lambda: AdamRule().init({"w": torch.ones(2, dtype=torch.cfloat)}), TypeError, r"params\['w'\] is complex"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def episode(seed=0):
    """A body that learned the digits 0 to 4, is to learn 5 to 9, and a teacher of both."""
    (x_a, y_a), (x_b, y_b) = digits([0, 1, 2, 3, 4]), digits([5, 6, 7, 8, 9])
    net, heads = body(seed), [nn.Linear(12, 5), nn.Linear(12, 5)]
    first = train_teacher(net, heads[:1], [(x_a[:300], y_a[:300])], steps=60, lr=1e-2, generator=seeded())
    teacher = train_teacher(
        first, heads, [(x_a[:300], y_a[:300]), (x_b[:300], y_b[:300])], steps=60, generator=seeded()
    )
    start = {name: p.detach() for name, p in first.named_parameters()}
    memory = {name: TaskMemory(w, torch.ones_like(w)) for name, w in start.items()}
    probes = x_a[300:400], x_b[300:400]
    targets = tuple(teacher(x).detach() for x in probes)
    return net, MimicryEpisode(start, memory, x_b[:300], y_b[:300], probes, targets)


def test_a_teacher_starts_where_the_student_is():
    net = body()
    x, y = digits([0, 1, 2])
    before = copy.deepcopy(net.state_dict())
    heads = [nn.Linear(12, 3)]
    teacher = train_teacher(net, heads, [(x, y)], steps=40, lr=1e-2, generator=seeded())
    assert all(torch.equal(before[name], w) for name, w in net.state_dict().items())
    assert train_teacher(net, heads, [(x, y)], steps=0, generator=seeded())(x).equal(net(x))
    assert not teacher(x).equal(net(x))
    again = train_teacher(net, heads, [(x, y)], steps=40, lr=1e-2, generator=seeded())
    assert again(x).equal(teacher(x))
    plain, readouts = copy.deepcopy(net), copy.deepcopy(nn.ModuleList([heads[0], heads[0]]))
    adam, generator = torch.optim.Adam([*plain.parameters(), *readouts.parameters()], 1e-2), seeded(3)
    for _ in range(3):
        rows = [torch.randint(len(x), (4,), generator=generator) for _ in range(2)]  # half of a batch for each task
        losses = [functional.cross_entropy(head(plain(x[r])), y[r]) for head, r in zip(readouts, rows, strict=True)]
        adam.zero_grad()
        torch.stack(losses).mean().backward()
        adam.step()
    options = {"steps": 3, "lr": 1e-2, "batch_size": 9, "generator": seeded(3)}
    torch.testing.assert_close(train_teacher(net, heads * 2, [(x, y)] * 2, **options)(x), plain(x))
    with pytest.raises(ValueError, match="heads: expected one for each task, 2"):
        train_teacher(net, heads, [(x, y)] * 2, generator=seeded())


def test_a_rule_comes_nearer_to_its_teacher():
    net, demo = episode()
    rule, options = AdamRule(4), {"students": 2, "lengths": (20, 40), "lr": 2e-2}  # which is too much
    trainer = TeacherMimicTrainer(net, rule, [demo], generator=seeded(), rule_lr=0.1, **options)
    for _ in range(40):
        trainer.step()
    far = {}
    for name, judged in {"untrained": AdamRule(4), "trained": rule}.items():  # on the same students
        judge = TeacherMimicTrainer(net, judged, [demo], generator=seeded(7), rule_lr=1e-12, **options)
        far[name] = sum(judge.step() for _ in range(8))
    assert far["trained"] < 0.7 * far["untrained"]


def test_a_gradient_that_is_not_finite_leaves_the_rule_as_it_was():
    net, demo = episode()
    rule = AdamRule(4)
    flat = {"distance": lambda features, teacher: (0 * features).square().sum().sqrt()}  # 0, with the gradient 0 * inf
    trainer = TeacherMimicTrainer(net, rule, [demo], generator=seeded(), **flat)
    with pytest.raises(FloatingPointError, match="norm of the rule's gradient = nan: expected a finite number"):
        trainer.step()
    assert not rule.log_rates.any()


def test_students_are_judged_halfway_and_at_the_end_of_an_unroll_and_begin_anew_after_their_length():
    net, demo = episode()
    judged = []

    def distance(features, teacher):
        judged.append((features - teacher).square().mean())
        return judged[-1]

    options = {"students": 1, "unroll": 2, "lengths": (4, 4), "distance": distance, "lr": 1e-2}
    trainer = TeacherMimicTrainer(net, AdamRule(4), [demo], generator=seeded(), **options)
    seen = []
    for _ in range(3):
        judged.clear()
        returned = trainer.step()
        assert len(judged) == 4  # two probes, twice
        assert returned == pytest.approx((judged[2] + judged[3]).item())
        seen.append(trainer._students[0].steps)
    assert seen == [2, 0, 2]
    for name, weight in demo.start.items():
        assert not torch.equal(trainer._students[0].fast.params[f"0.{name}"], weight)


def test_a_gradient_from_some_of_the_weights_is_that_from_all_in_the_mean():
    rule, w, g = trained().double(), {"w": drawn(5, 6).double()}, {"w": drawn(5, 6, seed=1).double()}

    def gradient():
        directions, _ = rule(g, w, rule.init(w), {})
        grads = torch.autograd.grad((directions["w"] * drawn(5, 6, seed=2)).sum(), list(rule.network.parameters()))
        return directions["w"].detach(), torch.cat([grad.flatten() for grad in grads])

    direction, whole = gradient()
    estimates = {}
    with rule.estimated(4, seeded()):
        for _ in range(40):
            same, estimate = gradient()
            torch.testing.assert_close(same, direction)
            estimates[round(float(estimate.norm()), 4)] = estimate
    assert len(estimates) == 4
    torch.testing.assert_close(torch.stack(list(estimates.values())).mean(0), whole)
    assert gradient()[1].equal(whole)


def test_a_trainer_estimates_the_gradient_if_it_is_told_to():
    net, demo = episode()
    trained_by = {}
    for every in (1, 8):
        rule = GatedCoordinateRule(4, generator=seeded(2))
        trainer = TeacherMimicTrainer(net, rule, [demo], generator=seeded(1), students=1, unroll=1, every=every)
        trained_by[every] = trainer.step(), rule
    assert trained_by[1][0] == pytest.approx(trained_by[8][0], rel=1e-6)
    grads = [rule.network[0].weight.grad for _, rule in trained_by.values()]
    assert not grads[0].equal(grads[1])


def test_training_goes_on_from_its_state(tmp_path):
    net, demo = episode()
    twins = []
    for _ in range(2):
        options = {"generator": seeded(1), "students": 2, "lengths": (10, 30), "batch_size": 8}
        twins.append(TeacherMimicTrainer(net, GatedCoordinateRule(4, generator=seeded(2)), [demo, demo], **options))
    first, second = twins
    for _ in range(3):
        first.step()
    checkpoint.save(tmp_path / "state", first.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "state"))
    second.generator.set_state(first.generator.get_state())
    assert [first.step() for _ in range(4)] == [second.step() for _ in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(first.rule.parameters(), second.rule.parameters(), strict=True))


def test_a_rule_without_parameters_is_not_trained():
    net, demo = episode()
    with pytest.raises(ValueError, match="expected a rule with parameters"):
        TeacherMimicTrainer(net, AdamRule(), [demo], generator=seeded())
    with pytest.raises(ValueError, match=r"lengths = 4: expected .* 5"):
        TeacherMimicTrainer(net, AdamRule(4), [demo], lengths=(5, 4), generator=seeded())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda demo: demo._replace(targets=demo.targets[:1]), r"episodes\[0\].targets: expected one for each of 2"),
        (
            lambda demo: demo._replace(targets=(torch.ones(100, 7),) * 2),
            r"= \(100, 7\): expected \(100, 12\)",
        ),
        (
            lambda demo: demo._replace(start={"0.weight": torch.ones(2)}),
            r"episodes\[0\].start: expected the parameters of body",
        ),
        (lambda demo: None, "episodes is empty"),
    ],
)
def test_teachers_of_other_architectures_are_refused(change, message):
    net, demo = (
        body(),
        MimicryEpisode(
            dict(body().named_parameters()), {}, IMAGES[:9], LABELS[:9], (IMAGES[:100],) * 2, (torch.ones(100, 12),) * 2
        ),
    )
    changed = change(demo)
    with pytest.raises(ValueError, match=message):
        TeacherMimicTrainer(net, AdamRule(4), [] if changed is None else [changed], generator=seeded())


def test_students_start_with_the_running_statistics_of_their_episode_and_resume_with_theirs():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    inputs = 5 + torch.randn(20, 2, generator=seeded())
    for _ in range(3):
        net(inputs)
    start = {name: value.clone() for name, value in net.state_dict().items()}
    targets = torch.zeros(20, 3)
    demo = MimicryEpisode(start, {}, inputs, torch.arange(20) % 2, (inputs,), (targets,))
    fresh = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    without = demo._replace(start={name: value for name, value in start.items() if "running" not in name})
    with pytest.raises(ValueError, match=r"start: expected the parameters of body, and its buffers.*running_mean"):
        TeacherMimicTrainer(fresh, AdamRule(4), [without], generator=seeded())
    trainers = [TeacherMimicTrainer(fresh, AdamRule(4), [demo], generator=seeded(), unroll=2) for _ in range(2)]
    assert torch.equal(trainers[0]._students[0].fast.buffers["0.1.running_mean"], start["1.running_mean"])
    for _ in range(4):
        trainers[0].step()
    trainers[1].load_state_dict(trainers[0].state_dict())
    for students in zip(*(trainer._students for trainer in trainers), strict=True):
        buffers = [student.fast.buffers for student in students]
        assert buffers[0]["0.1.num_batches_tracked"] == 3 + 2
        assert all(torch.equal(value, buffers[1][name]) for name, value in buffers[0].items())
    assert torch.equal(net.state_dict()["1.running_mean"], start["1.running_mean"])
