import math
import warnings

import pytest
import torch
from torch import nn

from engram.generative.diffusion import (
    BumpUNet32,
    CondUNet,
    ExactDenoiser,
    GaussianDiffusion,
    cosine_betas,
    linear_betas,
    position_encoding,
    signal_rates,
    zero_terminal_snr,
)
from engram.generative.diffusion.cond_unet import encode
from engram.testing.promises import no_global_draws


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def bumps(labels, size=16):
    pixel = torch.arange(size).to(labels)
    x, y = ((pixel - labels[:, axis, None]).square() for axis in (0, 1))
    return 2 * torch.exp(-(x[:, None, :] + y[:, :, None]) / 2).unsqueeze(1) - 1


def test_schedules_to_seven_digits():
    cosine, linear = signal_rates(cosine_betas(100)), signal_rates(linear_betas(1000))
    assert cosine[[0, 49]].tolist() == pytest.approx([0.9993687, 0.4938436], abs=5e-8)
    assert cosine[99].item() == pytest.approx(2.4286e-7, rel=2e-5)
    assert linear[[0, 499]].tolist() == pytest.approx([0.9999, 0.0785872], abs=5e-8)
    assert linear[999].item() == pytest.approx(4.03583e-5, rel=2e-6)
    assert cosine_betas(100)[-1] == 0.999


def test_a_rescaled_schedule_ends_without_signal_and_starts_as_it_did():
    betas = linear_betas(1000)
    rescaled = zero_terminal_snr(betas)
    signal, before = signal_rates(rescaled), signal_rates(betas)
    assert signal[-1] == 0
    assert rescaled[-1] == 1
    assert signal[0] == before[0]
    root, root_before = signal.sqrt(), before.sqrt()
    linear = (root_before - root_before[-1]) * root_before[0] / (root_before[0] - root_before[-1])
    assert torch.allclose(root, linear, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="prediction = 'eps': expected 'v' or 'x0'"):
        GaussianDiffusion(1000, rescaled)
    with pytest.raises(ValueError, match="betas lie from"):
        signal_rates(rescaled.flip(0))  # no signal, and then some


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("options", [{}, {"eta": 0.5}, {"sampler": "ddpm"}])
def test_the_exact_denoiser_draws_its_images_from_noise_without_signal(prediction, options):
    diffusion = GaussianDiffusion(50, zero_terminal_snr(linear_betas(50)), prediction)
    exact = ExactDenoiser(diffusion, lambda labels: labels.view(-1, 1, 1, 1).expand(-1, 1, 4, 4))
    labels = torch.tensor([[0.5], [-0.25]], dtype=torch.float64)
    images = diffusion.sample(exact, labels, (1, 4, 4), generator=seeded(), **options).images
    assert torch.allclose(images, exact.image(labels), atol=1e-9)


def test_encodings_as_computed_by_hand():
    for base, distances in ((100.0, (0.1511, 1.4718, 4.6770)), (1e4, (0.1209, 1.1716, 3.4470))):
        codes = position_encoding(torch.tensor([5.0, 5.1, 6.0, 15.0], dtype=torch.float64), 32, base)
        assert (codes[1:] - codes[0]).norm(dim=1).tolist() == pytest.approx(distances, abs=6e-5)
        assert codes.norm(dim=1).tolist() == pytest.approx([4.0] * 4)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_with_the_exact_denoiser_nothing_is_lost(prediction, schedule):
    diffusion = GaussianDiffusion(100, schedule, prediction)
    exact, labels = ExactDenoiser(diffusion, bumps), torch.rand(8, 2, generator=seeded(), dtype=torch.float64) * 13 + 1
    assert diffusion.loss(exact, bumps(labels), labels, seeded()) < 1e-12
    for options in ({"steps": 1}, {"steps": 7}, {}, {"eta": 1.0}, {"sampler": "ddpm"}):
        images, hidden = diffusion.sample(exact, labels, (1, 16, 16), generator=seeded(), **options)
        assert (images - bumps(labels)).abs().max() < 1e-5
        assert hidden is None
    single = diffusion.sample(exact, labels.float(), (1, 16, 16), generator=seeded(), steps=20).images
    assert (single - bumps(labels)).abs().max() < 1e-5


class Shrinking(nn.Module):
    """The denoiser of standard normal images, eps = sqrt(1 - a_t) x_t, whose samples are standard normal again."""

    def __init__(self, diffusion):
        super().__init__()
        self.diffusion, self.layer = diffusion, nn.Identity()

    def forward(self, x, t, labels):
        return self.layer(self.diffusion.scales(t, x)[1] * x)


@pytest.mark.parametrize("options", [{"steps": 100}, {"steps": 100, "eta": 1.0}, {"sampler": "ddpm"}])
def test_samplers_keep_the_variance_of_what_is_normal(options):
    diffusion = GaussianDiffusion(100, linear_betas(100, 1e-3, 0.2), clip=None)
    images = diffusion.sample(Shrinking(diffusion), torch.zeros(2000, 1), (4,), generator=seeded(), **options).images
    assert images.std().item() == pytest.approx(1.0, abs=0.06)


def test_a_deterministic_sampler_is_the_product_of_its_steps():
    diffusion = GaussianDiffusion(10, clip=None)
    model = Shrinking(diffusion)
    sample = diffusion.sample(model, torch.zeros(3, 1), (2,), generator=seeded(), steps=10)
    a = diffusion.signal
    factor = math.prod((a[t] * a[t - 1] + 0.0).sqrt() + ((1 - a[t]) * (1 - a[t - 1])).sqrt() for t in range(1, 10))
    start = torch.randn(3, 2, generator=seeded())
    assert sample.images == pytest.approx(start * (factor * a[0].sqrt()).float(), rel=1e-4)


def test_without_a_number_of_steps_it_is_twenty_or_all_of_a_shorter_diffusion():
    def images(diffusion, **options):
        return diffusion.sample(Shrinking(diffusion), torch.zeros(3, 1), (2,), generator=seeded(), **options).images

    assert torch.equal(images(GaussianDiffusion(50)), images(GaussianDiffusion(50), steps=20))
    assert torch.equal(images(GaussianDiffusion(10)), images(GaussianDiffusion(10), steps=None))
    with pytest.raises(ValueError, match="steps = 20: expected 1 to 10"):
        images(GaussianDiffusion(10), steps=20)


def test_hidden_states_of_each_call_are_returned():
    diffusion = GaussianDiffusion(20)
    model = Shrinking(diffusion)
    hidden = diffusion.sample(model, torch.zeros(3, 1), (2, 2), generator=seeded(), steps=5, hidden=model.layer).hidden
    assert hidden.shape == (5, 3, 4)
    assert not model.layer._forward_hooks
    x = torch.randn(3, 2, 2, generator=seeded())
    assert torch.equal(diffusion.hidden(model, model.layer, torch.zeros(3, 1), x), hidden[0])
    with pytest.raises(ValueError, match="hidden: the layer ran 0 times"):
        diffusion.sample(model, torch.zeros(3, 1), (2, 2), generator=seeded(), hidden=nn.Identity())


NETS = [
    lambda g: CondUNet(8, (4, 8), attention=(1,), generator=g),
    lambda g: BumpUNet32(8, width=4, time_features=8, label_features=8, generator=g),
]


@pytest.mark.parametrize("make", NETS)
def test_a_network_hears_step_and_labels_and_learns(make):
    with no_global_draws():
        net, again = make(seeded()), make(seeded())
    assert all(torch.equal(weight, other) for weight, other in zip(net.parameters(), again.parameters(), strict=True))
    diffusion, optimizer = GaussianDiffusion(20), torch.optim.Adam(net.parameters(), 3e-3)
    labels = torch.rand(32, 2, generator=seeded(1)) * 7
    generator, losses = seeded(2), []
    for _ in range(40):
        loss = diffusion.loss(net, bumps(labels, 8), labels, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert all(values.grad is not None for values in net.parameters())
    x, t = torch.randn(4, 1, 8, 8, generator=generator), torch.tensor([0, 5, 10, 19])
    output = net(x, t, labels[:4])
    assert not torch.allclose(output, net(x, t, labels[4:8]), atol=1e-3)
    assert not torch.allclose(output, net(x, t.flip(0), labels[:4]), atol=1e-3)
    assert torch.allclose(output[1:2], net(x[1:2], t[1:2], labels[1:2]), atol=1e-5)  # images are treated alone


def test_representations_are_of_the_published_sizes():
    net, diffusion = CondUNet(16, generator=seeded()), GaussianDiffusion(100)
    noise = torch.randn(2, 1, 16, 16, generator=seeded())
    assert diffusion.hidden(net, net.layer(4), torch.zeros(2, 2), noise).shape == (2, 64 * 4 * 4)
    assert net.layer(1) is net.stem
    assert net.layer(9) is net.out
    assert BumpUNet32(generator=seeded()).layer(4).attention.out.out_features == 256


IMAGES = torch.ones(2, 3), torch.tensor([0, -1])


@pytest.mark.parametrize(
    ("call", "pattern"),
    [
        (lambda: cosine_betas(1), "steps = 1: expected at least 2"),
        (lambda: GaussianDiffusion(1), "steps = 1"),
        (lambda: GaussianDiffusion(10, "quadratic"), "schedule.*'quadratic'"),
        (lambda: GaussianDiffusion(10, prediction="noise"), "prediction.*'noise'"),
        (lambda: GaussianDiffusion(9).target(*IMAGES, torch.zeros(2, 3)), r"t = \[0, -1\]: expected steps from 0 to 8"),
        (
            lambda: GaussianDiffusion(9).loss(lambda x, t, labels: x[:1], torch.ones(2, 3), torch.ones(2, 2), seeded()),
            r"output of model.shape = \(1, 3\): expected \(2, 3\)",
        ),
        (lambda: GaussianDiffusion(9).noised(IMAGES[0], torch.ones(2), IMAGES[0]), "t.*float32"),
        (lambda: GaussianDiffusion(3, torch.tensor([0.1, 1.0, 0.2])), "betas lie from 0.1 to 1"),
        (lambda: GaussianDiffusion(3, torch.full((2,), 0.1)), "schedule.shape"),
        (lambda: signal_rates(torch.tensor([0.1])), "at least two steps"),
        (lambda: position_encoding(torch.ones(2), 5), "features = 5: expected an even number"),
        (lambda: CondUNet(18), "size = 18: expected a multiple of 4"),
        (lambda: CondUNet(16, (6, 8)), "channels = .6, 8.: expected .*multiples of 4"),
        (lambda: CondUNet(16, (4, 4), attention=(2,)), "attention = 2"),
        (lambda: BumpUNet32(20), "size = 20: expected a multiple of 8"),
        (lambda: BumpUNet32(8, width=4, time_features=5), "time_features = 5: expected an even number"),
        (lambda: CondUNet(8, (4,), label_features=3), "label_features = 3: expected an even number"),
        (lambda: CondUNet(8, (4,))(torch.ones(2, 1, 4, 4), torch.zeros(2, dtype=int), torch.ones(2, 2)), "x.shape"),
        (lambda: CondUNet(8, (4,))(torch.ones(2, 1, 8, 8), torch.zeros(2), torch.ones(2, 2)), "t.*float32"),
        (lambda: CondUNet(8, (4,))(torch.ones(2, 1, 8, 8), torch.zeros(2, dtype=int), torch.ones(2, 3)), "labels.sha"),
    ],
)
def test_bad_input_is_named(call, pattern):
    with pytest.raises((TypeError, ValueError), match=pattern):
        call()


def test_steps_are_told_apart_in_bfloat16():
    net = CondUNet(8, (4, 4), generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    like = torch.zeros((), dtype=torch.bfloat16)
    codes = encode(net, torch.arange(996, 1001), torch.zeros(5, 2), like)
    assert codes.dtype == torch.bfloat16
    assert len(codes.unique(dim=0)) == 5


def test_a_schedule_is_copied():
    schedule = linear_betas(10)
    diffusion = GaussianDiffusion(10, schedule=schedule)
    schedule.zero_()
    assert diffusion.betas.all()


def test_images_that_samplers_would_clip_are_told():
    images, labels = torch.full((3, 1, 4, 4), 255.0), torch.zeros(3, 2)
    with pytest.warns(UserWarning, match=r"x0 has values up to 255 in size, but samples are clipped at clip = 1"):
        GaussianDiffusion(10).loss(lambda x, t, labels: x, images, labels, seeded())
    GaussianDiffusion(10, clip=None).loss(lambda x, t, labels: x, images, labels, seeded())
    GaussianDiffusion(10).loss(lambda x, t, labels: x, images / 255, labels, seeded())


NETS = {
    "cond": lambda: CondUNet(16, (8, 16), attention=(1,), generator=seeded()),
    "bump": lambda: BumpUNet32(16, width=8, generator=seeded()),
}


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_networks_in_other_formats_and_precisions(make):
    net = make()
    for values in net.parameters():
        if not values.any():
            nn.init.normal_(values, std=0.05, generator=seeded())
    x, t, labels = torch.randn(3, 1, 16, 16, generator=seeded()), torch.tensor([0, 5, 90]), torch.rand(3, 2)
    expected = net(x, t, labels)
    torch.testing.assert_close(net(x.transpose(2, 3), t, labels), net(x.transpose(2, 3).contiguous(), t, labels))
    last = make().to(memory_format=torch.channels_last)
    last.load_state_dict(net.state_dict())
    channels_last = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(channels_last, t, labels), expected, atol=1e-5, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        loose = net(x, t, labels)
        GaussianDiffusion(100).loss(net, x.clamp(-1, 1), labels, seeded()).backward()
    assert (loose - expected).abs().max() < 0.05 * expected.abs().max()
    half = make().bfloat16()
    half.load_state_dict(net.state_dict())
    assert (half(x.bfloat16(), t, labels.bfloat16()) - expected).abs().max() < 0.1 * expected.abs().max()
    for other, images in ((net, x.bfloat16()), (half, x)):
        with pytest.raises(ValueError, match=r"^x\.dtype = .*: expected .*, as the parameters have"):
            other(images, t, labels)


def test_encodings_in_bfloat16_are_those_of_their_positions():
    positions = torch.tensor([200.0, 252.0, 7.5])  # exact in bfloat16
    exact = position_encoding(positions, 8, 10_000.0)
    rounded = position_encoding(positions.bfloat16(), 8, 10_000.0)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, exact.bfloat16())


def test_whole_positions_are_encoded_before_they_are_rounded():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        near, far = position_encoding(torch.tensor([256, 257]), 8)
    finally:
        torch.set_default_dtype(before)
    assert not torch.equal(near, far)


def test_a_hidden_number_of_each_image_is_one_feature():
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Identity()

        def forward(self, x, t, labels):
            return x * self.mean(x.mean((1, 2, 3)))[:, None, None, None]

    net, labels, images = Mean(), torch.zeros(3, 2), torch.ones(3, 1, 4, 4)
    assert GaussianDiffusion(10).hidden(net, net.mean, labels, images).tolist() == [[1], [1], [1]]
    samples = GaussianDiffusion(10).sample(net, labels, (1, 4, 4), generator=seeded(), hidden=net.mean)
    assert samples.hidden.shape == (10, 3, 1)


@pytest.mark.parametrize("steps", [2, 7, 20, 50, 100, 400, 1000, 4000])
def test_a_linear_schedule_leaves_no_signal_at_any_number_of_steps(steps):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diffusion = GaussianDiffusion(steps, "linear")
    assert diffusion.signal[-1] < 2e-3
    if steps >= 50:
        half = linear_betas(1000, 1e-4, 0.02)
        assert diffusion.signal[steps // 2 - 1].item() == pytest.approx(signal_rates(half)[499].item(), rel=0.15)
    if steps == 1000:
        assert torch.equal(diffusion.betas, half)


def test_a_schedule_that_leaves_signal_is_told():
    with pytest.warns(UserWarning, match="its last step leaves 60% of the signal, but samplers start from noise alone"):
        GaussianDiffusion(50, linear_betas(50, 1e-4, 0.02))
