"""Scores of predicted probabilities, also in many resamples of the rows; intervals and tests."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.sparse import csr_array
from sklearn.utils import check_array, check_consistent_length

from tsynd_sk._utils._labels import encode_labels, labels_of
from tsynd_sk._utils._validation import check_int_at_least

#: What the metrics are called, and what their numbers mean.
TITLES = {
    "roc_auc": ("ROC AUC", "(0.5: chance, 1: perfect)"),
    "balanced_accuracy": ("balanced accuracy", "(share of images)"),
    "accuracy": ("accuracy", "(share of images)"),
    "expected_calibration_error": ("calibration error", "(probability, 0: perfect)"),
}

#: Scores that `robustness_report` knows. Of the last, less is better.
#:
#: Examples
#: --------
#: >>> from tsynd_sk.evaluation import METRICS
#: >>> METRICS
#: ('roc_auc', 'balanced_accuracy', 'accuracy', 'expected_calibration_error')
METRICS = tuple(TITLES)

# Bins of the calibration error, as usual.
_N_BINS = 15
# Weights at a time, which fit in the caches of processors.
_BLOCK = 2**17


def classification_scores(y: ArrayLike, proba: ArrayLike, classes: ArrayLike) -> dict[str, float]:
    """Score predicted probabilities, also where some classes are missing from `y`.

    Parameters
    ----------
    y : array-like of shape (n,)
        True labels.
    proba : array-like of shape (n, n_classes)
        Predicted probabilities.
    classes : array-like of shape (n_classes,)
        Label that each column of `proba` is for.

    Returns
    -------
    dict
        "roc_auc", the area under the ROC curve, one class against the rest and averaged if there
        are more than two; nan if `y` has a single label. "balanced_accuracy", the mean share
        recognised of a class. Both are over the classes present in `y`.

    Raises
    ------
    ValueError
        If shapes do not match, `y` has labels that are not in `classes`, or there are no rows.

    See Also
    --------
    expected_calibration_error : Another score.

    Examples
    --------
    >>> from tsynd_sk.evaluation import classification_scores
    >>> classification_scores(["fit", "sick"], [[0.9, 0.1], [0.6, 0.4]], ["fit", "sick"])
    {'roc_auc': 1.0, 'balanced_accuracy': 0.5}
    """
    scores = weighted_scores(*check_predictions(y, proba, classes))[:2, 0]
    return dict(zip(METRICS[:2], scores.tolist(), strict=True))


def expected_calibration_error(
    y: ArrayLike, proba: ArrayLike, classes: ArrayLike, *, n_bins: int = _N_BINS
) -> float:
    """Return how far the confidence of predictions is from their accuracy.

    Parameters
    ----------
    y, proba, classes : array-like
        As in :func:`classification_scores`.
    n_bins : int, default=15
        Number of bins of equal width.

    Returns
    -------
    float
        From 0, perfectly calibrated, to 1.

    Raises
    ------
    ValueError
        As there, or if `n_bins` is below one.

    See Also
    --------
    classification_scores : Other scores.

    Notes
    -----
    Rows are put in bins by their confidence, the probability of the class that is predicted. The
    absolute differences between mean confidence and share correct of each bin are averaged,
    weighted by the number of rows [1]_. With few rows the error is too high.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017.

    Examples
    --------
    >>> from tsynd_sk.evaluation import expected_calibration_error
    >>> round(expected_calibration_error([0, 1], [[0.9, 0.1], [0.9, 0.1]], [0, 1]), 3)
    0.4
    """
    n_bins = check_int_at_least("n_bins", n_bins, 1)
    return float(weighted_scores(*check_predictions(y, proba, classes), n_bins=n_bins)[-1, 0])


def names_among(known: Collection, given: Any, what: str) -> list[Any]:
    """Return one name, or several, as a list without repeats; raise if one is unknown."""
    names = list(dict.fromkeys([given] if isinstance(given, str) else given))
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"Unknown {what} {unknown[0]!r}; known: {', '.join(map(str, known))}")
    return names


def labels_of_images(y: Any, X: Any, classes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a label for each row of `X`, and its column among the classes, or raise."""
    labels = labels_of(y)
    check_consistent_length(X, labels)
    return labels, encode_labels(labels, classes)


def check_predictions(
    y: ArrayLike, proba: ArrayLike, classes: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Return the true columns and the probabilities; raise if they do not fit together."""
    scores = check_array(proba, input_name="proba")
    _, codes = labels_of_images(y, scores, classes)
    if scores.shape[1] != np.size(classes):
        raise ValueError(
            f"proba must have {np.size(classes)} columns, one for each class; got {scores.shape[1]}"
        )
    return codes, scores


def weighted_scores(
    codes: np.ndarray,
    proba: np.ndarray,
    weights: np.ndarray | None = None,
    n_bins: int = _N_BINS,
) -> np.ndarray:
    """Return scores (n_metrics, n_weightings) under weights (n, n_weightings) of the rows."""
    n, n_classes = proba.shape
    weights = np.ones((n, 1)) if weights is None else weights
    present, place = np.unique(codes, return_inverse=True)
    confidence, correct = proba.max(axis=1), proba.argmax(axis=1) == codes
    # Bins are open on the left. Products would put some confidences on the other side of edges.
    edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    # Sums over classes, over what is recognised of them, and over bins; sparse, to be fast.
    rows, right, n_present = np.arange(n), np.flatnonzero(correct), len(present)
    in_bin = 2 * n_present + np.searchsorted(edges, confidence, side="left")
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


def weighted_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve under many weightings of the rows at once.

    It is the share of pairs in which the positive row has the higher score, ties counting half
    (Mann and Whitney, 1947); nan where positive, or negative, rows weigh nothing.
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


def draw_within_classes(
    codes: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return how often each image is drawn within its class in each resample (n, n_resamples)."""
    # No image is drawn more than 255 times in a lifetime.
    counts = np.empty((len(codes), n_resamples), np.uint8)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        share = np.full(len(rows), 1 / len(rows))
        counts[rows] = rng.multinomial(len(rows), share, size=n_resamples).T
    return counts


def resampled_scores(codes: np.ndarray, proba: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the scores in every resample, of shape (n_metrics, n_resamples)."""
    width = max(_BLOCK // len(codes), 1)
    blocks = np.split(counts, range(width, counts.shape[1], width), axis=1)
    parts = [weighted_scores(codes, proba, block.astype(np.float64)) for block in blocks]
    return np.concatenate(parts, axis=1)


def interval(estimate: float, resampled: np.ndarray, confidence_level: float) -> tuple[float, ...]:
    """Return the percentile interval of a score between 0 and 1, around what was measured."""
    tail = (1 - confidence_level) / 2
    # Duplicates of images raise the calibration error; that shift is taken out.
    ends = np.quantile(resampled, [tail, 1 - tail]) - resampled.mean() + estimate
    return tuple(float(end) for end in ends.clip(0, 1))


def over_images_and_seeds(
    differences: np.ndarray, resampled: np.ndarray, confidence_level: float = 0.95
) -> tuple[float, ...]:
    """Return mean, interval and p-value of differences, one a seed, all on the same images.

    `resampled` are mean differences over seeds, on images drawn with replacement.
    """
    n_seeds, mean = len(differences), float(differences.mean())
    of_seeds = float(differences.var(ddof=1)) / n_seeds if n_seeds > 1 else 0.0
    variance = of_seeds + float(np.nanvar(resampled, ddof=1))
    # Satterthwaite (1946), where the variance over images is as good as known.
    freedom = (n_seeds - 1) * (variance / of_seeds) ** 2 if of_seeds else np.inf
    return t_interval(mean, variance, freedom, confidence_level)


def t_interval(
    mean: float, variance: float, freedom: float, confidence_level: float = 0.95
) -> tuple[float, ...]:
    """Return a mean, the ends of its interval and its two-sided p-value, by Student's t.

    The last three are nan if all draws agree on a difference, for then there is no scatter to judge
    it by.
    """
    error = variance**0.5
    # Equal draws may differ by rounding.
    if error < 1e-12:
        return (mean, np.nan, np.nan, np.nan) if mean else (0.0, 0.0, 0.0, 1.0)
    width = float(stats.t.isf((1 - confidence_level) / 2, freedom)) * error
    return mean, mean - width, mean + width, 2 * float(stats.t.sf(abs(mean) / error, freedom))


def holm(p: np.ndarray) -> np.ndarray:
    """Correct the p-values of a family of tests (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = steps.clip(max=1)
    return corrected
