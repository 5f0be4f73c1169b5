"""What a comparison finds out before the first training: divisions of the images, and refusals."""

import warnings

import numpy as np
import pytest
import torch
from helpers.tiny_nets import net, own_net
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, PredefinedSplit

from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.comparison import Arm, compare
from tsynd_sk.synthesis import AugmentedClassifier


def tiny():
    return net(max_epochs=2)


def plan_of(untrained, data, **params):
    with pytest.raises(ValueError, match="stopped before training"):
        compare(tiny(), *data, **{"arms": ["plain"], **params})
    return untrained.pop()


class TestSplits:
    def test_hold_outs_are_five_quarters(self, untrained, data):
        plan = plan_of(untrained, data)
        assert len(plan.runs) == 5
        assert [run.seed for run in plan.runs] == list(range(5))
        assert len({run.test.tobytes() for run in plan.runs}) == 5
        for run in plan.runs:
            assert len(run.test) == 30
            assert not np.intersect1d(run.train, run.test).size

    def test_groups_and_equal_images_stay_on_one_side(self, untrained, data):
        X, y = data[0].copy(), data[1]
        groups = np.arange(120) // 4
        X[5] = X[70]
        for run in plan_of(untrained, (X, y), groups=groups).runs:
            assert not np.intersect1d(groups[run.train], groups[run.test]).size
            assert (5 in run.test) == (70 in run.test)

    def test_a_predefined_split_is_trained_on_five_times(self, untrained, data):
        fold = np.where(np.arange(120) < 80, -1, 0)
        plan = plan_of(untrained, data, cv=PredefinedSplit(fold))
        assert len(plan.runs) == 5
        for run in plan.runs:
            np.testing.assert_array_equal(run.test, np.arange(80, 120))
            np.testing.assert_array_equal(run.train, np.arange(80))

    def test_pairs_are_taken_as_they_are(self, untrained, data):
        pairs = [(np.arange(60), np.arange(60, 90)), (np.arange(60, 120), np.arange(30))]
        plan = plan_of(untrained, data, cv=pairs, n_repeats=2)
        assert [run.test[0] for run in plan.runs] == [60, 0, 60, 0]
        assert len(plan_of(untrained, data, cv=iter(pairs)).runs) == 2

    def test_a_number_of_folds(self, untrained, data):
        runs = plan_of(untrained, data, cv=3).runs
        assert sorted(np.concatenate([run.test for run in runs])) == list(range(120))

    def test_folds_keep_groups_together(self, untrained, data):
        groups = np.repeat(np.arange(30), 4)
        for cv in (3, GroupKFold(3)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                runs = plan_of(untrained, data, cv=cv, groups=groups).runs
            for run in runs:
                assert not np.intersect1d(groups[run.train], groups[run.test]).size

    def test_groups_on_both_sides_are_warned_of(self, untrained, data):
        pairs = [(np.arange(60), np.arange(60, 90))]
        with pytest.warns(UserWarning, match="images of 1 groups into both training and test"):
            plan_of(untrained, data, cv=pairs, groups=np.arange(120) // 50)

    def test_few_labels_are_drawn_anew_for_each_run(self, untrained, data):
        runs = plan_of(untrained, data, n_train=20, n_repeats=2).runs
        assert [len(run.train) for run in runs] == [20, 20]
        assert np.bincount(data[1][runs[0].train]).tolist() == [5, 5, 5, 5]
        pairs = [(np.arange(60), np.arange(60, 120))] * 2
        one, two = plan_of(untrained, data, n_train=20, cv=pairs).runs
        assert set(one.train) != set(two.train)

    def test_steps_follow_from_the_images_that_are_trained_on(self, untrained, data):
        with pytest.raises(ValueError, match="stopped before training"):
            compare(None, *data, arms=["plain"], n_train=32)
        [plan] = untrained
        assert type(plan.net) is NetClassifier
        assert plan.options(32)["max_epochs"] == NetClassifier().n_epochs(32)


class TestRefusals:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"arms": ["plain", "standarrd"]}, "did you mean 'standard'"),
            ({"scoring": "accuracy"}, "scoring must be roc_auc, balanced_accuracy or nll"),
            ({"n_repeats": 0}, "n_repeats must be an int of at least 1"),
            ({"n_train": 3}, "n_train must be from 4, one image of each class, to 90"),
            ({"n_train": 91}, "to 90, all training images; got 91"),
            ({"eps": [2]}, r"eps must be above 0 and at most 1.* such as 2/255; got \(2\.0,"),
            ({"attacks": ["magic"]}, "Unknown attack 'magic'; known: fgsm"),
            ({"y": np.zeros(120)}, "one class"),
            ({"y": np.zeros(119)}, "inconsistent numbers of samples"),
        ],
    )
    def test_come_before_the_first_training(self, data, untrained, params, message):
        given = {"arms": ["plain"], "X": data[0], "y": data[1], **params}
        with pytest.raises(ValueError, match=message):
            compare(tiny(), **given)
        assert not untrained

    def test_errors_of_own_augmentations_come_before_the_first_training(self, data, untrained):
        def cropped(image):
            return image[:, :4]

        def broken(image):
            raise KeyError("albumentation")

        for function, message in (
            (cropped, "must return a Tensor of the dtype and shape"),
            (broken, "KeyErr"),
        ):
            with pytest.raises(ValueError, match=message):
                compare(tiny(), *data, arms={"plain": Arm(), "own": Arm(function)})
        assert not untrained

    @pytest.mark.parametrize(
        ("package", "params", "extra"),
        [
            ("imblearn", {"arms": ["plain", "smote"]}, "benchmark"),
            ("art", {"eps": [2 / 255]}, "robustness"),
        ],
    )
    def test_missing_packages_are_named(self, monkeypatch, data, untrained, package, params, extra):
        monkeypatch.setattr(
            "tsynd_sk.comparison._compare.find_spec", lambda name: None if name == package else name
        )
        with pytest.raises(ImportError, match=rf'pip install "tsynd_sk\[{extra}\]"'):
            compare(tiny(), *data, **params)
        assert not untrained

    def test_a_class_that_only_the_test_part_has_is_refused(self, data, untrained):
        y = np.array(list("abcd"))[data[1]]
        pairs = [(np.flatnonzero(y != "c")[20:], np.arange(20))]
        with pytest.raises(ValueError, match=r"test images but no training images of \['c'\]"):
            compare(tiny(), data[0], y, cv=pairs)

    @pytest.mark.parametrize(
        ("estimator", "error", "message"),
        [
            ("resnet18", TypeError, "estimator must be a skorch net.*got 'resnet18'"),
            (AugmentedClassifier(), TypeError, "estimator must be a skorch net"),
            (own_net(module__n_out=3), ValueError, r"\(4, 3\) for 4 rows; expected \(4, 4\)"),
        ],
    )
    def test_others_are_refused_before_training(self, data, untrained, estimator, error, message):
        with pytest.raises(error, match=message):
            compare(estimator, *data)
        assert not untrained


def test_a_frozen_estimator_is_refused(data):
    with pytest.raises(TypeError, match="estimator is frozen, but compare trains it"):
        compare(FrozenEstimator(tiny().fit(data[0][:, None], data[1])), *data)


def test_fewer_images_to_corrupt_than_classes_are_refused(untrained, data):
    with pytest.raises(ValueError, match=r"n_attacked must be at least 4, .*; got 1"):
        compare(tiny(), *data, arms=["plain"], n_attacked=1)
    assert not untrained


def test_what_is_no_array_of_images_is_named(data):
    with pytest.raises(TypeError, match="names of files, such as 'scans'"):
        compare(tiny(), "scans", data[1])


def test_integers_from_0_to_255_are_pixels_in_all_arms(untrained, data):
    X = np.rint(200 * data[0]).astype(np.int64)
    with pytest.warns(UserWarning, match="divides by 255"):
        plan = plan_of(untrained, (X, data[1]))
    options = plan.options(60)
    assert (options["low"], options["high"]) == (0.0, 1.0)
    plan = plan_of(untrained, (600 * data[0] - 1000, data[1]))
    assert plan.options(60)["low"] == pytest.approx(-1000)


def test_own_augmentations_are_tried_without_a_trace(untrained, data):
    arms = {"plain": Arm(), "mine": Arm(augmentation=lambda x: x + 0.1 * torch.randn_like(x))}
    before = torch.get_rng_state()
    plan_of(untrained, data, arms=arms)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"X": np.zeros((120, 64))}, "X has shape .120, 64., that of a table"),
        ({"y": np.where(np.arange(120) < 5, np.nan, 1.0)}, "Input y contains NaN"),
        ({"groups": [1, 2]}, "inconsistent numbers of samples"),
        ({"random_state": "a"}, "cannot be used to seed"),
    ],
)
def test_wrong_data_are_named(data, params, message):
    X, y = params.pop("X", data[0]), params.pop("y", data[1])
    with pytest.raises(ValueError, match=message):
        compare(tiny(), X, y, arms=["plain"], **params)


def test_seeds_may_be_drawn(untrained, data):
    seeds = {plan_of(untrained, data, random_state=None).runs[0].seed for _ in range(3)}
    assert len(seeds) == 3
    rng = np.random.RandomState(3)
    assert plan_of(untrained, data, random_state=rng, eps=0.1, attacks="fgsm").scoring.eps == (0.1,)
