"""TIFF files with more than 8 bits, signed values or floats, by tifffile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tsynd_sk.datasets._image_facts import FileFault, ImageFacts


def look_at_tiff(path: Path) -> ImageFacts | None:
    """Return what a TIFF file says about itself; None if Pillow reads it well.

    Pillow cuts 16-bit colours to 8 bits, takes signed bytes for unsigned ones, overflows at 32
    bits, leaves 16-bit negatives as they are, and opens no float64.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        photometric = getattr(page.photometric, "name", "")
        if page.dtype is None or page.dtype.kind not in "biuf":
            raise FileFault(
                "TIFF files of unknown values",
                f"values of type {page.dtype}: save it as grey or RGB",
            )
        if page.dtype in (np.uint8, np.bool_) and page.bitspersample <= 8:
            return None
        if photometric not in ("MINISBLACK", "MINISWHITE", "RGB") or page.ndim > 3:
            raise FileFault(
                "TIFF files of an unknown kind",
                f"{page.bitspersample}-bit TIFF, kind {photometric or '?'}: save it as grey or RGB",
            )
        height, width = page.imagelength, page.imagewidth
        if page.tags.valueof("Orientation", default=1) >= 5:
            height, width = width, height
        limits = None
        if page.dtype.kind in "iu":
            top = 2 ** (page.bitspersample - (page.dtype.kind == "i")) - 1
            limits = (-top - 1 if page.dtype.kind == "i" else 0, top)
        return ImageFacts(
            "tifffile",
            (height, width),
            colour=page.samplesperpixel >= 3,
            deep=True,
            limits=limits,
            white_is_zero=photometric == "MINISWHITE",
            n_pages=len(file.pages),
        )


def read_tiff(path: Path, page_number: int) -> np.ndarray:
    """Return the values of a page as they are stored, of shape (H, W) or (H, W, 3)."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages[page_number]
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            return _read_by_pillow(path, page_number, str(error))
        described = page.keyframe
        assert described is not None
        if pixels.ndim == 3 and described.axes.startswith("S"):
            pixels = np.moveaxis(pixels, 0, -1)
        pixels = _turned(pixels, described.tags.valueof("Orientation", default=1))
        return _without_alpha(pixels, [int(kind) for kind in described.extrasamples])


def _read_by_pillow(path: Path, page_number: int, why: str) -> np.ndarray:
    """Read what tifffile has no codec for; Pillow keeps the values of grey images alone."""
    with path.open("rb") as opened, Image.open(opened) as image:
        image.seek(page_number)
        if image.mode != "F" and not image.mode.startswith("I"):
            raise FileFault(
                "TIFF files that need the package imagecodecs",
                f"{why}: pip install imagecodecs, or save it without compression",
            )
        return np.asarray(ImageOps.exif_transpose(image))


def _without_alpha(pixels: np.ndarray, extra: list[int]) -> np.ndarray:
    """Lay transparent pixels over zero, and drop what is no colour."""
    if pixels.ndim == 2:
        return pixels
    n_colours = 3 if pixels.shape[-1] >= 3 else 1
    colours = pixels[..., :n_colours]
    if pixels.shape[-1] > 4:
        raise FileFault(
            "images of more than four channels", f"{pixels.shape[-1]} channels; expected 1 to 4"
        )
    if 2 in extra and pixels.dtype.kind == "u":
        opacity = pixels[..., n_colours:][..., extra.index(2), None] / np.iinfo(pixels.dtype).max
        colours = colours * opacity
    return colours if n_colours == 3 else colours[..., 0]


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels as the tag "Orientation" of EXIF and TIFF asks for."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
