"""Paired differences between the arms of a comparison: means, intervals and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tsynd_sk.evaluation import draw_within_classes, holm, t_interval, weighted_scores

#: Scores of predicted probabilities, and how people call them.
#: Lower is better for "nll" and "expected_calibration_error".
#:
#: Examples
#: --------
#: >>> from tsynd_sk.comparison import SCORES
#: >>> SCORES["roc_auc"]
#: 'ROC AUC'
SCORES = {
    "roc_auc": "ROC AUC",
    "balanced_accuracy": "balanced accuracy",
    "nll": "NLL",
    "expected_calibration_error": "calibration error",
}
LOWER_IS_BETTER = ("nll", "expected_calibration_error")

_N_RESAMPLES = 1000


@dataclass(frozen=True)
class Difference:
    """Mean paired difference in a score between an arm and its reference.

    Attributes
    ----------
    arm, reference, score : str
        What is compared.
    mean, low, high : float
        Mean over runs, and its 95 % interval.
    p, p_corrected : float
        Two-sided p-value; the same corrected for all arms of the comparison (Holm, 1979). They and
        the ends of the interval are nan with a single run, or if all runs differ by the same.

    See Also
    --------
    ComparisonResult.differences : Makes it.

    Examples
    --------
    >>> from tsynd_sk.comparison import Difference
    >>> found = Difference("random", "plain", "nll", -0.1, -0.15, -0.05, p=0.01, p_corrected=0.02)
    >>> found.is_found, found.is_gain
    (True, True)
    """

    arm: str
    reference: str
    score: str
    mean: float
    low: float
    high: float
    p: float
    p_corrected: float = float("nan")

    @property
    def is_found(self) -> bool:
        """Whether the difference is significant after correction, at the 5 % level."""
        return self.p_corrected < 0.05

    @property
    def is_gain(self) -> bool:
        """Whether the arm is better than its reference."""
        return self.mean < 0 if is_better_low(self.score) else self.mean > 0


def is_better_low(score: str) -> bool:
    """Return whether lower is better for a score, on clean or on corrupted images."""
    return score.removeprefix("perturbed_") in LOWER_IS_BETTER


def predicted_scores(
    codes: np.ndarray, proba: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return the scores of predicted probabilities, one for each weighting of the images.

    `codes` are columns of the true classes, `weights` of shape (n, n_weightings); None: one, equal.
    """
    weights = np.ones((len(codes), 1)) if weights is None else weights
    area, balanced, _, calibration = weighted_scores(codes, proba, weights)
    # Probabilities come from float32.
    likelihood = proba[np.arange(len(codes)), codes].clip(np.finfo(np.float32).tiny)
    nll = -np.log(likelihood) @ weights / weights.sum(0)
    return dict(zip(SCORES, (area, balanced, nll, calibration), strict=True))


def resampled_images(codes: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Draw images, or groups, with replacement; return how often each is in each resample."""
    # Every resample has as many images of each class as the split, or as many groups.
    place = np.arange(len(codes))
    if groups is not None:
        place = np.unique(groups, return_inverse=True)[1]
        codes = np.zeros(place.max() + 1)
    drawn = draw_within_classes(codes, _N_RESAMPLES, np.random.default_rng(seed))
    return drawn[place].astype(float)


def over_hold_outs(differences: np.ndarray, n_test_to_train: float) -> tuple[float, ...]:
    """Return mean, interval and p-value of differences, each on another hold-out.

    The variance of their mean is ``(1 / n + n_test / n_train)`` times that of the differences, more
    than of independent runs, because they share most training images (Nadeau and Bengio, 2003).
    """
    n = len(differences)
    variance = float(differences.var(ddof=1) * (1 / n + n_test_to_train))
    return t_interval(float(differences.mean()), variance, n - 1)


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """Return differences with p-values corrected for all of them, also those that have none."""
    p = holm(np.array([difference.p for difference in differences]))
    return [replace(d, p_corrected=float(each)) for d, each in zip(differences, p, strict=True)]
