"""Image files: what they say about themselves, and their pixels, by Pillow, pydicom, tifffile."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

#: What names of image files end in. DICOM files are known by their first bytes, too.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".gif"),
    *(".jp2", ".j2k", ".pgm", ".ppm", ".pbm", ".pnm", ".dcm", ".dicom"),
)

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_GREY_MODES = ("1", "L", "LA", "La")
#: Formats whose further frames are images of their own (in JPEG they are previews).
_PAGED = ("TIFF", "GIF", "WEBP", "PNG")

_DAMAGED = "damaged files"
#: Bytes that all threads together may use for images while they decode them.
_BUDGET = 120 * 2**20


@dataclass(frozen=True)
class ImageFacts:
    """What an image file says about itself, before its pixels are read."""

    #: "pillow", "tifffile" or "pydicom".
    reader: str
    #: Height and width, as the image is to be shown.
    shape: tuple[int, int]
    colour: bool
    #: Whether values need a scale: more than 8 bits, signed, floats, or units.
    deep: bool = False
    #: Range of the type; None for floats and units.
    limits: tuple[float, float] | None = None
    #: Whether values are still to be turned round.
    white_is_zero: bool = False
    n_pages: int = 1
    #: Values that the file wants shown as black and white.
    window: tuple[float, float] | None = None
    patient: str = ""
    #: Whether Pillow reads the upper 8 of 16 bits a colour.
    loses_bits: bool = False


class FileFault(Exception):
    """A file that cannot be read; `reason` is what files are counted by."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(detail or reason)
        self.reason = reason


def is_dicom(path: Path) -> bool:
    """Check whether a file starts as DICOM files do, whatever its name."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


@contextmanager
def _faults() -> Iterator[None]:
    """Turn the many ways in which decoders fail into one."""
    try:
        yield
    except (FileFault, ImportError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bomb(str(error)) from error
    except UnidentifiedImageError as error:
        raise FileFault(_DAMAGED, "not an image that Pillow knows, or cut short") from error
    except Exception as error:
        raise FileFault(_DAMAGED, str(error) or type(error).__name__) from error


def _bomb(detail: str) -> FileFault:
    return FileFault(
        "decompression bombs", f"{detail}; raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file"
    )


def look(path: Path) -> ImageFacts:
    """Return what an image file says about itself."""
    with _faults():
        with path.open("rb") as file:
            start = file.read(132)
        if not start:
            raise FileFault("files of zero bytes", "it has zero bytes: copy it again")
        if start.startswith(b"version https://git-lfs"):
            raise FileFault(
                "Git LFS pointers", "a Git LFS pointer in place of the image: run git lfs pull"
            )
        if start[128:] == b"DICM":
            facts = _look_by_pydicom(path)
        else:
            is_tiff = start.startswith(_TIFF_STARTS)
            facts = (_look_by_tifffile(path) if is_tiff else None) or _look_by_pillow(path, start)
        limit, n_pixels = Image.MAX_IMAGE_PIXELS, facts.shape[0] * facts.shape[1]
        if limit and n_pixels > limit:
            raise _bomb(f"{n_pixels} pixels, more than the limit of {limit}")
        return facts


def _look_by_pillow(path: Path, start: bytes) -> ImageFacts:
    with Image.open(path) as image:
        width, height = image.size
        if isinstance(image, TiffImageFile):
            # As stored: newer versions of Pillow have turned it already.
            width, height = image.tag_v2[256], image.tag_v2[257]
        # Pillow would decode the whole of a PNG to look for EXIF data behind it.
        has_exif = image.format != "PNG" or "exif" in image.info
        if has_exif and image.getexif().get(0x0112, 1) >= 5:
            height, width = width, height
        deep = _is_deep(image)
        return ImageFacts(
            "pillow",
            (height, width),
            colour=not (deep or _is_grey(image)),
            deep=deep,
            # Also in mode "I", which holds 16-bit PGM files.
            limits=(0, 65535) if image.mode.startswith("I") else None,
            n_pages=getattr(image, "n_frames", 1) if image.format in _PAGED else 1,
            loses_bits=image.format == "PNG" and start[24] == 16 and start[25] != 0,
        )


def _is_deep(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.asarray(image.getpalette("RGB")).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in _GREY_MODES


def read_page(path: Path, facts: ImageFacts, page: int = 0) -> np.ndarray:
    """Return the stored values of a page, of shape (H, W) or (H, W, 3)."""
    with _faults():
        if facts.reader == "pydicom":
            return _read_by_pydicom(path, page)
        read = _read_by_tifffile if facts.reader == "tifffile" else _read_by_pillow
        pixels = read(path, page)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise FileFault(_DAMAGED, "it has NaN or infinite values: replace them")
        return pixels


def _read_by_pillow(path: Path, page: int) -> np.ndarray:
    # Given a path, Pillow 13 maps a TIFF file that is to be turned with sides exchanged.
    with path.open("rb") as opened, Image.open(opened) as file:
        if page:
            file.seek(page)
        image = ImageOps.exif_transpose(file)
    if _is_deep(image):
        return np.asarray(image)
    grey = _is_grey(image)
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        # Pillow's own conversion drops the alpha and lets hidden colours show.
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image.convert("RGBA"))
    if image.mode == "L" and grey:
        return np.asarray(image)
    image = image.convert("RGB")
    # All channels are alike, and weights of luminance would round.
    return np.asarray(image)[..., 0] if grey else np.asarray(image)


def _pydicom(path: Path) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise ImportError(
            f'{path} is a DICOM file: pip install "tsynd_sk[dicom]", or leave such files out by '
            "exclude (--exclude)"
        ) from error
    return pydicom


def _look_by_pydicom(path: Path) -> ImageFacts:
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
            "DICOM colours of more than 8 bits: save it as 16-bit TIFF",
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
    """Return the values that are black and white in a file's first window."""
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


def _read_by_pydicom(path: Path, page_number: int) -> np.ndarray:
    """Return rescaled values, or colours of 8 bits."""
    pydicom = _pydicom(path)
    dataset = pydicom.dcmread(path)
    pixels = pydicom.pixels.pixel_array(dataset, index=page_number)
    photometric = dataset.PhotometricInterpretation
    if photometric in _MONOCHROME:
        if "PixelPaddingValue" in dataset:
            # What lies outside of the field of view would widen the range.
            outside = pixels == dataset.PixelPaddingValue
            pixels = np.where(outside, pixels[~outside].min(initial=pixels.max()), pixels)
        return pydicom.pixels.apply_modality_lut(pixels, dataset)
    if photometric == "PALETTE COLOR":
        pixels = pydicom.pixels.apply_color_lut(pixels, dataset)
        pixels = pixels >> 8 if pixels.dtype.itemsize == 2 else pixels
    return pixels.astype(np.uint8)


def _look_by_tifffile(path: Path) -> ImageFacts | None:
    """Return None if Pillow reads a TIFF file well: of more than 8 bits it loses some."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        photometric = getattr(page.photometric, "name", "")
        if page.dtype is None or page.dtype.kind not in "biuf":
            raise FileFault(
                "TIFF files of an unknown kind",
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
        limits, signed = None, page.dtype.kind == "i"
        if page.dtype.kind in "iu":
            top = 2 ** (page.bitspersample - signed) - 1
            limits = (-top - 1 if signed else 0, top)
        return ImageFacts(
            "tifffile",
            (height, width),
            colour=page.samplesperpixel >= 3,
            deep=True,
            limits=limits,
            white_is_zero=photometric == "MINISWHITE",
            n_pages=len(file.pages),
        )


def _read_by_tifffile(path: Path, page_number: int) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages[page_number]
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            pixels = _read_by_pillow(path, page_number)
            # Pillow keeps the values of grey images alone.
            if pixels.dtype == np.uint8:
                raise FileFault(
                    "TIFF files that need imagecodecs",
                    f"{error}: pip install imagecodecs, or save it without compression",
                ) from error
            return pixels
        described = page.keyframe
        assert described is not None
        if pixels.ndim == 3 and described.axes.startswith("S"):
            pixels = np.moveaxis(pixels, 0, -1)
        orientation = described.tags.valueof("Orientation", default=1)
        extra = [int(kind) for kind in described.extrasamples]
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if pixels.ndim == 2:
        return pixels
    n_channels = pixels.shape[-1]
    if n_channels > 4:
        raise FileFault(
            "images of more than four channels", f"{n_channels} channels; expected 1 to 4"
        )
    # What is transparent lies over zero.
    n_colours = 3 if n_channels >= 3 else 1
    colours = pixels[..., :n_colours]
    if 2 in extra and pixels.dtype.kind == "u":
        opacity = pixels[..., n_colours:][..., extra.index(2), None] / np.iinfo(pixels.dtype).max
        colours = colours * opacity
    return colours if n_colours == 3 else colours[..., 0]


def n_threads(facts: Iterable[ImageFacts] = ()) -> int:
    """Return how many threads may decode images like these at once."""
    # Bytes of a value as stored and as two doubles; or as stored, as it is shown, as an array.
    sizes = (np.prod(f.shape) * (24 if f.deep else 4) * (3 if f.colour else 1) for f in facts)
    return max(1, min(cpu_count(), 16, _BUDGET // int(max(sizes, default=1))))


def in_threads(
    task: Callable[[Any], Any],
    items: Sequence[Any],
    threads: int,
    report: Callable[[], object] = lambda: None,
) -> list[Any]:
    """Return what `task` returns for each item, or the fault that it raises."""

    def run(item: Any) -> Any:
        try:
            return task(item)
        except FileFault as fault:
            return fault

    results = []
    parallel = Parallel(threads, require="sharedmem", batch_size=16, return_as="generator")
    # Filters belong to the process, so single threads must not set them.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(PIL|pydicom)\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for result in parallel(delayed(run)(item) for item in items):
            results.append(result)
            report()
    return results


def refusal(faults: dict[str, FileFault], where: str, way_out: str) -> ValueError:
    """Return the error for files that cannot be read."""
    named = "\n".join(f"  {name}: {fault}" for name, fault in list(faults.items())[:10])
    more = f"\n  and {len(faults) - 10} more" if len(faults) > 10 else ""
    return ValueError(
        f"{len(faults)} image files{where} cannot be read:\n{named}{more}\nMend or remove them, or "
        f"{way_out}"
    )
