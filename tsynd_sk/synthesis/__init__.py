"""Targeted synthesis: the estimators, the callback, and the engine that they share."""

from tsynd_sk.synthesis._callback import TargetedSynthesis, image_passes
from tsynd_sk.synthesis._classifier import AugmentedClassifier
from tsynd_sk.synthesis._fitting import check_trainable
from tsynd_sk.synthesis._synthesizer import TargetedSynthesizer

__all__ = ["AugmentedClassifier", "TargetedSynthesis", "TargetedSynthesizer"]
