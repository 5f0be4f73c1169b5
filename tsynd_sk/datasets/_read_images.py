"""Single image files, read as those of a set were."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tsynd_sk._utils._validation import type_name
from tsynd_sk.datasets._image_facts import FileFault
from tsynd_sk.datasets._many_files import in_threads, n_threads, refusal
from tsynd_sk.datasets._read_image import look, quiet_readers, read_page
from tsynd_sk.datasets._reading import Reading, as_read, check_fits, pages_of, shape_of


def read_images(paths: str | os.PathLike | Iterable[str | os.PathLike], *, like: Any) -> np.ndarray:
    """Read image files as those of a set were read, with the same scale, size and colours.

    Parameters
    ----------
    paths : path or list of paths
        Files.
    like : Bunch, Reading or estimator
        What `load_image_folder` returned, its ``reading``, or an estimator that was saved with it
        (``save_params(path, reading=...)``).

    Returns
    -------
    X : ndarray of shape (n, H, W) or (n, H, W, 3), uint8
        Images, in the order of the files and of their pages.

    Raises
    ------
    ValueError
        If files cannot be read, or not in this way: each is named with the reason.
    TypeError
        If `like` does not say how files were read.

    See Also
    --------
    load_image_folder : Load a set and choose how its files are read.
    Reading : How the files of that set were read.

    Examples
    --------
    >>> import os, tempfile
    >>> from PIL import Image
    >>> from tsynd_sk.datasets import load_image_folder, read_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for k, name in enumerate(("benign", "malignant")):
    ...         os.mkdir(f"{folder}/{name}")
    ...         Image.new("L", (30, 20), k).save(f"{folder}/{name}/first.png")
    ...     data = load_image_folder(folder, size=16)
    ...     Image.new("L", (50, 50), 7).save(f"{folder}/new.png")
    ...     read_images(f"{folder}/new.png", like=data).shape
    (1, 16, 16)
    """
    reading: Any = like
    for name in ("reading", "reading_"):
        reading = getattr(reading, name, reading)
    if not isinstance(reading, Reading):
        raise TypeError(
            "like must be what load_image_folder returned, its reading, or an estimator loaded "
            f"from a file that was saved with reading=; got {type_name(like)} without one"
        )
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    shape = shape_of(reading)

    def read(path: Path) -> list[np.ndarray]:
        facts = look(path)
        check_fits(reading, facts)
        pages = (read_page(path, facts, page) for page in pages_of(facts, reading.pages))
        return [np.broadcast_to(as_read(reading, page, facts), shape) for page in pages]

    files = [Path(path).expanduser() for path in paths]
    with quiet_readers():
        results = in_threads(read, files, min(4, n_threads()))
    pairs = zip(map(str, files), results, strict=True)
    if faults := {file: result for file, result in pairs if isinstance(result, FileFault)}:
        raise refusal(faults, "", "leave them out of paths")
    return np.array([image for result in results for image in result], np.uint8).reshape(-1, *shape)
