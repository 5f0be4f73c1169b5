"""What one pass of synthesis promises of its images, and says of them."""

import numpy as np
import pytest
import torch
from helpers.small import (
    COLUMNS,
    correct_sources,
    digits,
    distinct,
    mean_prediction,
    members_used,
    textbook_information,
    tiny,
)

from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.datasets import load_medmnist


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

    def test_uncertainty_method_is_mutual_information_and_repeats_itself(self, digits_synthesizer):
        X, _ = digits()
        values = digits_synthesizer.uncertainty(X)
        assert values.shape == (len(X),)
        assert values.min() >= 0
        assert values.max() <= np.log(4)
        np.testing.assert_array_equal(values, digits_synthesizer.uncertainty(X))
        # Other masks, yet the same images are uncertain.
        members = digits_synthesizer.engine_.members(digits_synthesizer, seed=123)
        log_probs = members(digits_synthesizer.format_.to_tensor(X))
        assert np.corrcoef(values, textbook_information(log_probs))[0, 1] > 0.4


class TestObjectives:
    def test_reconstruction_does_not_move(self, frozen):
        X, _ = digits()
        synthesizer = frozen(objective="reconstruction", keep_detail=False)
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

        synthesizer = frozen(objective=objective, max_iter=3, label_policy="keep")
        # It was tried on a few images before anything was trained.
        seen.clear()
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

        others = entropy_of("mutual_info"), entropy_of("duplicate")
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

    @pytest.mark.parametrize(
        ("objective", "dtype"), [("mutual_info", np.uint8), ("random", np.float32)]
    )
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

    def test_images_go_back_until_members_predict_their_label(self, frozen):
        free = frozen(radius=1.0, label_policy="keep").sample(160, return_info=True)[2]
        held = frozen(radius=1.0, label_policy="constrain").sample(160, return_info=True)[2]
        np.testing.assert_array_equal(free.source_index, held.source_index)
        strayed = ~free.label_agreement
        assert 0.1 < strayed.mean() < 0.9
        # What has its label stays; the others keep one of these shares of their displacement.
        np.testing.assert_array_equal(held.displacement[~strayed], free.displacement[~strayed])
        shares = held.displacement[strayed] / free.displacement[strayed]
        known = np.array([0.5, 0.25, 0.1, 0.03, 0.01, 0.0])
        assert np.abs(shares[:, None] - known).min(1).max() < 1e-3
        assert len(np.unique(shares.round(2))) > 2

    def test_wrong_labels_stay_beside_their_source(self, frozen):
        X, y = digits()
        wrong = np.arange(len(y)) % 10 == 0
        y = np.where(wrong, (y + 1) % 4, y)
        # So near that no displacement brings the label.
        synthesizer = frozen(radius=0.02, label_policy="constrain").fit(X, y)
        _, _, info = synthesizer.sample(160, return_info=True)
        disagreed = wrong[info.source_index]
        assert not info.label_agreement[disagreed].any()
        np.testing.assert_allclose(info.displacement[disagreed], 0.002, rtol=1e-3)
        assert np.median(info.displacement[~disagreed]) > 0.01

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

    @pytest.mark.parametrize(
        "label_policy", ["keep", pytest.param("constrain", marks=pytest.mark.slow)]
    )
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
