"""Labelled images from MedMNIST, scikit-learn, .npz files and folders of image files."""

from tsynd_sk.datasets._image_folder import LabeledImages, load_image_folder
from tsynd_sk.datasets._loaders import load_digits_images, load_medmnist, load_npz, subsample

__all__ = [
    "LabeledImages",
    "load_digits_images",
    "load_image_folder",
    "load_medmnist",
    "load_npz",
    "subsample",
]
