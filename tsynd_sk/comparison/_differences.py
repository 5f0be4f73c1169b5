"""Paired differences between the arms of a comparison: means, intervals and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from tsynd_sk.evaluation import holm, weighted_scores

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
        Mean over runs, and its 95 % interval; the ends are nan with a single run.
    p : float
        Two-sided p-value; nan with a single run.
    p_corrected : float
        p-value corrected for all arms of the comparison (Holm, 1979).

    See Also
    --------
    ComparisonResult : Makes it, by `ComparisonResult.differences`.

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

    `codes` are columns of the true classes, `weights` of shape (n, n_weightings); None: equal
    weights, in one weighting.
    """
    weights = np.ones((len(codes), 1)) if weights is None else weights
    area, balanced, _, calibration = weighted_scores(codes, proba, weights)
    # Probabilities come from float32.
    likelihood = proba[np.arange(len(codes)), codes].clip(np.finfo(np.float32).tiny)
    nll = -np.log(likelihood) @ weights / weights.sum(0)
    return dict(zip(SCORES, (area, balanced, nll, calibration), strict=True))


def resampled_images(codes: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Draw images, or groups, with replacement; return how often each is in each resample."""
    rng = np.random.default_rng(seed)
    if groups is None:
        # Within classes, so that every resample has as many images of each as the split.
        weights = np.zeros((len(codes), _N_RESAMPLES))
        for code in np.unique(codes):
            rows = np.flatnonzero(codes == code)
            share = np.full(len(rows), 1 / len(rows))
            weights[rows] = rng.multinomial(len(rows), share, size=_N_RESAMPLES).T
        return weights
    place = np.unique(groups, return_inverse=True)[1]
    n_groups = place.max() + 1
    share = np.full(n_groups, 1 / n_groups)
    return rng.multinomial(n_groups, share, size=_N_RESAMPLES).T[place].astype(float)


def over_hold_outs(
    differences: np.ndarray, n_test_to_train: float
) -> tuple[float, float, float, float]:
    """Return mean, interval and p-value of differences, each on another hold-out.

    Such runs share most of their training images, so the variance of their mean is larger than that
    of independent runs: ``(1 / n + n_test / n_train)`` times the variance of the differences
    (Nadeau and Bengio, 2003).
    """
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return mean, float("nan"), float("nan"), float("nan")
    error = float(differences.var(ddof=1) * (1 / n + n_test_to_train)) ** 0.5
    return _interval(mean, error, n - 1)


def over_images_and_seeds(
    differences: np.ndarray, resampled: np.ndarray
) -> tuple[float, float, float, float]:
    """Return mean, interval and p-value of differences, all on the same test images.

    `resampled` are mean differences over runs, on test images drawn with replacement.
    """
    n, mean = len(differences), float(differences.mean())
    if n < 2 or np.isnan(mean):
        return mean, float("nan"), float("nan"), float("nan")
    of_seeds = float(differences.var(ddof=1)) / n
    error = of_seeds + float(np.nanvar(resampled, ddof=1))
    # Satterthwaite (1946), with the variance over images taken as known.
    freedom = (n - 1) * (error / of_seeds) ** 2 if of_seeds else np.inf
    return _interval(mean, error**0.5, freedom)


def _interval(mean: float, error: float, freedom: float) -> tuple[float, float, float, float]:
    if error == 0:
        return mean, mean, mean, float(mean == 0)
    width = float(stats.t.isf(0.025, freedom)) * error
    return mean, mean - width, mean + width, 2 * float(stats.t.sf(abs(mean) / error, freedom))


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """Return differences with p-values corrected for all of them."""
    p = np.array([difference.p for difference in differences])
    known = ~np.isnan(p)
    p[known] = holm(p[known])
    return [replace(d, p_corrected=float(each)) for d, each in zip(differences, p, strict=True)]
