"""Scores of classifiers under attacks of the Adversarial Robustness Toolbox (ART)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise, product
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_random_state
from torch import Tensor, nn

from tsynd_sk import _skorch
from tsynd_sk._utils._names import ATTACKS
from tsynd_sk._utils._validation import check_int_at_least, type_name
from tsynd_sk.evaluation._differentiable import DifferentiableClassifier
from tsynd_sk.evaluation._scores import classification_scores, labels_of_images, names_among

# Steps of AutoAttack, as its authors run it.
_AUTO_STEPS = 100
# Predictions to keep.
_MAX_KNOWN = 50_000
# By so much the stronger attack may lose by chance.
_SLACK = 0.02
# Share of the images whose loss is to rise along its gradient.
_RISING = 0.9


class GradientMaskingWarning(UserWarning):
    """Accuracy under attack is better than it should be: the attacks do not find what there is.

    See Also
    --------
    adversarial_scores : Raises the warning.

    Examples
    --------
    Turned into an error, it stops a job:

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
          differences of logits (for two classes, on their difference), then "square", each
          against the images that still stand.
        - "square": a random search that sees predictions only, `n_queries` for each image.
    eps : iterable of float, default=(2 / 255, 4 / 255, 8 / 255)
        Largest change of any value, as a fraction of the range of values, within which images stay:
        0 to 255 for uint8; for floats that of `X` and of the fit of an AugmentedClassifier.
    max_iter, n_restarts, n_queries, batch_size : int, default=20, 3, 500, 256
        Budgets of the attacks, see above, and images that are attacked at once.
    random_state : int, RandomState instance or None, default=None
        Seed of the attacks, of which none depends on what others there are.

    Returns
    -------
    Bunch
        - ``rows``: a list of dicts with "attack", "eps", "accuracy" and `classification_scores`;
          first of all the attack "clean" with eps 0.
        - ``proba``: ndarray of shape (n_rows, n, n_classes), the probabilities of these rows.
        - ``gradient_masking``: list of str, signs that the attacks missed what there is.
        - ``loss_rises``: share of the images whose loss rises with a small step along its gradient.

    Raises
    ------
    ImportError
        If the toolbox is not installed.
    ValueError
        If a parameter is out of its range, or `X` and `y` do not match `estimator`.

    Warns
    -----
    GradientMaskingWarning
        If ``gradient_masking`` is not empty; :ref:`guide_evaluation` lists the signs.

    See Also
    --------
    robustness_report : Several classifiers, with differences and intervals.
    GradientMaskingWarning : Warns where attacks do not find what there is.

    Notes
    -----
    Of everything that an attack tries on an image, and the image itself, what counts is what fools
    the network and, of several such, what makes the true label least likely. Unlike the others,
    "autoattack" leaves images alone that are misclassified already: it is made for accuracy.

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
    >>> scores = adversarial_scores(classifier, X[200:250], y[200:250], attacks=["fgsm"], eps=0.2)
    >>> clean, attacked = scores.rows
    >>> attacked["accuracy"] < clean["accuracy"]
    True
    """
    try:
        import art  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "adversarial_scores needs the Adversarial Robustness Toolbox: pip install "
            '"tsynd_sk[robustness]"'
        ) from error
    attacks = names_among(ATTACKS, attacks, "attack")
    strengths = check_eps(eps)
    budgets = {"max_iter": max_iter, "n_restarts": n_restarts, "n_queries": n_queries}
    budgets |= {"batch_size": batch_size}
    for name, budget in budgets.items():
        check_int_at_least(name, budget, 1)
    # The user may have switched gradients off.
    with torch.inference_mode(False), torch.enable_grad():
        classifier = DifferentiableClassifier.from_estimator(estimator, X)
        _, codes = labels_of_images(y, classifier.x, classifier.classes)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        attacker = Attacker(classifier, codes, **budgets)
        settings = [("clean", 0.0), *product(attacks, strengths)]
        rows, proba = [], []
        for attack, strength in settings:
            # ART draws from the global generators.
            with _skorch.scoped_seed(seed):
                log_proba = attacker.worst(attack, strength)
            proba.append(np.exp(log_proba))
            scores = classification_scores(codes, proba[-1], range(len(classifier.classes)))
            accuracy = float(np.mean(log_proba.argmax(1) == codes))
            rows.append({"attack": attack, "eps": strength, "accuracy": accuracy, **scores})
        rises = attacker.share_rising(min(strengths) / 4)
    signs = signs_of_masking(rows, rises, len(codes))
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


def signs_of_masking(rows: Sequence[dict], rises: float, n: int) -> list[str]:
    """Describe where a stronger attack did worse than a weaker one."""
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
        left, expected = map(accuracy.get, pair)
        if left is not None and expected is not None and left > expected + slack:
            names = [f"{attack!r} with eps={eps:.3g}" for attack, eps in pair]
            signs.append(f"{names[0]} leaves accuracy {left:.3f}, {names[1]} {expected:.3f}")
    return signs


class Target(nn.Module):
    """What is attacked: log-probabilities, like logits, of images with values from 0 to 1."""

    def __init__(self, classifier: DifferentiableClassifier):
        super().__init__()
        # No module, for ART switches modes and moves what it finds.
        self.classifier = classifier
        self.low, high = classifier.limits
        self.scale = high - self.low or 1.0
        self._known: dict[bytes, Tensor] = {}

    def _log_proba(self, x: Tensor) -> Tensor:
        rows = (self.low + self.scale * x).reshape(len(x), *self.classifier.x.shape[1:])
        return self.classifier(rows)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities (n, n_classes) of images (n, C, H, W)."""
        if torch.is_grad_enabled():
            return self._log_proba(x)
        # The black-box attack asks thrice for everything, and most other attacks twice.
        keys = [blake2b(row.tobytes(), digest_size=16).digest() for row in x.numpy()]
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        if new := [i for i, key in enumerate(keys) if key not in self._known]:
            answers = self._log_proba(x[new]).float()
            self._known.update(zip([keys[i] for i in new], answers, strict=True))
        return torch.stack([self._known[key] for key in keys])


class _Margin(nn.Module):
    """Best wrong logit against the right one: unlike the cross-entropy it never saturates."""

    reduction = "mean"

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        own = y > 0
        wrong = logits.masked_fill(own, -math.inf).amax(1)
        margin = wrong - logits[own]
        return margin if self.reduction == "none" else margin.mean()


class Attacker:
    """Attacks on the images of a classifier, with the budgets of `adversarial_scores`."""

    def __init__(self, classifier: DifferentiableClassifier, y: np.ndarray, **budgets: int):
        self.target, self.y, self.budgets = Target(classifier), y, budgets
        shape = classifier.image_format.image_shape
        assert shape is not None
        self.image_shape, self.n_classes = shape, len(classifier.classes)
        x = ((classifier.x - self.target.low) / self.target.scale).clamp(0, 1)
        # Images (n, C, H, W), float32 between 0 and 1, and their log-probabilities.
        self.x = x.reshape(-1, *shape).numpy()
        self.clean = self.predict(self.x)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Log-probabilities of images."""
        parts = torch.from_numpy(x).split(self.budgets["batch_size"])
        with torch.no_grad():
            return torch.cat([self.target(part) for part in parts]).numpy()

    def worst(self, attack: str, eps: float) -> np.ndarray:
        """Log-probabilities of what misleads most, be it an image as it is."""
        worst = self.clean.copy()
        for rows, images in self.candidates(attack, eps):
            tried, best, y = self.predict(images), worst[rows], self.y[rows]
            fooled, was_fooled = (p.argmax(1) != y for p in (tried, best))
            better = np.where(fooled == was_fooled, _odds(tried, y) > _odds(best, y), fooled)
            worst[rows] = np.where(better[:, None], tried, best)
        return worst

    def share_rising(self, eps: float) -> float:
        """Share of the images whose loss rises with a step along its gradient."""
        [(_, stepped)] = self.candidates("fgsm", eps)
        return float(np.mean(_odds(self.predict(stepped), self.y) > _odds(self.clean, self.y)))

    def candidates(self, attack: str, eps: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows, and what became of their images: nothing if they stay clean."""
        rows, hot = np.arange(len(self.x)), np.eye(self.n_classes, dtype=np.float32)[self.y]
        if attack == "autoattack":
            # ART's own AutoAttack needs a package that ART does not ask for, and three classes. As
            # there, each part has a go at the images that still stand.
            rows = rows[self.clean.argmax(1) == self.y]
            for part in self._parts_of_autoattack(eps):
                if len(rows):
                    attacked = part.generate(self.x[rows], hot[rows])
                    yield rows, attacked
                    rows = rows[self.predict(attacked).argmax(1) == self.y[rows]]
        elif attack != "clean":
            for _ in range(self.budgets["n_restarts"] if attack == "pgd" else 1):
                yield rows, self._attack(attack, eps).generate(self.x, hot)

    def _attack(self, attack: str, eps: float) -> Any:
        from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent, SquareAttack

        estimator = self._estimator(nn.CrossEntropyLoss())
        params: dict[str, Any] = {"eps": eps, "batch_size": self.budgets["batch_size"]}
        if attack == "fgsm":
            return FastGradientMethod(estimator, **params)
        params["verbose"] = False
        if attack == "pgd":
            n_steps = self.budgets["max_iter"]
            params["eps_step"] = min(2.5 * eps / n_steps, eps)
            return ProjectedGradientDescent(
                estimator, max_iter=n_steps, num_random_init=1, **params
            )
        _, height, width = self.image_shape
        # ART finds no place for a square as wide as the image.
        share = min(0.8, (min(height, width) - 0.6) ** 2 / (height * width))
        return SquareAttack(estimator, max_iter=self.budgets["n_queries"], p_init=share, **params)

    def _parts_of_autoattack(self, eps: float) -> Iterator[Any]:
        """Those that keep to the largest change of a value: not DeepFool, and not FAB."""
        from art.attacks.evasion import AutoProjectedGradientDescent

        # The ratio of differences is made of three logits. Of two, its numerator is left.
        ratio = "difference_logits_ratio" if self.n_classes > 2 else None
        for loss, name in ((nn.CrossEntropyLoss(), "cross_entropy"), (_Margin(), ratio)):
            yield AutoProjectedGradientDescent(
                self._estimator(loss),
                eps=eps,
                eps_step=2 * eps,
                max_iter=_AUTO_STEPS,
                nb_random_init=1,
                batch_size=self.budgets["batch_size"],
                loss_type=name,
                verbose=False,
            )
        yield self._attack("square", eps)

    def _estimator(self, loss: nn.Module) -> Any:
        from art.estimators.classification import PyTorchClassifier

        return PyTorchClassifier(
            model=self.target,
            loss=loss,
            input_shape=self.image_shape,
            nb_classes=self.n_classes,
            clip_values=(0.0, 1.0),
            # The target knows its device.
            device_type="cpu",
        )


def _odds(log_proba: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Log-odds against the true label: like the cross-entropy, but exact where that rounds to 0."""
    own = np.eye(log_proba.shape[1], dtype=bool)[y]
    wrong = np.where(own, -np.inf, log_proba.astype(np.float64))
    return np.logaddexp.reduce(wrong, axis=1) - log_proba[own]
