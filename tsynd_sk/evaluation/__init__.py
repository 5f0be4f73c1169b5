"""Scores of classifiers on clean, corrupted, augmented and attacked images."""

from tsynd_sk.evaluation._attacks import (
    ATTACKS,
    GradientMaskingWarning,
    adversarial_scores,
    check_eps,
)
from tsynd_sk.evaluation._corruptions import CORRUPTIONS, augment, corrupt
from tsynd_sk.evaluation._differentiable import DifferentiableClassifier
from tsynd_sk.evaluation._perturbed_scores import augmentation_scores, corruption_scores
from tsynd_sk.evaluation._robustness_report import RobustnessReport, robustness_report
from tsynd_sk.evaluation._scores import (
    METRICS,
    TITLES,
    classification_scores,
    draw_within_classes,
    expected_calibration_error,
    holm,
    labels_of_images,
    names_among,
    over_images_and_seeds,
    t_interval,
    weighted_scores,
)
from tsynd_sk.evaluation._synthesis_report import (
    SynthesisReport,
    fitted_synthesizer,
    sample_beside_sources,
    synthesis_report,
)

__all__ = [
    "ATTACKS",
    "CORRUPTIONS",
    "METRICS",
    "GradientMaskingWarning",
    "RobustnessReport",
    "SynthesisReport",
    "adversarial_scores",
    "augment",
    "augmentation_scores",
    "classification_scores",
    "corrupt",
    "corruption_scores",
    "expected_calibration_error",
    "robustness_report",
    "synthesis_report",
]
