"""Images, their classes and the names of the classes."""

from typing import NamedTuple

import numpy as np

__all__ = ["LabeledImages"]


class LabeledImages(NamedTuple):
    """Images, their classes and the names of the classes.

    Attributes
    ----------
    X : ndarray of shape (n, H, W) or (n, H, W, C)
        Images.
    y : ndarray of shape (n,), int64
        Class codes.
    class_names : list of str
        Names of the classes: ``class_names[code]``.

    See Also
    --------
    load_image_folder : Makes it from files.

    Examples
    --------
    >>> import numpy as np
    >>> from tsynd_sk.datasets import LabeledImages
    >>> X, y, class_names = LabeledImages(np.zeros((2, 8, 8)), np.array([1, 0]), ["fit", "sick"])
    >>> [class_names[code] for code in y]
    ['sick', 'fit']
    """

    X: np.ndarray
    y: np.ndarray
    class_names: list[str]
