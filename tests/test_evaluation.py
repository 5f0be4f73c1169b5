import math
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tsynd_sk.datasets import load_digits_images, load_medmnist
from tsynd_sk.evaluation import CORRUPTIONS, classification_scores, corrupt, perturbed_scores
from tsynd_sk.images import ImageFormat


@pytest.fixture(scope="module")
def scene():
    """Twelve colour images (n, 24, 20, 3) with gradients and a bright box, uint8."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:24, 0:20]
    X = np.empty((12, 24, 20, 3))
    for i, image in enumerate(X):
        image[:] = (4 * rows + 3 * columns)[..., None] + rng.uniform(0, 40, 3)
        image[5 + i % 4 : 14, 4:11] += 60
    return X.astype(np.uint8)


def change(X, corrupted):
    """Mean absolute change of every image."""
    difference = corrupted.astype(float) - X
    return np.abs(difference).reshape(len(X), -1).mean(axis=1)


@pytest.mark.parametrize("kind", CORRUPTIONS)
class TestEveryCorruption:
    def test_every_image_changes_and_keeps_shape_dtype_and_range(self, kind, scene):
        for X in (scene, scene[..., 0], scene / np.float32(100) - 1, scene.astype(np.float64)):
            before = X.copy()
            corrupted = corrupt(X, kind, random_state=0)
            np.testing.assert_array_equal(X, before)
            assert corrupted.shape == X.shape
            assert corrupted.dtype == X.dtype
            assert (change(X, corrupted) > 0).all()
            if X.dtype != np.uint8:
                assert corrupted.min() >= X.min()
                assert corrupted.max() <= X.max()

    def test_layouts_hold_the_same_images(self, kind, scene):
        expected = corrupt(scene, kind, random_state=0)
        first = np.ascontiguousarray(np.moveaxis(scene, -1, 1))
        np.testing.assert_array_equal(
            np.moveaxis(corrupt(first, kind, random_state=0), 1, -1), expected
        )
        for X, image_shape in ((scene, (24, 20, 3)), (first, (3, 24, 20))):
            flat = corrupt(X.reshape(12, -1), kind, random_state=0, image_shape=image_shape)
            np.testing.assert_array_equal(flat.reshape(X.shape), corrupt(X, kind, random_state=0))

    def test_seed_repeats_and_a_prefix_is_corrupted_as_in_the_whole(self, kind, scene):
        X = scene[[0] * 6]
        whole = corrupt(X, kind, random_state=3)
        np.testing.assert_array_equal(corrupt(X, kind, random_state=3), whole)
        np.testing.assert_array_equal(corrupt(X[:2], kind, random_state=3), whole[:2])
        assert not np.array_equal(corrupt(X, kind, random_state=4), whole)

    def test_rows_draw_for_themselves(self, kind, scene):
        corrupted = corrupt(scene[[0] * 12], kind, random_state=0)
        # Blocks come in whole pixels, so that some rows share them.
        assert len({image.tobytes() for image in corrupted}) >= (3 if kind == "pixelation" else 11)

    def test_severity_hurts_more_and_more(self, kind, scene):
        changes = [
            change(scene, corrupt(scene, kind, s, random_state=0)).mean() for s in range(1, 6)
        ]
        assert (np.diff(changes) > 0).all()

    def test_values_count_by_share_of_their_range(self, kind, scene):
        X = scene.astype(np.float32)
        first, other = corrupt(X, kind, random_state=0), corrupt(X * 8 - 64, kind, random_state=0)
        np.testing.assert_allclose((other + 64) / 8, first, atol=0.01)

    def test_every_number_of_channels_and_tiny_or_constant_images(self, kind):
        rng = np.random.default_rng(0)
        for shape in ((2, 9, 7), (4, 9, 7), (1, 2, 2), (1, 1, 1), (1, 60, 3)):
            X = rng.random((3, *shape))
            flat = X.reshape(3, -1)
            assert np.isfinite(corrupt(flat, kind, 5, random_state=0, image_shape=shape)).all()
        constant = np.full((2, 8, 8), 7.5)
        np.testing.assert_array_equal(corrupt(constant, kind, random_state=0), constant)

    def test_breast_images_stay_recognisable_at_the_middle_severity(self, kind, medmnist_root):
        X, _, _ = load_medmnist("breastmnist", split="test", root=medmnist_root, download=False)
        X = X[:60]
        corrupted = corrupt(X, kind, random_state=0)

        similarity = [
            np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(X, corrupted, strict=True)
        ]
        assert np.median(similarity) > 0.7
        assert change(X, corrupted).mean() > 4


class TestKinds:
    def test_noise_has_the_strength_of_its_severity(self):
        X = np.full((50, 20, 20), 128, np.uint8)
        spread = (corrupt(X, "noise", 3, random_state=0) / 255.0).std(axis=(1, 2))
        assert 0.09 * 2 / 3 * 0.85 < spread.min() < 0.07
        assert 0.08 < spread.max() < 0.09 * 1.15

    def test_lengths_are_shares_of_the_side(self):
        # A smooth scene as seen by cameras of two resolutions.
        small, large = (
            np.add.outer(np.sin(5 * np.arange(s) / s), np.cos(9 * np.arange(s) / s))[None]
            for s in (32, 96)
        )
        for kind in ("blur", "shift", "rotation", "pixelation", "occlusion"):
            a, b = (change(X, corrupt(X, kind, 4, random_state=1))[0] for X in (small, large))
            assert a == pytest.approx(b, rel=0.15), kind

    def test_brightness_contrast_and_gamma_go_both_ways(self, scene):
        X = scene[[0] * 12]
        brighter = corrupt(X, "brightness", random_state=0).mean(axis=(1, 2, 3)) > X.mean()
        assert 0 < brighter.sum() < 12
        steeper = corrupt(X, "contrast", random_state=0).std(axis=(1, 2, 3)) > X[0].std()
        assert 0 < steeper.sum() < 12
        lighter = corrupt(X, "gamma", random_state=0).mean(axis=(1, 2, 3)) > X.mean()
        assert 0 < lighter.sum() < 12

    def test_contrast_keeps_the_mean_and_gamma_the_extremes(self, scene):
        mild = scene // 3 + 80
        contrast = corrupt(mild, "contrast", random_state=0)
        np.testing.assert_allclose(contrast.mean(axis=(1, 2)), mild.mean(axis=(1, 2)), atol=1)
        X = np.zeros((4, 8, 8), np.uint8)
        X[:, 4:] = 255
        np.testing.assert_array_equal(corrupt(X, "gamma", random_state=0), X)

    def test_shift_moves_and_rotation_turns_without_black_margins(self):
        X = np.full((8, 30, 30), 90, np.uint8)
        X[:, 10:20, 10:20] = 200
        for kind in ("shift", "rotation"):
            corrupted = corrupt(X, kind, random_state=0)
            assert corrupted.min() >= 89
            assert np.abs((corrupted > 145).sum(axis=(1, 2)) - 100).max() <= 6
        rows = np.arange(30)
        moved = corrupt(X, "shift", random_state=0) - 90.0
        centre = np.stack(
            [(moved.sum(axis=axis) * rows).sum(axis=1) / moved.sum(axis=(1, 2)) for axis in (2, 1)]
        )
        distance = np.hypot(*(centre - 14.5)) / 30
        assert (distance > 0.14 * 2 / 3 - 0.01).all()
        assert (distance < 0.14 + 0.01).all()
        assert np.ptp(np.arctan2(*(centre - 14.5))) > 2

    def test_occlusion_is_one_box_of_mid_grey(self):
        X = np.zeros((8, 50, 40), np.uint8)
        covered = corrupt(X, "occlusion", 3, random_state=0)
        assert set(np.unique(covered)) == {0, 128}
        for image in covered:
            rows, columns = np.nonzero(image)
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert len(rows) == height * width
            assert 0.36 * 2 / 3 * 50 - 1 < height < 0.36 * 50 + 1
            assert 0.36 * 2 / 3 * 40 - 1 < width < 0.36 * 40 + 1

    def test_pixelation_shifts_nothing(self):
        X = np.zeros((6, 27, 27))
        X[:, 9:18, 9:18] = 1
        coarse = corrupt(X, "pixelation", 1, random_state=0)
        for axis in (1, 2):
            np.testing.assert_allclose(coarse, np.flip(coarse, axis), atol=1e-5)

    def test_pixelation_leaves_few_values(self, scene):
        coarse = corrupt(scene[..., 0], "pixelation", 5, random_state=0)
        for image in coarse:
            assert len(np.unique(image)) < 120
            assert (np.diff(image.astype(int), axis=0) == 0).mean() > 0.4


class TestCorruptArguments:
    def test_unknown_kind_names_the_known(self, scene):
        with pytest.raises(ValueError, match=r"'fog'; known: noise, blur, .*occlusion"):
            corrupt(scene, "fog")

    @pytest.mark.parametrize("severity", [0, 6, 2.5, None])
    def test_severity_is_one_to_five(self, scene, severity):
        with pytest.raises(ValueError, match="'severity' parameter"):
            corrupt(scene, "noise", severity)

    @pytest.mark.parametrize("shape", [(0, 8, 8), (3, 0, 8)])
    def test_empty_is_refused(self, shape):
        with pytest.raises(ValueError, match=r"0 sample|nothing in it"):
            corrupt(np.zeros(shape), "noise")

    def test_tables_nan_and_ambiguous_layouts_are_refused(self):
        with pytest.raises(ValueError, match="image_shape="):
            corrupt(np.zeros((4, 64)), "noise")
        with pytest.raises(ValueError, match="NaN"):
            corrupt(np.full((2, 8, 8), np.nan), "noise")
        with pytest.raises(ValueError, match="ambiguous"):
            corrupt(np.zeros((4, 3, 8, 3)), "noise")

    def test_other_numbers_keep_their_type(self):
        rng = np.random.default_rng(0)
        for X in (rng.integers(-1000, 1000, (4, 9, 9)), rng.random((4, 9, 9)) > 0.5):
            corrupted = corrupt(X, "blur", 5, random_state=0)
            assert corrupted.dtype == X.dtype
            assert not np.array_equal(corrupted, X)

    def test_generator_moves_on_and_the_one_of_torch_is_left_alone(self, scene):
        rng = np.random.RandomState(0)
        first, second = (corrupt(scene, "noise", random_state=rng) for _ in range(2))
        assert not np.array_equal(first, second)
        state = torch.get_rng_state()
        for kind in CORRUPTIONS:
            corrupt(scene[:2], kind, random_state=0)
        assert torch.equal(torch.get_rng_state(), state)


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


class TestPerturbedScores:
    @pytest.fixture
    def problem(self, scene):
        return scene, np.where(np.arange(12) % 3 == 0, "a", "b")

    def test_mean_over_kinds_of_the_scores_on_corrupted_images(self, problem):
        X, y = problem
        classifier, kinds = MeanClassifier(), ("brightness", "shift")
        scores = perturbed_scores(classifier, X, y, kinds=kinds, severity=5, random_state=0)
        by_kind = []
        for kind, seen in zip(kinds, classifier.seen, strict=True):
            corrupted = corrupt(X, kind, 5, random_state=0)
            np.testing.assert_array_equal(seen, corrupted)
            proba = MeanClassifier().predict_proba(corrupted)
            by_kind.append(classification_scores(y, proba, ["a", "b"]))
        assert by_kind[0] != by_kind[1]
        assert set(scores) == {"roc_auc", "balanced_accuracy"}
        for name, score in scores.items():
            assert score == pytest.approx((by_kind[0][name] + by_kind[1][name]) / 2)

    def test_all_kinds_by_default_and_one_by_name(self, problem):
        X, y = problem
        classifier = MeanClassifier()
        perturbed_scores(classifier, X, y, random_state=0)
        assert len(classifier.seen) == len(CORRUPTIONS)
        one = perturbed_scores(classifier, X, y, kinds="gamma", random_state=0)
        assert one == perturbed_scores(classifier, X, y, kinds=["gamma"], random_state=0)

    @pytest.mark.parametrize("layout", ["chw", "hwc"])
    def test_flat_images_are_unfolded_as_in_fit(self, scene, layout):
        X = np.moveaxis(scene, -1, 1) if layout == "chw" else scene
        flat = X.reshape(12, -1)
        format_ = ImageFormat.infer(flat, X.shape[1:])
        classifier = MeanClassifier(format_=format_, image_shape_=format_.image_shape)
        y = np.tile(["a", "b"], 6)
        perturbed_scores(classifier, flat, y, kinds=["rotation"], random_state=0)
        expected = corrupt(X, "rotation", random_state=0).reshape(12, -1)
        np.testing.assert_array_equal(classifier.seen[0], expected)

    def test_images_need_no_shape_and_digits_get_harder(self):
        from sklearn.neighbors import KNeighborsClassifier

        X, y, _ = load_digits_images()
        flat = X.reshape(len(X), -1)
        classifier = KNeighborsClassifier().fit(flat[:600], y[:600])
        classifier.image_shape_ = (1, 8, 8)
        rows = slice(600, 800)
        clean = classification_scores(
            y[rows], classifier.predict_proba(flat[rows]), classifier.classes_
        )
        mild, severe = (
            perturbed_scores(classifier, flat[rows], y[rows], severity=s, random_state=0)
            for s in (1, 5)
        )
        for name in clean:
            assert clean[name] > mild[name] > severe[name]

    def test_mistakes_are_refused_before_predicting(self, problem):
        X, y = problem
        classifier = MeanClassifier()
        with pytest.raises(ValueError, match="'fog'; known"):
            perturbed_scores(classifier, X, y, kinds=["noise", "fog"])
        with pytest.raises(ValueError, match="kinds is empty"):
            perturbed_scores(classifier, X, y, kinds=())
        with pytest.raises(ValueError, match="image_shape="):
            perturbed_scores(SimpleNamespace(), X.reshape(12, -1), y)
        assert classifier.seen == []


def test_import_is_light():
    code = """
import sys, tsynd_sk.evaluation, tsynd_sk.inspection
assert not {"matplotlib", "torchvision"} & set(sys.modules), set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
