"""What the displays have in common: figures and axes, images as matplotlib shows them, texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from tsynd_sk.images import ImageFormat

# Okabe and Ito's palette, which all kinds of colour vision tell apart: vermilion, and others.
CROSSED = "#D55E00"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "black")
_MAX_LABEL = 18
# Rows of wider images are too low for names that run upwards.
_LANDSCAPE = 1.4


class Display:
    """What displays have in common; each draws itself by ``_draw``."""

    # Inches that a square image is wide.
    _column = 1.25

    def plot(self, ax=None, *, figure=None) -> Self:
        """Draw with matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, array-like of Axes, or None, default=None
            As many as there are panels, or one of a grid of subplots, in whose place to draw.
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw instead; ``None``: a new figure of pyplot.

        Returns
        -------
        Display
            The same, with ``figure_`` and ``ax_``.
        """
        self._draw(ax, figure)
        return self

    def _draw(self, ax: Any, figure: Any) -> None:
        raise NotImplementedError

    def _make_grid(
        self, images: np.ndarray, names: Sequence[str], labels: Any, ax: Any, figure: Any
    ) -> np.ndarray:
        """Make axes: a column for each image (n, H, W, C) and its label, a row for each name."""
        width, height = image_size(images, self._column)
        flat = width / height > _LANDSCAPE
        size = width * len(images) + (2.2 if flat else 1.4), len(names) * (height + 0.25) + 0.3
        self.figure_ = make_figure(size, ax, figure)
        axes = self.figure_.subplots(len(names), len(images), squeeze=False)
        direction = {"rotation": "horizontal", "ha": "right", "va": "center"} if flat else {}
        for row, name in zip(axes, names, strict=True):
            for each in row:
                each.set(xticks=[], yticks=[])
            row[0].set_ylabel(name, fontsize="small", **direction)
        if labels is not None:
            for each, label in zip(axes[0], labels, strict=True):
                set_title(each, label_text(label))
        self.ax_, self.axes_ = axes[0, 0], axes
        return axes

    def _make_panels(
        self, n: int, size: tuple[float, float], ax: Any, figure: Any, **params: Any
    ) -> np.ndarray:
        """Make axes side by side, see `make_panels`."""
        self.axes_ = make_panels(n, size, ax, figure, **params)
        self.figure_, self.ax_ = self.axes_[0].get_figure(), self.axes_[0]
        return self.axes_

    def _add_colorbar(self, drawn: Any, axes: np.ndarray, text: str) -> None:
        """Add the scale of what was drawn at the right of a grid of axes."""
        self.colorbar_ = self.figure_.colorbar(
            drawn, ax=axes.ravel().tolist(), pad=0.1 / axes.shape[1]
        )
        self.colorbar_.set_label(text, fontsize="small")
        self.colorbar_.ax.tick_params(labelsize="small")


def make_figure(
    size: tuple[float, float], ax: Any = None, figure: Any = None, layout: str = "compressed"
):
    """Return the user's figure, one in the place of `ax`, or a new one of `size` in inches."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('displays need matplotlib: pip install "tsynd_sk[plot]"') from error
    if ax is None:
        return plt.figure(figsize=size, layout=layout) if figure is None else figure
    if figure is not None:
        raise ValueError("ax and figure were both given; give one of the two, or none")
    if (spec := ax.get_subplotspec()) is None:
        raise ValueError(
            "ax must be one of a grid of subplots, because several axes replace it; to draw "
            "elsewhere, pass a Figure or SubFigure as figure"
        )
    ax.set_axis_off()
    return ax.get_figure().add_subfigure(spec)


def make_panels(
    n: int, size: tuple[float, float], ax: Any = None, figure: Any = None, **params: Any
) -> np.ndarray:
    """Return `n` axes side by side: those that the user gave, or new ones, also in place of one."""
    given = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if ax is None or (len(given) == 1 and n > 1):
        figure = make_figure(size, ax, figure, layout="constrained")
        return figure.subplots(1, n, squeeze=False, **params)[0]
    if len(given) != n:
        raise ValueError(f"ax must be one of a grid of axes, or {n} axes; got {len(given)}")
    return given


def image_size(images: np.ndarray, column: float) -> tuple[float, float]:
    """Return width and height of one of (n, H, W, ...) in inches, as a square `column` wide."""
    aspect = images.shape[2] / images.shape[1]
    width = column * max(1, aspect**0.5)
    return width, width / aspect


def show_images(axes: Any, images: ArrayLike, low: float, high: float) -> None:
    """Draw images (*axes, H, W, C) in colour if they have three channels, else their mean."""
    shares = (np.asarray(images, dtype=np.float64) - low) / ((high - low) or 1.0)
    shares = np.clip(shares, 0, 1)
    if shares.shape[-1] != 3:
        shares = shares.mean(axis=-1)
    for place in np.ndindex(axes.shape):
        axes[place].imshow(shares[place], cmap="gray", vmin=0, vmax=1)


def show_differences(axes: Any, differences: Any) -> Any:
    """Draw differences (*axes, H, W, C), their mean over channels, on one symmetric scale."""
    means = np.mean(differences, axis=-1)
    bound = float(np.abs(means).max()) or 1.0
    for place in np.ndindex(axes.shape):
        drawn = axes[place].imshow(means[place], cmap="RdBu_r", vmin=-bound, vmax=bound)
    return drawn


def set_title(ax: Any, text: str, *, warn: bool = False, **params: Any) -> None:
    """Write above an image, in vermilion if it warns."""
    ax.set_title(text, fontsize="small", color=CROSSED if warn else "black", **params)


def style_axes(ax: Any, axis: str = "both") -> None:
    """Draw a faint grid behind the data, and no frame at the right and the top."""
    ax.grid(axis=axis, color="0.9")
    ax.set_axisbelow(True)
    ax.spines[["right", "top"]].set_visible(False)


def legend_entry(text: str, **look: Any) -> Any:
    """Return a line for a legend, by default without a stroke."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=text, **{"linestyle": "none", **look})


def legend_above(ax: Any, handles: list, ncols: int | None = None, **params: Any) -> None:
    """Draw a legend in small letters above axes, by default in one or two columns."""
    if ncols is None:
        ncols = 2 if max(len(each.get_label()) for each in handles) <= 22 else 1
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    ax.legend(handles=handles, ncols=ncols, fontsize="small", frameon=False, **{**place, **params})


def as_displayed(X: np.ndarray, image_format: ImageFormat) -> np.ndarray:
    """Copy images from the user's layout to (n, H, W) or (n, H, W, C), values unchanged."""
    assert image_format.image_shape is not None
    channels, height, width = image_format.image_shape
    if image_format.layout == "chw":
        images = np.moveaxis(X.reshape(len(X), channels, height, width), 1, -1)
    else:
        images = X.reshape(len(X), height, width, channels)
    return (images[..., 0] if channels == 1 else images).copy()


def channels_last(images: ArrayLike) -> np.ndarray:
    """Add the axis of channels, as in colour images (n, H, W, C), to grey images (n, H, W)."""
    images = np.asarray(images)
    return images[..., np.newaxis] if images.ndim == 3 else images


def image_limits(value_range: tuple[float, float] | None, *images: ArrayLike):
    """Return the values to draw black and white: the user's, those of uint8, or the extremes."""
    if value_range is not None:
        low, high = value_range
    elif np.asarray(images[0]).dtype == np.uint8:
        low, high = 0, 255
    else:
        low, high = min(map(np.min, images)), max(map(np.max, images))
    return float(low), float(high)


def label_text(label: Any) -> str:
    """Write a label, shortened: names as they are, anything else as a class."""
    return shorten(label if isinstance(label, str) else f"class {label}")


def shorten(name: Any, length: int = _MAX_LABEL) -> str:
    """Cut what is too long for its place."""
    text = str(name)
    return text if len(text) <= length else text[: length - 1] + "…"
