"""Resamples of images and seeds, and what they say about scores and their differences."""

from __future__ import annotations

import numpy as np
from scipy import stats

from tsynd_sk.evaluation._scores import weighted_scores

# Values of weights that are worked on at a time: they fit in the caches of most processors.
_BLOCK = 2**17


def draw_within_classes(
    codes: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return how often each image is drawn within its class in each resample (n, n_resamples)."""
    # No image is drawn more than 255 times in a lifetime.
    counts = np.empty((len(codes), n_resamples), np.uint8)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        for b in range(n_resamples):
            drawn = rng.integers(len(rows), size=len(rows))
            counts[rows, b] = np.bincount(drawn, minlength=len(rows))
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


def compare(
    differences: np.ndarray, resampled: np.ndarray, confidence_level: float
) -> dict[str, float]:
    """Test a mean of paired differences at each seed; `resampled` are means over the images."""
    n_seeds, mean = len(differences), float(differences.mean())
    of_seeds = float(differences.var(ddof=1)) / n_seeds if n_seeds > 1 else 0.0
    error = of_seeds + float(resampled.var(ddof=1))
    width, p = 0.0, float(mean == 0)
    if error > 0:
        # Satterthwaite (1946), where the variance over images is as good as known.
        freedom = (n_seeds - 1) * (error / of_seeds) ** 2 if of_seeds else np.inf
        width = float(stats.t.isf((1 - confidence_level) / 2, freedom)) * error**0.5
        p = 2 * float(stats.t.sf(abs(mean) / error**0.5, freedom))
    return {"difference": mean, "low": mean - width, "high": mean + width, "p": p}


def holm(p: np.ndarray) -> np.ndarray:
    """Correct the p-values of a family of tests (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = steps.clip(max=1)
    return corrected
