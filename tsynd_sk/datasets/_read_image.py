"""Image files of any kind, one and many: what they say about themselves, and their pixels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from tsynd_sk.datasets._image_facts import DAMAGED, FileFault, ImageFacts
from tsynd_sk.datasets._read_dicom import look_at_dicom, read_dicom
from tsynd_sk.datasets._read_tiff import look_at_tiff, read_tiff

#: What names of image files end in. DICOM files are known by their first bytes, too.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".gif"),
    *(".jp2", ".j2k", ".pgm", ".ppm", ".pbm", ".pnm", ".dcm", ".dicom"),
)

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GREY_MODES = ("1", "L", "LA", "La")
#: Formats whose further frames are images of their own (in JPEG they are previews).
_PAGED = ("TIFF", "GIF", "WEBP", "PNG")
#: Bytes that all threads together may use for images while they decode them.
_BUDGET = 120 * 2**20


def is_dicom(path: Path) -> bool:
    """Check whether a file starts as DICOM files do, whatever its name ends in."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


@contextmanager
def _faults() -> Iterator[None]:
    """Turn the dozen ways in which decoders fail into one."""
    try:
        yield
    except (FileFault, ImportError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bomb(str(error)) from error
    except UnidentifiedImageError as error:
        raise FileFault(DAMAGED, "not an image that Pillow knows, or cut short") from error
    except Exception as error:
        raise FileFault(DAMAGED, str(error) or type(error).__name__) from error


def _bomb(detail: str) -> FileFault:
    return FileFault(
        "decompression bombs", f"{detail}; raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file"
    )


def look(path: Path) -> ImageFacts:
    """Return what an image file says about itself, without decoding its pixels if possible."""
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
            facts = look_at_dicom(path)
        else:
            is_tiff = start.startswith(_TIFF_STARTS)
            facts = (look_at_tiff(path) if is_tiff else None) or _look_by_pillow(path, start)
        limit, n_pixels = Image.MAX_IMAGE_PIXELS, facts.shape[0] * facts.shape[1]
        if limit and n_pixels > limit:
            raise _bomb(f"{n_pixels} pixels, more than the limit of {limit}")
        return facts


def _look_by_pillow(path: Path, start: bytes) -> ImageFacts:
    with Image.open(path) as image:
        width, height = image.size
        if isinstance(image, TiffImageFile):
            # As stored: newer versions of Pillow have turned the size already.
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
    """Return the values of a page, as they are stored, of shape (H, W) or (H, W, 3)."""
    with _faults():
        if facts.reader == "pydicom":
            return read_dicom(path, page)
        pixels = read_tiff(path, page) if facts.reader == "tifffile" else _read(path, page)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise FileFault(DAMAGED, "it has NaN or infinite values: replace them")
        return pixels


def _read(path: Path, page: int) -> np.ndarray:
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


def n_threads(facts: Iterable[ImageFacts] = ()) -> int:
    """Return how many threads may decode images like these at once."""
    largest = max(map(_bytes_to_decode, facts), default=1)
    return max(1, min(cpu_count(), 16, _BUDGET // largest))


def _bytes_to_decode(facts: ImageFacts) -> int:
    # As stored and as two arrays in double precision; or as stored, as it is shown, as an array.
    of_value = 24 if facts.deep else 4
    return facts.shape[0] * facts.shape[1] * of_value * (3 if facts.colour else 1)


def in_threads(
    task: Callable[[Any], Any],
    items: Sequence[Any],
    threads: int,
    report: Callable[[], object] = lambda: None,
) -> list[Any]:
    """Return what `task` returns for each item, or the fault that it raises.

    Pillow's warning of decompression bombs is an error meanwhile, and its others are off: filters
    of warnings belong to the whole process, so single threads must not set them.
    """

    def run(item: Any) -> Any:
        try:
            return task(item)
        except FileFault as fault:
            return fault

    results = []
    parallel = Parallel(threads, require="sharedmem", batch_size=16, return_as="generator")
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
