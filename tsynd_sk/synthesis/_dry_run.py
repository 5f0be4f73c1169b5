"""What keeps a classifier from training, said long before it is to train."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsynd_sk import _skorch
from tsynd_sk.images import ImageFormat
from tsynd_sk.synthesis._classifier import AugmentedClassifier
from tsynd_sk.synthesis._engine import scheme_of
from tsynd_sk.synthesis._fitting import MembersCheck


def check_trainable(classifier: AugmentedClassifier, X: Any, y: np.ndarray) -> None:
    """Raise what a fit of a classifier to some images would raise before it trains.

    Its net is built, and checked on these images: what it predicts, and, if anything is to be
    synthesised against it, its members and their gradients.
    """
    synthesizer, codes = classifier.synthesizer, np.unique(y, return_inverse=True)[1]
    x = ImageFormat.infer(X, synthesizer.image_shape).as_network_input(X)
    checks = []
    if classifier.synthetic_ratio:
        checks.append(MembersCheck(scheme_of(synthesizer, 1), x, synthesizer.objective))
    _skorch.dry_run(classifier.estimator, x, codes, 0, synthesizer.device, checks)
