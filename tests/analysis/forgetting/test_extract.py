import pytest
import torch
from torch import nn

from engram.analysis import extract


class Counting(nn.Module):
    """Changes a buffer even where it is not training."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += len(x)
        return x


def test_a_network_is_left_as_it_was():
    body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    body[2].eval()
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    features = extract(body, x, batch_size=2)
    assert [module.training for module in body] == [True, True, False]
    assert all(torch.equal(before[name], tensor) for name, tensor in body.state_dict().items())
    assert torch.allclose(features, body.eval()(x).double())
    assert features.dtype == torch.float64
    assert not features.requires_grad


def test_a_network_that_changes_itself_is_refused_and_put_back():
    body = Counting()
    with pytest.raises(RuntimeError, match="body changed seen in evaluation mode"):
        extract(body, torch.ones(2, 3))
    assert body.seen == 0


def test_layers_have_names():
    body = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.GRU(3, 2, batch_first=True))
    x = torch.ones(5, 3)
    assert torch.equal(extract(body, x, layer="0"), x.double())
    assert extract(body, x, layer="1").shape == (5, 2)  # without the state


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda body: extract(body, torch.ones(2, 3), layer="2"), "layer = '2': expected one of 0, 1"),
        (lambda body: extract(nn.Sequential(body[0], body[0]), torch.ones(2, 3), layer="0"), "ran 2 times on 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))


class TimeFirst(nn.Module):
    """A recurrent layer that takes time along the first axis, in a network that takes samples there."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(3, 2)

    def forward(self, x):
        return self.rnn(x.transpose(0, 1))[0][-1]


def test_an_output_without_a_row_for_each_sample_is_refused():
    x = torch.ones(4, 5, 3)
    assert extract(TimeFirst(), x).shape == (4, 2)
    with pytest.raises(ValueError, match=r"layer = 'rnn' returns \(5, 4, 2\) for 4 samples: expected the samples"):
        extract(TimeFirst(), x, layer="rnn")
    with pytest.raises(ValueError, match=r"body returns \(6,\) for 2 samples"):
        extract(nn.Flatten(0), torch.ones(2, 3))
