from dataclasses import replace

import numpy as np
import pytest

from engram.experiments import noodl
from engram.experiments.noodl import arms
from engram.experiments.noodl.claims import LASSOS
from engram.experiments.noodl.learner import Lasso, Learner, build_learner
from engram.experiments.noodl.synthetic import Synthetic, draw
from engram.numeric.unit_rows import unit_rows
from engram.tasks import perturb_dictionary


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in arms(config).items()}


LAPTOP = noodl.experiment.presets["laptop"].config
SMOKE = noodl.experiment.presets["smoke"].config


def test_the_main_arm_is_the_published_demonstration():
    main = configs(LAPTOP)["noodl"]
    assert (main.n_features, main.n_components, main.n_nonzero, main.batch_size) == (200, 250, 8, 500)
    assert (main.coef_min, main.code_step, main.threshold, main.dict_step) == (1.0, 0.2, 0.1, 15.0)
    assert main.start_radius == 2.0
    large = configs(noodl.experiment.presets["paper"].config)["large"]
    assert (large.n_features, large.n_components, large.n_nonzero, large.batch_size) == (1000, 1500, 100, 2000)
    assert (large.dict_step, large.updates, large.start_radius) == (15.0, 50, 1.0)


def test_the_metrics_take_the_harder_side():
    claims = {claim.id: claim for claim in noodl.claims}
    results = {
        "noodl": {"error": 1e-8, "error_5": 0.1},
        "arora-biased": {"error": 0.2},
        "arora-unbiased": {"error": 0.1},
        **{arm: {"error": 0.01 * (i + 1), "error_5": 0.05 * (i + 1)} for i, arm in enumerate(LASSOS)},
        "nonzero-4": {"error": 1e-9},
        "nonzero-16": {"error": 1e-3},
        **{f"noise-{s}": {"error": 2 * s} for s in (0.01, 0.03)},
        "noise-0.1": {"error": 0.17},
    }
    assert claims["noodl-beats-all"].metric(results) == pytest.approx(1e-6)
    assert claims["arora-stalls"].metric(results) == 0.1
    assert claims["lasso-leads-early"].metric(results) == pytest.approx(0.5)
    assert claims["up-to-16-atoms"].metric(results) == 1e-3
    assert claims["noise-floor"].metric(results) == pytest.approx(0.3)


def test_every_arm_of_a_seed_sees_the_same_samples():
    main = configs(LAPTOP)["noodl"]
    for arm in ("noodl-iht", "noodl-unpruned", "arora-biased", "arora-unbiased", *LASSOS):
        config = configs(LAPTOP)[arm]
        assert replace(config, method=main.method, lasso_alpha=main.lasso_alpha) == main


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_lasso_goes_on_exactly_from_its_state():
    config = configs(SMOKE)["lasso-0.1"]
    rng = np.random.default_rng(0)
    X, _ = draw(config, unit_rows(rng.standard_normal((20, 16))), rng, 50)
    start = perturb_dictionary(unit_rows(rng.standard_normal((20, 16))), random_state=rng)
    given = start.copy()
    whole, first, second = (build_learner(config, start) for _ in range(3))
    np.testing.assert_array_equal(start, given)
    second.load_state_dict(first.state_dict())  # before there is any
    for chunk in (X[:25], X[25:]):
        whole.partial_fit(chunk)
    first.partial_fit(X[:25])
    second.load_state_dict(first.state_dict())
    second.partial_fit(X[25:])
    np.testing.assert_array_equal(second.components_, whole.components_)


def test_what_learns_is_what_the_arm_says():
    found = {arm: build_learner(config, np.eye(20, 16)) for arm, config in configs(SMOKE).items()}
    assert found["noodl-iht"].solver == "iht"
    assert found["arora-unbiased"].update == "arora-unbiased"
    assert isinstance(found["lasso-0.1"], Lasso)
    assert build_learner(Learner(dict_step=0.0, code_step=0.0), np.eye(3)).get_params().items() >= {
        ("dict_step", "auto"),
        ("code_step", "auto"),
    }


def test_more_atoms_than_there_are_is_named():
    with pytest.raises(ValueError, match="n_nonzero = 251: expected at most n_components = 250"):
        Synthetic(n_nonzero=251)
