"""Labelled images from MedMNIST, scikit-learn, .npz files and folders of image files."""

from tsynd_sk.datasets._image_folder import load_image_folder
from tsynd_sk.datasets._loaders import (
    LabeledImages,
    load_digits_images,
    load_medmnist,
    load_npz,
    subsample,
)
from tsynd_sk.datasets._reading import Reading, read_images

__all__ = [
    "LabeledImages",
    "Reading",
    "load_digits_images",
    "load_image_folder",
    "load_medmnist",
    "load_npz",
    "read_images",
    "subsample",
]
