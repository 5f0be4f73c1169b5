"""`TargetedSynthesizer`: what comes in, what comes out, and what is refused."""

import numpy as np
import pytest
import torch
from helpers.small import assert_same_answer, digits, distinct, quick, tiny
from sklearn.datasets import load_breast_cancer
from sklearn.frozen import FrozenEstimator

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet, DenseAutoencoder, DensePCA
from tsynd_sk.classifiers import DenseNet, NetClassifier
from tsynd_sk.datasets import load_digits_images


class TestLayouts:
    """Every layout of the same images is answered by the same synthetic images."""

    @staticmethod
    def answer(X, y, **params):
        synthesizer = quick(**params).fit(X, y)
        X_new, y_new = synthesizer.sample(23, random_state=1)
        assert X_new.shape == (23, *X.shape[1:])
        assert X_new.dtype == X.dtype
        assert X_new.flags.c_contiguous
        assert X_new.min() >= X.min()
        assert X_new.max() <= X.max()
        assert distinct(X_new) == 23
        # Whoever reads it, as MAPIE does, gives rows of so many columns.
        assert getattr(synthesizer, "n_features_in_", None) == (X.shape[1] if X.ndim == 2 else None)
        return X_new, y_new, synthesizer.image_shape_

    def test_grey_images(self):
        X, y = digits(60)
        expected, y_expected, shape = self.answer(X, y)
        assert shape == (1, 8, 8)
        for reshaped, params in [
            (X[:, None], {}),
            (X[..., None], {}),
            (X.reshape(-1, 64), {"image_shape": [8, 8]}),
        ]:
            X_new, y_new, shape = self.answer(reshaped, y, **params)
            assert shape == (1, 8, 8)
            np.testing.assert_array_equal(X_new.reshape(expected.shape), expected)
            np.testing.assert_array_equal(y_new, y_expected)

    def test_colour_images(self):
        X, y = digits(60)
        first = np.stack([X, 1 - X, X / 2], axis=1)[:, :, :, :7]
        last = np.moveaxis(first, 1, -1)
        expected, _, shape = self.answer(first, y)
        assert shape == (3, 8, 7)
        np.testing.assert_array_equal(
            np.moveaxis(self.answer(np.ascontiguousarray(last), y)[0], -1, 1), expected
        )
        flat, _, shape = self.answer(last.reshape(60, -1), y, image_shape=(8, 7, 3))
        assert shape == (3, 8, 7)
        np.testing.assert_array_equal(np.moveaxis(flat.reshape(-1, 8, 7, 3), -1, 1), expected)

    def test_image_shape_settles_what_is_ambiguous(self):
        X, y = digits(60)
        assert self.answer(X.reshape(-1, 4, 4, 4), y, image_shape=(4, 4, 4))[2] == (4, 4, 4)

    def test_tables(self):
        X, y = load_breast_cancer(return_X_y=True)
        X, y = np.hstack([X[:80], np.ones((80, 1))]).astype(np.float32), y[:80]
        synthesizer = tiny(
            NetClassifier(DenseNet, max_epochs=5), AutoencoderNet(DenseAutoencoder, max_epochs=1)
        ).fit(X, y)
        assert synthesizer.image_shape_ is None
        assert synthesizer.n_features_in_ == 31
        X_new, _ = synthesizer.sample(50)
        assert X_new.shape == (50, 31)
        assert X_new.dtype == np.float32
        # Feature by feature: what is never seen in one column is no value for it.
        assert (X_new >= X.min(0)).all()
        assert (X_new <= X.max(0)).all()

    @pytest.mark.parametrize("dtype", [np.uint8, np.float16])
    def test_values_have_the_type_and_range_of_the_images(self, dtype):
        X, y = digits(60)
        X = (X * 200 + 20).astype(dtype)
        X_new, _, _ = self.answer(X, y)
        assert np.ptp(X_new.astype(float)) > 100

    def test_uint8_is_seen_as_fractions_of_255(self):
        X, y = digits(60)
        X = np.round(X * 255).astype(np.uint8)
        as_float = (X / np.float32(255)).astype(np.float32)
        answers = [quick().fit(images, y).reconstruct(images) for images in (X, as_float)]
        np.testing.assert_allclose(answers[0] / 255, answers[1], atol=0.51 / 255)

    def test_defaults_alone_fit_a_table(self):
        X, y = digits(40, n_classes=2)
        synthesizer = TargetedSynthesizer(random_state=0).fit(X.reshape(40, -1), y)
        assert isinstance(synthesizer.classifier_, NetClassifier)
        assert isinstance(synthesizer.classifier_.module_, DenseNet)
        assert isinstance(synthesizer.autoencoder_.module_, DensePCA)
        assert synthesizer.sample(2)[0].shape == (2, 64)


class TestSynthesize:
    def test_one_image_for_each_in_its_order(self, frozen):
        # In a ball this small, every image stays nearer to its own source than to all others.
        synthesizer = frozen(radius=0.1)
        X, y, _ = load_digits_images()
        new = np.flatnonzero(y < 4)[300:330]
        X_new, y_new, info = synthesizer.synthesize(X[new], y[new], return_info=True)
        assert X_new.shape == (30, 8, 8)
        np.testing.assert_array_equal(y_new, y[new])
        np.testing.assert_array_equal(info.source_index, np.arange(30))
        distance = np.abs(X_new[:, None] - synthesizer.reconstruct(X[new])).mean((2, 3))
        np.testing.assert_array_equal(distance.argmin(1), np.arange(30))
        assert info.uncertainty.mean() > info.uncertainty_source.mean()
        repeated = synthesizer.synthesize(X[new], y[new], random_state=0)
        np.testing.assert_array_equal(repeated[0], X_new)

    def test_answers_uint8_with_the_type_of_fit(self, digits_synthesizer):
        X, y = digits(10)
        X = np.round(X * 255).astype(np.uint8)
        for answer in (digits_synthesizer.synthesize(X, y)[0], digits_synthesizer.reconstruct(X)):
            assert answer.dtype == np.float32
            assert 0.5 < answer.max() <= 1
        np.testing.assert_array_equal(
            digits_synthesizer.uncertainty(X), digits_synthesizer.uncertainty(X / np.float32(255))
        )


class TestFits:
    def test_objective_that_is_no_objective(self, frozen):
        with pytest.raises(ValueError, match="differentiable"):
            frozen(objective=lambda log_probs, y: torch.zeros(len(y))).sample(3)
        with pytest.raises(ValueError, match="shape"):
            frozen(objective=lambda log_probs, y: log_probs.mean()).sample(3)

    def test_failing_fit_leaves_an_earlier_one_whole(self, frozen):
        X, y = digits()
        synthesizer = frozen()
        before = synthesizer.sample(30, return_info=True)
        with pytest.raises(ValueError, match="inconsistent"):
            synthesizer.fit(X[:, :7], y[:5])
        # This one fails last, when everything else about other images has been learnt.
        narrow = AutoencoderNet(max_epochs=1, epoch_size=20).fit(X[:, None, :, :7])
        synthesizer.set_params(autoencoder=FrozenEstimator(narrow))
        with pytest.raises(ValueError, match="must decode to the shape that it encodes"):
            synthesizer.fit(np.round(X * 255).astype(np.uint8), y % 2)
        assert_same_answer(synthesizer.sample(30, return_info=True), before)
        assert synthesizer.image_shape_ == (1, 8, 8)

    def test_nothing_of_an_earlier_fit_outlives_a_later_one(self):
        pd = pytest.importorskip("pandas")
        X, y = digits(60)
        table = pd.DataFrame(X.reshape(60, -1)).rename(columns=str)
        synthesizer = quick(image_shape=(8, 8))
        synthesizer.fit_resample(table, y)
        assert len(synthesizer.feature_names_in_) == 64
        synthesizer.set_params(image_shape=None).fit(X, y)
        assert not hasattr(synthesizer, "feature_names_in_")
        assert not hasattr(synthesizer, "sample_indices_")
        again = quick().fit(X, y)
        assert vars(again).keys() == vars(synthesizer).keys()
