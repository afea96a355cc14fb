"""What the displays share: colours, axes, and reading labels and scores."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sklearn_ncae._fitted_parts import fitted_offset
from sklearn_ncae._optional import import_extra

# Okabe and Ito's palette, which colour-blind readers can tell apart; its yellow is too pale for
# lines. Shapes, hatches and dashes repeat what the colours say.
BLUE, VERMILION = "#0072B2", "#D55E00"
COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", ":")
THRESHOLD_STYLE = {"color": "black", "linestyle": "--", "linewidth": 1.5}

ResponseMethod = Literal["decision_function", "score_samples"]


def make_axes(ax: Any) -> tuple[Any, Any]:
    plt = import_extra("matplotlib.pyplot", "plot")
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    return ax, ax.figure


def finish(ax: Any, *, above: bool = False, loc: str = "best", handles: Any = None) -> None:
    """Give all displays the same frame, grid and legend (above the axes if it could hide data)."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    handles = ax.get_legend_handles_labels()[0] if handles is None else handles
    if above:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1.01), "ncols": 2, "borderaxespad": 0}
        ax.legend(handles=handles, frameon=False, fontsize="small", **place)
    else:
        ax.legend(handles=handles, fontsize="small", loc=loc)


def scores_and_threshold(
    estimator: Any, X: Any, response_method: str
) -> tuple[NDArray[np.float64], float]:
    """Return scores and the threshold that `predict` applies to them."""
    if response_method == "decision_function":
        return np.asarray(estimator.decision_function(X), np.float64), 0.0
    if response_method != "score_samples":
        raise ValueError(
            "response_method must be 'decision_function' or 'score_samples', "
            f"got {response_method!r}."
        )
    scores = np.asarray(estimator.score_samples(X), np.float64)
    offset = fitted_offset(estimator)
    if offset is None:  # but for rounding, decision_function = score_samples - offset_
        offset = float(scores[0] - estimator.decision_function(X[:1])[0])
    return scores, offset
