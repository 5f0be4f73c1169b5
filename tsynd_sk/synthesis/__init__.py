"""Targeted synthesis: the estimators, the callback, and the engine that they share."""

from tsynd_sk.synthesis._callback import TargetedSynthesis, check_synthesizer, is_refresh
from tsynd_sk.synthesis._classifier import AugmentedClassifier
from tsynd_sk.synthesis._parallel import single_threaded
from tsynd_sk.synthesis._synthesizer import TargetedSynthesizer
from tsynd_sk.synthesis._training_data import training_rows

__all__ = ["AugmentedClassifier", "TargetedSynthesis", "TargetedSynthesizer"]
