"""Scores of a run on clean, corrupted and attacked images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from tsynd_sk.comparison._differences import predicted_scores
from tsynd_sk.datasets import subsample
from tsynd_sk.evaluation import (
    ATTACKS,
    CORRUPTIONS,
    GradientMaskingWarning,
    adversarial_scores,
    check_eps,
    corrupt,
    names_among,
)
from tsynd_sk.synthesis import AugmentedClassifier

_SEVERITY = 3
_STEPS = 20


@dataclass(frozen=True)
class Scoring:
    """Scores of runs, on clean, corrupted and attacked images; for the fields see `compare`."""

    eps: tuple[float, ...] = ()
    attacks: tuple[str, ...] = ("pgd",)
    n_attacked: int | None = 256

    def __post_init__(self):
        if self.eps:
            check_eps(self.eps)
        names_among(ATTACKS, self.attacks, "attack")

    def __call__(
        self, classifier: AugmentedClassifier, X: np.ndarray, codes: np.ndarray, n_classes: int
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Return columns of the results, and predictions for the clean images, of float32."""
        proba = predict(classifier, X, n_classes)
        # Images to corrupt and attack, the same for all arms.
        n = len(codes) if self.n_attacked is None else min(self.n_attacked, len(codes))
        rows = np.sort(subsample(codes, n, random_state=0))
        changed = (corrupt(X[rows], kind, _SEVERITY, random_state=0) for kind in CORRUPTIONS)
        corrupted = [_scores(codes[rows], predict(classifier, x, n_classes)) for x in changed]
        clean = _scores(codes, proba)
        means = {f"perturbed_{n}": float(np.mean([each[n] for each in corrupted])) for n in clean}
        return {**clean, **means, **self._attacked(classifier, X[rows], codes[rows])}, proba

    def _attacked(self, classifier: Any, X: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
        if not self.eps:
            return {}
        with warnings.catch_warnings():
            # The results say it too, and thirty warnings would fill the terminal.
            warnings.simplefilter("ignore", GradientMaskingWarning)
            result = adversarial_scores(
                classifier,
                X,
                codes,
                attacks=self.attacks,
                eps=list(self.eps),
                max_iter=_STEPS,
                n_restarts=1,
                random_state=0,
            )
        # The first row is for the images as they are.
        pairs = zip(product(self.attacks, self.eps), result.rows[1:], strict=True)
        columns = {
            f"{attack}_{255 * eps:.4g}_{metric}": row[metric]
            for (attack, eps), row in pairs
            for metric in ("accuracy", "balanced_accuracy")
        }
        return {**columns, "gradient_masking": "; ".join(result.gradient_masking)}


def predict(classifier: AugmentedClassifier, X: np.ndarray, n_classes: int) -> np.ndarray:
    """Predict probabilities of all classes, 0 for those without training images."""
    proba = np.zeros((len(X), n_classes), dtype=np.float32)
    proba[:, classifier.classes_] = classifier.predict_proba(X)
    return proba


def _scores(codes: np.ndarray, proba: np.ndarray) -> dict[str, float]:
    scores = predicted_scores(codes, proba.astype(np.float64))
    return {name: float(value[0]) for name, value in scores.items()}
