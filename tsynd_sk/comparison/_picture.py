"""The picture of a comparison: images that were synthesised for one of its runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tsynd_sk._utils._files import write_atomically
from tsynd_sk.inspection import SynthesisDisplay
from tsynd_sk.synthesis import AugmentedClassifier


def draw_synthesis(
    classifier: AugmentedClassifier, X: np.ndarray, class_names: Sequence[str], path: Path
) -> None:
    """Draw synthetic images beside their sources, if matplotlib is installed.

    Parameters
    ----------
    classifier : AugmentedClassifier
        Fitted on class indices.
    X : ndarray of shape (n, ...)
        Its training images.
    class_names : sequence of str
        Names of the classes.
    path : Path
        PNG file, which is replaced once the new one is whole.
    """
    if find_spec("matplotlib") is None:
        return
    # There may be no display, and a process of its own must not open windows on one.
    os.environ["MPLBACKEND"] = "Agg"
    import matplotlib.pyplot as plt

    display = SynthesisDisplay.from_estimator(classifier, X, n_samples=8, random_state=0)
    display.labels = [class_names[code] for code in display.labels]
    figure = display.plot().figure_
    try:
        write_atomically(path, lambda file: figure.savefig(file, dpi=150, format="png"))
    finally:
        plt.close(figure)
