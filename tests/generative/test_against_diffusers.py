"""Against Hugging Face's diffusers, where it is installed: the same schedules, noise and steps; its network as ours."""

import pytest
import torch

from engram.generative.diffusion import CondUNet, DiffusersUNet, GaussianDiffusion, SchedulerDiffusion

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("default")  # a warning of another library's own is not ours to mend


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("ours", "theirs"), [("cosine", "squaredcos_cap_v2"), ("linear", "linear")])
def test_schedules_are_the_same(ours, theirs):
    steps = 100 if ours == "cosine" else 1000
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=steps, beta_schedule=theirs)
    diffusion = GaussianDiffusion(steps, ours)
    assert torch.allclose(diffusion.betas.float(), scheduler.betas, atol=1e-6)
    assert torch.allclose(diffusion.signal.float(), scheduler.alphas_cumprod, atol=1e-6)
    x0, noise = torch.randn(2, 4, 1, 4, 4, generator=seeded())
    t = torch.tensor([0, 1, steps // 2, steps - 1])
    assert torch.allclose(diffusion.noised(x0, t, noise), scheduler.add_noise(x0, noise, t), atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_every_step_of_ddim_is_the_same(prediction):
    options = {"beta_schedule": "linear", "prediction_type": prediction, "timestep_spacing": "linspace"}
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=100, set_alpha_to_one=True, clip_sample=False, **options)
    theirs = SchedulerDiffusion(scheduler)
    ours = GaussianDiffusion(100, "linear", theirs.prediction, clip=None)
    net = CondUNet(8, (4, 8), generator=seeded()).double()
    torch.nn.init.normal_(net.out.weight, std=0.1, generator=seeded())
    labels = torch.rand(3, 2, generator=seeded(), dtype=torch.float64)
    options = {"steps": 100, "hidden": net.layer(2)}
    pair = [diffusion.sample(net, labels, (1, 8, 8), generator=seeded(1), **options) for diffusion in (ours, theirs)]
    assert torch.allclose(pair[0].images, pair[1].images, rtol=1e-4, atol=1e-4)  # its betas are of single precision
    assert torch.allclose(pair[0].hidden, pair[1].hidden, rtol=1e-4, atol=1e-4)


def test_its_network_takes_the_place_of_ours():
    net = DiffusersUNet.small(8, generator=seeded())
    diffusion = SchedulerDiffusion(diffusers.DDPMScheduler(num_train_timesteps=20, beta_schedule="squaredcos_cap_v2"))
    labels = torch.rand(4, 2, generator=seeded()) * 7
    loss = diffusion.loss(net, torch.zeros(4, 1, 8, 8), labels, seeded())
    loss.backward()
    assert net.labels.weight.grad.abs().max() > 0
    with torch.no_grad():
        x, t = torch.randn(4, 1, 8, 8, generator=seeded()), torch.arange(4)
        assert not torch.allclose(net(x, t, labels), net(x, t, labels.flip(0)), atol=1e-4)
    samples = diffusion.sample(net, labels, (1, 8, 8), generator=seeded(), steps=5, hidden=net.layer())
    assert samples.images.shape == (4, 1, 8, 8)
    assert samples.hidden.shape == (5, 4, 64 * 2 * 2)


def test_a_network_that_would_ignore_labels_is_refused():
    unet = diffusers.UNet2DModel(sample_size=8, block_out_channels=(32,), down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",))  # fmt: skip
    with pytest.raises(ValueError, match="class_embed_type = None: expected 'identity'"):
        DiffusersUNet(unet)
