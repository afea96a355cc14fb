"""Warnings that point at the user's own line."""

import sys
import warnings

# Whoever calls these does not want to read of their lines.
_PASSED_OVER = {"joblib", "sklearn", "sklearn_ncae"}


def warn(message: str) -> None:
    """Warn of the line that led here from outside of this package and scikit-learn.

    Python shows a warning once for each line, so one inside the package would be shown to the
    first caller only.
    """
    level = 2  # who called this, as `warnings.warn` counts
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _PASSED_OVER:
        frame = frame.f_back
        level += 1
    warnings.warn(message, UserWarning, stacklevel=level)
