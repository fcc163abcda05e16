import pytest
import torch
import torch.distributed
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from engram.rules import (
    Backprop,
    DirectFeedbackAlignment,
    KolenPollack,
    LastLayerOnly,
    LocalError,
    PredictiveCoding,
    WeightPerturbation,
    apply_rule,
    checked_update,
    output_loss,
    train_step,
)


def test_a_parameter_that_the_rule_does_not_train_gets_no_gradient():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    before = model[0].weight.clone()
    model(torch.ones(5, 3)).sum().backward()  # gradients of an earlier step
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    train_step(LastLayerOnly(), model, sgd, (torch.ones(5, 3), torch.ones(5, 2)), None)
    assert model[0].weight.grad is None
    assert torch.equal(model[0].weight, before)


def test_finite_numbers_whose_sum_overflows_are_taken():
    grads = {"weight": torch.full((2,), 3e38)}
    assert checked_update(Backprop(), grads, None, torch.zeros(())).grads is grads
    with pytest.raises(FloatingPointError, match="Backprop: the pseudo-gradient of weight"):
        checked_update(Backprop(), {"weight": torch.tensor([1.0, -torch.inf])}, None, torch.zeros(()))


@pytest.mark.parametrize("rule", [Backprop(), KolenPollack()])
def test_a_momentum_of_one_has_no_weight_decay(rule):
    with pytest.raises(ValueError, match="momentum = 1"):
        rule.weight_decay(0.1, 1.0)


def test_a_rule_that_watches_no_parameter_is_told_of_each_step():
    given_deltas = []

    class Told(Backprop):
        def after_step(self, model, deltas, state):
            given_deltas.append(deltas)
            return state

    model = nn.Linear(2, 2)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        train_step(Told(), model, sgd, (torch.eye(2), torch.tensor([0, 1])), None)
    assert given_deltas == [{}, {}, {}]


def test_a_step_takes_the_batches_of_a_loader():
    nets = [nn.Linear(2, 2), nn.Linear(2, 2)]
    nets[1].load_state_dict(nets[0].state_dict())
    data = TensorDataset(torch.eye(2), torch.tensor([0, 1]))
    for net, batch in zip(nets, (data.tensors, next(iter(DataLoader(data, 2)))), strict=True):
        train_step(Backprop(), net, torch.optim.SGD(net.parameters(), lr=0.1), batch, None)
    assert torch.equal(nets[0].weight, nets[1].weight)
    with pytest.raises(ValueError, match="batch holds 3 tensors: expected two, input and target"):
        train_step(Backprop(), nets[0], torch.optim.SGD(nets[0].parameters()), [torch.eye(2)] * 3, None)


@pytest.mark.parametrize("rule", [DirectFeedbackAlignment(), LocalError()])
def test_a_state_that_grew_in_the_first_update_is_not_blamed_for_another_fault(rule):
    model, batch = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)), (torch.eye(2), torch.tensor([0, 1]))
    state = apply_rule(rule, model, *batch, rule.init(model, torch.Generator().manual_seed(0))).state
    with torch.autocast("cpu"), pytest.raises(ValueError, match=r"torch\.autocast is on"):
        apply_rule(rule, model, *batch, state)
    with pytest.raises(ValueError, match=r"state\.weights.*float32.*float64"):
        apply_rule(rule, model.double(), batch[0].double(), batch[1], state)
    other = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"state: expected tensors of shapes \[\(2, 4\), \(\)\].*\[\(2, 3\), \(\)\]"):
        apply_rule(rule, other, *batch, state)


@pytest.fixture
def group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rule", [Backprop(), LastLayerOnly()], ids=["backprop", "last"])
@pytest.mark.parametrize(
    ("wrapped", "match"),
    [
        (lambda: DistributedDataParallel(nn.Linear(3, 2)), "a DistributedDataParallel"),
        (lambda: nn.Sequential(DistributedDataParallel(nn.Linear(3, 4)), nn.Linear(4, 2)), "'0', a DistributedDataPar"),
        (
            lambda: FullyShardedDataParallel(nn.Linear(3, 2), device_id=torch.device("cpu")),
            "a FullyShardedDataParallel",
        ),
        (lambda: fully_shard(nn.Linear(3, 2), mesh=torch.distributed.init_device_mesh("cpu", (1,))), "a FSDPLinear"),
    ],
    ids=["whole", "within", "sharded", "sharded in place"],
)
def test_a_module_that_averages_gradients_in_backward_is_refused(rule, wrapped, match):
    with pytest.raises(TypeError, match=f"{type(rule).__name__} cannot train {match}.*expected the module within it"):
        apply_rule(rule, wrapped(), torch.ones(5, 3), torch.zeros(5, dtype=torch.int64), None)


class Phases(nn.Module):
    """A linear layer with complex weights, and the magnitudes of its outputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.gain = nn.Linear(2, 3, dtype=torch.cdouble), nn.Parameter(torch.ones(3).double())

    def forward(self, x):
        return self.gain * self.layer(x.to(torch.cdouble)).abs()


@pytest.mark.parametrize("target", [torch.arange(8) % 3, torch.ones(8, 3).double()], ids=["classes", "values"])
def test_complex_weights_are_trained_in_both_parts(target):
    net, x = Phases(), torch.randn(8, 2, generator=torch.Generator().manual_seed(1)).double()
    exact = apply_rule(Backprop(), net, x, target, None).grads
    output_loss(net(x), target).backward()
    torch.testing.assert_close(exact["layer.weight"], net.layer.weight.grad)
    rule = WeightPerturbation(1e-4, pairs=800)
    ours = apply_rule(rule, net, x, target, rule.init(net, torch.Generator().manual_seed(2))).grads
    assert {name: grad.dtype for name, grad in ours.items()} == {name: grad.dtype for name, grad in exact.items()}
    for part in ("real", "imag"):
        a, b = (
            torch.cat([getattr(g[f"layer.{n}"], part).flatten() for n in ("weight", "bias")]) for g in (ours, exact)
        )
        assert torch.cosine_similarity(a, b, dim=0) > 0.9
        assert float(a.norm() / b.norm()) == pytest.approx(1, abs=0.25)


def test_complex_weights_are_refused_by_rules_for_real_ones():
    chain, x, target = nn.Sequential(nn.Linear(2, 3, dtype=torch.cfloat)), torch.ones(4, 2), torch.zeros(4).long()
    for rule in (LocalError(), PredictiveCoding(), DirectFeedbackAlignment()):
        with pytest.raises(
            TypeError, match=rf"{type(rule).__name__} cannot train '0.weight', which is complex \(torch"
        ):
            apply_rule(rule, chain, x, target, None)
    with pytest.raises(FloatingPointError, match="Backprop: the pseudo-gradient of weight"):
        checked_update(Backprop(), {"weight": torch.tensor([complex(1, torch.nan)])}, None, torch.zeros(()))
