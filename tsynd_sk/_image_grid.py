"""Grids of images with names beside their rows and lines of text between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsynd_sk._drawing import label_text, new_figure

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
