import numpy as np
import pytest

from tsynd_sk.evaluation import (
    CORRUPTIONS,
    augmentation_scores,
    classification_scores,
    corrupt,
    corruption_scores,
)
from tsynd_sk.images import ImageFormat


class MeanClassifier:
    """Takes bright images for class "b", and keeps what it is shown."""

    classes_ = np.array(["a", "b"])

    def __init__(self, **attributes):
        self.seen = []
        vars(self).update(attributes)

    def predict_proba(self, X):
        self.seen.append(X)
        p = X.reshape(len(X), -1).mean(axis=1) / 255
        return np.c_[1 - p, p]


@pytest.fixture
def problem(scene):
    return scene, np.where(np.arange(12) % 3 == 0, "a", "b")


class TestCorruptionScores:
    def test_a_row_for_every_kind_and_severity_and_their_mean(self, problem):
        X, y = problem
        classifier, kinds = MeanClassifier(), ("brightness", "shift")
        scores = corruption_scores(classifier, X, y, kinds=kinds, severities=(2, 5), random_state=0)
        keys = [(kind, severity) for kind in kinds for severity in (2, 5)]
        assert [(row["kind"], row["severity"]) for row in scores.rows] == keys
        for (kind, severity), row, seen, proba in zip(
            keys, scores.rows, classifier.seen, scores.proba, strict=True
        ):
            corrupted = corrupt(X, kind, severity, random_state=0)
            np.testing.assert_array_equal(seen, corrupted)
            np.testing.assert_array_equal(proba, MeanClassifier().predict_proba(corrupted))
            expected = classification_scores(y, proba, ["a", "b"])
            assert row == {"kind": kind, "severity": severity, **expected}
        assert len({row["roc_auc"] for row in scores.rows}) > 1
        for name in ("roc_auc", "balanced_accuracy"):
            assert scores.mean[name] == pytest.approx(np.mean([row[name] for row in scores.rows]))
        assert set(scores.mean) == {"roc_auc", "balanced_accuracy"}

    def test_all_kinds_and_severities_by_default_and_one_by_name(self, problem):
        X, y = problem
        scores = corruption_scores(MeanClassifier(), X, y, random_state=0)
        assert len(scores.rows) == 5 * len(CORRUPTIONS)
        one = corruption_scores(MeanClassifier(), X, y, kinds="gamma", severities=3, random_state=0)
        assert one.rows == [
            row for row in scores.rows if (row["kind"], row["severity"]) == ("gamma", 3)
        ]

    @pytest.mark.parametrize("layout", ["chw", "hwc"])
    def test_flat_images_are_unfolded_as_in_fit(self, scene, layout):
        X = np.moveaxis(scene, -1, 1) if layout == "chw" else scene
        flat = X.reshape(12, -1)
        format_ = ImageFormat.infer(flat, X.shape[1:])
        classifier = MeanClassifier(format_=format_, image_shape_=format_.image_shape)
        y = np.tile(["a", "b"], 6)
        corruption_scores(classifier, flat, y, kinds="rotation", severities=3, random_state=0)
        expected = corrupt(X, "rotation", random_state=0).reshape(12, -1)
        np.testing.assert_array_equal(classifier.seen[0], expected)

    def test_mistakes_are_refused_before_predicting(self, problem):
        X, y = problem
        classifier = MeanClassifier()
        with pytest.raises(ValueError, match="'fog'; known"):
            corruption_scores(classifier, X, y, kinds=["noise", "fog"])
        with pytest.raises(ValueError, match="severity 6; known: 1, 2"):
            corruption_scores(classifier, X, y, severities=[1, 6])
        with pytest.raises(ValueError, match="image_shape="):
            corruption_scores(classifier, X.reshape(12, -1), y)
        assert classifier.seen == []


class TestAugmentationScores:
    def test_a_row_for_every_draw_with_mean_and_spread(self, problem):
        X, y = problem
        classifier = MeanClassifier()
        scores = augmentation_scores(classifier, X, y, n_draws=4, random_state=0)
        assert [row["draw"] for row in scores.rows] == [0, 1, 2, 3]
        for row, seen, proba in zip(scores.rows, classifier.seen, scores.proba, strict=True):
            assert seen.shape == X.shape
            assert seen.dtype == X.dtype
            np.testing.assert_array_equal(proba, MeanClassifier().predict_proba(seen))
            expected = classification_scores(y, proba, ["a", "b"])
            assert {name: row[name] for name in expected} == expected
        for name in ("roc_auc", "balanced_accuracy"):
            values = [row[name] for row in scores.rows]
            assert scores.mean[name] == pytest.approx(np.mean(values))
            assert scores.std[name] == pytest.approx(np.std(values))
        assert scores.std["roc_auc"] > 0

    def test_draws_differ_repeat_and_are_the_first_of_more(self, problem):
        X, y = problem
        few, many = (
            augmentation_scores(MeanClassifier(), X, y, n_draws=n, random_state=1) for n in (2, 5)
        )
        assert many.rows[:2] == few.rows
        assert len({proba.tobytes() for proba in many.proba}) == 5
        other = augmentation_scores(MeanClassifier(), X, y, n_draws=2, random_state=2)
        assert not np.array_equal(other.proba, few.proba)

    def test_movements_are_handed_on(self, problem):
        X, y = problem
        classifier = MeanClassifier()
        still = {"flip": False, "degrees": 0, "scale": 0, "shift": 0}
        scores = augmentation_scores(classifier, X, y, n_draws=2, **still)
        for seen in classifier.seen:
            np.testing.assert_array_equal(seen, X)
        assert scores.std == {"roc_auc": 0, "balanced_accuracy": 0}
        for change in ({"flip": True}, {"degrees": 20}, {"scale": 0.2}, {"shift": 0.2}):
            augmentation_scores(classifier, X, y, n_draws=1, **still | change)
            assert not np.array_equal(classifier.seen[-1], X)
