"""Scores of classifiers on clean, corrupted, augmented and attacked images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_random_state

from tsynd_sk._utils._validation import at_least, check_list, type_name
from tsynd_sk.augmentation import check_moves
from tsynd_sk.evaluation._attacks import ATTACKS, GradientMaskingWarning, adversarial_scores
from tsynd_sk.evaluation._corruptions import CORRUPTIONS, augment, check_kinds, corrupt
from tsynd_sk.evaluation._robustness_report import (
    RobustnessReport,
    expected_calibration_error,
    robustness_report,
)
from tsynd_sk.evaluation._scores import classification_scores
from tsynd_sk.evaluation._synthesis_report import SynthesisReport, synthesis_report

__all__ = [
    "ATTACKS",
    "CORRUPTIONS",
    "GradientMaskingWarning",
    "RobustnessReport",
    "SynthesisReport",
    "adversarial_scores",
    "augment",
    "augmentation_scores",
    "classification_scores",
    "corrupt",
    "corruption_scores",
    "expected_calibration_error",
    "robustness_report",
    "synthesis_report",
]


def corruption_scores(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    kinds: Iterable[str] = CORRUPTIONS,
    severities: Iterable[int] = (1, 2, 3, 4, 5),
    random_state: Any = None,
) -> Bunch:
    """Score a fitted classifier on corrupted images.

    Parameters
    ----------
    estimator : classifier
        Fitted, with ``predict_proba`` and ``classes_``. Its ``image_shape_`` unfolds flat images.
    X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
        Clean images, in the layout that `estimator` was fitted on.
    y : array-like of shape (n,)
        True labels.
    kinds : iterable of str, default=CORRUPTIONS
        Kinds of corruption, see :func:`corrupt`.
    severities : iterable of int, default=(1, 2, 3, 4, 5)
        From 1 to 5.
    random_state : int, RandomState instance or None, default=None
        Seed of the corruptions. Give several estimators the same integer to compare them on the
        same images. Equal seeds corrupt alike whatever other kinds and severities there are.

    Returns
    -------
    Bunch
        - ``rows``: a list of dicts, one for each kind and severity, with the keys "kind",
          "severity", "roc_auc" and "balanced_accuracy", see :func:`classification_scores`; made
          for ``pandas.DataFrame(rows)``.
        - ``mean``: "roc_auc" and "balanced_accuracy", averaged over the rows.
        - ``proba``: ndarray of shape (n_rows, n, n_classes), the probabilities predicted.

    Raises
    ------
    ValueError
        As :func:`corrupt` and :func:`classification_scores`, or if `kinds` or `severities` is
        empty.
    TypeError
        If `estimator` predicts no probabilities, or a severity is no int.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import corruption_scores
    >>> X, y, _ = load_digits_images()
    >>> classifier = LogisticRegression().fit(X[:200].reshape(200, -1), y[:200])
    >>> classifier.image_shape_ = (8, 8)  # tsynd_sk's own classifiers know it
    >>> X_test, y_test = X[200:300].reshape(100, -1), y[200:300]
    >>> scores = corruption_scores(
    ...     classifier, X_test, y_test, kinds=["noise", "blur"], severities=[1, 5], random_state=0
    ... )
    >>> [(row["kind"], row["severity"]) for row in scores.rows]
    [('noise', 1), ('noise', 5), ('blur', 1), ('blur', 5)]
    >>> sorted(scores.mean)
    ['balanced_accuracy', 'roc_auc']
    """
    known = f"the known kinds, {', '.join(CORRUPTIONS)}"
    kinds = [kinds] if isinstance(kinds, str) else check_list("kinds", kinds, known)
    # Here, for the last kind's turn may come after minutes of predictions.
    check_kinds(kinds)
    given: Any = [severities] if isinstance(severities, Integral) else severities
    levels = [
        at_least("severities", level, 1) for level in check_list("severities", given, "1 to 5")
    ]
    if max(levels) > 5:
        raise ValueError(f"severities must be from 1 to 5; got {max(levels)}")
    keys = [{"kind": kind, "severity": level} for kind in kinds for level in levels]
    rng = check_random_state(random_state)
    # A generator would corrupt by other draws for each row of the scores.
    seed = random_state if isinstance(random_state, Integral) else int(rng.randint(2**31 - 1))

    def changed(images: np.ndarray, key: dict, image_shape) -> np.ndarray:
        return corrupt(images, **key, random_state=seed, image_shape=image_shape)

    return _scored(estimator, X, y, keys, changed)


def augmentation_scores(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_draws: int = 10,
    flip: bool = True,
    degrees: float = 15.0,
    scale: float = 0.1,
    shift: float = 0.1,
    random_state: Any = None,
) -> Bunch:
    """Score a fitted classifier on images that are augmented at random at test time.

    Parameters
    ----------
    estimator, X, y : classifier, array-like and array-like
        As in :func:`corruption_scores`.
    n_draws : int, default=10
        How often all images are augmented and scored.
    flip, degrees, scale, shift : bool, float, float and float
        What happens to an image at most, see :func:`augment`.
    random_state : int, RandomState instance or None, default=None
        Seed of the augmentations. Give several estimators the same integer to compare them on the
        same images. More draws leave the first ones as they are.

    Returns
    -------
    Bunch
        - ``rows``: a list of dicts, one for each draw, with the keys "draw", "roc_auc" and
          "balanced_accuracy", see :func:`classification_scores`.
        - ``mean``, ``std``: "roc_auc" and "balanced_accuracy", averaged over the draws, and their
          standard deviation from draw to draw (not the error of the mean over other images).
        - ``proba``: ndarray of shape (n_draws, n, n_classes), the probabilities predicted.

    Raises
    ------
    ValueError, TypeError
        As :func:`augment` and :func:`corruption_scores`, or if `n_draws` is no positive int.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import augmentation_scores
    >>> X, y, _ = load_digits_images()
    >>> classifier = LogisticRegression().fit(X[:200].reshape(200, -1), y[:200])
    >>> classifier.image_shape_ = (8, 8)  # tsynd_sk's own classifiers know it
    >>> scores = augmentation_scores(
    ...     classifier, X[200:300].reshape(100, -1), y[200:300], n_draws=3, random_state=0
    ... )
    >>> len(scores.rows), sorted(scores.std)
    (3, ['balanced_accuracy', 'roc_auc'])
    """
    n_draws = at_least("n_draws", n_draws, 1)
    check_moves(flip, degrees, scale, shift)
    moves: dict[str, Any] = {"flip": flip, "degrees": degrees, "scale": scale, "shift": shift}
    seeds = check_random_state(random_state).randint(2**31 - 1, size=n_draws)

    def changed(images: np.ndarray, key: dict, image_shape) -> np.ndarray:
        seed = int(seeds[key["draw"]])
        return augment(images, **moves, random_state=seed, image_shape=image_shape)

    result = _scored(estimator, X, y, [{"draw": draw} for draw in range(n_draws)], changed)
    spread = {n: float(np.std([row[n] for row in result.rows])) for n in result.mean}
    return Bunch(rows=result.rows, mean=result.mean, std=spread, proba=result.proba)


def _scored(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    keys: list[dict[str, Any]],
    changed: Callable[[np.ndarray, dict, tuple[int, ...] | None], np.ndarray],
) -> Bunch:
    """Score on images that are changed in one way after another."""
    X = np.asarray(X)
    image_shape = _flat_image_shape(estimator) if X.ndim == 2 else None
    rows, predicted = [], []
    for key in keys:
        images = changed(X, key, image_shape)
        if not hasattr(estimator, "predict_proba"):
            raise TypeError(
                "estimator must be a fitted classifier with predict_proba, got "
                f"{type_name(estimator)}"
            )
        proba = np.asarray(estimator.predict_proba(images))
        scores = classification_scores(y, proba, estimator.classes_)
        rows.append({**key, **scores})
        predicted.append(proba)
    mean = {name: float(np.mean([row[name] for row in rows])) for name in scores}
    return Bunch(rows=rows, mean=mean, proba=np.stack(predicted))


def _flat_image_shape(estimator) -> tuple[int, ...] | None:
    """Shape by which the estimator unfolds flat rows, whose channels may come last."""
    shape = getattr(estimator, "image_shape_", None)
    layout = getattr(getattr(estimator, "format_", None), "layout", None)
    return (*shape[1:], shape[0]) if shape is not None and layout == "hwc" else shape
