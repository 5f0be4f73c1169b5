"""Targeted synthetic augmentation for image classifiers, in the scikit-learn way."""

from tsynd_sk._version import __version__

__all__ = ["__version__"]
