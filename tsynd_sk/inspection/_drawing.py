"""What the displays have in common: images as matplotlib shows them, and checks of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from tsynd_sk._utils._validation import type_name
from tsynd_sk.images import ImageFormat

# Vermilion, which all kinds of colour vision tell from black.
CROSSED = "#D55E00"
# Okabe and Ito's palette without vermilion: all kinds of colour vision tell these apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "black")
_MAX_LABEL = 18


def pyplot(who: str):
    """Import pyplot, or say how to get it.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f'{who} needs matplotlib: pip install "tsynd_sk[plot]"') from error
    return plt


def image_format_of(estimator: Any, X: np.ndarray, display: str) -> tuple[Any, ImageFormat]:
    """Give the fitted synthesizer in an estimator, and how its images are laid out.

    Parameters
    ----------
    estimator : TargetedSynthesizer or AugmentedClassifier
        Fitted on images.
    X : ndarray of shape (n, ...)
        Images in the layout of `fit`.
    display : str
        Name of the display, for messages.

    Returns
    -------
    synthesizer : TargetedSynthesizer
    image_format : ImageFormat

    Raises
    ------
    ValueError
        If the estimator was fitted on a table, or on rows of another shape.
    sklearn.exceptions.NotFittedError
        If it was not fitted.
    """
    synthesizer = getattr(estimator, "synthesizer_", estimator)
    check_is_fitted(synthesizer, "format_")
    image_format = synthesizer.format_
    name = type(estimator).__name__
    if image_format.image_shape is None:
        raise ValueError(
            f"{name} was fitted on a table, and {display} shows images. If its rows are flat "
            "images, give it image_shape=(n_channels, height, width)."
        )
    if X.shape[1:] != image_format.row_shape:
        raise ValueError(
            f"X has rows of shape {X.shape[1:]}, but {name} was fitted on rows of shape "
            f"{image_format.row_shape}"
        )
    return synthesizer, image_format


def as_displayed(X: np.ndarray, image_format: ImageFormat) -> np.ndarray:
    """Bring images from the user's layout to (n, H, W) or (n, H, W, C), values unchanged."""
    x = image_format.to_tensor(X)
    channels, height, width = x.shape[1:]
    target = ImageFormat((height, width, channels), (channels, height, width), "hwc", X.dtype)
    images = target.to_array(x)
    return images[..., 0] if channels == 1 else images


def channels_last(images: ArrayLike) -> np.ndarray:
    """Give grey images (n, H, W) the axis of channels that colour images (n, H, W, C) have."""
    images = np.asarray(images)
    return images[..., np.newaxis] if images.ndim == 3 else images


def range_of(X: np.ndarray) -> tuple[float, float]:
    """Give the values to draw black and white: those of the type, or the extremes of floats."""
    return (0, 255) if X.dtype == np.uint8 else (float(X.min()), float(X.max()))


def image_limits(
    value_range: tuple[float, float] | None, first: ArrayLike, *others: ArrayLike
) -> tuple[float, float]:
    """Give the values to draw black and white if the user may have named them."""
    if value_range is not None:
        low, high = value_range
    elif np.asarray(first).dtype == np.uint8:
        low, high = 0, 255
    else:
        low = min(np.min(images) for images in (first, *others))
        high = max(np.max(images) for images in (first, *others))
    return float(low), float(high)


def show_image(ax: Any, image: np.ndarray, low: float, high: float):
    """Draw an image (H, W, C): in colour if it has three channels, their mean in grey if not."""
    shares = np.clip((image.astype(np.float64) - low) / ((high - low) or 1.0), 0, 1)
    if image.shape[-1] != 3:
        shares = shares.mean(axis=-1)
    return ax.imshow(shares, cmap="gray", vmin=0, vmax=1)


def label_text(label: Any) -> str:
    """Write a label, shortened: names as they are, anything else as a class."""
    text = label if isinstance(label, str) else f"class {label}"
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"


def check_lengths(n: int, what: str, **values: Any) -> None:
    """Refuse what is not one value for each of `n` things, named by `what` in the plural.

    Raises
    ------
    ValueError
        If the shape of a value is not (n,).
    """
    for name, value in values.items():
        if np.shape(value) != (n,):
            raise ValueError(
                f"{name} must have one value for each of the {n} {what}; got an array of shape "
                f"{np.shape(value)}"
            )


def check_value_range(value_range: Any) -> None:
    """Refuse what is neither (low, high) nor None.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if value_range is not None and np.shape(value_range) != (2,):
        raise ValueError(f"value_range must be (low, high) or None; got {value_range!r}")


def fitted_synthesizer(estimator: Any) -> Any:
    """Give the fitted synthesizer that an estimator is or has.

    Raises
    ------
    TypeError
        If `estimator` is neither of the two estimators.
    sklearn.exceptions.NotFittedError
        If it was not fitted.
    """
    # Here, for they take long to import, and displays of given arrays do without.
    from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer

    if not isinstance(estimator, TargetedSynthesizer | AugmentedClassifier):
        raise TypeError(
            "estimator must be a fitted TargetedSynthesizer or AugmentedClassifier, got "
            f"{type_name(estimator)}"
        )
    check_is_fitted(estimator)
    return getattr(estimator, "synthesizer_", estimator)


def place_of(ax: Any, figure: Any) -> Any:
    """Give the figure that several axes are to be made in: the user's, or one in place of an Axes.

    Parameters
    ----------
    ax : matplotlib Axes or None
        One of a grid of subplots; its own frame vanishes.
    figure : matplotlib Figure, SubFigure or None
        What is given back where `ax` is None.

    Raises
    ------
    TypeError
        If `ax` is no Axes.
    ValueError
        If both are given, or `ax` is at no place in a grid.
    """
    if ax is None:
        return figure
    if figure is not None:
        raise ValueError("ax and figure were both given; give one of the two, or none")
    if not hasattr(ax, "get_subplotspec"):
        raise TypeError(f"ax must be a matplotlib Axes or None, got {type_name(ax)}")
    if (spec := ax.get_subplotspec()) is None:
        raise ValueError(
            "ax must be one of a grid of subplots, as plt.subplots gives, for several axes are "
            "made in its place; to draw elsewhere, give figure a Figure or SubFigure"
        )
    ax.set_axis_off()
    return ax.get_figure().add_subfigure(spec)


def new_figure(who: str, figure: Any, size: tuple[float, float], layout: str = "constrained"):
    """Give the figure to draw on: the user's, or a new one of pyplot.

    Raises
    ------
    TypeError
        If `figure` is no figure of matplotlib.
    """
    plt = pyplot(who)
    if figure is None:
        return plt.figure(figsize=size, layout=layout)
    if not hasattr(figure, "add_gridspec"):
        raise TypeError(
            f"figure must be a matplotlib Figure, SubFigure or None, got {type_name(figure)}"
        )
    return figure


# Inches: two lines of small text, and what stands beside and above the images.
_TEXT, _MARGINS = 0.25, (1.4, 0.3)
# Rows of wider images are too low for names that run upwards.
_LANDSCAPE = 1.4


def image_grid(who: str, figure: Any, images: np.ndarray, n_rows: int, column: float):
    """Make axes without ticks, in a figure of pyplot if none is given.

    Parameters
    ----------
    who : str
        Who draws, for messages.
    figure : matplotlib Figure, SubFigure or None
        Where to draw.
    images : ndarray of shape (n, H, W, C)
        What is to be drawn in each row.
    n_rows : int
        Number of rows.
    column : float
        Width of a square image in inches.

    Returns
    -------
    figure : matplotlib Figure or SubFigure
    axes : ndarray of shape (n_rows, n)
    """
    n, height, width = images.shape[:3]
    aspect = width / height
    beside, above = _MARGINS
    # Names that do not run upwards need more room.
    beside += 0.8 if aspect > _LANDSCAPE else 0
    column *= max(1, aspect**0.5)
    size = column * n + beside, n_rows * (column / aspect + _TEXT) + above
    figure = new_figure(who, figure, size, "compressed")
    axes = figure.subplots(n_rows, n, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    return figure, axes


def name_row(ax: Any, name: str, images: np.ndarray, addition: str = "") -> None:
    """Write a name, shortened, and an addition as it is beside the first image of a row."""
    text = f"{label_text(name)}\n{addition}".rstrip()
    flat = images.shape[2] / images.shape[1] > _LANDSCAPE
    direction = {"rotation": "horizontal", "ha": "right", "va": "center"} if flat else {}
    ax.set_ylabel(text, fontsize="small", **direction)
