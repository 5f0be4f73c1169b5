"""What image files say about themselves, what can be wrong with them, and work on many."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from joblib import Parallel, cpu_count, delayed
from PIL import Image

DAMAGED = "damaged files"
#: Bytes that all threads together may use for images while they decode them.
_BUDGET = 120 * 2**20


@dataclass(frozen=True)
class ImageFacts:
    """What an image file says about itself, before its pixels are read."""

    #: Library that reads the pixels: "pillow", "tifffile" or "pydicom".
    reader: str
    #: Height and width in pixels, as the image is to be shown.
    shape: tuple[int, int]
    colour: bool
    #: Whether values need a scale of their set: more than 8 bits, signed, floats, or units.
    deep: bool = False
    #: Lowest and highest value that the type can hold; None for floats and units.
    limits: tuple[float, float] | None = None
    #: Whether the lowest value is white, and this is still to be turned round.
    white_is_zero: bool = False
    n_pages: int = 1
    #: Values that the file wants shown as black and white.
    window: tuple[float, float] | None = None
    patient: str = ""
    #: Whether 16 bits a colour lose the lower eight when they are read.
    loses_bits: bool = False


class FileFault(Exception):
    """A file that is no image that can be read.

    `reason` is what files are counted by; the message says more.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(detail or reason)
        self.reason = reason


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
