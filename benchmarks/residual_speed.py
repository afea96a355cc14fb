"""Time of the residual statistics beside the article's function and a pass over the memory.

The article's function takes a residual image as a list and calls NumPy and SciPy for each
statistic; the same functions are timed on an array as well. What else is timed is per image of a
stack: the statistics of `ResidualStatistics` that are sums and extremes, `abs_peak`, which
smooths the image, and one NumPy sum over the stack.

    python benchmarks/residual_speed.py
    python benchmarks/residual_speed.py --write  # also the table in docs/performance.md
"""

import argparse
from functools import partial
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray
from performance import medians, report

from sklearn_ncae.residuals import STATISTICS, ResidualStatistics

SUMS = [name for name in STATISTICS if name != "abs_peak"]


def article(residual: NDArray[np.float32]) -> list[float]:
    """Compute the statistics of one residual image as the article does."""
    return functions_of([value for row in residual for value in row])


def functions_of(values: Any) -> list[float]:
    """Call the article's functions of the values of a residual image."""
    absolute = np.abs(values)
    return [
        np.mean(values),
        np.std(values),
        np.var(values),
        scipy.stats.kurtosis(values),
        scipy.stats.skew(values),
        np.max(values) - np.min(values),
        np.min(values),
        np.max(values),
        np.cumsum(values)[-1],
        scipy.stats.entropy(absolute),
        np.mean(np.square(values)),
    ]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = []
    for dtype in (np.float32, np.float64):
        shape = (options.images, 300, 300)
        residuals = np.random.default_rng(0).normal(0, 20, shape).astype(dtype)
        time = medians(
            {
                "article": partial(article, residuals[0]),
                "array": partial(functions_of, residuals[0].ravel()),
                "ours": partial(ResidualStatistics(SUMS).transform, residuals),
                "mse": partial(ResidualStatistics("mse").transform, residuals),
                "abs_peak": partial(ResidualStatistics("abs_peak").transform, residuals),
                "pass": partial(np.sum, residuals, axis=(1, 2)),
            },
            options.repetitions,
        )
        ours, one_pass = time["ours"] / options.images, time["pass"] / options.images
        rows.append(
            [
                np.dtype(dtype).name,
                f"{1e3 * time['article']:.1f}",
                f"{1e3 * ours:.3f}",
                f"{time['article'] / ours:.0f}",
                f"{time['array'] / ours:.0f}",
                f"{ours / one_pass:.1f}",
                f"{time['mse'] / options.images / one_pass:.1f}",
                f"{1e3 * time['abs_peak'] / options.images:.1f}",
            ]
        )
    header = [
        "300 x 300 residuals",
        "article's function, ms",
        f"the {len(SUMS)}, ms",
        "times faster",
        "than the same on an array",
        f"the {len(SUMS)}, in sums over the memory",
        "`mse` alone, in sums over the memory",
        "`abs_peak`, ms",
    ]
    report("residuals", header, rows, options.write)


if __name__ == "__main__":
    main()
