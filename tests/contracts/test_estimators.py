import numpy as np
import pytest
import torch
from sklearn.decomposition import IncrementalPCA
from sklearn.naive_bayes import GaussianNB

from engram import registry
from engram.analysis import DSA, HankelDMD, LinearProbe, NearestMeanProbe
from engram.plasticity import PlasticAssociativeMemory
from engram.rules.hebbian_conv import HebbianFeatures, ZCAWhitening
from engram.testing.estimator import check_estimator

REGISTERED = {name: registry.get("estimators", name) for name in registry.names("estimators")}
REFERENCE = {"incremental-pca": IncrementalPCA, "gaussian-naive-bayes": GaussianNB}
EXEMPTIONS: dict[str, dict[str, str]] = {
    "dsa": {"check_estimators_dtypes": "one of its rows, a system each, is zero everywhere, which has no dynamics"},
    "plasticity-rule-inference": {
        "check_fit_score_takes_y": "its targets are named activity or choices",
        "check_n_features_in_after_fitting": "its score takes activity rather than y; other input is refused",
        "check_methods_sample_order_invariance": "its samples are steps, in whose order the weights change",
        "check_methods_subset_invariance": "its samples are steps, of which each depends on those before",
    },
    "graph-label-smoother": {"check_positive_only_tag_during_fit": "some of its rows are equal, at no distance"},
}
QUICKER = {
    "dsa": {"restarts": 1},
    "noodl": {"max_iter": 20},
    "plasticity-rule-inference": {"order": 1, "max_iter": 3},
}  # enough for every promise


@pytest.mark.parametrize("name", [*REFERENCE, *REGISTERED])
def test_the_contract_of_estimators(name):
    check_estimator((REFERENCE | REGISTERED)[name](**QUICKER.get(name, {})), exemptions=EXEMPTIONS.get(name))


WIDE = np.random.default_rng(1).normal(size=(8, 7))


@pytest.mark.parametrize(
    ("estimator", "refused"),
    [
        (NearestMeanProbe(), {"X": WIDE, "y": np.linspace(0, 1, 8)}),
        (LinearProbe(), {"X": WIDE, "y": np.zeros(8)}),
        (HankelDMD(n_delays=2), {"X": WIDE[:2]}),
        (HankelDMD(n_delays=2, rank=9), {"X": WIDE[:4]}),
        (DSA(), {"X": WIDE[:, :1]}),
        (ZCAWhitening(), {"X": np.ones((8, 7, 7))}),
        (HebbianFeatures(n_filters=(4,), kernel_sizes=(1,), fan_ins=(None,), lr=(0.1,)), {"X": np.ones((8, 7, 7))}),
        (PlasticAssociativeMemory(), {"X": WIDE / 9, "sample_weight": np.ones(3)}),
    ],
)
@pytest.mark.filterwarnings("ignore:the fitted operator is unstable")
def test_a_fit_that_is_refused_leaves_the_earlier_one(estimator, refused):
    points = np.random.default_rng(0).normal(size=(30, 5))
    fitted = estimator.fit(points / 9, np.arange(30) % 2)
    before = dict(vars(fitted))
    with pytest.raises(ValueError, match=r"\w"):
        fitted.fit(**refused)
    assert vars(fitted).keys() == before.keys()
    assert all(vars(fitted)[name] is value for name, value in before.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_samples_may_be_tensors_of_half_precision(dtype):
    X, y = torch.tensor([[0.0, 1.0], [4.0, 1.0], [0.5, 1.0]], dtype=dtype), torch.tensor([0, 1, 0])
    probe = NearestMeanProbe().fit(X.requires_grad_(), y)
    assert probe.predict(X).tolist() == probe.predict(X.detach().double().numpy()).tolist() == [0, 1, 0]
