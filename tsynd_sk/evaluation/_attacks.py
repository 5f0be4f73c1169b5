"""Scores of classifiers under adversarial attack."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from itertools import pairwise, product
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_random_state

from tsynd_sk import _skorch
from tsynd_sk._utils._names import ATTACKS
from tsynd_sk._utils._validation import check_int_at_least, type_name
from tsynd_sk.evaluation._art import Attacker, Target, check_installed
from tsynd_sk.evaluation._differentiable import DifferentiableClassifier
from tsynd_sk.evaluation._inputs import labels_of_images, names_among
from tsynd_sk.evaluation._scores import classification_scores


class GradientMaskingWarning(UserWarning):
    """Accuracy under attack is better than it should be: the attacks do not find what there is.

    See Also
    --------
    adversarial_scores : Raises the warning.

    Examples
    --------
    Turned into an error, it stops a job that would report a robustness that is not there:

    >>> import warnings
    >>> from tsynd_sk.evaluation import GradientMaskingWarning
    >>> warnings.simplefilter("error", GradientMaskingWarning)
    """


def adversarial_scores(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    attacks: Iterable[str] = ATTACKS,
    eps: Iterable[float] = (2 / 255, 4 / 255, 8 / 255),
    max_iter: int = 20,
    n_restarts: int = 3,
    n_queries: int = 500,
    batch_size: int = 256,
    random_state: Any = None,
) -> Bunch:
    """Score a fitted classifier on images that were changed to mislead it.

    The attacks are those of the Adversarial Robustness Toolbox, which the extra ``robustness``
    installs. They see a private copy of the network in evaluation mode.

    Parameters
    ----------
    estimator : AugmentedClassifier or skorch classifier
        Fitted.
    X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
        Images as in the fit of `estimator`. A bare skorch net gets them as (n, C, H, W), uint8
        divided by 255, or as (n, H, W) if it takes these only; flat rows if it has an attribute
        ``image_shape_`` (C, H, W).
    y : array-like of shape (n,)
        True labels; for a bare skorch net class indices.
    attacks : iterable of {"fgsm", "pgd", "autoattack", "square"}, default=all of them
        - "fgsm": one step along the sign of the gradient.
        - "pgd": `max_iter` steps from `n_restarts` random starts.
        - "autoattack": Auto-PGD (100 steps) on the cross-entropy, Auto-PGD on the ratio of
          differences of logits (their plain difference for two classes), then "square", each
          against the images that still stand.
        - "square": the black-box attack, a random search that sees predictions only.
    eps : iterable of float, default=(2 / 255, 4 / 255, 8 / 255)
        Largest change of any value, as a fraction of the range of values, within which images stay:
        0 to 255 for uint8; for floats from the lowest to the highest value in `X` and, if
        `estimator` is an AugmentedClassifier, in its fit.
    max_iter, n_restarts : int, default=20, 3
        Steps and starts of "pgd".
    n_queries : int, default=500
        Predictions that "square" asks for each image, here and within "autoattack".
    batch_size : int, default=256
        Images that are attacked at once.
    random_state : int, RandomState instance or None, default=None
        Seed of the attacks, of which none depends on what others there are.

    Returns
    -------
    Bunch
        - ``rows``: a list of dicts with the keys "attack", "eps", "accuracy", "balanced_accuracy"
          and "roc_auc", see `classification_scores`; first of all the attack "clean" with eps 0.
        - ``proba``: ndarray of shape (n_rows, n, n_classes), the probabilities of these rows.
        - ``gradient_masking``: list of str, signs that the attacks missed what there is.
        - ``loss_rises``: share of the images whose loss rises with a small step along its gradient.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or `X` and `y` do not match `estimator`.

    Warns
    -----
    GradientMaskingWarning
        If ``gradient_masking`` is not empty.

    See Also
    --------
    robustness_report : Several classifiers, with differences and intervals.
    GradientMaskingWarning : Warns where attacks do not find what there is.

    Notes
    -----
    Of everything that an attack tries on an image, and the image itself, what counts is what fools
    the network and, of several such, what makes the true label least likely. Unlike the others,
    "autoattack" leaves images alone that are misclassified already: it is made for accuracy.

    A network whose gradients say nothing resists attacks that follow them, and no others.
    :ref:`guide_evaluation` lists the signs of this that are looked for.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("art", reason="needs the extra robustness")
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import adversarial_scores
    >>> X, y, _ = load_digits_images()
    >>> X = X[:, None]
    >>> classifier = NetClassifier(max_epochs=5).fit(X[:200], y[:200])
    >>> scores = adversarial_scores(
    ...     classifier, X[200:250], y[200:250], attacks=["fgsm"], eps=0.2, random_state=0
    ... )
    >>> [(row["attack"], row["eps"]) for row in scores.rows]
    [('clean', 0.0), ('fgsm', 0.2)]
    >>> scores.rows[1]["accuracy"] < scores.rows[0]["accuracy"]
    True
    """
    check_installed("adversarial_scores")
    attacks = names_among(ATTACKS, attacks, "attack")
    strengths = check_eps(eps)
    # The user may have switched gradients off.
    with torch.inference_mode(False), torch.enable_grad():
        classifier = DifferentiableClassifier.from_estimator(estimator, X)
        classes = classifier.classes
        labels, codes = labels_of_images(y, classifier.x, classes)
        rng = check_random_state(random_state)
        target = Target(classifier)
        x = target.images()
        clean = target.predict(x, batch_size)
        rows, proba = [_row("clean", 0.0, labels, clean, classes)], [np.exp(clean)]
        budgets = {"max_iter": max_iter, "n_restarts": n_restarts, "n_queries": n_queries}
        for name, budget in budgets.items():
            check_int_at_least(name, budget, 1)
        attacker = Attacker(target, **budgets, batch_size=batch_size)
        seed = int(rng.randint(2**31 - 1))
        for attack, strength in product(attacks, strengths):
            # ART draws from the global generators.
            with _skorch.scoped_seed(seed):
                log_proba = _worst(attacker, attack, x, codes, strength, clean)
            rows.append(_row(attack, strength, labels, log_proba, classes))
            proba.append(np.exp(log_proba))
        [(_, stepped)] = attacker.candidates("fgsm", x, codes, min(strengths) / 4)
        stepped = target.predict(stepped, batch_size)
    rises = float(np.mean(_odds(stepped, codes) > _odds(clean, codes)))
    signs = signs_of_masking(rows, rises, len(x))
    if signs:
        warnings.warn(
            f"{type_name(estimator)} may be less robust than it seems: {'; '.join(signs)}. Its "
            "gradients seem to be masked, as by saturated probabilities (let the module return "
            "logits), rounding or randomness. Trust no accuracy under attack but the lowest.",
            GradientMaskingWarning,
            stacklevel=2,
        )
    return Bunch(rows=rows, proba=np.stack(proba), gradient_masking=signs, loss_rises=rises)


def check_eps(eps: Any) -> list[float]:
    """Return strengths of attacks as a list without repeats, or raise."""
    values = list(dict.fromkeys(map(float, [eps] if isinstance(eps, Real) else eps)))
    if not values or not all(0 < value <= 1 for value in values):
        raise ValueError(
            "eps must be above 0 and at most 1, fractions of the range of values such as 2/255; "
            f"got {eps}"
        )
    return values


def _row(attack: str, eps: float, y, log_proba: np.ndarray, classes) -> dict[str, Any]:
    scores = classification_scores(y, np.exp(log_proba), classes)
    accuracy = float(np.mean(classes[log_proba.argmax(1)] == y))
    return {"attack": attack, "eps": eps, "accuracy": accuracy, **scores}


def _odds(log_proba: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Log-odds against the true label: like the cross-entropy, but exact where that rounds to 0."""
    own = np.eye(log_proba.shape[1], dtype=bool)[y]
    wrong = np.where(own, -np.inf, log_proba.astype(np.float64))
    return np.logaddexp.reduce(wrong, axis=1) - log_proba[own]


def _worst(
    attacker: Attacker,
    attack: str,
    x: np.ndarray,
    y: np.ndarray,
    eps: float,
    against: np.ndarray,
) -> np.ndarray:
    """Log-probabilities of what misleads most, also of what is `against`: images left alone."""
    worst = against.copy()
    for rows, images in attacker.candidates(attack, x, y, eps):
        tried, best = attacker.target.predict(images, attacker.batch_size), worst[rows]
        fooled, was_fooled = (p.argmax(1) != y[rows] for p in (tried, best))
        worse = _odds(tried, y[rows]) > _odds(best, y[rows])
        better = np.where(fooled == was_fooled, worse, fooled)
        worst[rows] = np.where(better[:, None], tried, best)
    return worst


# Attacks draw at random, so that the stronger one may lose by so much without meaning it.
_SLACK = 0.02
# Share of the images whose loss is to rise along its gradient.
_RISING = 0.9


def signs_of_masking(rows: Sequence[dict], rises: float, n: int) -> list[str]:
    """Describe where a stronger attack did worse than a weaker one; row 0 is of clean images."""
    slack = max(_SLACK, 1 / n) + 1e-9
    accuracy = {(row["attack"], row["eps"]): row["accuracy"] for row in rows[1:]}
    strengths = sorted({row["eps"] for row in rows[1:]})
    # Pairs of a stronger and a weaker attack. A single long step, "fgsm", may overshoot.
    pairs = [
        ((attack, large), (attack, small))
        for attack in ("pgd", "autoattack", "square")
        for small, large in pairwise(strengths)
    ]
    orders = (("pgd", "fgsm"), ("autoattack", "pgd"), ("pgd", "square"))
    pairs += [((one, eps), (other, eps)) for eps in strengths for one, other in orders]
    signs = []
    if rises < _RISING:
        signs.append(f"the loss of only {rises:.0%} of the images rises along its gradient")
    for pair in pairs:
        if not set(pair) <= set(accuracy):
            continue
        left, expected = (accuracy[one] for one in pair)
        if left > expected + slack:
            names = [f"{attack!r} with eps={eps:.3g}" for attack, eps in pair]
            signs.append(f"{names[0]} leaves accuracy {left:.3f}, {names[1]} {expected:.3f}")
    return signs
