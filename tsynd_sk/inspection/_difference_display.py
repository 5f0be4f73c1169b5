"""Differences between the arms of a comparison, with their intervals, as a forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsynd_sk.inspection._drawing import (
    COLOURS,
    Display,
    draw_interval,
    make_panels,
    shorten,
    style_rows,
)

_MAX_NAME = 32


@dataclass(eq=False, repr=False)
class DifferenceDisplay(Display):
    """Differences between arms and their references, with intervals.

    Better made by `ComparisonResult.plot`. Stores its parameters as attributes.

    Parameters
    ----------
    names, references : list of str of length n_arms
        Names of the arms, from top to bottom, and of what each is compared with.
    mean, low, high : ndarray of shape (n_arms,)
        Differences and the ends of their intervals; nan where there is no interval.
    found : ndarray of shape (n_arms,), bool
        Which are significant after correction; these are drawn filled.
    score : str
        Text of the axis.

    Attributes
    ----------
    figure_, ax_ : matplotlib Figure or SubFigure, and Axes
        What was drawn on.

    See Also
    --------
    tsynd_sk.comparison.ComparisonResult : Draws itself with this display.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk.comparison import Difference
    >>> from tsynd_sk.inspection import DifferenceDisplay
    >>> found = Difference("random", "plain", "nll", -0.1, -0.15, -0.05, p=0.01)
    >>> display = DifferenceDisplay.from_differences([found], "NLL")
    >>> display.plot(figure=Figure()).ax_.get_xlabel()
    'difference in NLL'
    """

    names: Sequence[str]
    references: Sequence[str]
    mean: Any
    low: Any
    high: Any
    found: Any
    score: str

    @classmethod
    def from_differences(cls, differences: Sequence[Any], score: str) -> DifferenceDisplay:
        """Take the differences of a comparison; draws nothing yet.

        Parameters
        ----------
        differences : sequence of Difference
            What `ComparisonResult.differences` returned.
        score : str
            Text of the axis.

        Returns
        -------
        DifferenceDisplay
            Call its :meth:`plot`.
        """
        mean, low, high = np.reshape([(d.mean, d.low, d.high) for d in differences], (-1, 3)).T
        return cls(
            [each.arm for each in differences],
            [each.reference for each in differences],
            mean=mean,
            low=low,
            high=high,
            found=np.array([each.is_found for each in differences]),
            score=score,
        )

    def _draw(self, ax: Any, figure: Any) -> None:
        n = len(self.names)
        (ax,) = make_panels(1, (5.5, 1.0 + 0.42 * n), ax, figure)
        for y, ends in enumerate(zip(self.low, self.high, strict=True)):
            draw_interval(ax, y, ends, self.mean[y], filled=self.found[y], colour=COLOURS[0])
        ax.axvline(0, color="black", linewidth=0.8)
        labels = [
            f"{shorten(name, _MAX_NAME)}\nto {shorten(reference, _MAX_NAME)}"
            for name, reference in zip(self.names, self.references, strict=True)
        ]
        ax.set_yticks(range(n), labels, fontsize="small")
        ax.set_ylim(n - 0.5, -0.5)
        ax.set_xlabel(f"difference in {self.score}")
        style_rows(ax)
        self.figure_, self.ax_ = ax.get_figure(), ax
