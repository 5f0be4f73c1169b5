"""What an image file says about itself, and what can be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass


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


DAMAGED = "damaged files"
