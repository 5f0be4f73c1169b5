"""Look at what was synthesised."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from tsynd_sk.images import ImageFormat

__all__ = ["SynthesisDisplay"]

# Vermilion, which all kinds of colour vision tell from black.
_CROSSED = "#D55E00"
# Inches; the text of a column fits in at the font sizes of matplotlib's defaults.
_COLUMN = 1.25
_MAX_TITLE = 18


class SynthesisDisplay:
    """Synthetic images below their sources, with their difference and what it did.

    Better made by :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    source, synthetic : ndarray of shape (n, H, W) or (n, H, W, C)
        Real images and those synthesised from them, uint8 or float.
    uncertainty_source, uncertainty : ndarray of shape (n,)
        Mutual information of the sources and of the synthetic images, in nats.
    label_agreement : ndarray of shape (n,), bool
        Whether the classifier takes the synthetic image for what its label says.
    labels : ndarray of shape (n,) or None, default=None
        Labels of the synthetic images.
    value_range : tuple of float or None, default=None
        Values that are drawn black and white. ``None``: (0, 255) for uint8, otherwise the
        extremes of the images shown.

    Attributes
    ----------
    figure_ : matplotlib Figure or SubFigure
        What was drawn on.
    axes_ : ndarray of shape (3, n), matplotlib Axes
        Rows of sources, synthetic images and differences.
    colorbar_ : matplotlib Colorbar
        Scale of the differences.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.inspection import SynthesisDisplay
    >>> X = load_digits_images().X
    >>> display = SynthesisDisplay(
    ...     X[:2],
    ...     0.8 * X[:2],
    ...     uncertainty_source=[0.01, 0.02],
    ...     uncertainty=[0.1, 0.3],
    ...     label_agreement=[True, False],
    ... )
    >>> display.plot(figure=Figure(layout="compressed")).axes_.shape
    (3, 2)
    """

    def __init__(
        self,
        source,
        synthetic,
        *,
        uncertainty_source,
        uncertainty,
        label_agreement,
        labels=None,
        value_range=None,
    ):
        self.source = source
        self.synthetic = synthetic
        self.uncertainty_source = uncertainty_source
        self.uncertainty = uncertainty
        self.label_agreement = label_agreement
        self.labels = labels
        self.value_range = value_range

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X: ArrayLike,
        *,
        n_samples: int = 8,
        y: Any = None,
        random_state: Any = None,
    ) -> SynthesisDisplay:
        """Synthesise images and set them beside their sources; draws nothing yet.

        Parameters
        ----------
        estimator : TargetedSynthesizer or AugmentedClassifier
            Fitted on images.
        X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
            The images that it was fitted on, all of them and in the same order.
        n_samples : int, default=8
            Number of synthetic images. 4 to 12 look well.
        y : label, array-like of labels, mapping from label to count, or None, default=None
            Labels they shall have, as in ``estimator.sample``.
        random_state : int, RandomState instance or None, default=None
            Makes the sample repeatable.

        Returns
        -------
        display : SynthesisDisplay
            Call its :meth:`plot`.

        Raises
        ------
        ValueError
            If `estimator` was fitted on a table, or on other images than `X`.
        sklearn.exceptions.NotFittedError
            If it was not fitted.

        Examples
        --------
        >>> from tsynd_sk.inspection import SynthesisDisplay
        >>> display = SynthesisDisplay.from_estimator(synthesizer, X)  # doctest: +SKIP
        >>> display.plot()  # doctest: +SKIP
        """
        synthesizer = getattr(estimator, "synthesizer_", estimator)
        check_is_fitted(synthesizer, "format_")
        image_format = synthesizer.format_
        if image_format.image_shape is None:
            raise ValueError(
                f"{type(estimator).__name__} was fitted on a table, and SynthesisDisplay shows "
                "images. If its rows are flat images, give it image_shape=(n_channels, height, "
                "width)."
            )
        X = np.asarray(X)
        if X.shape[1:] != image_format.row_shape:
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}, but {type(estimator).__name__} was fitted on "
                f"rows of shape {image_format.row_shape}"
            )
        X_new, y_new, info = synthesizer.sample(
            n_samples, y=y, random_state=random_state, return_info=True
        )
        if info.source_index.max() >= len(X):
            raise ValueError(
                f"X has {len(X)} images, but row {info.source_index.max()} is the source of a "
                "synthetic one: pass the whole X of fit"
            )
        return cls(
            _displayable(X[info.source_index], image_format),
            _displayable(X_new, image_format),
            uncertainty_source=info.uncertainty_source,
            uncertainty=info.uncertainty,
            label_agreement=info.label_agreement,
            labels=y_new,
            # All of X, so that pictures of different samples can be compared.
            value_range=(0, 255) if X.dtype == np.uint8 else (float(X.min()), float(X.max())),
        )

    def plot(self, *, figure=None) -> SynthesisDisplay:
        """Draw one column for every synthetic image.

        Parameters
        ----------
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; a layout such as "compressed" is left to it. ``None``: a new figure of
            pyplot, wide enough for the columns.

        Returns
        -------
        self : SynthesisDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                'SynthesisDisplay.plot needs matplotlib: pip install "tsynd_sk[plot]"'
            ) from error

        self._check()
        source, synthetic = _channels_last(self.source), _channels_last(self.synthetic)
        n = len(source)
        if figure is None:
            aspect = source.shape[2] / source.shape[1]
            # Wider for landscapes, whose rows would be too low for their names.
            width = _COLUMN * max(1, aspect**0.5)
            size = (width * n + 1.2, 3 * width / aspect + 1.0)
            figure = plt.figure(figsize=size, layout="compressed")
        axes = figure.subplots(3, n, squeeze=False)
        low, high = self._limits()
        for row, images in zip(axes, (source, synthetic), strict=False):
            for ax, image in zip(row, images, strict=True):
                _show(ax, image, low, high)
        # Floats, for uint8 would wrap around.
        difference = (synthetic.astype(np.float64) - source).mean(axis=-1)
        bound = float(np.abs(difference).max()) or 1.0
        for ax, image in zip(axes[2], difference, strict=True):
            # Blue and red are told apart by all kinds of colour vision.
            drawn = ax.imshow(image, cmap="RdBu_r", vmin=-bound, vmax=bound)
        self.colorbar_ = figure.colorbar(drawn, ax=axes[2].tolist(), pad=0.1 / n)
        self.colorbar_.set_label(
            f"synthetic − source,\npixels of {low:.3g} to {high:.3g}", fontsize="small"
        )
        self.colorbar_.ax.tick_params(labelsize="small")
        self._annotate(axes)
        self.figure_, self.axes_ = figure, axes
        return self

    def _check(self) -> None:
        shape = np.shape(self.source)
        if len(shape) not in (3, 4) or 0 in shape or np.shape(self.synthetic) != shape:
            raise ValueError(
                "source and synthetic must be images of one shape, (n, height, width) or (n, "
                f"height, width, n_channels); got {shape} and {np.shape(self.synthetic)}"
            )
        for name in ("uncertainty_source", "uncertainty", "label_agreement", "labels"):
            value = getattr(self, name)
            if np.shape(value) != shape[:1] and not (name == "labels" and value is None):
                raise ValueError(
                    f"{name} must have one value for each of the {shape[0]} images; got an array "
                    f"of shape {np.shape(value)}"
                )
        if self.value_range is not None and np.shape(self.value_range) != (2,):
            raise ValueError(f"value_range must be (low, high) or None; got {self.value_range!r}")

    def _limits(self) -> tuple[float, float]:
        if self.value_range is not None:
            low, high = self.value_range
        elif np.asarray(self.source).dtype == np.uint8:
            low, high = 0, 255
        else:
            low = min(np.min(self.source), np.min(self.synthetic))
            high = max(np.max(self.source), np.max(self.synthetic))
        return float(low), float(high)

    def _annotate(self, axes) -> None:
        """Say of every column what its rows cannot show."""
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
        for ax, name in zip(axes[:, 0], ("source", "synthetic", "difference"), strict=True):
            ax.set_ylabel(name, fontsize="small")
        uncertainties = zip(self.uncertainty_source, self.uncertainty, strict=True)
        for i, (before, after) in enumerate(uncertainties):
            if self.labels is not None:
                axes[0, i].set_title(_title(self.labels[i]), fontsize="small")
            kept = bool(self.label_agreement[i])
            axes[1, i].set_title(
                "label kept" if kept else "label crossed",
                fontsize="small",
                color="black" if kept else _CROSSED,
            )
            axes[2, i].set_xlabel(f"MI {before:.3f}\n→ {after:.3f} nats", fontsize="small")


def _displayable(X: np.ndarray, image_format: ImageFormat) -> np.ndarray:
    """Bring images from the user's layout to (n, H, W) or (n, H, W, C), values unchanged."""
    x = image_format.to_tensor(X)
    channels, height, width = x.shape[1:]
    target = ImageFormat((height, width, channels), (channels, height, width), "hwc", X.dtype)
    images = target.to_array(x)
    return images[..., 0] if channels == 1 else images


def _channels_last(images: ArrayLike) -> np.ndarray:
    images = np.asarray(images)
    return images[..., np.newaxis] if images.ndim == 3 else images


def _show(ax, image: np.ndarray, low: float, high: float) -> None:
    """Draw an image (H, W, C): in colour if it has three channels, their mean in grey if not."""
    shares = np.clip((image.astype(np.float64) - low) / ((high - low) or 1.0), 0, 1)
    if image.shape[-1] != 3:
        shares = shares.mean(axis=-1)
    ax.imshow(shares, cmap="gray", vmin=0, vmax=1)


def _title(label) -> str:
    text = label if isinstance(label, str) else f"class {label}"
    return text if len(text) <= _MAX_TITLE else text[: _MAX_TITLE - 1] + "…"
