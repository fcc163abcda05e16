"""Against Hugging Face's diffusers, where it is installed: the same schedules, noise and steps; its network as ours."""

import pytest
import torch

from engram.generative.diffusion import (
    CondUNet,
    DiffusersUNet,
    ExactDenoiser,
    GaussianDiffusion,
    SchedulerDiffusion,
    linear_betas,
    signal_rates,
    zero_terminal_snr,
)

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


ENDS = {"beta_start": 1e-3, "beta_end": 0.2}  # those of 1000 steps, scaled to 100


def in_double(scheduler, diffusion):
    """Return a scheduler with the tables of a diffusion; its own are of single precision."""
    assert torch.allclose(scheduler.betas.double(), diffusion.betas, atol=1e-6)
    scheduler.betas, scheduler.alphas, scheduler.alphas_cumprod = diffusion.betas, 1 - diffusion.betas, diffusion.signal
    return scheduler


def denoiser():
    net = CondUNet(8, (4, 8), generator=seeded()).double()
    torch.nn.init.normal_(net.out.weight, std=0.1, generator=seeded())
    return net, torch.rand(3, 2, generator=seeded(), dtype=torch.float64)


PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SCHEDULES = {"linear": "linear", "squaredcos_cap_v2": "cosine"}


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    ("schedule", "eta", "clip"),
    [("linear", 0.0, None), ("linear", 0.7, 1.0), ("squaredcos_cap_v2", 0.0, 1.0), ("squaredcos_cap_v2", 0.7, 1.0)],
)
def test_every_step_of_ddim_is_the_same(schedule, prediction, eta, clip):
    ours = GaussianDiffusion(100, SCHEDULES[schedule], PREDICTIONS[prediction], clip)
    options = {"prediction_type": prediction, "timestep_spacing": "linspace", "clip_sample": clip is not None, **ENDS}
    scheduler = in_double(diffusers.DDIMScheduler(100, beta_schedule=schedule, **options), ours)
    scheduler.set_timesteps(100)
    net, labels = denoiser()
    drawn = ours.sample(net, labels, (1, 8, 8), generator=seeded(1), steps=100, eta=eta)
    source = seeded(1)
    x = torch.randn(3, 1, 8, 8, generator=source, dtype=torch.float64)
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = net(x, torch.full((3,), int(t)), labels)
            x = scheduler.step(output, int(t), x, eta, use_clipped_model_output=True, generator=source).prev_sample
    assert torch.allclose(drawn.images, x, rtol=0, atol=1e-6)


def test_its_ddim_scheduler_takes_the_place_of_our_sampler():
    ours = GaussianDiffusion(100, "linear", clip=None)
    options = {"timestep_spacing": "linspace", "clip_sample": False, **ENDS}
    theirs = SchedulerDiffusion(in_double(diffusers.DDIMScheduler(100, beta_schedule="linear", **options), ours))
    net, labels = denoiser()
    options = {"generator": seeded(1), "steps": 100, "hidden": net.layer(2)}
    images, hidden = ours.sample(net, labels, (1, 8, 8), **options)
    same = theirs.sample(net, labels, (1, 8, 8), **options | {"generator": seeded(1)})
    assert torch.allclose(images, same.images, rtol=0, atol=1e-6)
    assert torch.allclose(hidden, same.hidden, rtol=0, atol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_step_of_ddpm_is_the_same(schedule, prediction):
    ours = GaussianDiffusion(100, SCHEDULES[schedule], PREDICTIONS[prediction])
    options = {"prediction_type": prediction, "variance_type": "fixed_large", **ENDS}
    scheduler = in_double(diffusers.DDPMScheduler(100, beta_schedule=schedule, **options), ours)
    net, labels = denoiser()
    drawn = ours.sample(net, labels, (1, 8, 8), generator=seeded(1), sampler="ddpm", hidden=net.layer(2))
    theirs = SchedulerDiffusion(scheduler).sample(
        net, labels, (1, 8, 8), generator=seeded(1), steps=100, hidden=net.layer(2)
    )
    assert torch.allclose(drawn.images, theirs.images, rtol=0, atol=1e-6)
    assert torch.allclose(drawn.hidden, theirs.hidden, rtol=0, atol=1e-6)


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


def test_a_scheduler_that_scales_noisy_images_is_refused():
    with pytest.raises(ValueError, match=r"init_noise_sigma = .*: expected 1"):
        SchedulerDiffusion(diffusers.EulerDiscreteScheduler(100))


OTHERS = ["PNDM", "DEISMultistep", "DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep", "SASolver", "LCM",
          "TCD", "DDIMParallel", "DDPMParallel", "CogVideoXDDIM"]  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_schedulers_draw_what_the_exact_denoiser_knows_and_the_same_again(name):
    scheduler = getattr(diffusers, f"{name}Scheduler")(num_train_timesteps=100)
    diffusion = SchedulerDiffusion(scheduler)
    exact = ExactDenoiser(diffusion, lambda labels: labels.view(-1, 1, 1, 1).expand(-1, 1, 4, 4))
    labels = torch.tensor([[0.5], [-0.25]])
    images, again = (diffusion.sample(exact, labels, (1, 4, 4), generator=seeded(), steps=20).images for _ in "ab")
    assert torch.equal(images, again)
    assert torch.allclose(images, exact.image(labels), atol=0.12)  # TCD leaves a little noise


def test_images_are_clipped_as_the_scheduler_does():
    clipped = diffusers.DDIMScheduler(clip_sample_range=3.0)
    assert [SchedulerDiffusion(scheduler).clip for scheduler in (clipped, diffusers.PNDMScheduler())] == [3.0, None]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("DDIMInverse", "its steps go from 0 to .*: expected from noise to images"),
        ("DPMSolverMultistepInverse", "its steps go from 0 to .*: expected from noise to images"),
        ("CogVideoXDPM", "its step needs old_pred_original_sample, timestep_back: expected"),
        ("RePaint", "prediction_type = None: expected"),
        ("IPNDM", "prediction_type = None: expected"),
        ("HeunDiscrete", "init_noise_sigma"),
    ],
)
def test_schedulers_that_do_something_else_are_refused(name, pattern):
    labels = torch.zeros(2, 1)
    with pytest.raises(ValueError, match=pattern):
        SchedulerDiffusion(getattr(diffusers, f"{name}Scheduler")(num_train_timesteps=100)).sample(
            lambda x, t, labels: x, labels, (1, 4, 4), generator=seeded()
        )


def test_rescaled_schedules_are_the_same():
    options = {"num_train_timesteps": 100, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction", **ENDS}
    scheduler = diffusers.DDIMScheduler(beta_schedule="linear", timestep_spacing="trailing", **options)
    assert torch.allclose(zero_terminal_snr(linear_betas(100)).float(), scheduler.betas, atol=1e-6)
    diffusion = SchedulerDiffusion(scheduler)
    assert signal_rates(diffusion.betas)[-1] == 0
    exact = ExactDenoiser(diffusion, lambda labels: labels.view(-1, 1, 1, 1).expand(-1, 1, 4, 4))
    labels = torch.tensor([[0.5], [-0.25]])
    images = diffusion.sample(exact, labels, (1, 4, 4), generator=seeded()).images
    assert torch.allclose(images, exact.image(labels), atol=0.01)


def test_noise_is_added_as_a_scheduler_does_that_shifts_its_rates():
    scheduler, x = diffusers.CogVideoXDDIMScheduler(num_train_timesteps=100), torch.zeros(3, 1, 2, 2)
    times, noise = torch.tensor([0, 50, 98]), torch.ones(3, 1, 2, 2)
    diffusion = SchedulerDiffusion(scheduler)
    ours = diffusion.noised(x + 1, times, noise)
    torch.testing.assert_close(ours, scheduler.add_noise(x + 1, noise, times), rtol=1e-4, atol=1e-4)


def test_few_steps_are_all_taken_by_default():
    diffusion, labels = SchedulerDiffusion(diffusers.DDIMScheduler(num_train_timesteps=10)), torch.zeros(2, 1)
    for options in ({}, {"steps": "auto"}, {"steps": None}):
        diffusion.sample(lambda x, t, labels: x, labels, (1, 4, 4), generator=seeded(), **options)
        assert len(diffusion.scheduler.timesteps) == 10
