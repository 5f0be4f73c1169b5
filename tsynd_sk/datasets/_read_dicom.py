"""DICOM files, by pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tsynd_sk.datasets._image_facts import FileFault, ImageFacts

_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")


def _pydicom(path: Path) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise ImportError(
            f"{path} is a DICOM file, which needs the package pydicom: "
            'pip install "tsynd_sk[dicom]", or leave such files out by exclude (--exclude)'
        ) from error
    return pydicom


def look_at_dicom(path: Path) -> ImageFacts:
    """Return what a DICOM file says about itself."""
    dataset = _pydicom(path).dcmread(path, stop_before_pixels=True)
    photometric = dataset.get("PhotometricInterpretation")
    if not dataset.get("Rows") or photometric is None:
        raise FileFault(
            "DICOM files without an image", "a DICOM file without an image: leave it out"
        )
    colour = photometric not in _MONOCHROME
    if colour and dataset.get("BitsAllocated", 8) > 8 and "PALETTE" not in photometric:
        raise FileFault(
            "DICOM colours of more than 8 bits",
            "DICOM colours of more than 8 bits: save it as 16-bit TIFF, or as 8 bits",
        )
    return ImageFacts(
        "pydicom",
        (int(dataset.Rows), int(dataset.Columns)),
        colour=colour,
        deep=not colour,
        white_is_zero=photometric == "MONOCHROME1",
        n_pages=int(dataset.get("NumberOfFrames") or 1),
        window=None if colour else _window(dataset),
        patient=str(dataset.get("PatientID") or "").strip(),
    )


def _window(dataset: Any) -> tuple[float, float] | None:
    """Return the values that are black and white in the first of a file's windows."""
    centre, width = (
        np.atleast_1d(np.asarray(dataset.get(name), dtype=object)).tolist()[:1]
        for name in ("WindowCenter", "WindowWidth")
    )
    if not centre or not width or None in (centre[0], width[0]):
        return None
    middle, extent = float(centre[0]), float(width[0])
    # The function LINEAR of the standard (PS3.3, C.11.2.1.2) counts from centres of values.
    if dataset.get("VOILUTFunction", "LINEAR") == "LINEAR":
        middle, extent = middle - 0.5, extent - 1
    return (middle - extent / 2, middle + extent / 2) if extent > 0 else None


def read_dicom(path: Path, page_number: int) -> np.ndarray:
    """Return a frame: values after the rescale slope and intercept, or colours of 8 bits."""
    pydicom = _pydicom(path)
    dataset = pydicom.dcmread(path)
    pixels = pydicom.pixels.pixel_array(dataset, index=page_number)
    photometric = dataset.PhotometricInterpretation
    if photometric in _MONOCHROME:
        if "PixelPaddingValue" in dataset:
            # What lies outside of the field of view is no tissue, and would widen the range.
            outside = pixels == dataset.PixelPaddingValue
            pixels = np.where(outside, pixels[~outside].min(initial=pixels.max()), pixels)
        return pydicom.pixels.apply_modality_lut(pixels, dataset)
    if photometric == "PALETTE COLOR":
        pixels = pydicom.pixels.apply_color_lut(pixels, dataset)
        # The tables have 16 bits as a rule.
        pixels = pixels >> 8 if pixels.dtype.itemsize == 2 else pixels
    return pixels.astype(np.uint8)
