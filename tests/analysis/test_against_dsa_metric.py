"""Agreement with dsa-metric 2.0.2; dsa_metric.py, beside this file, made its answers in dsa_metric.json."""

import json
from pathlib import Path

import numpy as np
import pytest

from engram.analysis import HankelDMD, operator_distance, spectral_distance

FOUND = json.loads(Path(__file__).with_name("dsa_metric.json").read_text())
PAIRS = [{key: np.array(value) for key, value in pair.items()} for pair in FOUND["pairs"]]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: str(len(pair["A"])))
def test_the_same_spectral_score(pair):
    # Theirs is computed with 32-bit numbers.
    assert spectral_distance(pair["A"], pair["B"], squared=True) == pytest.approx(pair["wasserstein"], rel=1e-4)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: str(len(pair["A"])))
def test_no_larger_angle(pair):
    assert operator_distance(pair["A"], pair["B"]) <= pair["angular"] + 1e-6


def test_the_same_operator():
    dmd = HankelDMD(FOUND["delays"], rank=FOUND["rank"], reg=0.0).fit(np.array(FOUND["trials"]))
    theirs = np.array(FOUND["eigenvalues"]) @ [1, 1j]
    np.testing.assert_allclose(
        np.sort_complex(np.linalg.eigvals(dmd.operator_)), np.sort_complex(theirs), rtol=0, atol=1e-4
    )
