"""The picture of a comparison: images that were synthesised for one of its runs."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from tsynd_sk.inspection import SynthesisDisplay
from tsynd_sk.synthesis import AugmentedClassifier


def draw_synthesis(
    classifier: AugmentedClassifier, X: np.ndarray, class_names: Sequence[str]
) -> bytes | None:
    """Draw synthetic images beside their sources as PNG; None if matplotlib is missing or fails."""
    if find_spec("matplotlib") is None:
        return None
    # There may be no display, and a process of its own must not open windows on one.
    os.environ["MPLBACKEND"] = "Agg"
    try:
        import matplotlib.pyplot as plt

        display = SynthesisDisplay.from_estimator(classifier, X, n_samples=8, random_state=0)
        display.labels = [class_names[code] for code in display.labels]
        figure, png = display.plot().figure_, io.BytesIO()
        figure.savefig(png, dpi=150, format="png")
        plt.close(figure)
    except Exception as error:  # a picture is not worth a training
        warnings.warn(f"no picture of synthetic images could be drawn: {error}", stacklevel=2)
        return None
    return png.getvalue()
