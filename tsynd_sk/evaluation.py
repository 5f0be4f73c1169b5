"""Scores of classifiers on clean and on corrupted images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import recall_score, roc_auc_score
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from torch import Tensor

from tsynd_sk.images import ImageFormat

__all__ = ["CORRUPTIONS", "classification_scores", "corrupt", "perturbed_scores"]

# Strengths at severities 1 to 5. Lengths are in shares of the image's side and values in shares of
# their range, so that an image is harmed alike whatever its resolution and units.
_STRENGTHS: dict[str, tuple[float, float, float, float, float]] = {
    "noise": (0.03, 0.06, 0.09, 0.13, 0.18),  # standard deviation, of the range of values
    "blur": (0.018, 0.026, 0.035, 0.05, 0.07),  # standard deviation, of the side
    "brightness": (0.25, 0.4, 0.6, 0.8, 1.0),  # doublings or halvings of the values
    "contrast": (0.25, 0.45, 0.7, 1.0, 1.4),  # doublings or halvings of distances to the mean
    "gamma": (0.3, 0.5, 0.75, 1.0, 1.4),  # doublings or halvings of the exponent
    "rotation": (6, 12, 18, 26, 36),  # degrees
    "shift": (0.05, 0.09, 0.14, 0.2, 0.27),  # distance, of the side
    "pixelation": (0.05, 0.06, 0.075, 0.1, 0.14),  # side of a block, of the image's side
    "occlusion": (0.2, 0.28, 0.36, 0.45, 0.55),  # side of a box, of the image's side
}
# Rows are not all harmed to the same degree, but a milder severity stays milder.
_WEAKEST = 2 / 3

CORRUPTIONS: tuple[str, ...] = tuple(_STRENGTHS)

_CONSTRAINTS: dict[str, list[Any]] = {
    "severity": [Interval(Integral, 1, 5, closed="both")],
    "random_state": ["random_state"],
}


def corrupt(
    X: ArrayLike,
    kind: str,
    severity: int = 3,
    *,
    random_state: Any = None,
    image_shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Corrupt every image at random in one way, to ask how well a classifier bears it.

    Parameters
    ----------
    X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
        Images, uint8, float or any other numbers. Not changed.
    kind : {"noise", "blur", "brightness", "contrast", "gamma", "rotation", "shift", \
            "pixelation", "occlusion"}
        What happens to the images.
    severity : int, default=3
        From 1, hardly visible, to 5, hard to recognise in images of 28 pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws. Row i's own draw depends on the seed and on i alone.
    image_shape : tuple of int or None, default=None
        (H, W), (C, H, W) or (H, W, C). Needed for flat images, and settles ambiguous layouts.

    Returns
    -------
    ndarray of the shape and dtype of `X`
        Corrupted images, within [0, 255] for uint8 and else within the range of `X`.

    Raises
    ------
    ValueError
        If `kind` or `severity` is unknown, or `X` is empty, not finite, a table without
        `image_shape`, or of an ambiguous layout.

    Notes
    -----
    A row draws a strength between two thirds and all of what `severity` stands for, and, as the
    kind may be, a direction (brighter or darker, clockwise or not) or a place. Strengths are
    relative to the size of the images and to the range of values: 0 to 255 for uint8, otherwise
    the range of `X` as a whole.

    Examples
    --------
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import corrupt
    >>> X = load_digits_images().X[:20]
    >>> X_noisy = corrupt(X, "noise", severity=5, random_state=0)
    >>> X_noisy.shape, X_noisy.dtype
    ((20, 8, 8), dtype('float32'))
    >>> float(X_noisy.min()), float(X_noisy.max())
    (0.0, 1.0)
    """
    _check_kinds([kind])
    params = {"severity": severity, "random_state": random_state}
    validate_parameter_constraints(_CONSTRAINTS, params, caller_name="corrupt")
    images = check_array(X, allow_nd=True, input_name="X")
    if 0 in images.shape:
        raise ValueError(f"X has shape {images.shape}: there is nothing in it")
    image_format = ImageFormat.infer(images, image_shape)
    if image_format.image_shape is None:
        raise ValueError(
            f"X has shape {images.shape}: a table, or flat images, for which image_shape="
            "(n_channels, height, width) is needed"
        )
    x = image_format.to_tensor(images)
    low, high = (0.0, 1.0) if images.dtype == np.uint8 else (float(x.min()), float(x.max()))
    # torchvision takes floats to lie in [0, 1]. A constant X has no range to speak of.
    scale = high - low or 1.0
    x = (x - low) / scale
    seed = check_random_state(random_state).randint(2**31 - 1)
    for i, image in enumerate(x):
        rng = np.random.default_rng([seed, i])
        strength = _STRENGTHS[kind][severity - 1] * rng.uniform(_WEAKEST, 1)
        x[i] = _corrupt_image(image, kind, strength, rng)
    corrupted = image_format.to_array(x * scale + low)
    # What is uint8 has been clipped to its limits already.
    return corrupted if images.dtype == np.uint8 else corrupted.clip(images.min(), images.max())


def _check_kinds(kinds: Iterable[str]) -> None:
    if unknown := [kind for kind in kinds if kind not in CORRUPTIONS]:
        raise ValueError(f"Unknown corruption {unknown[0]!r}; known: {', '.join(CORRUPTIONS)}")


def _corrupt_image(image: Tensor, kind: str, strength: float, rng: np.random.Generator) -> Tensor:
    """Corrupt an image (C, H, W) with values in [0, 1]; the result may leave them.

    One image, for torchvision's random transforms make a single draw for a whole batch.
    """
    # torchvision takes a second to import, and the scores do without it.
    from torchvision.transforms.v2 import functional as F

    sides = image.shape[1:]
    side = math.sqrt(sides[0] * sides[1])
    sign = rng.choice([-1, 1])
    match kind:
        case "noise":
            # Not torchvision's, which draws from the global generator.
            values = rng.standard_normal(image.shape, dtype=np.float32)
            return image + strength * torch.from_numpy(values)
        case "blur":
            sigma = strength * side
            # The image is mirrored at its borders, so that no kernel may reach across all of it.
            reach = [min(math.ceil(3 * sigma), pixels - 1) for pixels in reversed(sides)]
            return F.gaussian_blur(image, [2 * pixels + 1 for pixels in reach], [sigma, sigma])
        case "brightness":
            return _by_channel(F.adjust_brightness, image, 2 ** (sign * strength))
        case "contrast":
            return _by_channel(F.adjust_contrast, image, 2 ** (sign * strength))
        case "gamma":
            return F.adjust_gamma(image, 2 ** (sign * strength))
        case "rotation":
            return _moved(image, angle=sign * strength)
        case "shift":
            direction = rng.uniform(0, 2 * math.pi)
            step = [strength * side * f(direction) for f in (math.cos, math.sin)]
            return _moved(image, translate=step)
        case "pixelation":
            # One block fewer than there are pixels, or nothing would happen to small images.
            blocks = [
                max(1, min(round(pixels / (strength * side)), pixels - 1)) for pixels in sides
            ]
            coarse = F.resize(image, blocks, antialias=True)
            return F.resize(coarse, list(sides), interpolation=F.InterpolationMode.NEAREST_EXACT)
        case _:  # occlusion
            box = [max(1, round(strength * pixels)) for pixels in sides]
            corner = [rng.integers(s - b, endpoint=True) for s, b in zip(sides, box, strict=True)]
            # Black could pass for anatomy.
            return F.erase(image, *map(int, corner), *box, v=torch.full((1, 1, 1), 0.5))


def _by_channel(operation, image: Tensor, factor: float) -> Tensor:
    """Apply to every channel alone what torchvision restricts to one or three channels."""
    return operation(image[:, None], factor)[:, 0]


def _moved(image: Tensor, *, angle: float = 0.0, translate: Iterable[float] = (0.0, 0.0)) -> Tensor:
    """Turn and shift; the border goes on outside, for black corners would be an occlusion."""
    from torchvision.transforms.v2 import functional as F

    height, width = image.shape[1:]
    # No pixel of the outcome comes from farther away than this.
    margin = math.ceil(math.hypot(height, width) / 2)
    padded = F.pad(image, [margin], padding_mode="edge")
    moved = F.affine(
        padded,
        angle=float(angle),
        translate=list(translate),
        scale=1.0,
        shear=[0.0, 0.0],
        interpolation=F.InterpolationMode.BILINEAR,
    )
    return F.center_crop(moved, [height, width])


def classification_scores(y: ArrayLike, proba: ArrayLike, classes: ArrayLike) -> dict[str, float]:
    """Score predicted probabilities, also where some classes are missing from `y`.

    Parameters
    ----------
    y : array-like of shape (n,)
        True labels.
    proba : array-like of shape (n, n_classes)
        Predicted probabilities.
    classes : array-like of shape (n_classes,)
        Label that each column of `proba` is for.

    Returns
    -------
    dict
        "roc_auc", the area under the ROC curve, one class against the rest and averaged if there
        are more than two; nan if `y` has a single label. "balanced_accuracy", the mean over
        classes of the share recognised. Both are over the classes present in `y`.

    Raises
    ------
    ValueError
        If shapes do not match, `y` has labels that are not in `classes`, or there are no rows.

    Examples
    --------
    >>> from tsynd_sk.evaluation import classification_scores
    >>> proba = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
    >>> classification_scores(["fit", "fit", "sick"], proba, ["fit", "sick"])
    {'roc_auc': 1.0, 'balanced_accuracy': 0.75}
    """
    labels, columns = column_or_1d(y), column_or_1d(classes)
    scores = check_array(proba, input_name="proba")
    check_consistent_length(labels, scores)
    if scores.shape[1] != len(columns):
        raise ValueError(
            f"proba has {scores.shape[1]} columns, but there are {len(columns)} classes"
        )
    if unknown := sorted(set(labels.tolist()) - set(columns.tolist()), key=str):
        raise ValueError(f"y has labels {unknown[:10]} that are not in classes={columns.tolist()}")
    present = np.flatnonzero(np.isin(columns, labels))
    if len(present) < 2:
        roc_auc = math.nan
    elif len(columns) == 2:
        roc_auc = roc_auc_score(labels == columns[1], scores[:, 1])
    else:
        # One by one, for multi_class="ovr" refuses a y without all the classes.
        roc_auc = np.mean([roc_auc_score(labels == columns[k], scores[:, k]) for k in present])
    predicted = columns[scores.argmax(axis=1)]
    # The balanced accuracy, without its warning that classes missing from y were predicted.
    recall = recall_score(
        labels, predicted, labels=columns[present], average="macro", zero_division=0
    )
    return {"roc_auc": float(roc_auc), "balanced_accuracy": float(recall)}


def perturbed_scores(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    kinds: Iterable[str] = CORRUPTIONS,
    severity: int = 3,
    random_state: Any = None,
) -> dict[str, float]:
    """Score a fitted classifier on corrupted images, averaged over kinds of corruption.

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
    severity : int, default=3
        From 1 to 5.
    random_state : int, RandomState instance or None, default=None
        Seed of the corruptions. Give several estimators the same integer to compare them on the
        same images.

    Returns
    -------
    dict
        "roc_auc" and "balanced_accuracy", see :func:`classification_scores`.

    Raises
    ------
    ValueError
        As :func:`corrupt` and :func:`classification_scores`, or if `kinds` is empty.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import perturbed_scores
    >>> X, y, _ = load_digits_images()
    >>> classifier = LogisticRegression().fit(X[:200].reshape(200, -1), y[:200])
    >>> classifier.image_shape_ = (8, 8)  # tsynd_sk's own classifiers know it
    >>> scores = perturbed_scores(classifier, X[200:300].reshape(100, -1), y[200:300])
    >>> sorted(scores)
    ['balanced_accuracy', 'roc_auc']
    """
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if not kinds:
        raise ValueError(f"kinds is empty; expected some of {', '.join(CORRUPTIONS)}")
    # Here, for the last kind's turn may come after minutes of predictions.
    _check_kinds(kinds)
    X = np.asarray(X)
    image_shape = _flat_image_shape(estimator) if X.ndim == 2 else None
    scores = []
    for kind in kinds:
        corrupted = corrupt(X, kind, severity, random_state=random_state, image_shape=image_shape)
        proba = estimator.predict_proba(corrupted)
        scores.append(classification_scores(y, proba, estimator.classes_))
    return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}


def _flat_image_shape(estimator) -> tuple[int, ...] | None:
    """Shape by which the estimator unfolds flat rows, whose channels may come last."""
    shape = getattr(estimator, "image_shape_", None)
    layout = getattr(getattr(estimator, "format_", None), "layout", None)
    return (*shape[1:], shape[0]) if shape is not None and layout == "hwc" else shape
