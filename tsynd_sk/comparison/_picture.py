"""Synthetic images of a run beside their sources, as arrays and as a picture."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np

from tsynd_sk.inspection import SynthesisDisplay
from tsynd_sk.synthesis import AugmentedClassifier

Sample = Mapping[str, np.ndarray]

_N_SAMPLES = 8


def sample_synthesis(
    classifier: AugmentedClassifier, X: np.ndarray, class_names: Sequence[str]
) -> Sample | None:
    """Synthesise a few images, and return the parameters of their `SynthesisDisplay`."""
    try:
        shown = SynthesisDisplay.from_estimator(classifier, X, n_samples=_N_SAMPLES, random_state=0)
    except Exception as error:  # pictures are not worth a training
        warnings.warn(f"no synthetic images could be shown: {error}", stacklevel=2)
        return None
    labels = [str(class_names[code]) for code in shown.labels]
    return {name: np.asarray(value) for name, value in {**vars(shown), "labels": labels}.items()}


def draw_synthesis(sample: Sample) -> bytes | None:
    """Draw synthetic images beside their sources as PNG; None if matplotlib is missing or fails."""
    if find_spec("matplotlib") is None:
        return None
    # There may be no screen, and other processes must not open windows.
    os.environ["MPLBACKEND"] = "Agg"
    try:
        import matplotlib.pyplot as plt

        figure, png = SynthesisDisplay(**sample).plot().figure_, io.BytesIO()
        figure.savefig(png, dpi=150, format="png")
        plt.close(figure)
    except Exception as error:  # pictures are not worth a training
        warnings.warn(f"no picture of synthetic images could be drawn: {error}", stacklevel=2)
        return None
    return png.getvalue()
