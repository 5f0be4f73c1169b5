"""Distributions of mutual information, and accuracy when the most uncertain rows are rejected."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from tsynd_sk import _skorch
from tsynd_sk._utils._validation import type_name
from tsynd_sk.evaluation import fitted_synthesizer, labels_of_images
from tsynd_sk.images import check_images
from tsynd_sk.inspection._drawing import (
    COLOURS,
    Display,
    label_text,
    legend_above,
    legend_entry,
    style_axes,
)

# Differences of float32 predictions tell nothing below.
_FLOOR = 1e-6
# Ratio of the largest to a small value above which an axis is logarithmic.
_WIDE = 30
# Share of the rows, and number of them, of which an accuracy is still told.
_FEWEST_SHARE, _FEWEST = 0.05, 5


@dataclass(eq=False, repr=False)
class UncertaintyDisplay(Display):
    """Distribution of the mutual information, and accuracy against rejected fraction.

    Left, for each set of images, the share with a mutual information of at most so much. Right, for
    sets with labels, the accuracy on the rest if the most uncertain images are rejected, beside the
    level of rejecting at random.

    Better made by :meth:`from_estimator`.

    Parameters
    ----------
    uncertainty : dict of str to ndarray of shape (n,)
        By the name of a set, the mutual information of its images in nats. Values below 1e-6, which
        are rounding, are drawn there.
    correct : dict of str to ndarray of shape (n,), or None, default=None
        For sets with labels, whether the prediction of each image is right.

    Attributes
    ----------
    figure_, ax_ : matplotlib Figure or SubFigure, and Axes
        What was drawn on; the distributions.
    axes_ : ndarray of shape (1,) or (2,), matplotlib Axes
        The same, and the accuracy if there is a set with labels.

    See Also
    --------
    tsynd_sk.uncertainty.mutual_information : Measures what is drawn.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tsynd_sk import TargetedSynthesizer
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.inspection import UncertaintyDisplay
    >>> X, y, _ = load_digits_images()
    >>> synthesizer = TargetedSynthesizer(random_state=0).fit(X[:50], y[:50])
    >>> sets = {"train": X[:50], "test": X[50:100]}
    >>> display = UncertaintyDisplay.from_estimator(synthesizer, sets, {"test": y[50:100]})
    >>> display.plot(figure=Figure()).ax_.get_xlabel()
    'mutual information (nats)'
    """

    uncertainty: Any
    correct: Any = None

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X: Any,
        y: Any = None,
        *,
        n_synthetic: int = 0,
        random_state: Any = None,
    ) -> UncertaintyDisplay:
        """Measure uncertainties, and see which predictions are right.

        Parameters
        ----------
        estimator : TargetedSynthesizer or AugmentedClassifier
            Fitted. A synthesizer predicts by its classifier, or by the mean of several.
        X : array-like of shape (n, ...), or dict of str to such
            Images as in `fit`, or several sets by name.
        y : array-like of shape (n,), dict of str to such, or None, default=None
            Their labels; of a dict `X`, a dict with the labels of all sets or of some.
        n_synthetic : int, default=0
            Images to sample for one more set, "synthetic", which has no accuracy.
        random_state : int, RandomState instance or None, default=None
            Makes that sample repeatable; ``None`` for the estimator's.

        Returns
        -------
        UncertaintyDisplay
            Call its :meth:`plot`.

        Notes
        -----
        All sets are measured by ``estimator.uncertainty``, whose members are others than those
        against which `sample` makes images: values are lower than it tells.
        """
        synthesizer = fitted_synthesizer(estimator)
        sets, labels = _by_name(X, y)
        uncertainty, correct = {}, {}
        for name, images in sets.items():
            uncertainty[name] = estimator.uncertainty(images)
            if name in labels:
                known, _ = labels_of_images(labels[name], images, synthesizer.classes_)
                correct[name] = _predict(estimator, images) == known
        if n_synthetic:
            X_new, _ = synthesizer.sample(n_synthetic, random_state=random_state)
            with warnings.catch_warnings():
                # Samples are arrays, also if the fit was of a DataFrame.
                warnings.filterwarnings("ignore", "X does not have valid feature names")
                uncertainty["synthetic"] = estimator.uncertainty(X_new)
        return cls(uncertainty, correct or None)

    def _draw(self, ax: Any, figure: Any) -> None:
        n_panels = 2 if self.correct else 1
        axes = self._make_panels(n_panels, (n_panels * 4.4, 3.8), ax, figure)
        kinds = zip(self.uncertainty, cycle(COLOURS), cycle(("-", "--", "-.", ":")), strict=False)
        looks = {name: {"color": c, "linestyle": s, "linewidth": 1.8} for name, c, s in kinds}
        sets = {name: np.maximum(values, _FLOOR) for name, values in self.uncertainty.items()}
        for name, values in sets.items():
            text = f"{label_text(str(name))} (n = {len(values)})"
            axes[0].ecdf(values, label=text, **looks[name])
        together = np.concatenate(list(sets.values()))
        if together.max() > _WIDE * np.quantile(together, 0.05):
            axes[0].set_xscale("log")
        axes[0].set(xlabel="mutual information (nats)", ylim=(0, 1.02))
        axes[0].set_ylabel("share of images with at most so much")
        legend_above(axes[0], axes[0].get_legend_handles_labels()[0])
        if self.correct:
            self._draw_accuracies(axes[1], looks)
        for each in axes:
            style_axes(each)

    def _draw_accuracies(self, ax, looks: dict[str, dict]) -> None:
        for name, correct in self.correct.items():
            share, accuracy = _accuracy_when_rejecting(self.uncertainty[name], correct)
            ax.plot(share, accuracy, label=label_text(str(name)), **looks[name])
            ax.plot([0, 1], accuracy[[0, 0]], color=looks[name]["color"], linewidth=0.8)
        at_random = legend_entry("rejected at random", color="0.3", linestyle="-", linewidth=0.8)
        legend_above(ax, [*ax.get_legend_handles_labels()[0], at_random])
        # A flat line at the upper edge would be hidden by it.
        ax.set(xlim=(0, 1), ylim=(None, max(1.0, ax.get_ylim()[1]) + 0.005))
        ax.set(xlabel="share rejected, most uncertain first", ylabel="accuracy on the rest (share)")


def _by_name(X: Any, y: Any) -> tuple[Mapping, Mapping]:
    """Return sets and labels by name."""
    if not isinstance(X, Mapping):
        X, y = {"images": X}, None if y is None else {"images": y}
    labels = {} if y is None else y
    if not isinstance(labels, Mapping):
        raise TypeError(
            f"X is a dict of sets, so y must be a dict of their labels or None; got {type_name(y)}"
        )
    if unknown := [name for name in labels if name not in X]:
        raise ValueError(
            f"y must have the names of X, {', '.join(map(repr, X))}; got "
            f"{', '.join(map(repr, unknown))}"
        )
    return X, labels


def _predict(estimator: Any, X: Any) -> np.ndarray:
    """Predict labels by a classifier, or by the mean of those of a synthesizer."""
    if hasattr(estimator, "predict"):
        return estimator.predict(X)
    x = estimator.format_.as_network_input(check_images(estimator, X, reset=False))
    nets = map(_skorch.without_global_rng, estimator.engine_.nets)
    proba = [net.predict_proba(x) for net in nets]
    return estimator.classes_[np.mean(proba, axis=0).argmax(axis=1)]


def _accuracy_when_rejecting(uncertainty, correct) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of rows rejected, at random among equal ones, and the accuracy on the rest."""
    n = len(uncertainty)
    _, level, counts = np.unique(uncertainty, return_inverse=True, return_counts=True)
    level_accuracy = np.bincount(level, weights=correct) / counts
    hits = np.cumsum(np.repeat(level_accuracy, counts))
    fewest = min(n, max(_FEWEST, int(np.ceil(_FEWEST_SHARE * n))))
    kept = np.arange(n, fewest - 1, -1)
    return 1 - kept / n, hits[kept - 1] / kept
