"""Scores over resamples of images, and what they say of scores and their differences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.sparse import csr_array

#: Scores of predicted probabilities; the last is the better the lower.
METRICS = ("roc_auc", "balanced_accuracy", "accuracy", "expected_calibration_error")

#: Bins of the calibration error: as many as in most of the literature.
N_BINS = 15

# Values of weights that are worked on at a time: they fit in the caches of most processors.
_BLOCK = 2**17


class Resamples:
    """Images drawn with replacement within their classes: how often each is drawn each time.

    Within classes, so that every resample has all of them, in the same proportions.

    Parameters
    ----------
    codes : ndarray of shape (n,)
        Class of each image.
    n_resamples : int
        Number of resamples.
    rng : numpy.random.Generator
        Source of the randomness.
    """

    def __init__(self, codes: np.ndarray, n_resamples: int, rng: np.random.Generator):
        # No image is drawn more than 255 times in a lifetime.
        self._counts = np.empty((len(codes), n_resamples), np.uint8)
        for code in np.unique(codes):
            rows = np.flatnonzero(codes == code)
            for b in range(n_resamples):
                drawn = rng.integers(len(rows), size=len(rows))
                self._counts[rows, b] = np.bincount(drawn, minlength=len(rows))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Go through weights (n, n_resamples) in blocks of columns."""
        n, n_resamples = self._counts.shape
        width = max(_BLOCK // n, 1)
        for first in range(0, n_resamples, width):
            yield self._counts[:, first : first + width].astype(np.float64)

    def scores(self, codes: np.ndarray, proba: np.ndarray, n_bins: int) -> np.ndarray:
        """Score in every resample, see `weighted_scores`."""
        parts = [weighted_scores(codes, proba, weights, n_bins) for weights in self]
        return np.concatenate(parts, axis=1)


def weighted_scores(
    codes: np.ndarray, proba: np.ndarray, weights: np.ndarray, n_bins: int
) -> np.ndarray:
    """Score probabilities under many weightings of the rows at once.

    Parameters
    ----------
    codes : ndarray of shape (n,)
        Columns of `proba` that are the true classes.
    proba : ndarray of shape (n, n_classes)
        Predicted probabilities.
    weights : ndarray of shape (n, n_weightings), float64
        Weights of the rows.
    n_bins : int
        Bins of the calibration error.

    Returns
    -------
    ndarray of shape (n_metrics, n_weightings)
        In the order of `METRICS`.
    """
    n, n_classes = proba.shape
    present, place = np.unique(codes, return_inverse=True)
    confidence, correct = proba.max(axis=1), proba.argmax(axis=1) == codes
    # Sums over classes, over what is recognised of them, and over bins. Sparse, for a row is in few
    # of them; and dense products would be shared out among threads that cost more than they save.
    rows, right, n_present = np.arange(n), np.flatnonzero(correct), len(present)
    in_bin = 2 * n_present + bins(confidence, n_bins)
    sums_of = csr_array(
        (
            np.concatenate([np.ones(n + len(right)), correct - confidence]),
            (
                np.concatenate([place, n_present + place[right], in_bin]),
                np.concatenate([rows, right, rows]),
            ),
        ),
        shape=(2 * n_present + n_bins, n),
    )
    of_class, right_of_class, gaps = np.split(sums_of @ weights, [n_present, 2 * n_present])
    total = of_class.sum(axis=0)
    tested = [1] if n_classes == 2 else present
    areas = [weighted_auc(proba[:, k], codes == k, weights) for k in tested]
    return np.stack(
        [
            np.mean(areas, axis=0),
            np.mean(right_of_class / of_class, axis=0),
            right_of_class.sum(axis=0) / total,
            np.abs(gaps).sum(axis=0) / total,
        ]
    )


def bins(confidence: np.ndarray, n_bins: int) -> np.ndarray:
    """Find the bins, of equal width and open on the left, in which confidences fall."""
    # The edges that anyone would write; a product would put some of them on their other side.
    edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    return np.searchsorted(edges, confidence, side="left")


def weighted_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve under many weightings of the rows at once.

    The share of pairs of a positive and a negative row in which the positive has the higher score,
    ties counting half (Mann and Whitney, 1947): one sort serves all weightings.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Higher for positive rows, if they are any good.
    positive : ndarray of shape (n,), bool
        Which rows are.
    weights : ndarray of shape (n, n_weightings), float64
        Weights of the rows.

    Returns
    -------
    ndarray of shape (n_weightings,)
        nan where the positive, or the negative, rows weigh nothing.
    """
    negative = np.flatnonzero(~positive)
    negative = negative[np.argsort(scores[negative], kind="stable")]
    below = np.zeros((len(negative) + 1, weights.shape[1]))
    np.cumsum(weights[negative], axis=0, out=below[1:])
    of_positive, at = weights[positive], scores[positive]
    beaten = below[np.searchsorted(scores[negative], at, side="left")]
    beaten = beaten + below[np.searchsorted(scores[negative], at, side="right")]
    area = np.einsum("ib,ib->b", of_positive, beaten)
    with np.errstate(invalid="ignore"):
        return area / (2 * of_positive.sum(axis=0) * below[-1])


def over_seeds(scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Average scores (n_seeds, n_resamples) over the seeds that each resample draws."""
    return (scores * draws).sum(axis=0) / len(scores)


def seed_draws(n_seeds: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each seed is drawn in each resample, of shape (n_seeds, n_resamples)."""
    return rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_resamples).T


def interval(estimate: float, resampled: np.ndarray, confidence_level: float) -> tuple[float, ...]:
    """Percentile interval of a score between 0 and 1, around what was measured.

    Duplicates of images raise the calibration error; that shift is taken out.
    """
    tail = (1 - confidence_level) / 2
    ends = np.quantile(resampled, [tail, 1 - tail]) - resampled.mean() + estimate
    return tuple(float(end) for end in ends.clip(0, 1))


class Comparison(NamedTuple):
    """A mean difference, its interval and the probability of one so large by chance."""

    difference: float
    low: float
    high: float
    p: float


def compare(differences: np.ndarray, resampled: np.ndarray, confidence_level: float) -> Comparison:
    """Test a mean of paired differences over seeds, for other images and other seeds.

    Parameters
    ----------
    differences : ndarray of shape (n_seeds,)
        Difference at each seed.
    resampled : ndarray of shape (n_resamples,)
        Mean difference over resamples of the images.
    confidence_level : float
        Of the interval.

    Notes
    -----
    Two sources of error add up: the variance over seeds divided by their number, and the variance
    over images. The degrees of freedom are those of Satterthwaite (1946), where the second is as
    good as known.
    """
    n_seeds, mean = len(differences), float(differences.mean())
    of_seeds = float(differences.var(ddof=1)) / n_seeds if n_seeds > 1 else 0.0
    error = of_seeds + float(resampled.var(ddof=1))
    if error == 0:
        return Comparison(mean, mean, mean, float(mean == 0))
    freedom = (n_seeds - 1) * (error / of_seeds) ** 2 if of_seeds else np.inf
    width = float(stats.t.isf((1 - confidence_level) / 2, freedom)) * error**0.5
    p = 2 * float(stats.t.sf(abs(mean) / error**0.5, freedom))
    return Comparison(mean, mean - width, mean + width, p)


def holm(p: np.ndarray) -> np.ndarray:
    """Correct the p-values of a family of tests.

    "A simple sequentially rejective multiple test procedure" (Holm, 1979): the smallest times the
    number of tests, the next times one less, and so on, never falling.
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = steps.clip(max=1)
    return corrected
