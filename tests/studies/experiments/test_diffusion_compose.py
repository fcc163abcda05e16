import dataclasses

import numpy as np
import pytest
import torch

from engram.studies.experiments import diffusion_compose
from engram.studies.experiments.diffusion_compose import (
    Config,
    Lattice,
    arms,
    asked_for,
    copied,
    overlaps,
    picture,
    sheet,
    snapshot,
    summary,
    training_data,
    trial,
)

TINY = diffusion_compose.tiny


def config(arm, **changes):
    return Config(**{**arms[arm], **changes})


def rng():
    return np.random.default_rng(2000)


def test_what_is_held_out_is_asked_for_and_not_learned_from():
    for arm, axes in (("square", (0, 1)), ("band-x", (0,)), ("band-y", (1,))):
        _, labels = training_data(config(arm), rng())
        held_out, seen = asked_for(config(arm))
        within = (labels > 5) & (labels < 10)
        assert not within[:, list(axes)].all(1).any()
        assert len(held_out) == 49
        assert held_out.min() == 5.5
        assert held_out.max() == 9.5
        assert not ((seen > 4.5) & (seen < 10.5))[:, list(axes)].all(1).any()
    _, square = training_data(config("square"), rng())
    assert set(square[:, 0].tolist()) == {n / 2 for n in range(31)}  # each value is seen


def test_stripes_are_learned_from_as_often_as_bumps():
    images, labels = training_data(config("few-stripes"), rng())
    stripes = (labels == 24).any(1)
    assert 0.4 < stripes.float().mean() < 0.6
    assert len({tuple(place) for place in labels[~stripes].tolist()}) == 14
    assert torch.equal(images[stripes][0, 0, 0], images[stripes][0, 0, 9])
    few, _ = training_data(config("few"), rng())
    assert len(few) == 14


def test_copies_are_right_where_a_training_image_is_within_a_pixel():
    whole = config("balanced")
    assert copied(whole, *training_data(whole, rng()), asked_for(whole)[0]) == 1
    for arm, share in (("square", 24 / 49), ("band-x", 14 / 49)):
        chosen = config(arm)
        assert copied(chosen, *training_data(chosen, rng()), asked_for(chosen)[0]) == pytest.approx(share)
    stripes = config("fine-stripe")
    assert copied(stripes, *training_data(stripes, rng()), asked_for(stripes)[0]) == 1


def test_an_average_forgets_how_it_began():
    values = [torch.tensor([float(number)]) for number in (5, 1, 2)]
    averaged = [values[0].clone()]
    for count, value in enumerate(values[1:], 1):
        diffusion_compose.average(averaged, [value], count, 0.5)
    assert averaged[0].item() == pytest.approx((5 * 0.25 + 1 * 0.5 + 2) / 1.75)


@pytest.mark.parametrize("arm", ["balanced", "square", "coarse-stripe"])
def test_a_trial_is_determined_by_its_seed(performed, arm):
    first, run = performed(trial, config(arm, **TINY), seed=2000)
    again, _ = performed(trial, dataclasses.replace(config(arm, **TINY)), seed=2000)
    assert first == again
    assert 0 <= first["accuracy"] <= 1
    assert ("shown" in first) == (arm == "balanced")
    assert ("seen" in first) == (arm == "square")
    assert len(run.metrics()) > 4


def test_a_summary_tells_when_each_phase_began():
    checks = np.array(  # step, one, accuracy, x, y, and the order in two probes
        [
            [25, 0.0, 0.0, 0.0, 0.0, 1.0, 0.5],
            [50, 0.3, 0.0, 0.1, 0.2, 0.5, 0.3],
            [75, 0.5, 0.2, 0.3, 0.3, 0.7, 0.3],
            [100, 0.6, 0.4, 0.5, 0.4, 0.4, 0.3],
            [125, 1.0, 0.9, 0.9, 0.9, 0.3, 0.3],
            [150, 1.0, 0.7, 0.7, 0.7, 0.2, 0.3],
            [175, 1.0, 1.0, 1.0, 1.0, 0.25, 0.3],
        ]
    )
    trained = config("balanced", steps=175, checks=7)
    phases = summary(trained, checks)
    assert (phases["ordered_at"], phases["single_at"], phases["right_at"]) == (50, 100, 125)
    assert (phases["accuracy_early"], phases["accuracy_end"], phases["order_end"]) == (0.0, 1.0, 0.25)
    assert phases["misplaced_of_single"] == 1.0
    assert phases["together"] == pytest.approx(np.corrcoef(checks[:, 3], checks[:, 4])[0, 1])
    checks[1, 1] = 0.2  # too few for a share of them
    assert summary(trained, checks)["misplaced_of_single"] == pytest.approx(0.6)
    never = summary(trained, checks * [1, 0, 0, 0, 0, 0, 1] + [0, 0, 0, 0, 0, 0.9, 0])
    assert {never[f"{phase}_at"] for phase in ("ordered", "single", "right")} == {350}
    assert never["misplaced_of_single"] == never["together"] == 0
    checks[:, 5:] = np.nan
    assert "order_end" not in summary(config("fine-x", steps=175, checks=7), checks)


def test_a_summary_of_few_checks_takes_the_first_for_an_early_one():
    checks = np.array([[50, 0.5, 0.25, 0.5, 0.5, np.nan, np.nan], [100, 1.0, 1.0, 1.0, 1.0, np.nan, np.nan]])
    assert summary(config("fine-x", steps=100, checks=2), checks)["accuracy_early"] == 0.25


def test_a_sheet_lies_as_its_places_do_whatever_way_codes_are_turned():
    places = asked_for(config("balanced"))[0].double().numpy()
    turn = np.linalg.qr(rng().normal(size=(5, 5)))[0][:2]
    codes = (places * [1.0, 0.8]) @ turn + 3.0
    lying = sheet(codes, places)
    straight = (places - places.mean(0)) * [1.0, 0.8]
    np.testing.assert_allclose(lying, straight / np.sqrt((straight**2).sum(1).mean()), atol=1e-9)
    assert (sheet(np.zeros((64, 5)), places) == 0).all()


def test_frames_show_labels_where_they_lie_and_join_neighbours():
    digits = np.zeros((4, 4, 8, 8), dtype=int)
    digits[0, 3, 5, 6] = 9  # of y 0 and x 3, row 5 and column 6
    shown = picture("".join(map(str, digits.ravel())))
    assert list(zip(*np.nonzero(shown), strict=True)) == [(5, 3 * 8 + 6)]
    codes = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0), indexing="ij"), -1).reshape(-1, 2)
    _, lines, points = snapshot(shown, codes.tolist())
    steps = np.hypot(np.diff(lines.x), np.diff(lines.y))
    assert (steps[np.isfinite(steps)] == 1).all()
    assert np.isfinite(steps).sum() == 2 * 8 * 7
    assert len(points.x) == 64


def test_a_loss_that_is_none_stops_with_its_step(new_run):
    with pytest.raises(FloatingPointError, match=r"the loss is \w+ at step"):
        trial(config("balanced", **(TINY | {"steps": 40, "checks": 1, "learning_rate": 1e30})), new_run(2000))


def test_wider_bumps_hang_together_sooner(new_run):
    result = overlaps(Lattice(draws=4), new_run(2000))
    assert result["onset_1"] < result["onset_0.5"] < result["onset_0.25"]
    assert result["ratio_1"][-1] == 1
