"""Look at what was synthesised, at the way there and at what classifiers make of it.

Displays follow scikit-learn's convention: ``from_estimator`` computes, the constructor takes
arrays and keeps them as attributes, and ``plot`` draws them with matplotlib and returns the
display, on which ``figure_`` and ``ax_`` are. Those of several axes make them in the place of the
``ax`` that is given, or in a ``figure``.
"""

from tsynd_sk.inspection._ascent_display import AscentDisplay
from tsynd_sk.inspection._classifier_displays import AttributionDisplay, PerturbationDisplay
from tsynd_sk.inspection._explanations import eigen_grad_cam
from tsynd_sk.inspection._forest_displays import DifferenceDisplay, RobustnessDisplay
from tsynd_sk.inspection._sample_displays import LatentDisplay, SynthesisDisplay
from tsynd_sk.inspection._uncertainty_display import UncertaintyDisplay

__all__ = [
    "AscentDisplay",
    "AttributionDisplay",
    "DifferenceDisplay",
    "LatentDisplay",
    "PerturbationDisplay",
    "RobustnessDisplay",
    "SynthesisDisplay",
    "UncertaintyDisplay",
    "eigen_grad_cam",
]
