"""Targeted synthetic augmentation for image classifiers, in the scikit-learn way."""

from tsynd_sk._version import __version__
from tsynd_sk.augmented import AugmentedClassifier
from tsynd_sk.callbacks import TargetedSynthesis
from tsynd_sk.synthesizer import TargetedSynthesizer

__all__ = ["AugmentedClassifier", "TargetedSynthesis", "TargetedSynthesizer", "__version__"]
