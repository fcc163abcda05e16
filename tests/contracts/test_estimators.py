import pytest
from sklearn.decomposition import IncrementalPCA
from sklearn.naive_bayes import GaussianNB

from engram import registry
from engram.testing.estimator import check_estimator

REGISTERED = {name: registry.get("estimators", name) for name in registry.names("estimators")}
REFERENCE = {"incremental-pca": IncrementalPCA, "gaussian-naive-bayes": GaussianNB}
EXEMPTIONS: dict[str, dict[str, str]] = {
    "dsa": {"check_estimators_dtypes": "one of its rows, a system each, is zero everywhere, which has no dynamics"},
    "graph-label-smoother": {"check_positive_only_tag_during_fit": "some of its rows are equal, at no distance"},
}


@pytest.mark.parametrize("name", [*REFERENCE, *REGISTERED])
def test_the_contract_of_estimators(name):
    check_estimator((REFERENCE | REGISTERED)[name](), exemptions=EXEMPTIONS.get(name))
