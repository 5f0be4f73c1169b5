"""Fitted classifiers and images as the displays that follow gradients need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from torch import Tensor, nn

from tsynd_sk import _skorch
from tsynd_sk._utils._inference import InferenceCopy
from tsynd_sk._utils._labels import labels_of
from tsynd_sk._utils._validation import type_name
from tsynd_sk.evaluation import _subject
from tsynd_sk.images import ImageFormat, array_of_images
from tsynd_sk.inspection._drawing import as_displayed
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer

# More columns than that make no picture.
_MAX_IMAGES = 32


@dataclass(frozen=True)
class Subject:
    """A network, and images as it sees them.

    Attributes
    ----------
    network : InferenceCopy
        Gives log-probabilities.
    module : Module
        The user's own, to find layers in.
    to_scores : callable or None
        Gives, of the module's output, scores whose gradients do not vanish where it is sure; None
        if the output is such scores.
    x : Tensor of shape (n, ...)
        What it sees.
    limits : tuple of float
        Range of values of what it sees.
    classes : ndarray of shape (n_classes,)
        Labels of the columns.
    """

    network: InferenceCopy
    module: nn.Module
    to_scores: Callable[[Any], Tensor] | None
    x: Tensor
    limits: tuple[float, float]
    classes: np.ndarray

    def log_proba(self, x: Tensor | None = None) -> np.ndarray:
        """Predict for images, (n, n_classes); by default for those that it has."""
        with torch.no_grad():
            return self.network(self.x if x is None else x).cpu().numpy()


@dataclass(frozen=True)
class Panel:
    """Fitted classifiers by name, and images that all of them see.

    Attributes
    ----------
    subjects : dict
        From names to `Subject`.
    images : ndarray of shape (n, H, W) or (n, H, W, C)
        Images as matplotlib shows them.
    image_shape : tuple of int
        (C, H, W).
    """

    subjects: dict[str, Subject]
    images: np.ndarray
    image_shape: tuple[int, int, int]

    @property
    def limits(self) -> tuple[float, float]:
        """Range of values of what the networks see, the same for all of them."""
        lows, highs = zip(*(subject.limits for subject in self.subjects.values()), strict=True)
        return min(lows), max(highs)

    @property
    def shown_limits(self) -> tuple[float, float]:
        """The same on the scale of the images."""
        low, high = self.limits
        return low * self._scale, high * self._scale

    @property
    def _scale(self) -> float:
        return 255.0 if self.images.dtype == np.uint8 else 1.0

    def displayed(self, x: Tensor) -> np.ndarray:
        """Bring what a network sees to the layout and the scale of the images, as floats."""
        channels_first = x.detach().cpu().double().reshape(len(x), *self.image_shape)
        shown = channels_first.permute(0, 2, 3, 1).numpy() * self._scale
        return shown.reshape(self.images.shape)

    def targets(self, y: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Give labels as an array, and the column of each for every classifier."""
        labels = labels_of(y)
        n = len(self.images)
        if len(labels) != n:
            raise ValueError(f"y has {len(labels)} labels, but X has {n} images")
        codes = {}
        for name, subject in self.subjects.items():
            known = subject.classes.tolist()
            if unknown := sorted(set(labels.tolist()) - set(known), key=str):
                raise ValueError(
                    f"y has labels {unknown[:10]}, but {name!r} knows the classes {known}. A bare "
                    "skorch net knows indices of classes only."
                )
            codes[name] = np.array([known.index(label) for label in labels.tolist()])
        return labels, codes


def panel_of(estimators: Any, X: ArrayLike, display: str) -> Panel:
    """Find the networks of fitted classifiers, and bring images to what they see and show.

    Parameters
    ----------
    estimators : mapping
        From names to fitted AugmentedClassifier or skorch classifiers.
    X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
        Images in the layout of `fit`; for a bare skorch net in any layout.
    display : str
        Who asks, for messages.

    Raises
    ------
    TypeError, ValueError, sklearn.exceptions.NotFittedError
        If there is no such classifier, or images do not fit.
    """
    if not isinstance(estimators, Mapping):
        raise TypeError(
            f"estimators must be a dict from names to fitted classifiers, got {type_name(estimators)}"
        )
    if not estimators:
        raise ValueError("estimators is empty; give at least one fitted classifier")
    for name in estimators:
        if not isinstance(name, str):
            raise TypeError(f"the names of estimators must be strings, got {name!r}")
    given = {name: _checked(name, one, display) for name, one in estimators.items()}
    images = array_of_images(X, name=display)
    if len(images) > _MAX_IMAGES:
        raise ValueError(
            f"X has {len(images)} images, and {display} draws a column for each: give up to "
            f"{_MAX_IMAGES}, for instance X[:8]"
        )
    augmented = [one for one in given.values() if isinstance(one, AugmentedClassifier)]
    # What was fitted on these images knows their layout and their labels; a bare net does not.
    image_format = augmented[0].format_ if augmented else _format_of(given, images)
    classes = augmented[0].classes_ if augmented else None
    subjects = {
        name: _subject_of(one, images, image_format, classes) for name, one in given.items()
    }
    assert image_format.image_shape is not None
    return Panel(subjects, as_displayed(images, image_format), image_format.image_shape)


def named_alone(estimator: Any, name: str | None) -> dict[str, Any]:
    """Make a single estimator the only one of its kind."""
    name = type(_skorch.unfreeze(estimator)).__name__ if name is None else name
    return {name: estimator}


def _checked(name: str, estimator: Any, display: str) -> Any:
    given = _skorch.unfreeze(estimator)
    what = f"estimators[{name!r}]"
    if isinstance(given, AugmentedClassifier):
        check_is_fitted(given, "estimator_")
        if given.image_shape_ is None:
            raise ValueError(
                f"{what} was fitted on a table, and {display} shows images. If its rows are flat "
                "images, give its synthesizer image_shape=(n_channels, height, width)."
            )
        return given
    if not isinstance(given, NeuralNet):
        hint = (
            "its classifier_"
            if isinstance(given, TargetedSynthesizer)
            else "the best_estimator_ of a search, or the last step of a pipeline with X as that "
            "step sees it"
        )
        raise TypeError(
            f"{what} must be a fitted AugmentedClassifier or skorch classifier, whose gradients "
            f"can be followed; got {type_name(estimator)}. Give {hint}."
        )
    _skorch.check_classifier(given, what)
    check_is_fitted(given, "module_")
    return given


def _format_of(nets: dict[str, Any], images: np.ndarray) -> ImageFormat:
    shapes = [net.image_shape_ for net in nets.values() if hasattr(net, "image_shape_")]
    image_format = ImageFormat.infer(images, shapes[0] if shapes else None)
    if image_format.image_shape is None:
        raise ValueError(
            f"X has shape {images.shape}; expected images, (n, H, W), (n, H, W, C) or (n, C, H, "
            "W). For a skorch net that sees flat images, set its attribute image_shape_ to "
            "(n_channels, height, width)."
        )
    return image_format


def _subject_of(
    given: Any, images: np.ndarray, image_format: ImageFormat, classes: np.ndarray | None
) -> Subject:
    if isinstance(given, AugmentedClassifier):
        seen = _subject(given, images)
        return _prepared(seen.net, seen.x, seen.limits, seen.classes)
    x = image_format.to_tensor(images).numpy()
    limits = (0.0, 1.0) if images.dtype == np.uint8 else (float(x.min()), float(x.max()))
    # Nets of tsynd_sk see an axis of channels. Others may see grey images without one.
    views = [x]
    if images.ndim == 2 and hasattr(given, "image_shape_"):
        views = [x.reshape(len(x), -1)]
    elif image_format.layout == "hw":
        views.append(x[:, 0])
    errors = []
    for view in views:
        try:
            return _prepared(given, view, limits, classes)
        except (RuntimeError, ValueError, IndexError) as error:
            errors.append(error)
    raise errors[0]


def _prepared(
    net: NeuralNet, x: np.ndarray, limits: tuple[float, float], classes: np.ndarray | None
) -> Subject:
    module, head = _skorch.bare_module(net), _skorch.log_proba_head(net)
    seen = torch.from_numpy(x).to(_skorch.device_of(net))
    network = InferenceCopy(module, head)
    network.prepare(seen)
    with torch.no_grad():
        log_proba = network(seen[:2])
    if log_proba.ndim != 2 or log_proba.shape[1] < 2 or len(log_proba) != len(seen[:2]):
        raise ValueError(
            f"{type(net).__name__} predicts log-probabilities of shape {tuple(log_proba.shape)} "
            f"for {len(seen[:2])} images; expected (n, n_classes) with two classes at least"
        )
    if log_proba.isnan().any():
        raise ValueError(f"{type(net).__name__} predicts NaN: it has not learnt anything")
    n_classes = log_proba.shape[1]
    known = np.arange(n_classes) if classes is None or len(classes) != n_classes else classes
    return Subject(network, module, _skorch.scores_head(net), seen, limits, np.asarray(known))
