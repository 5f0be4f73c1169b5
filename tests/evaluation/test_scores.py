import math
import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from tsynd_sk.evaluation import (
    METRICS,
    classification_scores,
    expected_calibration_error,
)
from tsynd_sk.evaluation._scores import weighted_auc, weighted_scores


@pytest.fixture
def multiclass():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 80)
    proba = rng.dirichlet(np.ones(4), 80) + 0.5 * np.eye(4)[y]
    return y, proba / proba.sum(axis=1, keepdims=True)


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
        with pytest.raises(ValueError, match="must have 3 columns, one for each class; got 2"):
            classification_scores([0, 1], np.eye(2), [0, 1, 2])
        with pytest.raises(
            ValueError, match=r"not seen in fit: \['c'\]; expected some of \['a', 'b'\]"
        ):
            classification_scores(["a", "c"], np.eye(2), ["a", "b"])
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            classification_scores([0, 1, 1], np.eye(2), [0, 1])
        with pytest.raises(ValueError, match="0 sample"):
            classification_scores([], np.empty((0, 2)), [0, 1])


class TestCalibrationError:
    def test_hand_made_case(self):
        # Two bins: three predictions at 0.8, two of them right; one at 0.6, wrong.
        proba = [[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.4, 0.6]]
        error = expected_calibration_error([0, 1, 1, 0], proba, [0, 1], n_bins=4)
        assert error == pytest.approx(3 / 4 * (0.8 - 2 / 3) + 1 / 4 * (0.6 - 0))

    def test_one_bin_sees_the_means_alone(self):
        proba = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
        error = expected_calibration_error(["x", "y", "y", "y"], proba, ["x", "y"], n_bins=1)
        assert error == pytest.approx(0.75 - 0.75)
        apart = expected_calibration_error(["x", "y", "y", "y"], proba, ["x", "y"], n_bins=100)
        assert apart == pytest.approx((0.1 + 0.3 + 0.6 + 0.2) / 4)

    def test_bins_are_closed_on_the_right(self):
        # 0.5 and 0.4 fall into one bin of width a half, 0.6 into the other.
        proba = [[0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2]]
        error = expected_calibration_error([0, 1, 1], proba, [0, 1, 2], n_bins=2)
        assert error == pytest.approx(2 / 3 * 0.05 + 1 / 3 * 0.6)

    def test_more_than_two_classes_and_perfect_confidence(self):
        assert expected_calibration_error([2, 0, 1], np.eye(3)[[2, 0, 1]], [0, 1, 2]) == 0
        assert expected_calibration_error([2, 0, 1], np.eye(3)[[0, 1, 2]], [0, 1, 2]) == 1

    def test_a_number_of_bins_below_one_is_refused(self):
        with pytest.raises(ValueError, match="n_bins"):
            expected_calibration_error([0, 1], np.eye(2), [0, 1], n_bins=0)


class TestWeightedScores:
    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("decimals", [1, 12], ids=["ties", "no ties"])
    def test_whole_weights_repeat_rows(self, n_classes, decimals):
        rng = np.random.default_rng(1)
        y = rng.integers(0, n_classes, 60)
        proba = rng.dirichlet(np.ones(n_classes), 60) + 0.4 * np.eye(n_classes)[y]
        proba = (proba / 1.4).round(decimals)
        weights = rng.integers(0, 4, (60, 20))
        scores = weighted_scores(y, proba, weights.astype(float))
        assert scores.shape == (len(METRICS), 20)
        for repeats, found in zip(weights.T, scores.T, strict=True):
            rows = np.repeat(np.arange(60), repeats)
            tested = [1] if n_classes == 2 else range(n_classes)
            predicted = proba[rows].argmax(axis=1)
            expected = [
                np.mean([roc_auc_score(y[rows] == k, proba[rows, k]) for k in tested]),
                balanced_accuracy_score(y[rows], predicted),
                accuracy_score(y[rows], predicted),
                expected_calibration_error(y[rows], proba[rows], range(n_classes)),
            ]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)

    def test_a_class_without_weight_has_no_area(self):
        positive, weights = np.array([True, False]), np.array([[1.0, 0], [1, 1]])
        area = weighted_auc(np.array([0.5, 0.1]), positive, weights)
        np.testing.assert_array_equal(area, [1, np.nan])
