"""Standard augmentation: every row of a training batch is transformed on its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from tsynd_sk._utils._validation import check_number, type_name

if TYPE_CHECKING:
    from torchvision.transforms import v2

__all__ = ["TransformRows", "standard_transform"]


class TransformRows:
    """Collate function that transforms every image of a training batch on its own.

    As ``iterator_train__collate_fn`` of a net it augments what the net trains on, epoch by epoch:
    real rows, and synthetic ones. Validation, prediction and synthesis get images as they are.
    torchvision's random transforms make one draw for a whole batch; here each row draws for itself.

    Parameters
    ----------
    transform : callable or None, default=None
        Takes one image, a Tensor (C, H, W) of the dtype of the row, and returns one of the same
        shape and dtype: a transform of ``torchvision.transforms.v2``, or your own. None:
        ``standard_transform()``.

    Attributes
    ----------
    transform : callable
        What is applied.

    Raises
    ------
    TypeError, ValueError
        If `transform` is not callable; while training, if rows are not images, or it fails or
        changes their shape.

    See Also
    --------
    standard_transform : Flips, turns, scales and shifts.
    tsynd_sk.evaluation.augment : Augmented images as an array.

    Notes
    -----
    The estimators' nets see float32, of which uint8 is divided by 255. Transforms of colours and
    contrast clip floats to [0, 1]: for another range, put ``v2.Normalize([low], [high - low])``
    before them, and ``v2.Normalize([-low / (high - low)], [1 / (high - low)])`` after. Transforms
    of PIL's images need ``v2.ToPILImage()`` before them, those of uint8
    ``v2.ToDtype(torch.uint8, scale=True)``; and both ``v2.ToImage()`` and
    ``v2.ToDtype(torch.float32, scale=True)`` after.

    Transforms may work in place, on a copy. Labels are not changed, but the target of an
    `AutoencoderNet` is the transformed image.

    torchvision draws from torch's global generator, which the estimators seed by `random_state`
    while they fit; other numbers of workers (``iterator_train__num_workers``) give other draws.

    Do not use it as ``iterator_valid__collate_fn``, which predicts, too.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.augmentation import TransformRows, standard_transform
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> rows = TransformRows(standard_transform(flip=False))
    >>> net = NetClassifier(iterator_train__collate_fn=rows)
    >>> images, labels = rows([(torch.rand(1, 8, 8), label) for label in (3, 5)])
    >>> images.shape, labels
    (torch.Size([2, 1, 8, 8]), tensor([3, 5]))
    """

    def __init__(self, transform: Callable[[Tensor], Tensor] | None = None):
        if transform is not None and not callable(transform):
            raise TypeError(
                "transform must be callable and turn an image into one, or None; got "
                f"{type_name(transform)}. Join several by torchvision.transforms.v2.Compose; give "
                "a net an instance, TransformRows()."
            )
        # Made here, because workers would import torchvision anew in each epoch.
        self.transform = standard_transform() if transform is None else transform

    def __call__(self, batch: Sequence[tuple[Any, Any]]) -> Any:
        """Transform and join the rows of a batch.

        Parameters
        ----------
        batch : list of pairs
            Images, ndarray or Tensor of shape (C, H, W) or (H, W), and their labels.

        Returns
        -------
        list
            Images, a Tensor of shape (n, C, H, W) or (n, H, W), and labels, as of
            ``torch.utils.data.default_collate``.
        """
        return default_collate([self._transformed(*row) for row in batch])

    def _transformed(self, x: Any, y: Any) -> tuple[Tensor, Any]:
        # A copy, which a transform may change in place.
        given = torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) else x.clone()
        if given.ndim not in (2, 3):
            raise ValueError(
                "TransformRows expects images, (C, H, W) or (H, W), but rows have shape "
                f"{tuple(given.shape)}. For flat images, set "
                "TargetedSynthesizer(image_shape=(C, H, W)); on tables, leave it out."
            )
        image = given if given.ndim == 3 else given[None]
        shape, dtype = tuple(image.shape), image.dtype
        name = getattr(self.transform, "__qualname__", type(self.transform).__name__)
        try:
            image = self.transform(image)
        except Exception as error:
            raise ValueError(
                f"transform {name} fails on an image of shape {shape} and dtype {dtype}: "
                f"{type(error).__name__}: {error}. It must take one image, and return one like it"
            ) from error
        is_tensor = isinstance(image, Tensor)
        if not is_tensor or (image.shape, image.dtype) != (shape, dtype):
            got = f"{image.dtype}, {tuple(image.shape)}" if is_tensor else type_name(image)
            raise ValueError(
                f"transform {name} must return a Tensor of the dtype and shape of the image, "
                f"{dtype}, {shape}, as the net predicts; got {got}"
            )
        return (image if given.ndim == 3 else image[0]), y

    def __repr__(self) -> str:
        shown = getattr(self.transform, "__qualname__", None) or repr(self.transform)
        # Compositions are shown in several lines.
        return f"{type(self).__name__}({' '.join(shown.split())})"


def standard_transform(
    *,
    flip: bool = True,
    degrees: float = 15.0,
    scale: float = 0.1,
    shift: float = 0.1,
    fill: float = 0.0,
) -> v2.Compose:
    """Make the transform that flips, turns, scales and shifts an image at random.

    Parameters
    ----------
    flip : bool, default=True
        Whether every second image, by chance, is mirrored left to right; False where sides mean
        something, as in letters and in organs of one side of the body.
    degrees : float, default=15.0
        Largest rotation either way.
    scale : float, default=0.1
        Largest growth or shrinkage, as a fraction of the size; at most 0.5.
    shift : float, default=0.1
        Largest shift along either axis, by whole pixels, as a fraction of the side; at most 0.5.
    fill : float, default=0.0
        Value outside the image, on the scale of nets: uint8 is divided by 255.

    Returns
    -------
    torchvision.transforms.v2.Compose
        For float tensors of shape (..., C, H, W), all of which it moves by one draw. But for
        rounding, values stay between those of the image and `fill`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a number, or out of its range.

    See Also
    --------
    TransformRows : Applies it to batches while a net trains.
    tsynd_sk.evaluation.augment : The same of an array, where the border goes on outside.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.augmentation import standard_transform
    >>> standard_transform(flip=False, degrees=30)(torch.rand(1, 28, 28)).shape
    torch.Size([1, 28, 28])
    """
    check_moves(flip, degrees, scale, shift)
    check_number("fill", fill, -math.inf)
    # torchvision takes a second to import.
    from torchvision.transforms import v2

    move = v2.RandomAffine(
        float(degrees),
        translate=(float(shift), float(shift)),
        scale=(1 - float(scale), 1 + float(scale)),
        interpolation=v2.InterpolationMode.BILINEAR,
        # Zero is outside anyway. A fill costs a third more, and draws a line around the image,
        # which torchvision weighs twice where it ends.
        fill=None,
    )
    moves: list[Any] = [move] if degrees or scale or shift else []
    if fill and moves:
        moves = [v2.Normalize([float(fill)], [1.0]), move, v2.Normalize([-float(fill)], [1.0])]
    if flip:
        moves = [v2.RandomHorizontalFlip(), *moves]
    return v2.Compose(moves or [v2.Identity()])


def check_moves(flip: Any, degrees: Any, scale: Any, shift: Any) -> None:
    """Raise if a parameter of `standard_transform` has a wrong type, or is out of range."""
    if not isinstance(flip, bool | np.bool_):
        raise TypeError(f"flip must be True or False, got {flip!r}")
    check_number("degrees", degrees, 0, 180)
    check_number("scale", scale, 0, 0.5)
    check_number("shift", shift, 0, 0.5)
