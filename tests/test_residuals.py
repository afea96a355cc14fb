import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.svm import OneClassSVM

from sklearn_ncae.baselines import MeanBrightnessDetector
from sklearn_ncae.residuals import (
    DEFECT_MAP_STATISTICS,
    STATISTICS,
    ResidualStatistics,
    residual_image,
)

REFERENCES = {
    "mean": np.mean,
    "std": np.std,
    "var": np.var,
    "kurtosis": scipy.stats.kurtosis,
    "skewness": scipy.stats.skew,
    "range": np.ptp,
    "min": np.min,
    "max": np.max,
    "sum": lambda r: np.cumsum(r)[-1],
    "entropy": lambda r: scipy.stats.entropy(np.abs(r)),
    "normalized_entropy": lambda r: scipy.stats.entropy(np.abs(r)) / np.log(r.size),
    "mse": lambda r: np.mean(r**2),
    "abs_mean": lambda r: np.mean(np.abs(r)),
    "abs_max": lambda r: np.max(np.abs(r)),
}


def peak(residual):
    image = np.abs(residual.reshape(1, -1) if residual.ndim == 1 else residual)
    image = image if image.ndim == 2 else image.mean(axis=2)
    # The mean of every 2 x 2 pixels, where the last row or column may be alone.
    even = np.pad(image, [(0, side % 2) for side in image.shape], mode="edge")
    halved = even.reshape(len(even) // 2, 2, -1, 2).mean(axis=(1, 3))
    smoothed = np.sort(scipy.ndimage.gaussian_filter(halved, 1.0), axis=None)
    return smoothed[-max(1, round(0.005 * smoothed.size)) :].mean()


def reference(residuals, names=tuple(STATISTICS)):
    residuals = np.asarray(residuals, dtype=np.float64)
    return np.array(
        [
            [peak(r) if name == "abs_peak" else REFERENCES[name](r.ravel()) for name in names]
            for r in residuals
        ]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
@pytest.mark.parametrize("shape", [(3, 300, 300), (4, 31, 17, 3), (5, 12)])
def test_equals_scipy(dtype, shape):
    residuals = (np.random.default_rng(0).gamma(2.0, 20.0, shape) - 30).astype(dtype)
    np.testing.assert_allclose(
        ResidualStatistics().transform(residuals), reference(residuals), rtol=1e-5
    )


@settings(max_examples=100, deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(1, 6)),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_equals_scipy_where_scipy_is_defined(residuals):
    statistics = ResidualStatistics().transform(residuals)
    assert np.isfinite(statistics).all()
    names = list(STATISTICS)
    for row, actual in zip(residuals, statistics, strict=True):
        # The moments of nearly constant values are rounding; entropy of denormals as well.
        if np.ptp(row) < 1e-3 * np.abs(row).max() or np.abs(row).sum() < 1e-30:
            continue
        np.testing.assert_allclose(
            actual, reference(row[None])[0], rtol=1e-5, atol=1e-7, err_msg=str(names)
        )


@pytest.mark.parametrize("value", [0, 1, -0.1, 1e-30, 1e30])
def test_constant_residuals_are_defined(value):
    residuals = np.full((2, 5, 5), value, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        statistics = ResidualStatistics().fit_transform(residuals)[0]
    named = dict(zip(STATISTICS, statistics, strict=True))
    assert np.isfinite(statistics).all()
    assert named["skewness"] == named["kurtosis"] == named["range"] == 0
    if value == 0:
        assert not statistics.any()
    else:
        assert named["normalized_entropy"] == pytest.approx(1)


@pytest.mark.parametrize("unit", [2.0**-120, 2.0**-30, 2.0**30, 2.0**110])
def test_any_unit_in_float32(unit):
    residuals = np.random.default_rng(0).normal(3, 20, (2, 9, 7)).astype(np.float32)
    names = ["skewness", "kurtosis", "entropy", "mean", "std", "abs_max"]
    expected = ResidualStatistics(names).transform(residuals)
    actual = ResidualStatistics(names).transform(residuals * np.float32(unit))
    np.testing.assert_array_equal(actual / [1, 1, 1, unit, unit, unit], expected)


def test_layout_in_memory_is_irrelevant():
    residuals = np.random.default_rng(0).normal(size=(3, 2000)).astype(np.float32)
    np.testing.assert_array_equal(
        ResidualStatistics().transform(np.asfortranarray(residuals)),
        ResidualStatistics().transform(residuals),
    )


def test_one_pixel():
    statistics = ResidualStatistics().transform(np.array([[[3.0]], [[-2.0]]]))
    assert np.isfinite(statistics).all()
    np.testing.assert_array_equal(statistics[:, list(STATISTICS).index("mse")], [9, 4])


def test_each_row_depends_on_its_image_alone():
    residuals = np.random.default_rng(0).normal(size=(50, 37, 41)).astype(np.float32)
    together = ResidualStatistics().transform(residuals)
    for step in (1, 7, 49):
        parts = [residuals[i : i + step] for i in range(0, 50, step)]
        apart = np.concatenate([ResidualStatistics().transform(part) for part in parts])
        np.testing.assert_array_equal(apart, together)


def test_many_images_are_described_in_blocks(monkeypatch):
    residuals = np.random.default_rng(0).normal(size=(10, 4, 5))
    expected = ResidualStatistics().transform(residuals)
    monkeypatch.setattr("sklearn_ncae.residuals._BLOCK_VALUES", 50)
    np.testing.assert_array_equal(ResidualStatistics().transform(residuals), expected)


def test_a_concentrated_residual_has_the_lower_entropy():
    good = np.random.default_rng(0).normal(size=(64, 64))
    defective = good.copy()
    defective[10:13, 20:40] += 50
    entropy, normalized = (
        ResidualStatistics(["entropy", "normalized_entropy"])
        .transform(np.stack([good, defective]))
        .T
    )
    assert entropy[1] < entropy[0]
    assert 0 < normalized[1] < normalized[0] < 1


def test_names_select_and_order():
    residuals = np.random.default_rng(0).normal(size=(3, 4, 4))
    describe = ResidualStatistics(["max", "mse"])
    np.testing.assert_array_equal(describe.get_feature_names_out(), ["max", "mse"])
    np.testing.assert_allclose(
        describe.fit_transform(residuals), reference(residuals, ["max", "mse"])
    )
    assert ResidualStatistics("entropy").transform(residuals).shape == (3, 1)


def test_fitted_on_images_nothing_of_a_table_is_kept():
    statistics = ResidualStatistics().fit(np.ones((2, 9)))
    statistics.fit(np.ones((2, 4, 4)))
    assert not hasattr(statistics, "n_features_in_")
    assert statistics.transform(np.ones((2, 25))).shape == (2, 15)


def test_pandas_output():
    describe = clone(ResidualStatistics()).set_output(transform="pandas")
    frame = describe.fit_transform(np.zeros((2, 3, 3)))
    assert list(frame.columns) == list(STATISTICS)


def test_in_a_pipeline():
    residuals = np.random.default_rng(0).normal(size=(30, 6, 6))
    pipeline = make_pipeline(ResidualStatistics(["mse", "max"]), OneClassSVM()).fit(residuals)
    assert pipeline.predict(residuals).shape == (30,)


@pytest.mark.parametrize("statistics", ["nothing", [], ["mse", "mse"], ["mse", "x"]])
def test_unknown_statistics(statistics):
    with pytest.raises(ValueError, match="Statistics must be one or more different names"):
        ResidualStatistics(statistics).fit(np.zeros((2, 3, 3)))


@pytest.mark.parametrize(
    ("residuals", "message"),
    [
        (np.zeros(5), "must have the shape"),
        (np.zeros((2, 0, 3)), "at least one pixel"),
        (np.zeros((0, 3, 3)), "minimum of 1 is required"),
        (np.full((1, 2, 2), np.nan), "NaN"),
        ([["a", "b"]], "Convert your data"),
        (np.full((1, 2, 2), -1e101), r"at most 1e\+100, got 1e\+101"),
    ],
)
def test_wrong_residuals(residuals, message):
    with pytest.raises(ValueError, match=message):
        ResidualStatistics().transform(residuals)


def test_residual_image():
    images = np.uint8([[[0, 255]]])
    np.testing.assert_array_equal(residual_image(images, np.uint8([[[255, 0]]])), [[[-255, 255]]])
    assert residual_image(images, images).dtype == np.float32
    assert residual_image(images.astype(float), images).dtype == np.float64
    with pytest.raises(ValueError, match="same shape"):
        residual_image(images, images[0])
    with pytest.raises(ValueError, match="contains NaN"):
        residual_image(images, images * np.nan)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 60), st.integers(1, 60)),
        # Few different values, so that many are as high as the lowest that counts.
        elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    ),
    st.booleans(),
)
def test_peak_of_a_map_is_the_mean_of_its_brightest_pixels(maps, noisy):
    if noisy:
        maps = maps + np.random.RandomState(0).uniform(size=maps.shape).astype(np.float32)
    smooth = scipy.ndimage.gaussian_filter(maps, (0, 1, 1)).reshape(len(maps), -1)
    n = max(1, round(0.005 * smooth.shape[1]))
    expected = np.sort(smooth, axis=1)[:, -n:].mean(axis=1, dtype=np.float64)
    peak = DEFECT_MAP_STATISTICS["defect_peak"].compute
    np.testing.assert_array_equal(peak(maps, block_size=2), expected)
    maps[0, 0, 0] = np.nan
    assert np.isnan(peak(maps, block_size=2)[0])


@pytest.mark.parametrize("block_size", [1, 2])
def test_small_defects_are_not_lost_in_large_maps(block_size):
    peak = DEFECT_MAP_STATISTICS["defect_peak"].compute

    def of_map(side):
        maps = np.full((1, side // block_size, side // block_size), 0.01, np.float32)
        maps[:, 40 // block_size : 56 // block_size, 40 // block_size : 56 // block_size] = 0.9
        return peak(maps, block_size)

    np.testing.assert_allclose(of_map(1200), of_map(300), rtol=1e-5)
    assert of_map(300) < of_map(128)  # whose peak has fewer pixels


def test_a_fit_to_images_forgets_the_columns_of_a_table():
    residuals = np.random.default_rng(0).normal(size=(5, 4, 6))
    table = pd.DataFrame(residuals.reshape(5, -1)).rename(columns="pixel {}".format)
    for estimator in (ResidualStatistics(), MeanBrightnessDetector()):
        estimator.fit(table)
        assert len(estimator.feature_names_in_) == estimator.n_features_in_ == 24
        assert not hasattr(estimator.fit(residuals), "feature_names_in_")


def test_a_column_of_residuals():
    residuals = np.random.default_rng(0).normal(size=(5, 4, 6))
    table = pd.DataFrame({"residual": list(residuals)})
    expected = ResidualStatistics().fit_transform(residuals)
    for column in (table, table["residual"]):
        np.testing.assert_array_equal(ResidualStatistics().fit_transform(column), expected)
    with pytest.raises(ValueError, match=r"one size, got shapes \(3, 6\) and \(4, 6\)"):
        ResidualStatistics().fit([residuals[0], residuals[1, :3]])


def test_the_last_block_may_have_fewer_images(monkeypatch):
    residuals = np.random.default_rng(0).normal(size=(10, 4, 5))
    expected = ResidualStatistics().transform(residuals)
    monkeypatch.setattr("sklearn_ncae.residuals._BLOCK_VALUES", 60)  # 3 + 3 + 3 + 1 images
    np.testing.assert_array_equal(ResidualStatistics().transform(residuals), expected)


@pytest.mark.parametrize("value", [0.1, -3.7, 1e-20])
def test_entropy_of_one_pixel_alone_is_exactly_zero(value):
    residuals = np.zeros((1, 37, 41), np.float32)
    residuals[0, 5, 6] = value
    assert ResidualStatistics(["entropy", "normalized_entropy"]).transform(residuals).tolist() == [
        [0, 0]
    ]
