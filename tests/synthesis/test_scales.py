"""Scales of pixels, values far from those of fit, seeds, and parts that are None."""

import warnings

import numpy as np
import pytest
from helpers.tiny_nets import X, augmented, net, own_net, synthesizer, y
from sklearn.model_selection import GridSearchCV

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer

PIXELS = np.rint(X * 255).astype(np.uint8)
FLAT = PIXELS.reshape(80, -1)


def plain(**params):
    return augmented(net(max_epochs=3), synthesizer(**params), synthetic_ratio=0)


class TestIntegerPixels:
    @pytest.mark.parametrize("wide", [np.int64, np.uint16, ">i4", list])
    def test_are_scaled_like_uint8_and_that_is_said(self, wide):
        given = PIXELS.tolist() if wide is list else PIXELS.astype(wide)
        with pytest.warns(UserWarning, match="from 0 to 255, which .* divides by 255"):
            learned = plain().fit(given, y)
        expected = plain().fit(PIXELS, y)
        proba = expected.predict_proba(PIXELS)
        np.testing.assert_array_equal(learned.predict_proba(given), proba)
        # Of either width, in either.
        np.testing.assert_array_equal(learned.predict_proba(PIXELS), proba)
        np.testing.assert_array_equal(expected.predict_proba(given), proba)

    def test_come_back_in_their_type_and_scale(self):
        with pytest.warns(UserWarning, match="divides by 255"):
            wide = synthesizer(classifier=net(max_epochs=1), random_state=0).fit(
                PIXELS.astype(np.int64), y
            )
        narrow = synthesizer(classifier=net(max_epochs=1), random_state=0).fit(PIXELS, y)
        one, other = wide.sample(6)[0], narrow.sample(6)[0]
        assert one.dtype == np.int64
        assert other.dtype == np.uint8
        np.testing.assert_array_equal(one, other)

    def test_flat_rows_of_a_csv_file(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(FLAT.astype(np.int64))
        with pytest.warns(UserWarning, match="divides by 255"):
            learned = plain(image_shape=(8, 8)).fit(frame.to_numpy(), y)
        expected = plain().fit(PIXELS, y).predict_proba(PIXELS)
        np.testing.assert_array_equal(learned.predict_proba(frame.to_numpy()), expected)

    def test_survive_a_file(self, tmp_path):
        with pytest.warns(UserWarning, match="divides by 255"):
            learned = plain().fit(PIXELS.astype(np.int64), y)
        learned.save_params(tmp_path / "x.safetensors")
        loaded = plain().load_params(tmp_path / "x.safetensors")
        assert loaded.format_ == learned.format_
        wide = PIXELS[:9].astype(np.int64)
        np.testing.assert_array_equal(loaded.predict_proba(wide), learned.predict_proba(wide))

    def test_after_floats_up_to_one(self):
        learned = plain().fit(PIXELS / np.float32(255), y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            proba = learned.predict_proba(PIXELS.astype(np.int64))
        np.testing.assert_array_equal(proba, learned.predict_proba(PIXELS))

    @pytest.mark.parametrize(
        ("given", "image_shape"),
        [
            ((PIXELS > 99).astype(np.int64), None),
            (PIXELS.astype(np.int64) * 2, None),
            (PIXELS.astype(np.int64) - 1, None),
            (PIXELS.astype(np.float32), None),
        ],
        ids=["binary", "beyond", "below", "floats"],
    )
    def test_others_pass_as_they_are(self, given, image_shape):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "X has integers")
            learned = plain().fit(given, y)
        assert learned.format_.divisor == 1
        assert learned.format_.to_tensor(given).max() == given.max()


class TestFarOutside:
    def test_is_warned_of_by_both_ranges(self):
        learned = plain().fit(X, y)
        ranges = r"from 0 to 255, far outside of the range from 0 to 1 that Augmented"
        with pytest.warns(UserWarning, match=ranges):
            learned.predict(X * 255)
        with pytest.warns(UserWarning, match="far outside"):
            learned.uncertainty(X * 3 - 2)
        with pytest.warns(UserWarning, match="far outside"):
            learned.synthesizer_.set_params(classifier=own_net()).uncertainty(X * 255)

    def test_tables_too(self):
        flat = X.reshape(80, -1)
        learned = AugmentedClassifier(synthetic_ratio=0, random_state=0).fit(flat, y)
        with pytest.warns(UserWarning, match="from 0 to 255, far outside"):
            learned.predict(flat * 255)

    @pytest.mark.parametrize("given", [X, X[:1] * 0, X * 1.5, X - 0.5, PIXELS])
    def test_a_little_beyond_is_nothing_to_speak_of(self, given):
        learned = plain().fit(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            learned.predict(given)


def test_equal_seeds_give_equal_images_and_one_generator_goes_on():
    fitted = synthesizer(classifier=net(max_epochs=1), random_state=0).fit(X, y)
    first, again = fitted.sample(4, random_state=3)[0], fitted.sample(4, random_state=3)[0]
    np.testing.assert_array_equal(first, again)
    rng = np.random.RandomState(3)
    np.testing.assert_array_equal(fitted.sample(4, random_state=rng)[0], first)
    assert (fitted.sample(4, random_state=rng)[0] != first).any()


class TestPartsThatAreNone:
    def test_a_search_over_them_says_what_to_give(self):
        search = GridSearchCV(AugmentedClassifier(), {"synthesizer__radius": [0.1, 0.2]})
        with pytest.raises(ValueError, match=r"give synthesizer=TargetedSynthesizer\(\)"):
            search.fit(X, y)

    def test_which_works(self):
        given = augmented(net(max_epochs=2), TargetedSynthesizer(n_members=2, max_iter=1))
        search = GridSearchCV(given, {"synthesizer__radius": [0.1]}, cv=2, error_score="raise")
        search.fit(X, y % 2)
        assert search.best_estimator_.synthesizer_.radius == 0.1

    @pytest.mark.parametrize("name", ["classifier", "autoencoder"])
    def test_of_a_synthesizer(self, name):
        with pytest.raises(ValueError, match=f"{name}__lr cannot be set.*{name}=.*Net"):
            TargetedSynthesizer().set_params(**{f"{name}__lr": 0.1})
        # Given at once they can be set at once.
        one = TargetedSynthesizer().set_params(**{name: net(), f"{name}__lr": 0.1})
        assert getattr(one, name).lr == 0.1
