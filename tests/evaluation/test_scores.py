import math
import warnings

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tsynd_sk.evaluation._scores import classification_scores


class TestClassificationScores:
    def test_binary_is_the_usual(self):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 2, 60)
        p = np.clip(0.3 * y + 0.7 * rng.random(60), 0, 1)
        classes = np.array(["ill", "well"])
        scores = classification_scores(classes[y], np.c_[1 - p, p], classes)
        assert scores == {
            "roc_auc": pytest.approx(roc_auc_score(y, p)),
            "balanced_accuracy": pytest.approx(balanced_accuracy_score(y, p > 0.5)),
        }
        assert all(type(score) is float for score in scores.values())

    def test_second_column_is_what_binary_auc_reads(self):
        proba = np.array([[0.5, 0.1], [0.1, 0.2], [0.9, 0.3]])
        assert classification_scores([0, 0, 1], proba, [0, 1])["roc_auc"] == 1

    @pytest.fixture
    def multiclass(self):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 4, 80)
        proba = rng.dirichlet(np.ones(4), 80) + 0.5 * np.eye(4)[y]
        return y, proba / proba.sum(axis=1, keepdims=True)

    def test_multiclass_is_one_against_the_rest(self, multiclass):
        y, proba = multiclass
        scores = classification_scores(y + 10, proba, np.arange(10, 14))
        expected = roc_auc_score(y, proba, multi_class="ovr", average="macro")
        assert scores["roc_auc"] == pytest.approx(expected)
        assert scores["balanced_accuracy"] == pytest.approx(
            balanced_accuracy_score(y, proba.argmax(axis=1))
        )

    def test_classes_missing_from_y_do_not_count(self, multiclass):
        y, proba = multiclass
        rows = y != 2
        y, proba = y[rows], proba[rows]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scores = classification_scores(y, proba, [0, 1, 2, 3])
        aucs = [roc_auc_score(y == k, proba[:, k]) for k in (0, 1, 3)]
        assert scores["roc_auc"] == pytest.approx(np.mean(aucs))
        recalls = [(proba.argmax(axis=1) == k)[y == k].mean() for k in (0, 1, 3)]
        assert (proba.argmax(axis=1) == 2).any()
        assert scores["balanced_accuracy"] == pytest.approx(np.mean(recalls))

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_single_label_has_no_auc(self, n_classes):
        proba = np.eye(n_classes)[[0, 0, 1, 0]]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scores = classification_scores([0] * 4, proba, np.arange(n_classes))
        assert math.isnan(scores["roc_auc"])
        assert scores["balanced_accuracy"] == 0.75

    def test_what_does_not_fit_is_named(self):
        with pytest.raises(ValueError, match="2 columns, but there are 3 classes"):
            classification_scores([0, 1], np.eye(2), [0, 1, 2])
        with pytest.raises(ValueError, match=r"\['c'\] that are not in classes"):
            classification_scores(["a", "c"], np.eye(2), ["a", "b"])
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            classification_scores([0, 1, 1], np.eye(2), [0, 1])
        with pytest.raises(ValueError, match="0 sample"):
            classification_scores([], np.empty((0, 2)), [0, 1])
