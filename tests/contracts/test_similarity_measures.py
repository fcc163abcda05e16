"""Every registered measure of similarity keeps the contract."""

import pytest

from engram import registry
from engram.testing import check_similarity_measure


@pytest.mark.parametrize("name", registry.names("similarity_measures"))
def test_measure_keeps_its_promises(name):
    check_similarity_measure(registry.get("similarity_measures", name))
