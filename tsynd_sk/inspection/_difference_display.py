"""Differences between the arms of a comparison, with their intervals, as a forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsynd_sk.inspection._drawing import COLOURS, make_panels, shorten, style_axes

_MAX_NAME = 32


@dataclass(eq=False, repr=False)
class DifferenceDisplay:
    """Differences between arms and their references, with intervals.

    Better made by `ComparisonResult.plot`. All parameters are stored as attributes.

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
    figure_ : matplotlib Figure or SubFigure
        What was drawn on.
    ax_ : matplotlib Axes
        Axes of the differences.

    See Also
    --------
    tsynd_sk.comparison.ComparisonResult : Draws itself with this display.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk.inspection import DifferenceDisplay
    >>> display = DifferenceDisplay(
    ...     ["standard", "standard+random"],
    ...     ["plain", "standard"],
    ...     mean=[0.02, 0.005],
    ...     low=[0.01, -0.004],
    ...     high=[0.03, 0.014],
    ...     found=[True, False],
    ...     score="ROC AUC",
    ... )
    >>> display.plot(ax=Figure().subplots()).ax_.get_xlabel()
    'difference in ROC AUC'
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
            Call its `plot`.

        Examples
        --------
        >>> from tsynd_sk.comparison import Difference
        >>> from tsynd_sk.inspection import DifferenceDisplay
        >>> found = Difference("random", "plain", "nll", -0.1, -0.15, -0.05, p=0.01)
        >>> DifferenceDisplay.from_differences([found], "NLL").names
        ['random']
        """
        columns = {
            name: np.array([getattr(each, name) for each in differences])
            for name in ("mean", "low", "high")
        }
        return cls(
            [each.arm for each in differences],
            [each.reference for each in differences],
            **columns,
            found=np.array([each.is_found for each in differences]),
            score=score,
        )

    def plot(self, ax=None, *, figure=None) -> DifferenceDisplay:
        """Draw a row for each arm.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw.
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to make axes if `ax` is None. ``None``: a new figure of pyplot.

        Returns
        -------
        self : DifferenceDisplay
            Filled markers differ from their reference after correction.
        """
        n, colour = len(self.names), COLOURS[0]
        (ax,) = make_panels(1, (5.5, 1.0 + 0.42 * n), ax, figure)
        for y, mean, low, high, found in zip(
            range(n), self.mean, self.low, self.high, self.found, strict=True
        ):
            ax.plot([low, high], [y, y], color=colour, linewidth=1.5)
            ax.plot(mean, y, "o", markersize=6, color=colour, mfc=colour if found else "white")
        ax.axvline(0, color="black", linewidth=0.8)
        labels = [
            f"{shorten(name, _MAX_NAME)}\nto {shorten(reference, _MAX_NAME)}"
            for name, reference in zip(self.names, self.references, strict=True)
        ]
        ax.set_yticks(range(n), labels, fontsize="small")
        ax.set_ylim(n - 0.5, -0.5)
        ax.set_xlabel(f"difference in {self.score}")
        style_axes(ax, axis="x")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        self.figure_, self.ax_ = ax.get_figure(), ax
        return self
