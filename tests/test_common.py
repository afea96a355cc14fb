"""scikit-learn's estimator checks, all of them, with no expected failure."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ncae import NCAEDetector, NCAEReconstructor, ResidualDetector, ResidualStatistics
from sklearn_ncae.baselines import MeanBrightnessDetector, PCAReconstructor
from sklearn_ncae.texture import TextureDetector

ESTIMATORS = [
    MeanBrightnessDetector(),
    NCAEDetector(filters=(2,), epochs=1, random_state=0),
    NCAEReconstructor(filters=(2,), epochs=1, random_state=0),
    PCAReconstructor(2),
    ResidualDetector(PCAReconstructor(2), random_state=0),
    ResidualStatistics(),
    TextureDetector(),
]


@pytest.mark.filterwarnings(
    "ignore:.*held-out good images cannot promise",  # the checks' data are small
    "ignore:Some training images are labelled",  # by chance: they are no labels there
    "ignore::sklearn.exceptions.SkipTestWarning",
)
@pytest.mark.usefixtures("eager_tensorflow")
@parametrize_with_checks(ESTIMATORS)
def test_estimator_checks(estimator, check):
    check(estimator)
