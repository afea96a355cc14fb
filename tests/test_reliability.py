"""What the benchmark of reliability tries thousands of times, a few times."""

import importlib.util
import pickle
from pathlib import Path

import bad_input
import pytest

from sklearn_ncae import NCAEDetector, persistence

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "reliability.py"


@pytest.fixture(scope="module")
def reliability():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))
        spec = importlib.util.spec_from_file_location("reliability", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def detector(good_images, eagerly):
    detector = NCAEDetector(filters=(2, 3), epochs=1, contamination=0.1, random_state=0)
    with eagerly():
        return detector.fit(good_images)


@pytest.mark.parametrize("how", ["pickle", "model file"])
def test_scoring_from_threads_equals_serial(how, reliability, detector, good_images, tmp_path):
    # The one builds its network when it first scores, the other only compiles it then.
    if how == "pickle":
        copied = pickle.loads(pickle.dumps(detector))
    else:
        persistence.save(detector, tmp_path / "detector.ncae")
        copied = persistence.load(tmp_path / "detector.ncae")
    assert reliability.score_from_threads(copied, good_images, n_threads=8, n_calls=400) == 400


def test_scoring_again_and_again_takes_no_more_memory(reliability, detector, good_images):
    reliability.score_repeatedly(detector, good_images, n_calls=300)


def test_what_threads_get_wrong_is_seen(reliability, detector, good_images):
    class Wrong:
        calls = 0

        def score_samples(self, X):
            self.calls += 1
            return detector.score_samples(X) + (self.calls % 200 == 0)

    with pytest.raises(AssertionError, match="differ from those of one thread"):
        reliability.score_from_threads(Wrong(), good_images, n_threads=2, n_calls=200)


def test_the_tables_of_the_page(reliability):
    rows, n_read = reliability.try_files()
    assert 0 < n_read < len(rows)
    assert reliability._listed([], ["a", "b"]) == "none"
    assert reliability._listed(["a", "b"], ["a", "b"]) == "all"
    assert reliability._listed(["a", "b"], ["a", "b", "c"]) == "all but c"
    assert reliability._shown(ValueError("one | two\nthree")) == r"ValueError: one \| two"


def test_the_page_of_bad_input_has_every_case():
    text = (SCRIPT.parents[1] / "docs" / "bad_input.md").read_text()
    cases = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if "| " in line]
    expected = ["input", "---", *bad_input.ARRAYS, "file", "---", *bad_input.FILES]
    assert cases == expected, "python benchmarks/reliability.py writes the page anew"
    assert all(f"`{name}`" in text for name in bad_input.Tools.NAMES)
