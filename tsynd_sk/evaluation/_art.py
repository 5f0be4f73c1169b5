"""The one place that knows the Adversarial Robustness Toolbox (ART) from the inside."""

from __future__ import annotations

import math
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsynd_sk.evaluation._differentiable import DifferentiableClassifier

# Steps of AutoAttack, as its authors run it: each of its parts starts once.
_AUTO_STEPS = 100
# Predictions to keep; a few hundred bytes each.
_MAX_KNOWN = 50_000


def check_installed(caller: str) -> None:
    """Raise if the toolbox is not installed.

    It is imported where it is used: it takes a second, and makes a folder ~/.art.
    """
    try:
        import art  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'{caller} needs the Adversarial Robustness Toolbox: pip install "tsynd_sk[robustness]"'
        ) from error


class Target(nn.Module):
    """What is attacked: logits of images whose values lie between 0 and 1.

    Parameters
    ----------
    classifier : DifferentiableClassifier
        Returns log-probabilities, which differ from logits by what softmax and margins do not see.
    """

    def __init__(self, classifier: DifferentiableClassifier):
        super().__init__()
        # No module of its own: ART switches modes and moves what it finds.
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

    def predict(self, x: np.ndarray, batch_size: int) -> np.ndarray:
        """Log-probabilities of an array."""
        with torch.no_grad():
            return torch.cat([self(part) for part in torch.from_numpy(x).split(batch_size)]).numpy()


def scaled_images(classifier: DifferentiableClassifier) -> np.ndarray:
    """Return the images (n, C, H, W) of a classifier with values between 0 and 1."""
    low, high = classifier.limits
    x = ((classifier.x.numpy() - low) / (high - low or 1.0)).astype(np.float32).clip(0, 1)
    return x.reshape(-1, *classifier.image_shape)


class _Margin(nn.Module):
    """Best wrong logit against the right one: unlike the cross-entropy it never saturates."""

    reduction = "mean"

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        own = y > 0
        wrong = logits.masked_fill(own, -math.inf).amax(1)
        margin = wrong - logits[own]
        return margin if self.reduction == "none" else margin.mean()


class Attacker:
    """Attacks on a target, bound by the largest change of a value.

    Parameters
    ----------
    target : Target
        What is attacked.
    max_iter, n_restarts, n_queries : int
        Budgets: steps and restarts of PGD, predictions of the black-box attack.
    batch_size : int
        Images at a time.
    """

    def __init__(
        self,
        target: Target,
        *,
        max_iter: int,
        n_restarts: int,
        n_queries: int,
        batch_size: int,
    ):
        self.target = target
        self.image_shape = target.classifier.image_shape
        self.n_classes = len(target.classifier.classes)
        self.max_iter = max_iter
        self.n_restarts = n_restarts
        self.n_queries = n_queries
        self.batch_size = batch_size

    def candidates(
        self, attack: str, x: np.ndarray, y: np.ndarray, eps: float
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield attacked images in one array after another; the worst of an image counts.

        Parameters
        ----------
        attack : {"fgsm", "pgd", "autoattack", "square"}
            Attack.
        x : ndarray of shape (n, C, H, W), float32
            Images between 0 and 1.
        y : ndarray of shape (n,)
            Class indices.
        eps : float
            Largest change of a value.

        Yields
        ------
        rows : ndarray of shape (m,)
            Indices of images.
        attacked : ndarray of shape (m, C, H, W), float32
            What became of them.
        """
        rows, hot = np.arange(len(x)), np.eye(self.n_classes, dtype=np.float32)[y]
        if attack == "autoattack":
            # ART's own AutoAttack needs a package that ART does not ask for, and assumes three
            # classes. As there, each part has a go at the images that still stand.
            rows = rows[~self._fooled(x, y)]
            for part in self._parts_of_autoattack(eps):
                if len(rows):
                    attacked = part.generate(x[rows], hot[rows])
                    yield rows, attacked
                    rows = rows[~self._fooled(attacked, y[rows])]
            return
        maker = {"fgsm": self._fgsm, "pgd": self._pgd, "square": self._square}[attack]
        for _ in range(self.n_restarts if attack == "pgd" else 1):
            yield rows, maker(eps).generate(x, hot)

    def _fooled(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.target.predict(x, self.batch_size).argmax(1) != y

    def _fgsm(self, eps: float) -> Any:
        from art.attacks.evasion import FastGradientMethod

        return FastGradientMethod(
            self._estimator(nn.CrossEntropyLoss()), eps=eps, batch_size=self.batch_size
        )

    def _pgd(self, eps: float) -> Any:
        from art.attacks.evasion import ProjectedGradientDescent

        return ProjectedGradientDescent(
            self._estimator(nn.CrossEntropyLoss()),
            eps=eps,
            # From one end of the ball to the other, and back again for a quarter of the way.
            eps_step=min(2.5 * eps / self.max_iter, eps),
            max_iter=self.max_iter,
            num_random_init=1,
            batch_size=self.batch_size,
            verbose=False,
        )

    def _square(self, eps: float) -> Any:
        from art.attacks.evasion import SquareAttack

        _, height, width = self.image_shape
        # ART finds no place for a square as wide as the image.
        widest = min(height, width) - 0.6
        return SquareAttack(
            self._estimator(nn.CrossEntropyLoss()),
            eps=eps,
            max_iter=self.n_queries,
            p_init=min(0.8, widest**2 / (height * width)),
            batch_size=self.batch_size,
            verbose=False,
        )

    def _parts_of_autoattack(self, eps: float) -> Iterator[Any]:
        """Its parts that keep to the largest change of a value: not DeepFool, and not FAB."""
        yield self._auto_pgd(eps, nn.CrossEntropyLoss(), "cross_entropy")
        # The ratio of differences of logits is made of three of them. With two classes, what is
        # left of it is its numerator.
        ratio = "difference_logits_ratio" if self.n_classes > 2 else None
        yield self._auto_pgd(eps, _Margin(), ratio)
        if min(self.image_shape[1:]) > 1:
            yield self._square(eps)

    def _auto_pgd(self, eps: float, loss: nn.Module, loss_type: str | None) -> Any:
        from art.attacks.evasion import AutoProjectedGradientDescent

        return AutoProjectedGradientDescent(
            self._estimator(loss),
            eps=eps,
            eps_step=2 * eps,
            max_iter=_AUTO_STEPS,
            nb_random_init=1,
            batch_size=self.batch_size,
            loss_type=loss_type,
            verbose=False,
        )

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
