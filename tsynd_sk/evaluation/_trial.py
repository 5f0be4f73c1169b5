"""Scores of fitted classifiers in the same settings and the same resamples of images."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
from scipy import stats

from tsynd_sk.evaluation._attacks import GradientMaskingWarning, adversarial_scores
from tsynd_sk.evaluation._scores import METRICS, check_predictions, weighted_scores

# Weights that are worked on at a time: they fit in the caches of most processors.
_BLOCK = 2**17


class Trial:
    """Measurements of a panel of classifiers (lists by name, one a seed), resampled too."""

    def __init__(
        self,
        panel: dict[str, list[Any]],
        labels: np.ndarray,
        n_resamples: int,
        rng: np.random.Generator,
    ):
        self.panel, self.labels = panel, labels
        self.n_seeds = len(next(iter(panel.values())))
        self._seeds = list(product(panel, range(self.n_seeds)))
        self.rows: list[dict[str, Any]] = []
        # Sums over settings: the scores measured, then those in the resamples.
        self._totals: dict[tuple[str, str, int], Any] = defaultdict(float)
        codes = np.unique(labels, return_inverse=True)[1]
        self._counts = draw_within_classes(codes, n_resamples, rng)
        # How often each seed is drawn in each resample.
        shares = np.full(self.n_seeds, 1 / self.n_seeds)
        self._draws = rng.multinomial(self.n_seeds, shares, size=n_resamples).T

    def measure(self, settings: Iterable[tuple[dict[str, Any], np.ndarray]]) -> None:
        """Score all classifiers on the images of each setting, which are made once for all."""
        for key, images in settings:
            for name, seed in self._seeds:
                self._add(key, name, seed, self.panel[name][seed].predict_proba(images))

    def measure_attacked(self, X: np.ndarray, y, **settings) -> list[str]:
        """Score on images that were changed to mislead each classifier; return signs of masking."""
        signs = defaultdict(list)
        for name, seed in self._seeds:
            with warnings.catch_warnings():
                # It would not say which of the classifiers it is about.
                warnings.simplefilter("ignore", GradientMaskingWarning)
                found = adversarial_scores(self.panel[name][seed], X, y, **settings)
            # The first row is that of the images as they are.
            for row, proba in zip(found.rows[1:], found.proba[1:], strict=True):
                setting = {key: row[key] for key in ("attack", "eps")}
                condition = f"{row['attack']} {format_strength(row['eps'])}"
                self._add({"condition": condition, **setting}, name, seed, proba)
            if masking := found.gradient_masking:
                signs[name].append(f"seed {seed}: {'; '.join(masking)}")
        return [
            f"Signs of gradient masking in {name!r}: {'. '.join(of)}." for name, of in signs.items()
        ]

    def _add(self, key: dict[str, Any], name: str, seed: int, proba: Any) -> None:
        classes = self.panel[name][seed].classes_
        codes, proba = check_predictions(self.labels, proba, classes)
        point = weighted_scores(codes, proba)
        named = dict(zip(METRICS, point[:, 0].tolist(), strict=True))
        self.rows.append({**key, "estimator": name, "seed": seed, **named})
        scores = np.hstack([point, resampled_scores(codes, proba, self._counts)])
        self._totals[key["condition"], name, seed] += scores

    def summary(
        self, metrics: list[str], reference: str, confidence_level: float
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return scores with intervals, and differences to the reference with tests."""
        scores, comparisons = [], []
        n_rows = Counter(row["condition"] for row in self.rows)
        for condition, name, metric in product(n_rows, self.panel, metrics):
            # Over the settings of the condition.
            n_settings, m = n_rows[condition] / len(self._seeds), METRICS.index(metric)
            measured, base = (
                np.stack([self._totals[condition, one, seed][m] for seed in range(self.n_seeds)])
                / n_settings
                for one in (name, reference)
            )
            score = float(measured[:, 0].mean())
            resampled = (measured[:, 1:] * self._draws).sum(axis=0) / self.n_seeds
            low, high = interval(score, resampled, confidence_level)
            key = {"condition": condition, "estimator": name}
            scores.append({**key, "metric": metric, "score": score, "low": low, "high": high})
            if name != reference:
                differences = measured - base
                resampled = differences[:, 1:].mean(axis=0)
                found = over_images_and_seeds(differences[:, 0], resampled, confidence_level)
                outcome = dict(zip(("difference", "low", "high", "p"), found, strict=True))
                comparisons.append({**key, "reference": reference, "metric": metric, **outcome})
        corrected = holm(np.array([row["p"] for row in comparisons]))
        for row, p in zip(comparisons, corrected.tolist(), strict=True):
            row["p_holm"] = p
        return scores, comparisons


def format_strength(eps: float) -> str:
    """Write the strength of an attack as people do."""
    levels = eps * 255
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-6 else f"{eps:.3g}"


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
