import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sklearn_ncae.calibration import conformal_offset, conformal_p_values, promised_rate


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (50, 0.1), (99, 0.01), (200, 0.03)])
def test_promised_false_alarm_rate_holds_on_new_good_images(n, rate):
    rng = np.random.default_rng(0)
    alarms, p_values = [], []
    for _ in range(2000):
        good = rng.gamma(2.0, size=n + 20)  # any distribution will do
        offset, promised = conformal_offset(good[:n], rate)
        assert promised <= rate
        alarms.append(np.mean(good[n:] < offset))
        p_values.append(conformal_p_values(good[:n], good[n:]))
    # The rate is exact for continuous scores: floor(rate * (n + 1)) / (n + 1).
    error = np.std(alarms) / np.sqrt(len(alarms))
    assert np.mean(alarms) == pytest.approx(promised, abs=4 * error)
    assert np.mean(np.concatenate(p_values) <= rate) <= rate + 4 * error


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=60),
    st.sampled_from([0.02, 0.05, 0.1, 0.3, 0.5]),
)
@pytest.mark.filterwarnings("ignore:.*cannot promise")
def test_offset_and_p_values_agree(scores, rate):
    offset, promised = conformal_offset(scores, rate)
    new = np.arange(-4.0, 5.0)
    below = conformal_p_values(scores, new) <= promised + 1e-12
    np.testing.assert_array_equal(new < offset, below)
    # No more than the promised share of the scores lies below.
    assert np.sum(np.less(scores, offset)) <= promised * (len(scores) + 1) - 1 + 1e-9


def test_p_values_against_counting():
    rng = np.random.default_rng(1)
    calibration, scores = rng.integers(0, 9, 30), rng.integers(-1, 10, 50)
    expected = [(1 + np.sum(calibration <= score)) / 31 for score in scores]
    np.testing.assert_array_equal(conformal_p_values(calibration, scores), expected)


def test_too_few_images_say_what_they_can_promise():
    with pytest.warns(UserWarning, match=r"lowest they can is 0\.0909.*At least 19 are needed"):
        offset, promised = conformal_offset(np.arange(10), 0.05)
    assert (offset, promised) == (0, 1 / 11)


def test_rounding_costs_no_rank():
    # 0.29 * 100 is a little less than 29 in floating point.
    assert conformal_offset(np.arange(99), 0.29) == (28, 0.29)
    # Nor is there one more for a rate that is nearly 1.
    assert conformal_offset([1.0, 2.0], 1 - 1e-12) == (2.0, 2 / 3)
    with pytest.raises(ValueError, match="offset is nan"):
        promised_rate([1.0, 2.0], np.nan)


@pytest.mark.parametrize("rate", [0, 1, -0.1, np.nan])
def test_rate_out_of_range(rate):
    with pytest.raises(ValueError, match="false_alarm_rate must be larger than 0"):
        conformal_offset([1.0, 2.0], rate)


def test_wrong_scores():
    with pytest.raises(ValueError, match="at least one score"):
        conformal_offset([], 0.1)
    with pytest.raises(ValueError, match="one-dimensional"):
        conformal_p_values([[1.0]], [1.0])
    with pytest.raises(ValueError, match="finite"):
        conformal_p_values([1.0, np.nan], [1.0])
    assert conformal_p_values([1.0], []).shape == (0,)


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.floats(0.01, 0.99, allow_nan=False)
)
def test_promised_rate_of_a_conformal_offset_is_its_rate(scores, rate):
    assume(rate * (len(scores) + 1) >= 1)
    offset, promised = conformal_offset(scores, rate)
    # Ties with the offset are not below it: they promise more than the rank alone.
    assert promised_rate(scores, offset) <= promised
    distinct = np.arange(len(scores), dtype=float)
    offset, promised = conformal_offset(distinct, rate)
    assert promised_rate(distinct, offset) == promised


def test_promised_rate_at_the_ends():
    assert promised_rate([1.0, 2.0, 3.0], -np.inf) == 0.25
    assert promised_rate([1.0, 2.0, 3.0], np.inf) == 1.0


@pytest.mark.parametrize(("rate", "n_needed"), [(0.03, 33), (1 - 0.9, 9), (0.05, 19)])
def test_so_many_images_promise_the_rate_and_no_fewer(rate, n_needed):
    with pytest.warns(UserWarning, match=f"At least {n_needed} are needed"):
        conformal_offset(np.arange(n_needed - 1), rate)
    _, promised = conformal_offset(np.arange(n_needed), rate)
    assert promised <= rate + 1e-9


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_scores_are_refused(value):
    with pytest.raises(ValueError, match="nan or infinity"):
        conformal_offset([1.0, value], 0.5)
