"""What an autoencoder loses of a source comes back in its synthetic images."""

import numpy as np
import pytest
import torch
from helpers.small import (
    correct_sources,
    digits,
    distinct,
    mean_prediction,
    members_used,
    textbook_information,
)
from sklearn.frozen import FrozenEstimator
from torch import nn

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet, PatchAutoencoder
from tsynd_sk.synthesis._codec import Codec

KINDS = ("untrained", "constant", "blurred", "saturated", "fickle")


class Odd(nn.Module):
    """Autoencoder of 2 x 2 means, which has no texture, with faults of several kinds."""

    def __init__(self, kind="blurred"):
        super().__init__()
        self.kind = kind
        self.unused = nn.Parameter(torch.zeros(1))

    def encode(self, x):
        z = nn.functional.avg_pool2d(x, 2)
        return torch.cat([z, 0 * z], 1) if self.kind == "idle" else z

    def decode(self, z):
        x = nn.functional.interpolate(z, scale_factor=2)
        if self.kind == "constant":
            return 0 * x
        if self.kind == "saturated":
            return 7 + 5 * x
        if self.kind == "idle":
            return x[:, :1]
        # As where torch has another kernel without gradients.
        return x * 1.0001 if self.kind == "fickle" and not torch.is_grad_enabled() else x

    def forward(self, x):
        return self.decode(self.encode(x))


@pytest.fixture
def lossless(digits_synthesizer):
    """Make fitted synthesizers around a net that has learnt digits, and an odd autoencoder."""

    def make(kind="blurred", X=None, **params):
        torch.manual_seed(0)
        module = PatchAutoencoder((1, 8, 8)) if kind == "untrained" else Odd(kind)
        net = AutoencoderNet(module, max_epochs=1).initialize()
        classifier = FrozenEstimator(digits_synthesizer.classifier_)
        given = {"n_members": 8, "max_iter": 6, "label_policy": "keep", "random_state": 0}
        params = {**given, **params}
        synthesizer = TargetedSynthesizer(classifier, FrozenEstimator(net), **params)
        return synthesizer.fit(images_of("float32") if X is None else X, digits()[1])

    return make


def images_of(dtype):
    """Digits in dark and light grey: next to 0, floats would show a displacement of 1e-12."""
    X = 0.3 + 0.4 * digits()[0]
    X[0, 0, :2] = 0, 1
    return np.round(255 * X).astype(np.uint8) if dtype == "uint8" else X.astype(dtype)


def texture(X):
    """What is left of images without the means of 2 x 2 pixels."""
    means = X.reshape(len(X), 4, 2, 4, 2).mean((2, 4), keepdims=True)
    return X - np.broadcast_to(means, (len(X), 4, 2, 4, 2)).reshape(X.shape)


class TestWithoutDisplacement:
    @pytest.mark.parametrize("policy", ["keep", "constrain"])
    @pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_images_are_their_sources_to_the_bit(self, lossless, kind, dtype, policy):
        X = images_of(dtype)
        synthesizer = lossless(kind, X, label_policy=policy, radius=1e-12)
        for objective in ("mutual_info", "random", "duplicate"):
            synthesizer.set_params(objective=objective)
            X_new, _, info = synthesizer.sample(40, return_info=True)
            np.testing.assert_array_equal(X_new, X[info.source_index])
            np.testing.assert_allclose(info.uncertainty, info.uncertainty_source, atol=2e-6)

    @pytest.mark.parametrize("keep_detail", [True, False])
    def test_reconstructions_and_their_error_stay_literal(self, lossless, keep_detail):
        X = images_of("float32")
        synthesizer = lossless(keep_detail=keep_detail)
        literal = Odd()(torch.from_numpy(X[:, None]))[:, 0].numpy()
        np.testing.assert_allclose(synthesizer.reconstruct(X), literal, atol=1e-6)
        _, _, info = synthesizer.sample(20, return_info=True)
        error = np.sqrt(np.square(literal - X).mean((1, 2)))[info.source_index]
        np.testing.assert_allclose(info.reconstruction_error, error, rtol=1e-4)

    def test_columns_of_tables_keep_their_range(self, table):
        X = np.array(table.engine_.images)
        wide = TargetedSynthesizer(
            FrozenEstimator(table.classifier_), FrozenEstimator(table.autoencoder_), radius=5
        ).fit(X, table.classes_[table.engine_.codes])
        X_new = wide.sample(len(X), random_state=0)[0]
        assert (X_new >= X.min(0)).all()
        assert (X_new <= X.max(0)).all()
        assert (X_new == X.max(0)).any()


class TestDisplaced:
    def test_texture_that_the_decoder_loses_is_kept(self, lossless):
        X = images_of("float32")
        X_new, _, info = lossless(X=X, radius=0.25).sample(100, return_info=True)
        source = X[info.source_index]
        assert np.abs(X_new - source).mean() > 0.01
        np.testing.assert_allclose(texture(X_new), texture(source), atol=1e-6)
        literal = lossless(X=X, radius=0.25, keep_detail=False)
        np.testing.assert_allclose(texture(literal.sample(100)[0]), 0, atol=1e-6)

    @pytest.mark.parametrize("kind", ["untrained", "blurred", "saturated"])
    def test_uncertainty_rises_for_nine_images_in_ten(self, lossless, kind):
        X, _ = digits()
        info = lossless(kind, X, radius=0.25).sample(160, return_info=True)[2]
        assert (info.uncertainty > info.uncertainty_source).mean() >= 0.9

    @pytest.mark.parametrize("objective", ["mutual_info", "random"])
    def test_coordinates_that_never_vary_do_no_harm(self, lossless, objective):
        synthesizer = lossless("idle", objective=objective, radius=3.0, label_policy="constrain")
        assert (synthesizer.latent_scale_[0, 1] == 0).all()
        X_new, _, info = synthesizer.sample(60, return_info=True)
        assert np.isfinite(X_new).all()
        # Some went back towards their sources.
        assert len(np.unique(info.displacement.round(2))) > 2

    def test_there_is_a_gradient_where_the_decoder_saturates(self, lossless):
        synthesizer = lossless("saturated")
        x = torch.from_numpy(images_of("float32")[:5, None]).clamp(0.1, 0.9)
        codec: Codec = synthesizer.engine_.codec(synthesizer)
        z_0 = codec.encode(x)
        for decode, there in ((codec.decoder(x, z_0), True), (codec.decode, False)):
            z = z_0.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(decode(z).sum(), z)
            assert gradient.bool().all() == gradient.bool().any() == there

    @pytest.mark.parametrize("policy", ["keep", "constrain"])
    def test_members_have_judged_the_image_returned(self, lossless, policy):
        synthesizer = lossless(label_policy=policy, radius=1.0)
        (X_new, y_new, info), (members,) = members_used(synthesizer, n_samples=160)
        new = members(synthesizer.format_.to_tensor(X_new))
        np.testing.assert_allclose(info.uncertainty, textbook_information(new), atol=2e-6)
        np.testing.assert_array_equal(info.label_agreement, mean_prediction(new) == y_new)

    @pytest.mark.parametrize("levels", [None, 255])
    def test_labels_that_sources_have_come_back(self, lossless, levels):
        # So wide that even a tenth of it costs labels.
        X, y = digits()
        X = X if levels is None else np.round(levels * X).astype(np.uint8)
        wide = {"objective": "random", "label_policy": "constrain", "radius": 30.0}
        synthesizer = lossless(X=X, **wide)
        (X_new, y_new, info), (members,) = members_used(synthesizer, n_samples=160)
        correct = correct_sources(synthesizer, members, X, y, info)
        assert correct.mean() > 0.7
        new = members(synthesizer.format_.to_tensor(X_new))
        np.testing.assert_array_equal(info.label_agreement, mean_prediction(new) == y_new)
        assert info.label_agreement[correct].all()
        assert (info.displacement[correct] < 2.9).any()
        np.testing.assert_allclose(info.uncertainty, textbook_information(new), atol=2e-6)

    @pytest.mark.parametrize("objective", ["mutual_info", "entropy", "random"])
    @pytest.mark.parametrize("dtype", ["float32", "uint8"])
    def test_no_row_comes_twice_and_none_is_real(self, lossless, dtype, objective):
        X = images_of(dtype)
        X_new = lossless(X=X, objective=objective).sample(400)[0]
        assert distinct(np.concatenate([X, X_new])) == 160 + 400

    def test_number_of_jobs_does_not_matter(self, lossless):
        synthesizer = lossless(label_policy="constrain", batch_size=32)
        one = synthesizer.sample(100)[0]
        np.testing.assert_array_equal(one, synthesizer.set_params(n_jobs=2).sample(100)[0])


class TestControls:
    @pytest.mark.parametrize(
        ("objective", "keep_detail", "way_out"),
        [
            ("reconstruction", True, "objective='duplicate', or keep_detail=False"),
            ("duplicate", False, "objective='reconstruction', or keep_detail=True"),
        ],
    )
    def test_of_the_other_way_to_decode_are_refused(self, frozen, objective, keep_detail, way_out):
        params = {"objective": objective, "keep_detail": keep_detail}
        with pytest.raises(ValueError, match=way_out):
            TargetedSynthesizer(nn.Module(), **params).fit(*digits())
        fitted = frozen()
        fitted.set_params(**params)
        with pytest.raises(ValueError, match=way_out):
            fitted.sample(3)
