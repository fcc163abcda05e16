import pytest
import torch

from engram.studies.experiments.image_completion import Config, answer, build, experiment, squared_errors, task_of
from engram.tasks import ImageCompletion

PAPER = experiment.arms("published")["connection"].config


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def trained(net):
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def test_the_published_network_has_the_published_size_and_length():
    net = build(PAPER, seeded())
    assert net.hidden_size == 1025
    assert trained(net) == 2_101_251
    steps = PAPER.presentation_steps, PAPER.blank_steps, PAPER.probe_steps
    task = ImageCompletion(torch.zeros(1, 32, 32), PAPER.patterns, PAPER.cycles, *steps)
    assert len(task.sample(1, seeded()).clamp) == 201
    assert (PAPER.learning_rate, PAPER.updates, PAPER.batch_size) == (1e-4, 100_000, 1)


def test_the_arms_differ_in_plasticity_alone():
    sizes = {name: trained(build(arm.config, seeded())) for name, arm in experiment.arms().items()}
    small = {"connection": 2 * 65**2 + 1, "homogeneous": 65**2 + 2, "non-plastic": 65**2}
    large = {"connection-large": 2 * 257**2 + 1, "homogeneous-large": 257**2 + 2, "non-plastic-large": 257**2}
    assert sizes == small | large


def test_given_pixels_and_the_constant_unit_are_clamped():
    config = Config(size=4)
    net = build(config, seeded())
    episode = ImageCompletion(torch.rand(3, 4, 4)).sample(2, seeded())
    out = answer(net, episode)
    given = episode.clamp[-1]
    assert torch.equal(out[given], episode.targets[-1][given])
    assert squared_errors(out, episode).shape == (2, 8)
    expected = (out - episode.targets[-1]).square().sum()
    assert squared_errors(out, episode).sum().item() == pytest.approx(expected.item(), rel=1e-6)
    always = torch.cat((episode.clamp, torch.ones(*episode.clamp.shape[:2], 1, dtype=torch.bool)), dim=2)
    activity, _ = net(episode.inputs, clamp=always)
    assert (activity[..., -1] == 1).all()


def test_a_hopfield_network_would_solve_it():
    """With W = 0 and a large homogeneous alpha, one shown image of -1 and 1 comes back whole."""
    config = Config(size=4, network="homogeneous")
    net = build(config, seeded())
    with torch.no_grad():
        net.weight_hh.zero_()
        net.alpha.fill_(1000.0)
    images = torch.where(torch.rand((5, 4, 4), generator=seeded()) < 0.5, -1.0, 1.0)
    episode = ImageCompletion(images, patterns=1).sample(8, seeded())
    torch.testing.assert_close(answer(net, episode), episode.targets[-1], atol=1e-4, rtol=0)


def test_held_out_images_are_others():
    training, test = (task_of(Config(), split).images for split in ("train", "test"))
    # Squared differences of every held-out crop and the nearest of a thousand training crops: never zero.
    nearest = torch.cdist(test[::7].flatten(1), training[::57].flatten(1)).amin(1)
    assert nearest.min() > 0.1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": "cifar10"}, "size = 8: expected 32, the size of images = 'cifar10'"),
        ({"size": 7}, "size = 7: expected an even number"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
