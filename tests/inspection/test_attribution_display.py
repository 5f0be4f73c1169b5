import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers.tiny_nets import own_net
from helpers.two_digits import CODES, COLOUR, GREY, fitted, y
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from tsynd_sk.inspection._classifier_displays import AttributionDisplay
from tsynd_sk.inspection._explanations import eigen_grad_cam


class Spatial(nn.Module):
    """Convolutional, for images with or without an axis of channels; `last` ends it."""

    def __init__(self, n_out=2, last=None, channels=True):
        super().__init__()
        self.channels = channels
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, n_out))
        self.last = last or nn.Identity()

    def forward(self, x):
        return self.last(self.head(self.features(x if self.channels else x[:, None])))


def display_of(images, n_classifiers=2, **options):
    rng = np.random.default_rng(0)
    maps = rng.random((n_classifiers, *images.shape[:3]))
    names = [f"net {k}" for k in range(n_classifiers)]
    return AttributionDisplay(images, maps, **{"names": names, **options})


def drawn(ax):
    """What is drawn, from the image at the bottom to the map on top of it."""
    return [np.asarray(image.get_array()) for image in ax.get_images()]


class TestFromEstimators:
    def test_plain_and_augmented_are_mapped_over_the_same_images(self, plain, classifier):
        nets = {"plain": plain, "augmented": classifier}
        display = AttributionDisplay.from_estimator(nets, COLOUR[:5], y[:5])
        assert display.names == ["plain", "augmented"]
        np.testing.assert_array_equal(display.images, COLOUR[:5])
        assert display.labels.tolist() == y[:5].tolist()
        assert display.value_range == (0, 255)
        x = torch.from_numpy(np.moveaxis(COLOUR[:5], -1, 1).astype(np.float32) / 255)
        for given, maps, proba in zip(
            (plain, classifier.estimator_), display.maps, display.proba, strict=True
        ):
            expected = eigen_grad_cam(given.module_, x, CODES[:5]).numpy()
            np.testing.assert_allclose(maps, expected, atol=1e-5)
            own = given.predict_proba(x)[np.arange(5), CODES[:5]]
            np.testing.assert_allclose(proba, own, atol=1e-5)
        assert not plt.get_fignums()

    def test_without_labels_each_is_asked_about_its_own_prediction(self, plain, classifier):
        nets = {"plain": plain, "augmented": classifier}
        display = AttributionDisplay.from_estimator(nets, COLOUR[:9])
        assert display.labels.shape == (2, 9)
        assert display.labels[1].tolist() == classifier.predict(COLOUR[:9]).tolist()
        assert (display.proba >= 0.5).all()
        given = AttributionDisplay.from_estimator(nets, COLOUR[:9], display.labels[1])
        np.testing.assert_allclose(given.maps[1], display.maps[1], atol=1e-5)

    def test_a_single_classifier_is_named_by_its_class(self, classifier):
        display = AttributionDisplay.from_estimator(classifier, COLOUR[:2], y[:2])
        frozen = AttributionDisplay.from_estimator(FrozenEstimator(classifier), COLOUR[:2], y[:2])
        assert display.names == frozen.names == ["AugmentedClassifier"]
        np.testing.assert_array_equal(frozen.maps, display.maps)

    @pytest.mark.parametrize("kind", ["softmax", "binary", "sigmoid"])
    def test_probabilities_and_single_logits_give_maps_of_logits(self, kind):
        last = {"softmax": nn.Softmax(-1), "sigmoid": nn.Sequential(nn.Sigmoid(), nn.Flatten(0))}
        cls = NeuralNetClassifier if kind == "softmax" else NeuralNetBinaryClassifier
        criterion = {"softmax": nn.NLLLoss, "binary": nn.BCEWithLogitsLoss, "sigmoid": nn.BCELoss}
        classifier = own_net(
            cls,
            Spatial,
            module__n_out=2 if kind == "softmax" else 1,
            module__last=last.get(kind),
            criterion=criterion[kind],
            max_epochs=2,
        )
        target = CODES if kind == "softmax" else CODES.astype(np.float32)
        fitted(classifier, GREY[:, None].astype(np.float32), target)
        display = AttributionDisplay.from_estimator(classifier, GREY[:4], CODES[:4])
        module = classifier.module_
        logits = nn.Sequential(module.features, module.head)
        x = torch.from_numpy(GREY[:4, None].astype(np.float32))
        expected = eigen_grad_cam(logits, x, CODES[:4], layer="0")
        if kind == "softmax":
            # The gradient of log p is that of the difference of the two logits, halved by p.
            def difference(output):
                return torch.stack([output[:, 0] - output[:, 1], output[:, 1] - output[:, 0]], 1)

            expected = eigen_grad_cam(logits, x, CODES[:4], layer="0", to_scores=difference)
        np.testing.assert_allclose(display.maps[0], expected, atol=1e-3)

    def test_layer_is_one_for_all(self, plain, classifier):
        nets = {"plain": plain, "augmented": classifier}

        def maps(layer):
            return AttributionDisplay.from_estimator(nets, COLOUR[:4], y[:4], layer=layer).maps

        default, early = maps(None), maps("features.2")
        assert (np.abs(default - early).max(axis=(1, 2, 3)) > 0.05).all()

    def test_classifiers_are_left_as_they_are(self, plain):
        plain.module_.train()
        before = [(p.detach().clone(), p.grad.clone()) for p in plain.module_.parameters()]
        with torch.inference_mode():
            AttributionDisplay.from_estimator(plain, COLOUR[:3], CODES[:3])
        assert plain.module_.training
        for parameter, (value, grad) in zip(plain.module_.parameters(), before, strict=True):
            assert torch.equal(parameter, value)
            assert torch.equal(parameter.grad, grad)

    def test_layers_that_are_not_there_are_named(self, plain):
        nets = {"plain": plain}
        with pytest.raises(
            ValueError, match=r"layer must be one of ConvNet .*; got 'head'"
        ) as caught:
            AttributionDisplay.from_estimator(nets, COLOUR[:3], layer="head")
        assert caught.value.__notes__ == ["This is of the classifier 'plain'."]


class TestPlot:
    def test_one_column_an_image_and_one_row_a_classifier(self):
        display = display_of(GREY[:4], labels=y[:4], proba=np.full((2, 4), 0.75))
        assert display.plot() is display
        assert display.axes_.shape == (3, 4)
        assert display.figure_.axes[-1] is display.colorbar_.ax
        assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == ["image", "net 0", "net 1"]
        assert [ax.get_title() for ax in display.axes_[0]] == y[:4].tolist()
        assert {ax.get_xlabel() for ax in display.axes_[1:].flat} == {"p = 0.75"}
        assert display.colorbar_.ax.get_ylabel() == "attribution,\nshare of a\nmap's maximum"
        assert (display.colorbar_.vmin, display.colorbar_.vmax) == (0, 1)

    def test_maps_with_classes_of_their_own_say_so(self):
        labels = np.array([["nought", "one"], ["one", "one"]])
        axes = display_of(GREY[:2], labels=labels, proba=[[0.6, 0.7], [0.8, 0.9]]).plot().axes_
        assert [ax.get_title() for ax in axes[0]] == ["", ""]
        assert axes[1, 0].get_xlabel() == "nought\np = 0.60"
        assert axes[2, 0].get_xlabel() == "one\np = 0.80"

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_images_are_in_colour_above_and_grey_below_maps(self, dtype):
        images = COLOUR[:3] if dtype == np.uint8 else COLOUR[:3] / np.float32(255)
        display = display_of(images, value_range=(0, 255 if dtype == np.uint8 else 1)).plot()
        for k, ax in enumerate(display.axes_[0]):
            np.testing.assert_allclose(drawn(ax)[0], COLOUR[k] / 255, atol=1e-6)
        for m, row in enumerate(display.axes_[1:]):
            for k, ax in enumerate(row):
                below, above = drawn(ax)
                np.testing.assert_allclose(above, display.maps[m, k])
                grey = COLOUR[k] @ [0.299, 0.587, 0.114] / 255
                np.testing.assert_allclose(below, (grey + 0.5) / 1.5, atol=1e-6)
                assert [image.get_cmap().name for image in ax.get_images()] == ["gray", "viridis"]
                assert ax.get_images()[1].get_alpha() == 0.55
