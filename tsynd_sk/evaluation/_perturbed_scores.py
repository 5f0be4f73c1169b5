"""Scores of classifiers on images that are corrupted, or augmented at test time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_random_state

from tsynd_sk._utils._validation import check_int_at_least
from tsynd_sk.evaluation._corruptions import CORRUPTIONS, SEVERITIES, augment, corrupt
from tsynd_sk.evaluation._scores import METRICS, classification_scores, names_among


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
    kinds, severities : str or iterable of str, int or iterable of int, default=all of them
        See :func:`corrupt`.
    random_state : int, RandomState instance or None, default=None
        Seed of the corruptions, of which none depends on what others there are. With the same
        integer, several estimators see the same images.

    Returns
    -------
    Bunch
        - ``rows``: a list of dicts with "kind", "severity" and :func:`classification_scores`.
        - ``mean``: a dict of the scores, averaged over the rows.
        - ``proba``: ndarray of shape (n_rows, n, n_classes), the probabilities predicted.

    Raises
    ------
    ValueError
        As :func:`corrupt` and :func:`classification_scores`.

    See Also
    --------
    corrupt : Corrupted images as an array.
    robustness_report : Several classifiers, with differences and intervals.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import corruption_scores
    >>> X, y, _ = load_digits_images()
    >>> X = X.reshape(len(X), -1)
    >>> classifier = LogisticRegression().fit(X[:200], y[:200])
    >>> classifier.image_shape_ = (8, 8)  # tsynd_sk's own classifiers know it
    >>> test = classifier, X[200:300], y[200:300]
    >>> scores = corruption_scores(*test, kinds=["noise", "blur"], severities=[1, 5])
    >>> len(scores.rows), sorted(scores.mean)
    (4, ['balanced_accuracy', 'roc_auc'])
    """
    X = np.asarray(X)
    shape = flat_image_shape([estimator], X)
    return _scores(estimator, y, corrupted_images(X, kinds, severities, random_state, shape))


def corrupted_images(
    X: np.ndarray,
    kinds: str | Iterable[str],
    severities: Any,
    random_state: Any,
    image_shape: tuple[int, ...] | None,
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Check settings, and iterate over them and the images that they corrupt."""
    # Here, for the last setting may come after minutes of predictions.
    kinds = names_among(CORRUPTIONS, kinds, "corruption")
    levels = names_among(SEVERITIES, np.atleast_1d(severities).tolist(), "severity")
    # A generator would corrupt by other draws for each setting.
    seed = random_state
    if not isinstance(seed, Integral):
        seed = int(check_random_state(seed).randint(2**31 - 1))
    for_all = {"random_state": seed, "image_shape": image_shape}
    settings = ({"kind": kind, "severity": level} for kind, level in product(kinds, levels))
    return ((setting, corrupt(X, **setting, **for_all)) for setting in settings)


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
        See :func:`augment`.
    random_state : int, RandomState instance or None, default=None
        Seed. More draws leave the first ones as they are.

    Returns
    -------
    Bunch
        ``rows``, ``mean`` and ``proba`` as there, with "draw" for "kind" and "severity"; and
        ``std``, the standard deviation of the scores from draw to draw.

    Raises
    ------
    ValueError
        As :func:`augment` and :func:`classification_scores`, or if `n_draws` is below one.

    See Also
    --------
    augment : Augmented images as an array.
    robustness_report : Several classifiers, with differences and intervals.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import augmentation_scores
    >>> X, y, _ = load_digits_images()
    >>> X = X.reshape(len(X), -1)
    >>> classifier = LogisticRegression().fit(X[:200], y[:200])
    >>> classifier.image_shape_ = (8, 8)  # tsynd_sk's own classifiers know it
    >>> scores = augmentation_scores(classifier, X[200:300], y[200:300], n_draws=3)
    >>> len(scores.rows), sorted(scores.std)
    (3, ['balanced_accuracy', 'roc_auc'])
    """
    n_draws = check_int_at_least("n_draws", n_draws, 1)
    X = np.asarray(X)
    params: dict[str, Any] = {"flip": flip, "degrees": degrees, "scale": scale, "shift": shift}
    params["image_shape"] = flat_image_shape([estimator], X)
    seeds = check_random_state(random_state).randint(2**31 - 1, size=n_draws).tolist()
    settings = (
        ({"draw": draw}, augment(X, **params, random_state=seed)) for draw, seed in enumerate(seeds)
    )
    result = _scores(estimator, y, settings)
    result.std = {n: float(np.std([row[n] for row in result.rows])) for n in result.mean}
    return result


def _scores(estimator, y: ArrayLike, settings: Iterator[tuple[dict, np.ndarray]]) -> Bunch:
    """Score on images that are changed in one way after another."""
    rows, predicted = [], []
    for key, images in settings:
        proba = np.asarray(estimator.predict_proba(images))
        rows.append({**key, **classification_scores(y, proba, estimator.classes_)})
        predicted.append(proba)
    mean = {name: float(np.mean([row[name] for row in rows])) for name in METRICS[:2]}
    return Bunch(rows=rows, mean=mean, proba=np.stack(predicted))


def flat_image_shape(estimators: Iterable[Any], X: np.ndarray) -> tuple[int, ...] | None:
    """Return the shape into which the first estimator that knows one unfolds flat rows."""
    for estimator in estimators if X.ndim == 2 else ():
        if (shape := getattr(estimator, "image_shape_", None)) is not None:
            # The channels of what was flattened may come last.
            last = getattr(getattr(estimator, "format_", None), "layout", None) == "hwc"
            return (*shape[1:], shape[0]) if last else shape
    return None
