"""Labelled images from MedMNIST, scikit-learn and .npz files; draws from them."""

import os
import zipfile
import zlib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.datasets import load_digits
from sklearn.utils import check_random_state

from tsynd_sk._utils._labels import class_labels
from tsynd_sk._utils._validation import check_int_at_least
from tsynd_sk.datasets._folder_layout import SPLITS


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
    >>> from tsynd_sk.datasets import load_digits_images
    >>> X, y, class_names = load_digits_images()
    >>> class_names[y[3]]
    '3'
    """

    X: np.ndarray
    y: np.ndarray
    class_names: list[str]


def subsample(y: ArrayLike, n_samples: int, *, random_state: Any = None) -> np.ndarray:
    """Draw distinct rows at random, stratified by class, at least one of each.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class labels of any kind.
    n_samples : int
        Number of rows to draw, at most n.
    random_state : int, RandomState instance or None, default=None
        Makes the draw repeatable.

    Returns
    -------
    indices : ndarray of shape (n_samples,), int64
        Row numbers in random order.

    Raises
    ------
    ValueError
        If `n_samples` exceeds n, or is below the number of classes.

    See Also
    --------
    load_medmnist : Load a set that may be larger than needed.

    Examples
    --------
    >>> from tsynd_sk.datasets import subsample
    >>> y = ["common"] * 98 + ["rare"] * 2
    >>> sorted(y[row] for row in subsample(y, 3, random_state=0))
    ['common', 'common', 'rare']
    """
    check_int_at_least("n_samples", n_samples, 1)
    labels = class_labels(y, "subsample")
    rng = check_random_state(random_state)
    if n_samples > len(labels):
        raise ValueError(
            f"n_samples must be at most {len(labels)}, the number of rows; got {n_samples}"
        )
    order = rng.permutation(len(labels)).astype(np.int64)
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if n_samples < len(classes):
        raise ValueError(
            f"n_samples={n_samples} leaves some of the {len(classes)} classes without a row: draw "
            "more"
        )
    # Largest remainders: scikit-learn's stratified splitters refuse classes of one row, and may
    # leave a rare class out.
    quota = n_samples * counts / counts.sum()
    take = np.maximum(1, np.floor(quota).astype(np.int64))
    while take.sum() < n_samples:
        take[np.argmax(quota - take)] += 1
    while take.sum() > n_samples:
        take[np.argmax(np.where(take > 1, take - quota, -np.inf))] -= 1
    drawn = [order[codes[order] == code][:number] for code, number in enumerate(take)]
    return rng.permutation(np.concatenate(drawn))


def load_medmnist(
    name: str,
    *,
    split: str = "train",
    root: str | os.PathLike | None = None,
    size: int = 28,
    download: bool = True,
    n_samples: int | None = None,
    random_state: Any = None,
) -> LabeledImages:
    """Load a two-dimensional MedMNIST set from its official file.

    Parameters
    ----------
    name : str
        MedMNIST's name for the set, such as ``"breastmnist"``.
    split : {"train", "val", "test"}, default="train"
        The official split.
    root : str, path or None, default=None
        Folder of the ``.npz`` files. None: ``~/.medmnist``.
    size : int, default=28
        Side of the images: 28, 64, 128 or 224.
    download : bool, default=True
        Fetch the file if `root` lacks it.
    n_samples : int or None, default=None
        Number of images to draw by `subsample`. None: all.
    random_state : int, RandomState instance or None, default=None
        Makes the draw repeatable.

    Returns
    -------
    data : LabeledImages
        `X` is uint8 of shape (n, size, size) or (n, size, size, 3).

    Raises
    ------
    ValueError
        If the set is unknown, multi-label or volumetric, or another argument does not suit it.
    FileNotFoundError
        If `root` lacks the file and `download` is False.
    OSError
        If the download fails, or the file is damaged or not the official one.

    See Also
    --------
    load_npz : Load a file of yours with the same layout.
    load_digits_images : Load a small set.
    subsample : Keep a part of a set.

    Examples
    --------
    >>> from tsynd_sk.datasets import load_medmnist
    >>> X, y, class_names = load_medmnist("breastmnist", n_samples=40)  # doctest: +SKIP
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}; got {split!r}")
    # Importing medmnist takes seconds and creates ~/.medmnist.
    import medmnist
    from torchvision.datasets.utils import check_integrity

    known = [
        each
        for each, about in medmnist.INFO.items()
        if not each.endswith("mnist3d") and "multi-label" not in about["task"]
    ]
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"name must be a MedMNIST set of flat images with one label each, {', '.join(known)}; "
            f"got {name!r}{hint}"
        )
    info = medmnist.INFO[name]
    suffix = "" if size == 28 else f"_{size}"
    if f"MD5{suffix}" not in info:
        sizes = [28, *(int(key[4:]) for key in info if key.startswith("MD5_"))]
        raise ValueError(f"size must be one of {sizes} for {name}; got {size!r}")

    usual = medmnist.info.DEFAULT_ROOT or "~/.medmnist"
    folder = Path(usual if root is None else root).expanduser()
    path = folder / f"{name}{suffix}.npz"
    if not path.exists():
        if not download:
            url = info[f"url{suffix}"]
            raise FileNotFoundError(f"No file {path}: pass download=True, or save {url} as it")
        folder.mkdir(parents=True, exist_ok=True)
        dataset_class = getattr(medmnist, info["python_class"])
        try:
            dataset_class(split=split, root=str(folder), size=size, download=True)
        except RuntimeError as error:
            raise OSError(
                f"{name} cannot be downloaded: save {info[f'url{suffix}']} where there is a "
                f"network, and copy it to {path}"
            ) from error
    if not check_integrity(str(path), info[f"MD5{suffix}"]):
        raise OSError(
            f"{path} is damaged or not the official file: delete it, and pass download=True"
        )
    X, y, _ = load_npz(path, split=split)
    if n_samples is not None:
        rows = subsample(y, n_samples, random_state=random_state)
        X, y = X[rows], y[rows]
    return LabeledImages(X, y, [info["label"][str(code)] for code in range(len(info["label"]))])


def load_digits_images() -> LabeledImages:
    """Load scikit-learn's handwritten digits as images, without a download.

    Returns
    -------
    data : LabeledImages
        `X` is float32 of shape (1797, 8, 8) in [0, 1]; classes are ``"0"`` to ``"9"``.

    See Also
    --------
    load_medmnist : Load medical images.

    Examples
    --------
    >>> from tsynd_sk.datasets import load_digits_images
    >>> load_digits_images().X.shape
    (1797, 8, 8)
    """
    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)
    return LabeledImages(images, bunch.target.astype(np.int64), [str(digit) for digit in range(10)])


def load_npz(path: str | os.PathLike, *, split: str = "train") -> LabeledImages:
    """Load one split of an .npz file with the layout of MedMNIST's.

    Parameters
    ----------
    path : str or path
        File with arrays ``train_images`` and ``train_labels``, and likewise for other splits.
    split : {"train", "val", "test"}, default="train"
        The split to load.

    Returns
    -------
    data : LabeledImages
        `X` as stored (a single channel loses its axis). `class_names` are the sorted labels of
        all splits.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no .npz file, or lacks images or one integer or string label for each.

    See Also
    --------
    load_image_folder : Load files.
    load_medmnist : Load MedMNIST's own sets.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from tsynd_sk.datasets import load_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/my.npz"
    ...     np.savez(path, test_images=np.zeros((2, 8, 8)), test_labels=["sick", "fit"])
    ...     load_npz(path, split="test").class_names
    ['fit', 'sick']
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"path must name a file that exists; there is no {path}")
    # np.load takes whatever is no zip for a pickle, and its message would recommend loading one.
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not an .npz file, or is cut short: save it by numpy.savez, or copy it again"
        )
    with np.load(path, allow_pickle=False) as file:
        expected = {f"{split}_images", f"{split}_labels"}
        if not expected <= set(file.files):
            raise ValueError(f"{path} must have {sorted(expected)}; got {file.files}")
        try:
            X = file[f"{split}_images"]
            labels = {s: file[f"{s}_labels"] for s in SPLITS if f"{s}_labels" in file.files}
        except (ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"{path} cannot be read: {error}. Arrays of Python objects are unsafe: save "
                "labels.astype(str), and images of different sizes as files for load_image_folder"
            ) from error
    if X.ndim == 4 and X.shape[-1] == 1:
        X = X[..., 0]
    if X.ndim != 3 and not (X.ndim == 4 and X.shape[-1] == 3):
        raise ValueError(
            f"{path}: {split}_images must have shape (n, H, W) or (n, H, W, 3); got {X.shape}"
        )
    if len(X) != labels[split].size:
        raise ValueError(
            f"{path}: labels must be one for each of the {len(X)} images; got {labels[split].size}"
        )
    kinds = {values.dtype.kind for values in labels.values()}
    if not (kinds <= set("biu") or kinds == {"U"}):
        dtypes = [str(values.dtype) for values in labels.values()]
        raise ValueError(f"{path}: labels must be all integers or all strings, got {dtypes}")
    # Together, int64 and uint64 would turn into floats, and a class 1 into "1.0".
    dtype = str if kinds == {"U"} else np.int64
    labels = {name: values.ravel().astype(dtype) for name, values in labels.items()}
    classes = np.unique(np.concatenate(list(labels.values())))
    y = np.searchsorted(classes, labels[split]).astype(np.int64)
    return LabeledImages(X, y, [str(label) for label in classes])
