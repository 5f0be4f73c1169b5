"""What runs are scored on."""

import numpy as np

from tsynd_sk.comparison._runs import Scoring
from tsynd_sk.evaluation import CORRUPTIONS


class Counting:
    """Predicts one half, and counts the images that it is asked about."""

    classes_ = np.arange(2)

    def __init__(self):
        self.asked = []

    def predict_proba(self, X):
        self.asked.append(len(X))
        return np.full((len(X), 2), 0.5, dtype=np.float32)


def test_so_many_test_images_are_corrupted_at_most():
    X = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
    classifier = Counting()
    scores, proba = Scoring(n_attacked=6)(classifier, X, np.arange(20) % 2, 2)
    assert classifier.asked == [20] + [6] * len(CORRUPTIONS)
    assert proba.shape == (20, 2)
    assert scores["perturbed_roc_auc"] == scores["roc_auc"] == 0.5
