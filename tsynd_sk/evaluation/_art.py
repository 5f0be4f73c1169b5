"""The one place that knows the Adversarial Robustness Toolbox (ART) from the inside."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
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
    """Raise if the toolbox, whose import is slow, is not installed."""
    try:
        import art  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'{caller} needs the Adversarial Robustness Toolbox: pip install "tsynd_sk[robustness]"'
        ) from error


class Target(nn.Module):
    """What is attacked: log-probabilities of images whose values lie between 0 and 1.

    They differ from logits by what softmax and margins do not see.
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

    def images(self) -> np.ndarray:
        """Return those of the classifier, (n, C, H, W), with values between 0 and 1."""
        x = ((self.classifier.x - self.low) / self.scale).clamp(0, 1)
        return x.reshape(-1, *self.classifier.image_shape).numpy()

    def predict(self, x: np.ndarray, batch_size: int) -> np.ndarray:
        """Log-probabilities of an array."""
        with torch.no_grad():
            return torch.cat([self(part) for part in torch.from_numpy(x).split(batch_size)]).numpy()


class _Margin(nn.Module):
    """Best wrong logit against the right one: unlike the cross-entropy it never saturates."""

    reduction = "mean"

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        own = y > 0
        wrong = logits.masked_fill(own, -math.inf).amax(1)
        margin = wrong - logits[own]
        return margin if self.reduction == "none" else margin.mean()


@dataclass
class Attacker:
    """Attacks on a target, with the budgets of `adversarial_scores`."""

    target: Target
    max_iter: int
    n_restarts: int
    n_queries: int
    batch_size: int

    def __post_init__(self) -> None:
        self.image_shape = self.target.classifier.image_shape
        self.n_classes = len(self.target.classifier.classes)

    def candidates(
        self, attack: str, x: np.ndarray, y: np.ndarray, eps: float
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows, and what became of their images; the worst that is yielded of a row counts.

        Images (n, C, H, W) are float32 between 0 and 1.
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
        for _ in range(self.n_restarts if attack == "pgd" else 1):
            yield rows, self._attack(attack, eps).generate(x, hot)

    def _fooled(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.target.predict(x, self.batch_size).argmax(1) != y

    def _attack(self, attack: str, eps: float) -> Any:
        from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent, SquareAttack

        estimator = self._estimator(nn.CrossEntropyLoss())
        params: dict[str, Any] = {"eps": eps, "batch_size": self.batch_size}
        if attack == "fgsm":
            return FastGradientMethod(estimator, **params)
        params["verbose"] = False
        if attack == "pgd":
            # From one end of the ball to the other, and back again for a quarter of the way.
            params["eps_step"] = min(2.5 * eps / self.max_iter, eps)
            return ProjectedGradientDescent(
                estimator, max_iter=self.max_iter, num_random_init=1, **params
            )
        _, height, width = self.image_shape
        # ART finds no place for a square as wide as the image.
        widest = min(height, width) - 0.6
        share = min(0.8, widest**2 / (height * width))
        return SquareAttack(estimator, max_iter=self.n_queries, p_init=share, **params)

    def _parts_of_autoattack(self, eps: float) -> Iterator[Any]:
        """Its parts that keep to the largest change of a value: not DeepFool, and not FAB."""
        from art.attacks.evasion import AutoProjectedGradientDescent

        # The ratio of differences of logits is made of three of them. With two classes, what is
        # left of it is its numerator.
        ratio = "difference_logits_ratio" if self.n_classes > 2 else None
        for loss, name in ((nn.CrossEntropyLoss(), "cross_entropy"), (_Margin(), ratio)):
            yield AutoProjectedGradientDescent(
                self._estimator(loss),
                eps=eps,
                eps_step=2 * eps,
                max_iter=_AUTO_STEPS,
                nb_random_init=1,
                batch_size=self.batch_size,
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
