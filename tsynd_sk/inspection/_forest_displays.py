"""Forest plots: scores of classifiers under stress, and differences between arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tsynd_sk.evaluation import TITLES, RobustnessReport, robustness_report
from tsynd_sk.inspection._classifier_displays import estimators_by_name
from tsynd_sk.inspection._drawing import (
    COLOURS,
    Display,
    legend_above,
    legend_entry,
    shorten,
    style_axes,
)

_BLUE, _BLACK = COLOURS[0], COLOURS[-1]
_MAX_NAME = 32


@dataclass(eq=False, repr=False)
class DifferenceDisplay(Display):
    """Differences between arms and their references, with intervals.

    Better made by `ComparisonResult.plot`.

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
        """Take the differences of a comparison.

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
        columns = ("arm", "reference", "mean", "low", "high", "is_found")
        names, references, *values = (
            [getattr(each, column) for each in differences] for column in columns
        )
        mean, low, high, found = map(np.array, values)
        return cls(names, references, mean, low, high, found, score)

    def _draw(self, ax: Any, figure: Any) -> None:
        n = len(self.names)
        (ax,) = self._make_panels(1, (5.5, 1.0 + 0.42 * n), ax, figure)
        _draw_rows(ax, np.arange(n), self.mean, self.low, self.high, self.found)
        ax.axvline(0, color="black", linewidth=0.8)
        labels = [
            f"{shorten(name, _MAX_NAME)}\nto {shorten(reference, _MAX_NAME)}"
            for name, reference in zip(self.names, self.references, strict=True)
        ]
        ax.set_yticks(range(n), labels, fontsize="small")
        ax.set_ylim(n - 0.5, -0.5)
        ax.set_xlabel(f"difference in {self.score}")


@dataclass(eq=False, repr=False)
class RobustnessDisplay(Display):
    r"""Scores under several conditions, and differences to a reference, with their intervals.

    Better made by :meth:`from_estimator`.

    Parameters
    ----------
    scores, low, high : ndarray of shape (n_conditions, n_estimators)
        Scores and the ends of their intervals.
    conditions, names : list of str of length n_conditions and n_estimators
        Names of the conditions and of the estimators, from top to bottom.
    metric : str
        A metric of :func:`tsynd_sk.evaluation.robustness_report`, or the text of the axis.
    differences, difference_low, difference_high, p_holm : ndarray or None, default=None
        Differences to the reference, their intervals and corrected p, as `scores`; anything for the
        reference itself. ``None``: no comparison.
    reference : str or None, default=None
        Name of the estimator that the others are compared with.
    confidence_level : float, default=0.95
        Of the intervals. Differences with a p below the rest are drawn filled.

    Attributes
    ----------
    figure_, ax_ : matplotlib Figure or SubFigure, and Axes
        What was drawn on; the scores.
    axes_ : ndarray of shape (1,) or (2,), matplotlib Axes
        The same and, if they are drawn, the differences.

    See Also
    --------
    tsynd_sk.evaluation.robustness_report : Measures what is drawn.
    tsynd_sk.evaluation.RobustnessReport : Holds what is drawn.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from sklearn.linear_model import LogisticRegression
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import robustness_report
    >>> from tsynd_sk.inspection import RobustnessDisplay
    >>> X, y, _ = load_digits_images()
    >>> X = X.reshape(len(X), -1)
    >>> test = {"linear": LogisticRegression().fit(X[:200], y[:200])}, X[200:300], y[200:300]
    >>> display = RobustnessDisplay.from_report(robustness_report(*test, kinds=()), "accuracy")
    >>> display = RobustnessDisplay.from_estimator(*test, metric="accuracy", kinds=())
    >>> display.plot(figure=Figure()).ax_.get_xlabel()
    'accuracy\n(share of images)'
    """

    scores: Any
    _: KW_ONLY
    low: Any
    high: Any
    conditions: Any
    names: Any
    metric: Any
    differences: Any = None
    difference_low: Any = None
    difference_high: Any = None
    p_holm: Any = None
    reference: Any = None
    confidence_level: Any = 0.95

    @classmethod
    def from_report(cls, report: RobustnessReport, metric: str | None = None) -> RobustnessDisplay:
        """Take one metric of a report.

        Parameters
        ----------
        report : RobustnessReport
            What :func:`tsynd_sk.evaluation.robustness_report` returned.
        metric : str or None, default=None
            One of the metrics of the report; ``None``: its first.

        Returns
        -------
        RobustnessDisplay
            Call its :meth:`plot`.

        Raises
        ------
        ValueError
            If `metric` is not in the report.
        """
        known, conditions, names = (
            list(dict.fromkeys(row[key] for row in report.scores))
            for key in ("metric", "condition", "estimator")
        )
        metric = known[0] if metric is None else metric
        if metric not in known:
            raise ValueError(f"metric must be one of this report, {known}; got {metric!r}")
        columns = {name: (report.scores, name) for name in ("low", "high")}
        columns["scores"] = report.scores, "score"
        if rows := report.comparisons:
            columns |= {f"difference_{name}": (rows, name) for name in ("low", "high")}
            columns |= {"differences": (rows, "difference"), "p_holm": (rows, "p_holm")}
        grids: dict[str, Any] = {}
        for name, (rows, key) in columns.items():
            grids[name] = np.full((len(conditions), len(names)), np.nan)
            for row in rows:
                if row["metric"] == metric:
                    place = conditions.index(row["condition"]), names.index(row["estimator"])
                    grids[name][place] = row[key]
        return cls(
            **grids,
            conditions=conditions,
            names=names,
            metric=metric,
            reference=report.reference,
            confidence_level=report.confidence_level,
        )

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike, y: ArrayLike, *, metric: str = "roc_auc", **params
    ) -> RobustnessDisplay:
        """Measure how fitted classifiers withstand stress.

        Parameters
        ----------
        estimator : classifier, or dict of str to classifier or to list of classifiers
            Fitted; of a dict each with its name, or as several of it, one a seed.
        X, y : array-like of shape (n, ...) and (n,)
            Clean images that none of them was fitted on, and their labels.
        metric : str, default="roc_auc"
            What is measured.
        **params
            Other parameters of :func:`tsynd_sk.evaluation.robustness_report`, except ``metrics``.

        Returns
        -------
        RobustnessDisplay
            Call its :meth:`plot`.
        """
        estimators = estimators_by_name(estimator)
        return cls.from_report(robustness_report(estimators, X, y, metrics=[metric], **params))

    def _draw(self, ax: Any, figure: Any) -> None:
        scores = np.asarray(self.scores)
        n_conditions, n_names = scores.shape
        # Downwards, of the heading of each condition and of the rows below it.
        heights = np.arange(n_conditions)[:, None] * (n_names + 1.4) + np.arange(n_names + 1)
        n_panels = 1 if self.differences is None else 2
        size = (4.2 + 2.6 * (n_panels - 1), 1.5 + 0.24 * heights.size)
        axes = self._make_panels(n_panels, size, ax, figure, sharey=True)
        title, meaning = TITLES.get(self.metric, (self.metric, ""))
        axes[0].set_xlabel(f"{title}\n{meaning}".rstrip())
        is_reference = np.array([name == self.reference for name in self.names])
        differs = False
        if self.p_holm is not None:
            differs = ~is_reference & (np.asarray(self.p_holm) < 1 - self.confidence_level)
        rows = heights[:, 1:]
        _draw_rows(axes[0], rows, scores, self.low, self.high, differs, is_reference)
        if n_panels == 2:
            # Nothing is drawn of the reference itself.
            differences = np.where(is_reference, np.nan, np.asarray(self.differences, dtype=float))
            _draw_rows(
                axes[1], rows, differences, self.difference_low, self.difference_high, differs
            )
            axes[1].axvline(0, color=_BLACK, linewidth=0.8)
            axes[1].set_xlabel(f"difference of {title}\nto {shorten(self.reference, _MAX_NAME)}")
            level = f"{1 - self.confidence_level:.2g}"
            handles = [
                legend_entry("reference", marker="s", color=_BLACK, mfc="white"),
                legend_entry(f"Holm p < {level}", marker="o", color=_BLUE),
                legend_entry(f"≥ {level}", marker="o", color=_BLUE, mfc="white"),
            ]
            # Also above the names at the left, for axes may be narrow.
            place = {"loc": "lower right", "bbox_to_anchor": (1, 1)}
            legend_above(axes[0], handles, 3, columnspacing=1, handletextpad=0.2, **place)
        for each in axes:
            each.locator_params(axis="x", nbins=4)
            each.set_ylim(heights.max() + 0.7, -0.7)
        names = [shorten(name, _MAX_NAME) for name in self.names]
        labels = [label for condition in self.conditions for label in (condition, *names)]
        axes[0].set_yticks(heights.ravel(), labels)
        for heading in axes[0].get_yticklabels()[:: len(names) + 1]:
            heading.set_fontweight("bold")


def _draw_rows(
    ax: Any, heights: Any, values: Any, low: Any, high: Any, filled: Any, is_reference: Any = False
) -> None:
    """Draw values between the ends of their intervals, in rows with names of their own."""
    columns = np.broadcast_arrays(heights, values, low, high, filled, is_reference)
    for y, value, *ends, fill, square in zip(*map(np.ravel, columns), strict=True):
        if not np.isnan(value):
            colour, marker = (_BLACK, "s") if square else (_BLUE, "o")
            ax.plot(ends, [y, y], color=colour, linewidth=1.5)
            ax.plot(value, y, marker, markersize=6, color=colour, mfc=colour if fill else "white")
    style_axes(ax, axis="x")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
