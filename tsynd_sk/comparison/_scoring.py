"""Scores of one run of a comparison: on clean, perturbed and attacked images."""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any

import numpy as np

from tsynd_sk.comparison._settings import Settings
from tsynd_sk.comparison._splits import Splits
from tsynd_sk.datasets import subsample
from tsynd_sk.evaluation import (
    GradientMaskingWarning,
    adversarial_scores,
    classification_scores,
    expected_calibration_error,
)
from tsynd_sk.synthesis import AugmentedClassifier

#: Columns of the results that always hold scores, higher is better.
SCORES = (
    "roc_auc",
    "balanced_accuracy",
    "perturbed_roc_auc",
    "perturbed_balanced_accuracy",
)

#: Severity of the corruptions.
SEVERITY = 3

_STEPS = 20


def attacked_rows(y: np.ndarray, n_attacked: int | None) -> np.ndarray:
    """Draw the images that are attacked, the same in every run."""
    if n_attacked is None or n_attacked >= len(y):
        return np.arange(len(y))
    return np.sort(subsample(y, n_attacked, random_state=0))


def scores_of(
    classifier: AugmentedClassifier,
    splits: Splits,
    perturbed: dict[str, np.ndarray],
    settings: Settings,
) -> dict[str, Any]:
    """Return the scores of a fitted classifier, as columns of the results."""

    def scores(X):
        proba = classifier.predict_proba(X)
        error = expected_calibration_error(splits.y_test, proba, classifier.classes_)
        return {
            **classification_scores(splits.y_test, proba, classifier.classes_),
            "expected_calibration_error": error,
        }

    clean, shifted = scores(splits.X_test), [scores(X) for X in perturbed.values()]
    means = {f"perturbed_{name}": float(np.mean([s[name] for s in shifted])) for name in clean}
    return {**clean, **means, **_attacked(classifier, splits, settings)}


def _attacked(classifier, splits: Splits, settings: Settings) -> dict[str, Any]:
    if not settings.eps:
        return {}
    rows = attacked_rows(splits.y_test, settings.n_attacked)
    with warnings.catch_warnings():
        # The results say it too, and a terminal is no place for it thirty times.
        warnings.simplefilter("ignore", GradientMaskingWarning)
        result = adversarial_scores(
            classifier,
            splits.X_test[rows],
            splits.y_test[rows],
            attacks=settings.attacks,
            eps=[strength / 255 for strength in settings.eps],
            max_iter=_STEPS,
            n_restarts=1,
            random_state=0,
        )
    columns = {}
    # The first row is that of the images as they are.
    for (attack, eps), row in zip(
        product(settings.attacks, settings.eps), result.rows[1:], strict=True
    ):
        for metric in ("accuracy", "balanced_accuracy"):
            columns[f"{attack}_{eps:g}_{metric}"] = row[metric]
    return {**columns, "gradient_masking": "; ".join(result.gradient_masking)}
