import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from helpers.image_cases import cases, synthesizer_of, y
from helpers.saved_files import TABLE, dense_net, digits, synthesizer
from helpers.tiny_nets import IMAGES, LABELS
from helpers.tiny_nets import y as table_labels
from sklearn.metrics import accuracy_score

from tsynd_sk.autoencoders._components import DenseAutoencoder
from tsynd_sk.autoencoders._net import AutoencoderNet
from tsynd_sk.inspection._uncertainty_display import UncertaintyDisplay


def display_of(**params):
    arguments = {
        "uncertainty": {"train": [0.1, 0.2], "test": np.linspace(0.5, 0.05, 10)},
        "correct": {"test": [False] * 4 + [True] * 6},
    }
    return UncertaintyDisplay(**{**arguments, **params})


def curve(ax):
    """Accuracy by number of rows rejected, of the first line."""
    share, accuracy = ax.lines[0].get_data()
    n = round(1 / share[1]) if len(share) > 1 else 1
    return dict(zip((share * n).round().astype(int).tolist(), accuracy.tolist(), strict=True))


class TestFromEstimator:
    def test_sets_are_measured_as_the_estimator_does(self, case):
        estimator = case.fitted
        display = UncertaintyDisplay.from_estimator(
            estimator, {"all": case.X, "few": case.X[:5]}, {"few": y[:5]}, n_synthetic=7
        )
        assert list(display.uncertainty) == ["all", "few", "synthetic"]
        np.testing.assert_array_equal(display.uncertainty["all"], estimator.uncertainty(case.X))
        np.testing.assert_array_equal(display.uncertainty["few"], estimator.uncertainty(case.X[:5]))
        assert display.uncertainty["synthetic"].shape == (7,)
        assert list(display.correct) == ["few"]
        assert not plt.get_fignums()

    def test_predictions_are_those_of_the_classifier(self):
        case = cases("AugmentedClassifier", "HWC")
        display = UncertaintyDisplay.from_estimator(case.fitted, case.X, y)
        np.testing.assert_array_equal(display.correct["images"], case.fitted.predict(case.X) == y)
        given = synthesizer_of(case.fitted)
        same = UncertaintyDisplay.from_estimator(given, case.X, y)
        np.testing.assert_array_equal(same.correct["images"], display.correct["images"])

    def test_several_classifiers_predict_by_their_mean(self, estimators):
        ensemble = estimators["ensemble"]
        display = UncertaintyDisplay.from_estimator(ensemble, IMAGES[:60], LABELS[:60])
        nets = ensemble.classifier_
        proba = sum(net.predict_proba(ensemble.format_.to_tensor(IMAGES[:60])) for net in nets)
        expected = ensemble.classes_[proba.argmax(axis=1)] == LABELS[:60]
        np.testing.assert_array_equal(display.correct["images"], expected)
        assert 0 < expected.sum() < 60

    def test_labels_may_be_words(self, images):
        X, labels = digits()
        display = UncertaintyDisplay.from_estimator(images, X, labels.tolist())
        assert labels.dtype.kind == "U"
        assert display.correct["images"].mean() == accuracy_score(labels, images.predict(X)) > 0.3

    def test_synthetic_images_are_the_sample_measured_by_the_same_members(self):
        case = cases("TargetedSynthesizer", "CHW")
        display = UncertaintyDisplay.from_estimator(
            case.fitted, case.X, n_synthetic=9, random_state=4
        )
        X_new, _ = case.fitted.sample(9, random_state=4)
        np.testing.assert_array_equal(
            display.uncertainty["synthetic"], case.fitted.uncertainty(X_new)
        )
        assert display.correct is None

    def test_tables_of_pandas_work_without_a_warning(self):
        frame = pd.DataFrame(TABLE[:80], columns=[f"x{i}" for i in range(TABLE.shape[1])])
        autoencoder = AutoencoderNet(DenseAutoencoder, max_epochs=1, epoch_size=64)
        given = synthesizer(
            classifier=dense_net(max_epochs=2), autoencoder=autoencoder, random_state=0
        ).fit(frame, table_labels)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            display = UncertaintyDisplay.from_estimator(given, frame, table_labels, n_synthetic=5)
        assert {name: len(values) for name, values in display.uncertainty.items()} == {
            "images": 80,
            "synthetic": 5,
        }

    @pytest.mark.parametrize(
        ("params", "error", "message"),
        [
            ({"estimator": "net"}, TypeError, "expected a fitted Targeted.* got a str"),
            ({"X": np.zeros((3, 5, 5))}, ValueError, r"rows of shape \(5, 5\)"),
            ({"y": y[:3]}, ValueError, "inconsistent numbers of samples"),
            ({"y": [9] * len(y)}, ValueError, r"not seen in fit: \[9\]"),
            ({"X": {"test": y}, "y": y}, TypeError, "so y must be a dict .* got a ndarray"),
            (
                {"X": {"a": y}, "y": {"b": y}},
                ValueError,
                "y must have the names of X, 'a'; got 'b'",
            ),
        ],
    )
    def test_wrong_inputs_are_named(self, params, error, message):
        case = cases("TargetedSynthesizer", "HW")
        with pytest.raises(error, match=message):
            UncertaintyDisplay.from_estimator(**{"estimator": case.fitted, "X": case.X, **params})


class TestPlot:
    def test_share_of_images_rises_from_nothing_to_one(self):
        display = display_of()
        assert display.plot() is display
        train, test = display.axes_[0].lines
        assert train.get_ydata().tolist() == [0, 0.5, 1]
        assert train.get_xdata()[1:].tolist() == [0.1, 0.2]
        np.testing.assert_allclose(test.get_ydata(), np.linspace(0, 1, 11))
        texts = [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
        assert texts == ["train (n = 2)", "test (n = 10)"]
        assert display.axes_[0].get_xlabel() == "mutual information (nats)"

    def test_most_uncertain_images_are_rejected_first(self):
        display = display_of().plot()
        accuracy = curve(display.axes_[1])
        # The four most uncertain ones are wrong, and of fewer than five nothing is told.
        assert accuracy == pytest.approx({0: 0.6, 1: 6 / 9, 2: 6 / 8, 3: 6 / 7, 4: 1, 5: 1})
        np.testing.assert_allclose(display.axes_[1].lines[1].get_ydata(), 0.6)

    def test_images_of_equal_uncertainty_are_rejected_at_random(self):
        uncertainty = [0.5] * 10 + [0.1] * 10
        correct = [False] * 5 + [True] * 15
        for order in (slice(None), slice(None, None, -1)):
            ax = (
                display_of(uncertainty={"a": uncertainty[order]}, correct={"a": correct[order]})
                .plot()
                .axes_[1]
            )
            accuracy = curve(ax)
            assert accuracy[0] == pytest.approx(0.75)
            assert accuracy[4] == pytest.approx((3 + 10) / 16)
            assert accuracy[10] == pytest.approx(1)

    def test_wide_ranges_are_logarithmic_and_zeros_are_drawn(self):
        wide = display_of(uncertainty={"a": [0.0, 0.001, 0.5]}, correct=None).plot()
        assert wide.axes_[0].get_xscale() == "log"
        assert wide.axes_[0].lines[0].get_xdata()[1] == 1e-6
        narrow = display_of(uncertainty={"a": [0.2, 0.3, 0.5]}, correct=None).plot()
        assert narrow.axes_[0].get_xscale() == "linear"
