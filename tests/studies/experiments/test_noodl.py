from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import sparse_encode

from engram.numeric.unit_rows import unit_rows
from engram.studies.experiments.noodl import experiment
from engram.studies.experiments.noodl.claims import LASSOS
from engram.studies.experiments.noodl.learner import Lasso, Learner, build_learner
from engram.studies.experiments.noodl.synthetic import Synthetic, draw, trial
from engram.tasks import perturb_dictionary


def test_the_metrics_take_the_harder_side():
    claims = {claim.id: claim for claim in experiment.claims}
    results = {
        "noodl": {"error": 1e-9, "error_5": 0.1},
        "noodl-iht": {"error": 1e-8},
        "arora-biased": {"error": 0.2, "averaged_error": 0.3},
        "arora-unbiased": {"error": 0.1, "averaged_error": 0.02},
        **{
            arm: {"error": 0.01 * (i + 1), "averaged_error": 1.0, "error_5": 0.05 * (i + 1)}
            for i, arm in enumerate(LASSOS)
        },
        "nonzero-4": {"error": 1e-9},
        "nonzero-16": {"error": 1e-3},
    }
    assert claims["noodl-beats-all"].measure(results) == pytest.approx(1e-6)
    assert claims["arora-stalls"].measure(results) == 0.02
    assert claims["lasso-leads-early"].measure(results) == pytest.approx(0.5)
    assert claims["up-to-16-atoms"].measure(results) == 1e-3


def test_every_arm_of_a_seed_sees_the_same_samples():
    arms = experiment.arms("laptop")
    main = arms["noodl"].config
    for arm in ("noodl-iht", "noodl-unpruned", "arora-biased", "arora-unbiased", *LASSOS):
        assert replace(arms[arm].config, method=main.method, lasso_alpha=main.lasso_alpha, chosen=()) == main


def test_what_is_chosen_on_other_dictionaries_leaves_the_samples_alone(new_run):
    config = experiment.arms("smoke")["arora-unbiased"].config
    run = new_run()
    chosen = trial(config, run)
    step = run.choices["dict_step"]["chosen"]
    alone, other = (trial(replace(config, chosen=(), dict_step=s), new_run()) for s in (step, 2 * step))
    assert alone["error"] == chosen["error"] != other["error"]


def test_a_lasso_that_forgets_everything_knows_the_last_batch_alone():
    config = replace(experiment.arms("smoke")["lasso-0.1"].config, forgetting=1.0)
    rng = np.random.default_rng(0)
    X, _ = draw(config, unit_rows(rng.standard_normal((20, 16))), rng, 50)
    lasso = build_learner(config, perturb_dictionary(unit_rows(rng.standard_normal((20, 16))), random_state=rng))
    lasso.partial_fit(X[:25])
    before = lasso.components_.copy()
    lasso.partial_fit(X[25:])
    code = sparse_encode(X[25:], before, algorithm="lasso_cd", alpha=0.1)
    np.testing.assert_allclose(lasso._A, code.T @ code / 25, atol=1e-6)
    np.testing.assert_allclose(lasso._B, X[25:].T @ code / 25, atol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_lasso_goes_on_exactly_from_its_state():
    config = experiment.arms("smoke")["lasso-0.1"].config
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
    learners = {name: build_learner(arm.config, np.eye(20, 16)) for name, arm in experiment.arms("smoke").items()}
    assert learners["noodl-iht"].solver == "iht"
    assert learners["arora-unbiased"].update == "arora-unbiased"
    assert isinstance(learners["lasso-0.1"], Lasso)
    assert build_learner(Learner(dict_step=0.0, code_step=0.0), np.eye(3)).get_params().items() >= {
        ("dict_step", "auto"),
        ("code_step", "auto"),
    }


def test_more_atoms_than_there_are_is_named():
    with pytest.raises(ValueError, match="n_nonzero = 251: expected at most n_components = 250"):
        Synthetic(n_nonzero=251)


def test_what_cannot_be_chosen_is_named():
    with pytest.raises(ValueError, match=r"chosen = \('n_nonzero',\): expected some of dict_step, forgetting"):
        Synthetic(chosen=("n_nonzero",))
