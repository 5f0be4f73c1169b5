"""Images as worse cameras, other hands and other files would show them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from torch import Tensor

from tsynd_sk.augmentation import check_moves
from tsynd_sk.evaluation._scores import names_among
from tsynd_sk.images import ImageFormat, array_of_images

# Strengths at severities 1 to 5, by the image's side or the range of values, so that an image is
# harmed alike whatever its resolution and units.
_STRENGTHS: dict[str, tuple[float, float, float, float, float]] = {
    "noise": (0.03, 0.06, 0.09, 0.13, 0.18),  # standard deviation, of the range
    "blur": (0.018, 0.026, 0.035, 0.05, 0.07),  # standard deviation, of the side
    "motion": (0.07, 0.11, 0.15, 0.21, 0.3),  # path of the camera, of the side
    "brightness": (0.25, 0.4, 0.6, 0.8, 1.0),  # doublings or halvings of the values
    "contrast": (0.25, 0.45, 0.7, 1.0, 1.4),  # the same of distances to the mean
    "gamma": (0.3, 0.5, 0.75, 1.0, 1.4),  # the same of the exponent
    "rotation": (6, 12, 18, 26, 36),  # degrees
    "shift": (0.05, 0.09, 0.14, 0.2, 0.27),  # distance, of the side
    "scale": (0.12, 0.21, 0.32, 0.46, 0.62),  # doublings or halvings of the size
    "jpeg": (2.5, 4.5, 7, 12, 20),  # coarseness of the quantisation, per cent a pixel of the side
    "pixelation": (0.05, 0.06, 0.075, 0.1, 0.14),  # side of a block, of the side
    "occlusion": (0.2, 0.28, 0.36, 0.45, 0.55),  # side of a box, of the side
}
# Rows are not all harmed to the same degree, but a milder severity stays milder.
_WEAKEST = 2 / 3

#: Kinds of corruption that `corrupt` knows.
#:
#: Examples
#: --------
#: >>> from tsynd_sk.evaluation import CORRUPTIONS
#: >>> len(CORRUPTIONS)
#: 12
CORRUPTIONS: tuple[str, ...] = tuple(_STRENGTHS)
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(
    X: ArrayLike,
    kind: str,
    severity: int = 3,
    *,
    random_state: Any = None,
    image_shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Corrupt every image at random in one way, to measure how robust a classifier is.

    Parameters
    ----------
    X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
        Images of any numbers. Not changed.
    kind : {"noise", "blur", "motion", "brightness", "contrast", "gamma", "rotation", "shift", \
            "scale", "jpeg", "pixelation", "occlusion"}
        What happens to the images.
    severity : int, default=3
        From 1, hardly visible, to 5, hard to recognise in images of 28 pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws. Row i's own draw depends on the seed and on i alone.
    image_shape : tuple of int or None, default=None
        (H, W), (C, H, W) or (H, W, C). Needed for flat images, and where the layout is ambiguous.

    Returns
    -------
    ndarray of the shape and dtype of `X`
        Corrupted images, within [0, 255] for uint8 and else within the range of `X`.

    Raises
    ------
    ValueError
        If `kind` or `severity` is unknown, or `X` is not finite or of no clear layout.

    See Also
    --------
    corruption_scores : Score a classifier on corrupted images.
    augment : Harmless changes, such as those of training.

    Notes
    -----
    A row draws a strength between two thirds and all of what `severity` stands for, and a direction
    or a place. Strengths are relative to the size of the images and to the range of values: 0 to
    255 for uint8, otherwise that of `X` as a whole. But blocks of JPEG are always 8 pixels wide, so
    that its quality is lower in larger images.

    Examples
    --------
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import corrupt
    >>> X = load_digits_images().X[:20]
    >>> X_noisy = corrupt(X, "noise", severity=5, random_state=0)
    >>> X_noisy.shape, X_noisy.dtype, float(X_noisy.max())
    ((20, 8, 8), dtype('float32'), 1.0)
    """
    names_among(CORRUPTIONS, kind, "corruption")
    names_among(SEVERITIES, [severity], "severity")
    change = partial(_corrupt_image, kind=kind, severity=severity)
    return _changed("corrupt", X, change, random_state, image_shape)


def augment(
    X: ArrayLike,
    *,
    flip: bool = True,
    degrees: float = 15.0,
    scale: float = 0.1,
    shift: float = 0.1,
    random_state: Any = None,
    image_shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Flip, turn, scale and shift every image at random, as standard augmentation does.

    Parameters
    ----------
    X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
        Images. Not changed.
    flip, degrees, scale, shift : bool, float, float, float, default=True, 15.0, 0.1, 0.1
        As in :func:`tsynd_sk.augmentation.standard_transform`.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws, of which each row has its own.
    image_shape : tuple of int or None, default=None
        As in :func:`corrupt`.

    Returns
    -------
    ndarray of the shape and dtype of `X`
        Moved images. The border goes on outside.

    Raises
    ------
    ValueError
        As :func:`corrupt`, or if a parameter is out of its range.

    See Also
    --------
    augmentation_scores : Score a classifier on augmented images.
    corrupt : Changes that harm.
    tsynd_sk.augmentation.standard_transform : The same changes of single images while a net trains.
    tsynd_sk.augmentation.TransformRows : Augment batches while a net trains.

    Examples
    --------
    >>> from tsynd_sk.datasets import load_digits_images
    >>> from tsynd_sk.evaluation import augment
    >>> augment(load_digits_images().X[:20], flip=False, random_state=0).shape
    (20, 8, 8)
    """
    check_moves(flip, degrees, scale, shift)

    def change(image: Tensor, rng: np.random.Generator) -> Tensor:
        mirrored, turn, growth, right, down = rng.uniform(-1, 1, 5)
        height, width = image.shape[1:]
        return _moved(
            image.flip(-1) if flip and mirrored < 0 else image,
            angle=degrees * turn,
            scale=1 + scale * growth,
            translate=[shift * right * width, shift * down * height],
        )

    return _changed("augment", X, change, random_state, image_shape)


def _changed(
    name: str,
    X: ArrayLike,
    change: Callable[[Tensor, np.random.Generator], Tensor],
    random_state: Any,
    image_shape: tuple[int, ...] | None,
) -> np.ndarray:
    """Change images (C, H, W) with values in [0, 1] one by one, each by draws of its own."""
    images = array_of_images(X, name=name)
    image_format = ImageFormat.infer(images, image_shape)
    if image_format.image_shape is None:
        raise ValueError(
            f"X has shape {images.shape}, that of a table; expected images. If its rows are flat "
            "images, give image_shape=(n_channels, height, width)"
        )
    x = image_format.to_tensor(images)
    low, high = (0.0, 1.0) if images.dtype == np.uint8 else (float(x.min()), float(x.max()))
    # A constant X has no range to speak of.
    scale = high - low or 1.0
    x = (x - low) / scale
    seed = check_random_state(random_state).randint(2**31 - 1)
    for i, image in enumerate(x):
        x[i] = change(image, np.random.default_rng([seed, i]))
    changed = image_format.to_array(x * scale + low)
    if images.dtype != np.uint8:
        changed = changed.clip(images.min(), images.max())
    # numpy's clip changes the byte order to that of the machine.
    return changed.astype(images.dtype, copy=False)


def _corrupt_image(image: Tensor, rng: np.random.Generator, kind: str, severity: int) -> Tensor:
    """Corrupt an image (C, H, W) with values in [0, 1]; the result may leave them."""
    # torchvision takes a second to import, and the scores do without it.
    from torchvision.transforms.v2 import functional as F

    sides = image.shape[1:]
    side = math.sqrt(sides[0] * sides[1])
    strength = _STRENGTHS[kind][severity - 1] * rng.uniform(_WEAKEST, 1)
    sign = rng.choice([-1, 1])
    factor = 2 ** (sign * strength)
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
        case "motion":
            path = _random_vector(strength * side, rng)
            # Half a pixel apart, or edges would show as steps.
            n_places = 2 * math.ceil(strength * side) + 1
            places = np.linspace(-0.5, 0.5, n_places)
            shots = [_moved(image, translate=[place * step for step in path]) for place in places]
            return torch.stack(shots).mean(0)
        case "brightness":
            return image * factor
        case "contrast":
            return torch.lerp(image.mean((1, 2), keepdim=True), image, factor)
        case "gamma":
            return image**factor
        case "rotation":
            return _moved(image, angle=sign * strength)
        case "shift":
            return _moved(image, translate=_random_vector(strength * side, rng))
        case "scale":
            return _moved(image, scale=factor)
        case "jpeg":
            return _compressed(image, strength * side)
        case "pixelation":
            # One block fewer than there are pixels, or nothing would happen to small images.
            blocks = [max(1, min(round(s / (strength * side)), s - 1)) for s in sides]
            coarse = F.resize(image, blocks, antialias=True)
            return F.resize(coarse, list(sides), interpolation=F.InterpolationMode.NEAREST_EXACT)
        case _:  # occlusion
            height, width = (max(1, round(strength * s)) for s in sides)
            top = rng.integers(sides[0] - height, endpoint=True)
            left = rng.integers(sides[1] - width, endpoint=True)
            # Black could pass for anatomy.
            image[:, top : top + height, left : left + width] = 0.5
            return image


def _random_vector(length: float, rng: np.random.Generator) -> list[float]:
    direction = rng.uniform(0, 2 * math.pi)
    return [length * f(direction) for f in (math.cos, math.sin)]


def _moved(
    image: Tensor,
    *,
    angle: float = 0.0,
    scale: float = 1.0,
    translate: Iterable[float] = (0.0, 0.0),
) -> Tensor:
    """Turn, scale and shift; the border goes on outside."""
    from torchvision.transforms.v2 import functional as F

    height, width = image.shape[1:]
    # No pixel of the outcome comes from farther away than this.
    reach = math.hypot(height, width) / 2 / min(scale, 1) + math.hypot(*translate) / scale
    margin = math.ceil(reach - min(height, width) / 2) + 1
    padded = F.pad(image, [margin], padding_mode="edge")
    moved = F.affine(
        padded,
        angle=float(angle),
        translate=list(translate),
        scale=float(scale),
        shear=[0.0, 0.0],
        interpolation=F.InterpolationMode.BILINEAR,
    )
    return F.center_crop(moved, [height, width])


def _compressed(image: Tensor, coarseness: float) -> Tensor:
    """Write an image as JPEG and read it; coarseness 100 is the standard's own table."""
    from PIL import Image

    # As libjpeg turns its quality into a factor of the table.
    quality = 5000 / coarseness if coarseness > 100 else (200 - coarseness) / 2
    quality = min(max(round(quality), 1), 100)
    levels = (image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    # Of images that are not in colour, each channel is a grey one.
    is_colour = len(levels) == 3
    read = []
    for part in [np.moveaxis(levels, 0, -1)] if is_colour else levels:
        # Not torchvision's, which is deprecated.
        file = BytesIO()
        Image.fromarray(part).save(file, "jpeg", quality=quality)
        read.append(np.array(Image.open(file)))
    return torch.from_numpy(np.moveaxis(read[0], -1, 0) if is_colour else np.stack(read)) / 255
