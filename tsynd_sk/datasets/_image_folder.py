"""Labelled images from a folder with one subfolder of image files per class."""

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tsynd_sk._utils._validation import check_int_at_least

__all__ = ["LabeledImages", "load_image_folder"]

_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}


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


def _read_image(path: Path, size: int | None, grayscale: bool) -> np.ndarray:
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode == "F" or image.mode.startswith("I"):
        # Pillow's own conversion would clip at 255 and turn nearly every 16-bit picture white.
        values = np.asarray(image).astype(np.float64)
        top = 65535 if image.mode != "F" else 1 if values.max() <= 1 else 255
        # Written so that NaN fails as well.
        if not (values.min() >= 0 and values.max() <= top):
            raise ValueError(f"{image.mode} values outside [0, {top}]")
        image = Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
    grey = grayscale or image.mode in ("1", "L", "LA")
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA"):
        # Pillow's own conversion drops the alpha and lets hidden colours show.
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image.convert("RGBA"))
    image = image.convert("RGB").convert("L") if grey else image.convert("RGB")
    if size is not None:
        image = ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
    return np.asarray(image)


def load_image_folder(
    path: str | os.PathLike, *, size: int | None = None, grayscale: bool = False
) -> LabeledImages:
    """Load a folder that holds one subfolder of image files per class.

    PNG, JPEG, TIFF (first page) and BMP files are found at any depth below a class's folder; other
    and hidden files are ignored. Files that cannot be read are left out and named in a warning.

    Parameters
    ----------
    path : str or path
        The folder. Its subfolders' sorted names become the class names.
    size : int or None, default=None
        Side of the square images returned: resized (bicubic) with the aspect ratio kept, then the
        centre cropped, as in MedMNIST. None keeps the original size, which all must then share.
    grayscale : bool, default=False
        Turn colour images grey. Otherwise, grey images among coloured ones become RGB.

    Returns
    -------
    data : LabeledImages
        `X` is uint8 of shape (n, H, W) if `grayscale` or if all files are grey (a palette counts
        as colour), else (n, H, W, 3). Rows go by class, then by file name.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If `path` is missing or is a file.
    ValueError
        If there are fewer than two classes, one has no readable image, or `size` is None and the
        images' sizes differ.

    Notes
    -----
    EXIF orientation is respected; transparent pixels are laid over black. 16-bit values are scaled
    from [0, 65535] to [0, 255] alike in all images; floats must be within [0, 1] or [0, 255].

    Examples
    --------
    >>> import os, tempfile
    >>> from PIL import Image
    >>> from tsynd_sk.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("benign", "malignant"):
    ...         os.mkdir(f"{folder}/{name}")
    ...         Image.new("L", (30, 20)).save(f"{folder}/{name}/first.png")
    ...     load_image_folder(folder, size=16).X.shape
    (2, 16, 16)
    """
    if size is not None:
        check_int_at_least("size", size, 1)
    folder = Path(path).expanduser()
    class_names = sorted(f.name for f in folder.iterdir() if f.is_dir() and f.name[0] != ".")
    if len(class_names) < 2:
        raise ValueError(f"{folder} needs a subfolder for each of 2+ classes, found {class_names}")
    images: list[np.ndarray] = []
    codes: list[int] = []
    bad: list[str] = []
    example_of_size: dict[tuple[int, ...], str] = {}
    for code, class_name in enumerate(class_names):
        files = (f for f in (folder / class_name).rglob("*") if f.suffix.lower() in _IMAGE_SUFFIXES)
        for file in sorted(files, key=Path.as_posix):
            shown = file.relative_to(folder).as_posix()
            if "/." in shown or not file.is_file():
                continue
            try:
                image = _read_image(file, size, grayscale)
            except UnidentifiedImageError:
                bad.append(f"{shown} (not an image that Pillow knows)")
            except Exception as error:  # Pillow's decoders fail in a dozen ways on broken files.
                bad.append(f"{shown} ({str(error) or type(error).__name__})")
            else:
                images.append(image)
                codes.append(code)
                example_of_size.setdefault(image.shape[:2], shown)
    if bad:
        named = ", ".join(bad[:10]) + (f" and {len(bad) - 10} more" if len(bad) > 10 else "")
        message = f"Left out {len(bad)} unreadable image files in {folder}: {named}"
        warnings.warn(message, UserWarning, stacklevel=2)
    empty = [name for code, name in enumerate(class_names) if code not in set(codes)]
    if empty:
        raise ValueError(f"No readable image (PNG, JPEG, TIFF, BMP) for {empty} in {folder}")
    if len(example_of_size) > 1:
        two = [f"{w}x{h} ({file})" for (h, w), file in list(example_of_size.items())[:2]]
        sizes = f"{len(example_of_size)} different sizes, such as {' and '.join(two)}"
        raise ValueError(f"The images in {folder} have {sizes}; pass size= to resize them")
    if any(image.ndim == 3 for image in images):
        images = [i if i.ndim == 3 else np.repeat(i[..., None], 3, axis=-1) for i in images]
    return LabeledImages(np.stack(images), np.asarray(codes, dtype=np.int64), class_names)
