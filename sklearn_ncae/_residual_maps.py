"""The display of images beside their reconstructions and residuals."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_ncae._fitted_parts import part_with
from sklearn_ncae._image_arrays import strongest_channel
from sklearn_ncae._labels import check_detection_labels
from sklearn_ncae._optional import import_extra
from sklearn_ncae.residuals import residual_image

_MAX_ROWS = 50
_VERDICTS = {
    (1, 1): "good, passed",
    (1, -1): "good, false alarm",
    (-1, -1): "defect, found",
    (-1, 1): "defect, missed",
}


class ResidualMapDisplay:
    """Images, their reconstructions and where the two differ, one row per image.

    The residual is drawn over a pale copy of the image: orange where the image is brighter than
    its reconstruction, blue where it is darker, nothing where they agree. All rows share one
    colour scale, so that a good part looks quiet beside a defective one.

    Use `from_estimator` or `from_predictions` to create a display; all parameters are stored as
    attributes.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, c)
        Images of any real dtype. Three channels are drawn as RGB; for any other number the
        mean of the channels is drawn in gray.
    reconstructions : ndarray of the shape of `images`
        Reconstructions in the units of `images`.
    masks : ndarray of shape (n, h, w), default=None
        Non-zero where the true defect is; its outline is drawn over the residual.
    scores : ndarray of shape (n,), default=None
        Scores written beside the rows; lower is more abnormal.
    decisions : ndarray of shape (n,), default=None
        +1 for images that were passed, -1 for images that were flagged.
    labels : ndarray of shape (n,), default=None
        True labels, +1 for good and -1 for a defect.

    Attributes
    ----------
    ax_ : ndarray of shape (n, 3) of matplotlib Axes
        One row per image: image, reconstruction, residual.
    figure_ : matplotlib Figure
        The figure that holds them.
    colorbar_ : matplotlib Colorbar
        The scale shared by all residuals.

    See Also
    --------
    ScoreDistributionDisplay : The scores of many images instead of the maps of a few.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae.inspection import ResidualMapDisplay
    >>> images = np.random.default_rng(0).integers(90, 110, (2, 16, 16)).astype("uint8")
    >>> images[1, 4:8, 4:8] = 200
    >>> display = ResidualMapDisplay.from_predictions(
    ...     images, np.full(images.shape, 100.0), y=[1, -1]
    ... )
    >>> display.ax_.shape
    (2, 3)
    """

    def __init__(
        self,
        *,
        images: NDArray[Any],
        reconstructions: NDArray[Any],
        masks: NDArray[Any] | None = None,
        scores: NDArray[Any] | None = None,
        decisions: NDArray[Any] | None = None,
        labels: NDArray[Any] | None = None,
    ) -> None:
        self.images = images
        self.reconstructions = reconstructions
        self.masks = masks
        self.scores = scores
        self.decisions = decisions
        self.labels = labels

    def plot(
        self,
        ax: Any = None,
        *,
        limit: float | None = None,
        cmap: Any = None,
        mask_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes of shape (n, 3), default=None
            Where to draw. A single Axes, made by ``plt.subplots`` or a gridspec, is divided
            into n rows of 3. If None, a new figure is made.
        limit : float, default=None
            Residual, in the units of the images, at which the colour is strongest. If None, it
            is taken from the most abnormal row: the 99.5th percentile of its absolute residual.
            Give the same limit to compare several figures.
        cmap : str or matplotlib Colormap, default=None
            A diverging colour map; by default blue to orange, which colour-blind readers
            can tell apart.
        mask_kw : dict, default=None
            Keywords for the ``Axes.contour`` that outlines the masks.

        Returns
        -------
        ResidualMapDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are more than 50 rows, `limit` is not positive, or `ax` does not fit.
        """
        plt = import_extra("matplotlib.pyplot", "plot")
        colors = import_extra("matplotlib.colors", "plot")
        n_rows = len(self.images)
        _check_row_count(n_rows)
        if limit is not None and not limit > 0:
            raise ValueError(f"limit must be positive, got {limit!r}; pass None to choose it.")

        residuals = strongest_channel(residual_image(self.images, self.reconstructions))
        if limit is None:
            # The percentile ignores single hot pixels; the maximum over rows keeps the noise of
            # good rows pale next to a defect, however small the defect is.
            magnitude = np.abs(residuals).reshape(n_rows, -1)
            limit = float(np.percentile(magnitude, 99.5, axis=1).max()) or 1.0
        if cmap is None:
            cmap = colors.LinearSegmentedColormap.from_list(
                "blue_orange", ["#0b4a8f", "#2f8fd8", "#f4f4f4", "#f5870a", "#b34700"]
            )
        norm = colors.Normalize(-limit, limit)
        low, high = _display_range(self.images)

        axes = self._make_axes(ax, plt)
        for row, row_axes in enumerate(axes):
            image = _as_picture(self.images[row], low, high)
            reconstruction = _as_picture(self.reconstructions[row], low, high)
            # Lifted towards white, so that the colours of the residual stand out on dark parts.
            pale = 0.45 + 0.55 * (image if image.ndim == 2 else image.mean(axis=-1))
            for axis, picture in zip(row_axes, (image, reconstruction, pale), strict=True):
                axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
            # Opacity follows the size of the residual: what is as expected stays the image.
            opacity = np.clip(np.abs(residuals[row]) / limit, 0, 1)
            overlay = row_axes[2].imshow(
                residuals[row], cmap=cmap, norm=norm, alpha=opacity, interpolation="nearest"
            )
            # contour warns about a mask without an edge, which a good part has.
            mask = None if self.masks is None else np.asarray(self.masks[row], bool)
            if mask is not None and mask.any() and not mask.all():
                row_axes[2].contour(
                    mask,
                    **{"levels": [0.5], "colors": "black", "linewidths": 1.0} | (mask_kw or {}),
                )
            row_axes[0].set_ylabel(
                self._row_text(row), rotation=0, ha="right", va="center", labelpad=8
            )
        for axis, title in zip(axes[0], ("image", "reconstruction", "residual"), strict=True):
            axis.set_title(title)

        # A mappable of its own: the overlay's opacity would make the scale fade out.
        self.colorbar_ = self.figure_.colorbar(
            plt.cm.ScalarMappable(norm, overlay.get_cmap()),
            ax=list(axes[:, 2]),
            extend="both",
            fraction=0.08 if n_rows > 1 else 0.046,
            pad=0.04,
            aspect=min(12 * n_rows, 40),
        )
        self.colorbar_.set_label(
            "darker  \N{LEFTWARDS ARROW}  than reconstructed  \N{RIGHTWARDS ARROW}  brighter"
        )
        self.colorbar_.outline.set_visible(False)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        masks: ArrayLike | None = None,
        image_shape: tuple[int, ...] | None = None,
        pos_label: Any = None,
        ax: Any = None,
        limit: float | None = None,
        cmap: Any = None,
        mask_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Reconstruct, score and draw some images with a fitted detector.

        Parameters
        ----------
        estimator : estimator
            A fitted outlier detector with a ``reconstruct`` method, or a Pipeline, a search or
            another meta-estimator (``best_estimator_``, ``detector_``) around one.
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, h * w * c)
            At most 50 images, or what a Pipeline takes in their place, such as paths.
        y : array-like of shape (n,), default=None
            True labels, +1 for good and -1 for a defect.
        masks : array-like of shape (n, h, w), default=None
            Non-zero where the true defect is.
        image_shape : tuple (h, w) or (h, w, c), default=None
            Shape of an image where `X` is flat. By default the detector's ``image_shape_``.
        pos_label : int, bool or str, default=None
            The label of defects where `y` is not +1/-1.
        ax, limit, cmap, mask_kw
            As in `plot`.

        Returns
        -------
        ResidualMapDisplay
            The drawn display, with the decision function as `scores`.

        Raises
        ------
        TypeError
            If no ``reconstruct`` method is found.
        ValueError
            If the shapes do not fit or there are more than 50 images.
        """
        _check_row_count(X.shape[0] if hasattr(X, "shape") else len(X))
        part, images = part_with(estimator, "reconstruct", X)
        if part is None:
            raise TypeError(
                f"{type(estimator).__name__} has no reconstruct method, so there are no residuals "
                "to draw. Use a detector that reconstructs images, or give the reconstructions to "
                "ResidualMapDisplay.from_predictions."
            )
        images = np.asarray(images)
        reconstructions = np.asarray(part.reconstruct(images))
        if images.ndim == 2:
            shape = image_shape or getattr(part, "image_shape_", None)
            if shape is None:
                raise ValueError(
                    f"X is flat, of shape {images.shape}: pass image_shape=(h, w) or (h, w, c)."
                )
            images = images.reshape(-1, *shape)
            reconstructions = reconstructions.reshape(images.shape)
        scores = np.asarray(estimator.decision_function(X), np.float64)
        return cls.from_predictions(
            images,
            reconstructions,
            y=y,
            masks=masks,
            scores=scores,
            decisions=np.where(scores >= 0, 1, -1),
            pos_label=pos_label,
            ax=ax,
            limit=limit,
            cmap=cmap,
            mask_kw=mask_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        images: ArrayLike,
        reconstructions: ArrayLike,
        *,
        y: ArrayLike | None = None,
        masks: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        decisions: ArrayLike | None = None,
        pos_label: Any = None,
        ax: Any = None,
        limit: float | None = None,
        cmap: Any = None,
        mask_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw images and reconstructions that were computed before.

        Parameters
        ----------
        images : array-like of shape (n, h, w) or (n, h, w, c)
            At most 50 images.
        reconstructions : array-like of the shape of `images`
            Reconstructions in the units of `images`.
        y : array-like of shape (n,), default=None
            True labels, +1 for good and -1 for a defect.
        masks : array-like of shape (n, h, w), default=None
            Non-zero where the true defect is.
        scores, decisions : array-like of shape (n,), default=None
            Scores (lower is more abnormal) and predictions (+1 or -1).
        pos_label : int, bool or str, default=None
            The label of defects where `y` is not +1/-1.
        ax, limit, cmap, mask_kw
            As in `plot`.

        Returns
        -------
        ResidualMapDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the shapes do not fit or there are more than 50 images.
        """
        images, reconstructions = np.asarray(images), np.asarray(reconstructions)
        if images.ndim not in (3, 4):
            raise ValueError(
                f"images must have shape (n, h, w) or (n, h, w, c), got {images.shape}; "
                "add a leading axis to a single image, reshape flat ones."
            )
        labels = (
            None if y is None else check_detection_labels(y, pos_label=pos_label, need_both=False)
        )
        given = {"reconstructions": (reconstructions, images.shape)}
        for name, value, shape in (
            ("masks", masks, images.shape[:3]),
            ("scores", scores, images.shape[:1]),
            ("decisions", decisions, images.shape[:1]),
            ("y", labels, images.shape[:1]),
        ):
            if value is not None:
                given[name] = (np.asarray(value), shape)
        for name, (array, shape) in given.items():
            if array.shape != shape:
                raise ValueError(
                    f"{name} must have shape {shape} for images of shape {images.shape}, "
                    f"got {array.shape}."
                )
        arrays = {name: array for name, (array, _) in given.items()}
        if "decisions" in arrays:
            arrays["decisions"] = check_detection_labels(arrays["decisions"], need_both=False)
        display = cls(images=images, labels=arrays.pop("y", None), **arrays)
        return display.plot(ax=ax, limit=limit, cmap=cmap, mask_kw=mask_kw)

    def _make_axes(self, ax: Any, plt: Any) -> NDArray[Any]:
        """Set and return `ax_`, and set `figure_`."""
        n_rows = len(self.images)
        if isinstance(ax, np.ndarray | list):
            axes = np.array(ax, dtype=object)
            if n_rows == 1:
                axes = np.atleast_2d(axes)
            if axes.shape != (n_rows, 3):
                raise ValueError(
                    f"{n_rows} images need an array of Axes of shape ({n_rows}, 3), "
                    f"got {axes.shape}."
                )
            self.ax_, self.figure_ = axes, axes[0, 0].figure
        elif ax is None:
            height, width = np.shape(self.images)[1:3]
            # 2.1 inches per image along its longer side, whatever the aspect.
            longer = max(height, width)
            self.figure_, self.ax_ = plt.subplots(
                n_rows,
                3,
                squeeze=False,
                layout="constrained",
                figsize=(6.6 * width / longer + 2.0, 2.1 * n_rows * height / longer + 0.4),
            )
            # The row texts reach the edge of the figure.
            self.figure_.get_layout_engine().set(w_pad=0.1)
        else:
            if ax.get_subplotspec() is None:
                raise ValueError(
                    "ax is not part of a grid, so it cannot be divided into rows; make it with "
                    f"plt.subplots, or pass an array of Axes of shape ({n_rows}, 3)."
                )
            ax.set_axis_off()
            self.figure_ = ax.figure
            self.ax_ = ax.get_subplotspec().subgridspec(n_rows, 3).subplots(squeeze=False)
        return self.ax_

    def _row_text(self, row: int) -> str:
        """Return what is known about one image: label, decision and score."""
        label = None if self.labels is None else int(self.labels[row])
        decision = None if self.decisions is None else int(self.decisions[row])
        lines = []
        if label is not None and decision is not None:
            lines += [part.strip() for part in _VERDICTS[label, decision].split(",")]
        elif label is not None:
            lines.append("good" if label == 1 else "defect")
        elif decision is not None:
            lines.append("passed" if decision == 1 else "flagged")
        if self.scores is not None:
            lines.append(f"score {self.scores[row]:.3g}")
        return "\n".join(lines)


def _check_row_count(n_rows: int) -> None:
    if not 1 <= n_rows <= _MAX_ROWS:
        raise ValueError(
            f"ResidualMapDisplay draws one row per image and takes 1 to {_MAX_ROWS} of them, got "
            f"{n_rows}. Choose some, such as the most abnormal: "
            "X[np.argsort(detector.score_samples(X))[:8]]."
        )


def _display_range(images: NDArray[Any]) -> tuple[float, float]:
    """Return the values drawn black and white: 0 to 255 for uint8, else those of the images.

    All rows share them, and 12 bits in 16 are not to be drawn nearly black.
    """
    if images.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(np.min(images)), float(np.max(images))
    return low, high if high > low else low + 1.0


def _as_picture(image: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """Scale an image to [0, 1], as (h, w) or as RGB (h, w, 3)."""
    picture = np.clip((np.asarray(image, np.float64) - low) / (high - low), 0, 1)
    return picture if picture.ndim == 2 or picture.shape[-1] == 3 else picture.mean(axis=-1)
