import pickle

import numpy as np
import pytest
import torch
from helpers.small import (
    COLUMNS,
    assert_same_answer,
    correct_sources,
    digits,
    distinct,
    mean_prediction,
    members_used,
    quick,
    textbook_information,
    tiny,
)
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.autoencoders._dense import DenseAutoencoder
from tsynd_sk.autoencoders._net import AutoencoderNet
from tsynd_sk.autoencoders._patch import PatchAutoencoder
from tsynd_sk.classifiers._default import ConvNet, DenseNet, NetClassifier
from tsynd_sk.datasets._loaders import load_digits_images, load_medmnist


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
        assert synthesizer.n_features_in_ == np.prod(X.shape[1:])
        return X_new, y_new, synthesizer.image_shape_

    def test_grey_images(self):
        X, y = digits(60)
        expected, y_expected, shape = self.answer(X, y)
        assert shape == (1, 8, 8)
        for reshaped, params in [
            (X[:, None], {}),
            (X[..., None], {}),
            (X.reshape(-1, 64), {"image_shape": (8, 8)}),
            (X.reshape(-1, 64), {"image_shape": [1, 8, 8]}),
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
        flat, _, shape = self.answer(first.reshape(60, -1), y, image_shape=(3, 8, 7))
        assert shape == (3, 8, 7)
        np.testing.assert_array_equal(flat.reshape(expected.shape), expected)
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

    @pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float64])
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

    def test_nets_are_chosen_by_what_the_rows_are(self):
        for image_shape, classifier, autoencoder in [
            ((1, 8, 8), ConvNet, PatchAutoencoder),
            (None, DenseNet, DenseAutoencoder),
        ]:
            synthesizer = TargetedSynthesizer()
            synthesizer.image_shape_ = image_shape
            assert synthesizer._default_classifier().module is classifier
            assert synthesizer._default_autoencoder().module is autoencoder

    def test_defaults_alone_fit_a_table(self):
        X, y = digits(40, n_classes=2)
        synthesizer = TargetedSynthesizer(random_state=0).fit(X.reshape(40, -1), y)
        assert isinstance(synthesizer.classifier_, NetClassifier)
        assert synthesizer.sample(2)[0].shape == (2, 64)


class TestInfo:
    def test_has_one_value_a_row(self, digits_synthesizer):
        _, _, info = digits_synthesizer.sample(13, return_info=True)
        assert set(info) == set(COLUMNS)
        for column in COLUMNS:
            assert info[column].shape == (13,)
        assert info.source_index.dtype.kind == "i"
        assert info.label_agreement.dtype == bool
        assert info.uncertainty.dtype == np.float32

    @pytest.mark.parametrize("label_policy", ["constrain", "keep"])
    def test_says_what_is_true_of_the_images_returned(self, frozen, label_policy):
        X, y = digits()
        synthesizer = frozen(label_policy=label_policy)
        (X_new, y_new, info), (members,) = members_used(synthesizer, n_samples=100)
        to_tensor = synthesizer.format_.to_tensor
        np.testing.assert_array_equal(y[info.source_index], y_new)
        source, new = members(to_tensor(X[info.source_index])), members(to_tensor(X_new))
        for log_probs, column in [(source, "uncertainty_source"), (new, "uncertainty")]:
            np.testing.assert_allclose(info[column], textbook_information(log_probs), atol=2e-6)
        np.testing.assert_array_equal(info.label_agreement, mean_prediction(new) == y_new)
        assert info.displacement.max() <= 0.5 * (1 + 1e-5)
        assert info.displacement.min() > 0

    def test_source_used_again_meets_other_members(self, digits_synthesizer):
        (X_new, _, info), members = members_used(digits_synthesizer, n_samples=320)
        assert len(members) == 2
        x = digits_synthesizer.format_.to_tensor(X_new)
        first, second = (textbook_information(m(x)) for m in members)
        assert not np.isclose(first, second, atol=1e-5).any()
        of_first = np.isclose(info.uncertainty, first, atol=2e-6)
        of_second = np.isclose(info.uncertainty, second, atol=2e-6)
        assert (of_first ^ of_second).all()
        for chosen in (of_first, of_second):
            assert len(np.unique(info.source_index[chosen])) == chosen.sum() == 160

    def test_reconstruction_error_is_that_of_the_source(self, digits_synthesizer):
        X, _ = digits()
        _, _, info = digits_synthesizer.sample(50, return_info=True)
        source = X[info.source_index]
        error = np.sqrt(np.square(digits_synthesizer.reconstruct(source) - source).mean((1, 2)))
        np.testing.assert_allclose(info.reconstruction_error, error, rtol=1e-4)
        assert 0 < error.mean() < 0.1

    def test_reconstruction_error_of_uint8_is_on_the_scale_that_networks_see(self, frozen):
        X, y = digits()
        X = np.round(X * 255).astype(np.uint8)
        synthesizer = frozen().fit(X, y)
        _, _, info = synthesizer.sample(20, return_info=True)
        source = X[info.source_index].astype(float)
        error = np.square(synthesizer.reconstruct(X[info.source_index]) - source).mean((1, 2))
        np.testing.assert_allclose(info.reconstruction_error, np.sqrt(error) / 255, rtol=1e-4)

    def test_uncertainty_method_is_mutual_information_and_repeats_itself(self, digits_synthesizer):
        X, _ = digits()
        values = digits_synthesizer.uncertainty(X)
        assert values.shape == (len(X),)
        assert values.min() >= 0
        assert values.max() <= np.log(4)
        np.testing.assert_array_equal(values, digits_synthesizer.uncertainty(X))
        # Other masks, yet the same images are uncertain.
        log_probs = digits_synthesizer._members(123)(digits_synthesizer.format_.to_tensor(X))
        assert np.corrcoef(values, textbook_information(log_probs))[0, 1] > 0.4


class TestObjectives:
    def test_reconstruction_does_not_move(self, frozen):
        X, _ = digits()
        synthesizer = frozen(objective="reconstruction")
        X_new, _, info = synthesizer.sample(40, return_info=True)
        np.testing.assert_array_equal(X_new, synthesizer.reconstruct(X[info.source_index]))
        assert not info.displacement.any()

    def test_random_goes_to_the_surface_whatever_the_classifier_thinks(self, frozen):
        synthesizer = frozen(objective="random", label_policy="keep", radius=0.7)
        _, _, info = synthesizer.sample(40, return_info=True)
        np.testing.assert_allclose(info.displacement, 0.7, rtol=1e-5)

    def test_callable_gets_members_and_labels(self, frozen):
        seen = []

        def objective(log_probs, y):
            seen.append((tuple(log_probs.shape), tuple(y.shape), y.dtype))
            return -log_probs.mean(0).gather(1, y[:, None])[:, 0]

        synthesizer = frozen(objective=objective, radius=0.5, max_iter=3)
        X_new, _, info = synthesizer.sample(20, return_info=True)
        assert seen == [((8, 20, 4), (20,), torch.int64)] * 4
        # It is what is maximised: images that the members take for another class.
        assert info.label_agreement.mean() < 0.5
        assert X_new.shape == (20, 8, 8)

    def test_entropy_is_maximised_by_entropy(self, frozen):
        def entropy_of(objective):
            synthesizer = frozen(objective=objective, label_policy="keep")
            (X_new, _, _), (members,) = members_used(synthesizer, n_samples=60)
            p = members(synthesizer.format_.to_tensor(X_new)).exp().mean(0)
            return -(p * p.log()).sum(-1).mean()

        others = entropy_of("mutual_info"), entropy_of("reconstruction")
        assert entropy_of("entropy") > max(others)

    def test_larger_radius_reaches_higher_uncertainty(self, frozen):
        small, large = (
            frozen(radius=radius, label_policy="keep").sample(60, return_info=True)[2]
            for radius in (0.1, 0.6)
        )
        assert small.displacement.max() <= 0.1 * (1 + 1e-5)
        assert large.uncertainty.mean() > 1.3 * small.uncertainty.mean()


class TestPromises:
    def test_kept_labels_more_uncertainty(self, frozen):
        info = frozen(label_policy="keep").sample(160, return_info=True)[2]
        assert (info.uncertainty > info.uncertainty_source).mean() >= 0.9
        assert info.uncertainty.mean() > 1.3 * info.uncertainty_source.mean()
        control = frozen(label_policy="keep", objective="random").sample(160, return_info=True)[2]
        assert info.uncertainty.mean() > 1.3 * control.uncertainty.mean()

    @pytest.mark.parametrize("objective", ["mutual_info", "entropy", "random"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_constrained_labels_are_agreed_on(self, frozen, objective, dtype):
        X, y = digits()
        X = np.round(X * 255).astype(np.uint8) if dtype == np.uint8 else X
        constrained = {"label_policy": "constrain", "radius": 1.0}
        synthesizer = frozen(objective=objective, **constrained).fit(X, y)
        (X_new, y_new, info), (members,) = members_used(synthesizer, n_samples=160)
        correct = correct_sources(synthesizer, members, X, y, info)
        assert correct.mean() > 0.9
        agreed = mean_prediction(members(synthesizer.format_.to_tensor(X_new))) == y_new
        np.testing.assert_array_equal(info.label_agreement, agreed)
        assert agreed[correct].all()

    def test_ascents_start_as_far_away_as_is_said(self, frozen):
        X, y = digits()
        starts = [
            frozen(radius=0.3, random_start=share, max_iter=1, label_policy="keep").fit(X, y)
            for share in (0.0, 1.0)
        ]
        # One step is four radii long: whatever is less uncertain than its start stays there.
        moved = [s.sample(160, return_info=True)[2].displacement for s in starts]
        assert set(moved[0].round(4)) <= {np.float32(0), np.float32(0.3)}
        np.testing.assert_allclose(moved[1], 0.3, rtol=1e-3)

    def test_from_its_source_an_ascent_gives_equal_images_for_equal_ones(self, frozen):
        X, y = digits()
        fitted = frozen(random_start=0.0).fit(X, y)
        twins = fitted.synthesize(X[[3, 3]], y[[3, 3]])[0]
        np.testing.assert_array_equal(*twins)
        twins = fitted.set_params(random_start=0.2).synthesize(X[[3, 3]], y[[3, 3]])[0]
        assert np.abs(twins[0] - twins[1]).max() > 0

    def test_wrong_labels_stay_beside_their_source(self, frozen):
        X, y = digits()
        wrong = np.arange(len(y)) % 10 == 0
        y = np.where(wrong, (y + 1) % 4, y)
        # So near that the label cannot be climbed to.
        synthesizer = frozen(radius=0.02, label_policy="constrain").fit(X, y)
        _, _, info = synthesizer.sample(160, return_info=True)
        disagreed = wrong[info.source_index]
        assert not info.label_agreement[disagreed].any()
        np.testing.assert_allclose(info.displacement[disagreed], 0.002, rtol=1e-3)
        assert np.median(info.displacement[~disagreed]) > 0.01
        # From further away it is, and then agreement is true.
        _, _, info = synthesizer.set_params(radius=1.0).sample(160, return_info=True)
        assert info.label_agreement[wrong[info.source_index]].mean() > 0.5

    def test_agreement_survives_an_autoencoder_that_loses_the_labels(self, frozen):
        X, y = digits()
        net = AutoencoderNet(module__n_components=1, max_epochs=1, epoch_size=20)
        synthesizer = frozen(label_policy="constrain").set_params(autoencoder=net).fit(X, y)
        (X_new, y_new, info), (members,) = members_used(synthesizer, n_samples=160)
        correct = correct_sources(synthesizer, members, X, y, info)
        reconstructed = synthesizer.format_.to_tensor(synthesizer.reconstruct(X))
        lost = mean_prediction(members(reconstructed)) != y
        assert lost.mean() > 0.2
        new = members(synthesizer.format_.to_tensor(X_new))
        np.testing.assert_array_equal(info.label_agreement, mean_prediction(new) == y_new)
        np.testing.assert_allclose(info.uncertainty, textbook_information(new), atol=2e-6)
        assert info.label_agreement[correct].all()
        assert distinct(X_new) == 160

    @pytest.mark.parametrize("label_policy", ["constrain", "keep"])
    def test_hold_for_real_ultrasound_images(self, medmnist_root, label_policy):
        X, y, _ = load_medmnist(
            "breastmnist", root=medmnist_root, download=False, n_samples=100, random_state=0
        )
        synthesizer = tiny(label_policy=label_policy).fit(X, y)
        (X_new, y_new, info), (members,) = members_used(synthesizer, n_samples=100)
        assert X_new.shape == (100, 28, 28)
        assert X_new.dtype == np.uint8
        assert np.bincount(y_new).tolist() == np.bincount(y).tolist()
        new = members(synthesizer.format_.to_tensor(X_new))
        np.testing.assert_allclose(info.uncertainty, textbook_information(new), atol=2e-6)
        agreed = mean_prediction(new) == y_new
        np.testing.assert_array_equal(info.label_agreement, agreed)
        correct = correct_sources(synthesizer, members, X, y, info)
        assert correct.mean() > 0.7
        if label_policy == "constrain":
            assert agreed[correct].all()
            assert info.uncertainty.mean() > info.uncertainty_source.mean()
        else:
            assert (info.uncertainty > info.uncertainty_source).mean() >= 0.9


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


METHODS = {
    "sample": lambda s, X, y: s.sample(),
    "synthesize": lambda s, X, y: s.synthesize(X, y),
    "uncertainty": lambda s, X, y: s.uncertainty(X),
    "reconstruct": lambda s, X, y: s.reconstruct(X),
}


class TestErrors:
    @pytest.mark.parametrize("method", METHODS)
    def test_unfitted_use(self, method):
        with pytest.raises(NotFittedError, match="not fitted"):
            METHODS[method](quick(), *digits(5))

    @pytest.mark.parametrize("method", ["synthesize", "uncertainty", "reconstruct"])
    def test_images_unlike_those_of_fit(self, frozen, method):
        X, y = digits(20)
        synthesizer = frozen()
        call = METHODS[method]
        with pytest.raises(ValueError, match=r"rows of shape \(8, 8\), as in fit"):
            call(synthesizer, X[:, :7], y)
        with pytest.raises(ValueError, match="NaN"):
            call(synthesizer, np.where(X > 0, X, np.nan), y)
        uint8 = np.round(digits()[0] * 255).astype(np.uint8)
        with pytest.raises(ValueError, match="fitted on uint8 images, which it divides by 255"):
            call(frozen().fit(uint8, digits()[1]), uint8[:20].astype(float), y)
        with pytest.raises(ValueError, match=r"X is uint8, which is divided by 255"):
            call(frozen().fit(uint8.astype(float), digits()[1]), uint8[:20], y)

    def test_labels_unlike_the_images_or_those_of_fit(self, digits_synthesizer):
        X, y = digits(20)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            digits_synthesizer.synthesize(X, y[:5])
        with pytest.raises(ValueError, match=r"not seen in fit: \[9\]"):
            digits_synthesizer.synthesize(X, np.full(20, 9))

    X, y = digits(20)

    @pytest.mark.parametrize(
        ("X", "y", "message"),
        [
            (np.where(X > 0, X, np.nan), y, "NaN"),
            (np.where(X > 0, X, np.inf), y, "infinity"),
            (X[:, 0, 0], y, "1D array"),
            (X[:0], y[:0], r"0 sample\(s\)"),
            (X[:, None, None], y, "5 dimensions"),
            (X.astype(str), y, "numeric"),
            (X.reshape(-1, 4, 4, 4), y, "is ambiguous: the channels may come first or last"),
            (X.reshape(-1, 4, 16), y, r"is ambiguous: grey images this narrow"),
            (X, None, "requires y to be passed, but the target y is None"),
            (X, y[:5], "inconsistent numbers of samples"),
            (X, np.full(20, 3), "at least two classes; y has one class only: 3"),
            (X, np.linspace(0, 1, 20), "continuous"),
            (X, np.where(y == 0, np.nan, y), "NaN"),
            (X, np.column_stack([y, y]), "1d array"),
        ],
    )
    def test_data(self, X, y, message):
        with pytest.raises(ValueError, match=message):
            quick().fit(X, y)

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"objective": "bald"}, "'objective' parameter .* 'bald'"),
            ({"radius": 0}, "'radius' parameter"),
            ({"radius": -0.5}, "'radius' parameter"),
            ({"n_members": 1}, "'n_members' parameter"),
            ({"max_iter": 0}, "'max_iter' parameter"),
            ({"members": "bayes"}, "'members' parameter .* 'bayes'"),
            ({"restrict": "first"}, "'restrict' parameter .* 'first'"),
            ({"restrict": 0}, "'restrict' parameter"),
            ({"label_policy": "free"}, "'label_policy' parameter .* 'free'"),
            ({"sampling_strategy": "most"}, "'sampling_strategy' parameter .* 'most'"),
            ({"sampling_strategy": 1.5}, "'sampling_strategy' parameter"),
            ({"batch_size": 0}, "'batch_size' parameter"),
            ({"random_state": "a"}, "'random_state' parameter"),
            ({"image_shape": 8}, "'image_shape' parameter"),
            ({"image_shape": (8,)}, "expected two or three positive integers"),
            ({"image_shape": (0, 8)}, "expected two or three positive integers"),
            ({"image_shape": (8, 9)}, r"does not match image_shape=\(8, 9\)"),
        ],
    )
    def test_parameters(self, params, message):
        with pytest.raises(ValueError, match=message):
            quick(**params).fit(*digits(20))

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
        with pytest.raises(ValueError, match="decodes the code of an image"):
            synthesizer.fit(np.round(X * 255).astype(np.uint8), y % 2)
        assert_same_answer(synthesizer.sample(30, return_info=True), before)
        assert synthesizer.image_shape_ == (1, 8, 8)


class TestScikitLearn:
    def test_clone_has_the_parameters_and_nothing_learned(self, digits_synthesizer):
        twin = clone(digits_synthesizer)
        assert twin.get_params()["classifier__max_epochs"] == 15
        assert twin.radius == digits_synthesizer.radius
        assert twin.classifier is not digits_synthesizer.classifier
        with pytest.raises(NotFittedError):
            twin.sample()

    def test_set_params_reaches_the_nets(self):
        synthesizer = quick().set_params(classifier__lr=0.5, autoencoder__max_epochs=7, radius=2)
        assert synthesizer.classifier.lr == 0.5
        assert synthesizer.autoencoder.max_epochs == 7
        assert synthesizer.radius == 2

    def test_fit_returns_self_and_leaves_parameters_alone(self):
        synthesizer = quick()
        before = synthesizer.get_params()
        assert synthesizer.fit(*digits(60)) is synthesizer
        after = synthesizer.get_params()
        assert after.keys() == before.keys()
        # skorch makes the callbacks of a net anew for everyone who asks.
        assert all(after[name] is before[name] for name in before if "__callbacks__" not in name)
        assert not hasattr(synthesizer.classifier, "module_")
        assert not hasattr(synthesizer.autoencoder, "module_")

    def test_images_given_are_not_written_to(self):
        X, y = digits(60)
        X_before, y_before = X.copy(), y.copy()
        synthesizer = quick().fit(X, y)
        for answer in synthesizer.sample(60), synthesizer.synthesize(X, y):
            answer[0][:] = -1
        synthesizer.reconstruct(X)[:] = -1
        np.testing.assert_array_equal(X, X_before)
        np.testing.assert_array_equal(y, y_before)

    def test_pickle_round_trip_gives_equal_samples(self, digits_synthesizer):
        twin = pickle.loads(pickle.dumps(digits_synthesizer))
        assert_same_answer(
            twin.sample(30, return_info=True), digits_synthesizer.sample(30, return_info=True)
        )

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
