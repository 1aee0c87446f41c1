"""A calibration of confidences is where the gradient of its convex loss says, whatever the phones are like."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asrkit.decoding.confidence import (
    LOWEST,
    MAX_LOG_ODDS,
    NUM_EVIDENCE,
    PRIOR_PRECISION,
    Calibration,
    fit_calibration,
)


@st.composite
def sets_of_phones(draw):
    """Evidence (n, 4) and which of the phones are right, (n,), NaN for some that are not scored."""
    num_phones = draw(st.integers(0, 60))
    evidence = draw(arrays(float, (num_phones, NUM_EVIDENCE), elements=st.floats(-MAX_LOG_ODDS, MAX_LOG_ODDS)))
    return evidence, draw(arrays(float, num_phones, elements=st.sampled_from([0.0, 1.0, np.nan])))


@settings(max_examples=200, deadline=None)
@given(sets_of_phones())
def test_no_other_calibration_is_more_probable(phones):
    evidence, right = phones
    weights = fit_calibration(evidence, right).weights
    scored = ~np.isnan(right)
    excess = Calibration(*weights)(evidence[scored]) - right[scored]
    gradient = np.append(evidence[scored].T @ excess, excess.sum()) + PRIOR_PRECISION * (
        weights - Calibration().weights
    )
    on_bound = weights == LOWEST
    assert (weights >= LOWEST).all()
    assert (np.abs(gradient[~on_bound]) < 1e-4).all()
    assert (gradient[on_bound] > -1e-4).all()
