import numpy as np
import pytest
import torch
from helpers.tiny_nets import (
    Dense,
    augmented,
    dense_net,
    dense_synthesizer,
    net,
    own_net,
    synthesizer,
)
from helpers.two_digits import CODES, COLOUR, FIRST, GREY, fitted, y
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetBinaryClassifier
from torch import nn

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.inspection._classifier_displays import ComparedClassifiers


def compare(estimators, X):
    if not isinstance(estimators, dict):
        estimators = {"a": estimators}
    return ComparedClassifiers(estimators, X, "AttributionDisplay")


class Convolution(nn.Sequential):
    """For images with an axis of channels."""

    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


class WithoutChannels(Convolution):
    """For images without one."""

    def forward(self, x):
        return super().forward(x[:, None])


class TestBareNets:
    @pytest.mark.parametrize("layout", ["hwc", "chw", "float"])
    def test_colour_images_come_in_any_layout(self, plain, layout):
        layouts = {"hwc": COLOUR, "chw": np.moveaxis(COLOUR, -1, 1), "float": COLOUR / 255}
        compared = compare(plain, layouts[layout][:5])
        expected = COLOUR[:5] / 255 if layout == "float" else COLOUR[:5]
        np.testing.assert_allclose(compared.images, expected, rtol=1e-6)
        assert compared.by_name["a"].image_format.image_shape == (3, 8, 8)
        found = np.exp(compared.by_name["a"].log_proba())
        np.testing.assert_allclose(found, plain.predict_proba(FIRST[:5]), atol=1e-5)

    @pytest.mark.parametrize("n", [1, 3])
    @pytest.mark.parametrize("module", [Convolution, WithoutChannels])
    def test_grey_images_have_channels_if_the_net_wants_them(self, module, n):
        given = own_net(module=module).initialize()
        compared = compare(given, GREY[:n])
        assert compared.images.shape == (n, 8, 8)
        x = GREY[:n, None] if module is Convolution else GREY[:n]
        expected = given.predict_proba(x)
        np.testing.assert_allclose(np.exp(compared.by_name["a"].log_proba()), expected, atol=1e-5)

    @pytest.mark.parametrize("module", [Dense, nn.Linear])
    def test_flat_images_are_unfolded_for_pictures(self, module):
        shape = {} if module is Dense else {"module__in_features": 64, "module__out_features": 2}
        given = own_net(module=module, **shape).initialize()
        given.image_shape_ = (1, 8, 8)
        flat = GREY[:4].reshape(4, 64)
        compared = compare(given, flat)
        np.testing.assert_array_equal(compared.images, GREY[:4])
        found = np.exp(compared.by_name["a"].log_proba())
        np.testing.assert_allclose(found, given.predict_proba(flat), atol=1e-5)

    def test_single_logits_are_probabilities_of_two_classes(self):
        binary = own_net(NeuralNetBinaryClassifier, module__n_out=1).initialize()
        found = np.exp(compare(binary, GREY[:6]).by_name["a"].log_proba())
        np.testing.assert_allclose(found, binary.predict_proba(GREY[:6]), atol=1e-5)

    def test_labels_are_those_of_an_augmented_classifier_beside_it_or_indices(
        self, plain, classifier
    ):
        labels, codes = compare({"a": plain, "b": classifier}, COLOUR[:5]).encode(y[:5].tolist())
        assert labels.tolist() == y[:5].tolist()
        assert codes["a"].tolist() == codes["b"].tolist() == CODES[:5].tolist()
        alone = compare(plain, COLOUR[:5])
        assert alone.encode(CODES[:5])[1]["a"].tolist() == CODES[:5].tolist()
        with pytest.raises(ValueError, match=r"not seen in fit: .*some of \[0, 1\]"):
            alone.encode(y[:5])


class TestAugmentedClassifiers:
    def test_flat_images_are_unfolded_for_pictures(self):
        flat = GREY.reshape(60, 64)
        given = augmented(net(max_epochs=1), synthesizer(max_iter=1, image_shape=(8, 8)))
        given = fitted(given, flat, y)
        compared = compare(given, flat[:3])
        np.testing.assert_allclose(compared.images, GREY[:3], rtol=1e-6)
        found = np.exp(compared.by_name["a"].log_proba())
        np.testing.assert_allclose(found, given.predict_proba(flat[:3]), atol=1e-5)

    def test_range_is_the_widest_of_all_and_changes_are_displayed_on_its_scale(self):
        def of(X):
            given = augmented(net(max_epochs=1), synthetic_ratio=0)
            return fitted(given, X.astype(np.float64), y)

        nets = {"wide": of(3 * GREY - 1), "narrow": of(GREY)}
        compared = compare(nets, GREY[:2])
        assert compared.limits == compared.displayed_limits == pytest.approx((-1, 2))
        np.testing.assert_allclose(
            compared.displayed(compared.by_name["wide"].x + 0.5), GREY[:2] + 0.5, atol=1e-6
        )


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "X", "error", "match"),
        [
            (None, COLOUR[:3, :4], ValueError, r"rows of shape \(4, 8, 3\)"),
            (None, COLOUR[:40], ValueError, r"X has 40 images.*at most 32, for instance X\[:8\]"),
            (net(), COLOUR[:3], NotFittedError, "NetClassifier"),
            (augmented(), COLOUR[:3], NotFittedError, "AugmentedClassifier"),
            (
                LogisticRegression(),
                COLOUR[:3],
                TypeError,
                r"estimator 'a' must be .* got a LogisticRegression.*best_estimator_",
            ),
            (TargetedSynthesizer(), COLOUR[:3], TypeError, "Give its classifier_"),
        ],
    )
    def test_wrong_inputs_are_named(self, classifier, given, X, error, match):
        with pytest.raises(error, match=match):
            compare(classifier if given is None else given, X)

    def test_tables_are_refused_with_the_way_out(self):
        table = GREY.reshape(60, 64)
        given = augmented(dense_net(max_epochs=1), dense_synthesizer(), synthetic_ratio=0)
        with pytest.raises(ValueError, match=r"'a'.* was fitted on a table.*image_shape"):
            compare(fitted(given, table, y), table[:3])
        bare = own_net().initialize()
        with pytest.raises(ValueError, match=r"X has shape \(3, 64\).*attribute image_shape_"):
            compare(bare, table[:3])

    def test_nets_that_learnt_nothing_are_refused(self):
        broken = own_net().initialize()
        with torch.no_grad():
            next(broken.module_.parameters()).fill_(np.nan)
        with pytest.raises(ValueError, match="predicts NaN"):
            compare(broken, GREY[:2])
