"""From arrays in a user's layout to the float tensors that networks see, and back without loss."""

from tsynd_sk.images._format import ImageFormat, ValueRange
from tsynd_sk.images._stored import NetworkInput, Selection, Stored, empty_on_disk, parts, spread
from tsynd_sk.images._validation import array_of_images, check_images

__all__ = ["ImageFormat", "ValueRange"]
