"""What is wrong with an input is said in terms of it: which argument, what came, what would do."""

import pickle

import numpy as np
import pytest
import torch
from helpers.small import digits
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from tsynd_sk import AugmentedClassifier, TargetedSynthesis, TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier

X, y = digits(20)
FLAT = X.reshape(20, -1)
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def fitted():
    return TargetedSynthesizer(
        NetClassifier(max_epochs=1, module__width=3),
        AutoencoderNet(max_epochs=1, epoch_size=8, module__width=3),
        n_members=2,
        max_iter=1,
        random_state=0,
    ).fit(X, y)


@pytest.fixture(scope="module")
def classifier():
    estimator = NetClassifier(max_epochs=1, module__width=3)
    return AugmentedClassifier(estimator, synthetic_ratio=0, random_state=0).fit(X, y)


@pytest.fixture
def synthesizer(fitted):
    """Make unfitted synthesizers around fitted nets."""
    nets = FrozenEstimator(fitted.classifier_), FrozenEstimator(fitted.autoencoder_)
    return lambda **params: clone(fitted).set_params(
        classifier=nets[0], autoencoder=nets[1], **params
    )


SYNTHESIZER = {
    "objective": "bald",
    "members": "bayes",
    "n_members": 1,
    "restrict": "first",
    "radius": 0,
    "random_start": 1.5,
    "max_iter": 0,
    "label_policy": "free",
    "sampling_strategy": "most",
    "image_shape": 8,
    "batch_size": 16.0,
    "device": 0,
    "n_jobs": 0,
    "verbose": -1,
    "random_state": -1,
}
CLASSIFIER = {
    "synthetic_ratio": INF,
    "warm_up": NAN,
    "refresh_every": 2.0,
    "batches": "together",
    "verbose": None,
    "random_state": "seed",
}


class TestParameters:
    @pytest.mark.parametrize("name", SYNTHESIZER)
    def test_of_synthesizers(self, synthesizer, name):
        with pytest.raises(ValueError, match=f"'{name}' parameter of TargetedSynthesizer .* Got "):
            synthesizer(**{name: SYNTHESIZER[name]}).fit(X, y)

    @pytest.mark.parametrize("name", CLASSIFIER)
    def test_of_classifiers_and_of_the_callback(self, classifier, name):
        value = CLASSIFIER[name]
        with pytest.raises(ValueError, match=f"'{name}' parameter of AugmentedClassifier .* Got "):
            clone(classifier).set_params(**{name: value}).fit(X, y)
        if name != "verbose":
            net = NetClassifier(max_epochs=1, callbacks=[TargetedSynthesis(**{name: value})])
            with pytest.raises(ValueError, match=f"'{name}' parameter of TargetedSynthesis "):
                net.fit(X[:, None], y)

    @pytest.mark.parametrize("name", ["radius", "objective", "batch_size"])
    def test_set_after_fit_are_checked_before_synthesis(self, fitted, name):
        fitted = pickle.loads(pickle.dumps(fitted)).set_params(**{name: SYNTHESIZER[name]})
        for call in (lambda: fitted.sample(2), lambda: fitted.synthesize(X, y)):
            with pytest.raises(ValueError, match=f"'{name}' parameter of TargetedSynthesizer"):
                call()

    def test_of_numpy_are_as_good_as_those_of_python(self, synthesizer):
        numbers = {
            "n_members": np.int64(2),
            "radius": np.float32(0.5),
            "max_iter": np.uint8(1),
            "batch_size": np.int16(7),
            "n_jobs": np.int64(1),
            "restrict": np.int64(1),
            "random_state": np.uint32(3),
        }
        plain = {name: value.item() for name, value in numbers.items()}
        answers = [synthesizer(**params).fit(X, y).sample(5)[0] for params in (numbers, plain)]
        np.testing.assert_array_equal(*answers)

    @pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", torch.device("cuda:99")])
    def test_device_that_is_not_there_is_named_for_fitted_nets_too(self, synthesizer, device):
        with pytest.raises(ValueError, match=r"device=.* is not available"):
            synthesizer(device=device).fit(X, y)

    @pytest.mark.parametrize("image_shape", [(NAN, 8), (0, 8), ("8", "8"), (8,), (1, 1, 8, 8)])
    def test_image_shape_that_is_none(self, synthesizer, image_shape):
        with pytest.raises(ValueError, match=r"image_shape=.* is not valid: .*\(height, width\)"):
            synthesizer(image_shape=image_shape).fit(FLAT, y)
        with pytest.raises(ValueError, match=r"image_shape=\(8, 9\), or flat ones of 72 values"):
            synthesizer(image_shape=(8, 9)).fit(FLAT, y)


class TestParts:
    def test_of_classifiers(self, classifier):
        for estimator in (NetClassifier, LogisticRegression(), "net"):
            with pytest.raises(TypeError, match="estimator must be a skorch net, such as"):
                clone(classifier).set_params(estimator=estimator).fit(X, y)
        for synthesizer in (TargetedSynthesizer, NeuralNetClassifier(nn.Linear)):
            with pytest.raises(TypeError, match="must be a TargetedSynthesizer or None"):
                clone(classifier).set_params(synthesizer=synthesizer).fit(X, y)
        trained = FrozenEstimator(classifier.estimator_)
        for estimator, message in (
            ([NetClassifier(), NetClassifier()], "must be one skorch net; got a list of 2"),
            (NeuralNetRegressor(nn.Linear), "estimator must be a classifier"),
            (trained, "estimator is frozen"),
        ):
            with pytest.raises(TypeError, match=message):
                clone(classifier).set_params(estimator=estimator).fit(X, y)

    def test_of_synthesizers_that_augment(self, classifier):
        for given, error, message in (
            (TargetedSynthesizer(NetClassifier()), ValueError, "of its own"),
            (TargetedSynthesizer(radius=-1), ValueError, "'radius' parameter"),
            (TargetedSynthesizer(members="ensemble"), ValueError, "but one net trains"),
            (TargetedSynthesizer(autoencoder=NetClassifier()), TypeError, "no method encode"),
        ):
            with pytest.raises(error, match=message):
                clone(classifier).set_params(synthesizer=given).fit(X, y)

    @pytest.mark.parametrize("call", ["sample", "uncertainty", "reconstruct", "predict"])
    def test_not_fitted_is_said_before_anything_else(self, call):
        one = AugmentedClassifier(warm_up=7) if call == "predict" else TargetedSynthesizer()
        with pytest.raises(NotFittedError, match="not fitted"):
            getattr(one, call)("nonsense")

    def test_sample_weights_are_refused_with_a_way_out(self, classifier, synthesizer):
        for estimator in (clone(classifier), synthesizer()):
            with pytest.raises(TypeError, match=r"fit takes no groups.*GroupKFold"):
                estimator.fit(X, y, groups=np.arange(20))
            with pytest.raises(TypeError, match=r"fit takes no sample_weight.*WeightedRandom"):
                estimator.fit(X, y, sample_weight=np.ones(20))

    def test_other_arguments_of_fit_are_refused_by_what_it_takes(self, classifier, synthesizer):
        with pytest.raises(TypeError, match=r"takes no x_val, only X, y, X_val, y_val: "):
            clone(classifier).fit(X, y, x_val=X)
        with pytest.raises(TypeError, match=r"takes no epochs, only X, y: .* max_epochs"):
            synthesizer().fit(X, y, epochs=3)


LATER = X.copy()
LATER[3, 2, 1] = NAN

# Images, and what is to be read in the message.
IMAGES = {
    "nothing": (None, "X|dtype|array"),
    "a word": ("images", "X|dtype|array"),
    "ragged": ([X[0], X[1, :5]], "X is ragged, but all images must be of one shape"),
    "words": (np.full((20, 8, 8), "a", object), "could not convert string .*'a'"),
    "days": (np.zeros((20, 8, 8), "M8[D]"), r"X has dtype datetime64\[D\]; .* integers or floats"),
    "complex": (X + 1j, "Complex data not supported"),
    "one row": (X[0, 0], "Expected 2D array, got 1D array"),
    "no rows": (X[:0], r"0 sample\(s\)"),
    "no height": (X[:, :0], r"X has shape \(20, 0, 8\), which is empty"),
    "nan": (LATER, "X contains NaN"),
    "infinity": (np.where(X == 1, INF, X), "X contains infinity"),
    "too large": (np.full((20, 8, 8), 1e300), "X has values too large for .*float32"),
    "sparse": (sparse.csr_matrix(FLAT), "Sparse data was passed"),
}


class TestImages:
    @pytest.mark.parametrize("kind", IMAGES)
    def test_that_are_none(self, fitted, classifier, kind):
        wrong, message = IMAGES[kind]
        for call in (
            lambda X: clone(fitted).fit(X, y[: len(X)] if kind == "no rows" else y),
            lambda X: clone(classifier).fit(X, y[: len(X)] if kind == "no rows" else y),
            fitted.uncertainty,
            fitted.reconstruct,
            lambda X: fitted.synthesize(X, y),
            classifier.predict,
            classifier.predict_proba,
            classifier.uncertainty,
        ):
            with pytest.raises((ValueError, TypeError), match=message):
                call(wrong)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (X[:, None, None], "5 dimensions"),
            (X.reshape(-1, 4, 4, 4), "is ambiguous: give image_shape=.n_channels, height"),
            (
                X.reshape(-1, 4, 16),
                "is ambiguous: for grey images, give image_shape=.4, 16.; for a single",
            ),
        ],
    )
    def test_of_layouts_that_are_not_clear(self, fitted, rows, message):
        with pytest.raises(ValueError, match=message):
            clone(fitted).fit(rows, y)

    @pytest.mark.parametrize("method", ["synthesize", "uncertainty", "reconstruct"])
    def test_unlike_those_of_fit(self, fitted, synthesizer, method):
        def call(one, X):
            return getattr(one, method)(*((X, y) if method == "synthesize" else (X,)))

        with pytest.raises(ValueError, match=r"rows of shape \(8, 8\), as in fit"):
            call(fitted, X[:, :7])
        uint8 = np.round(X * 255).astype(np.uint8)
        with pytest.raises(ValueError, match="fitted on uint8 images, which it divides by 255"):
            call(synthesizer().fit(uint8, y), uint8.astype(float))
        with pytest.raises(ValueError, match="X is uint8, which is divided by 255"):
            call(synthesizer().fit(uint8.astype(float), y), uint8)


LABELS = {
    "nothing": (None, "requires y to be passed, but the target y is None"),
    "a word": ("cyst", "at least 1 dimension.* got scalar .array.'cyst'"),
    "ragged": ([[1], [2, 3]] * 10, "inhomogeneous shape"),
    "missing": ([None, "a"] * 10, "y contains missing labels"),
    "no day": (np.array(["NaT", "2020-01-01"] * 10, "M8[D]"), "y contains missing labels"),
    "types mixed": (np.array([1, "a"] * 10, object), "objects of type int and str. .*astype"),
    "continuous": (y + 0.5, "Unknown label type"),
    "infinite": (np.where(y == 0, INF, y), "y contains infinity"),
    "one-hot": (np.eye(4)[y], r"y should be a 1d array, got an array of shape \(20, 4\)"),
    "too many": (np.arange(21) % 2, r"inconsistent numbers of samples: \[20, 21\]"),
    "one class": (np.full(20, 3), "at least two classes; y has one class only: 3"),
}


class TestLabels:
    @pytest.mark.parametrize("kind", LABELS)
    def test_that_are_none(self, fitted, classifier, kind):
        wrong, message = LABELS[kind]
        for call in (clone(fitted).fit, clone(fitted).fit_resample, clone(classifier).fit):
            with pytest.raises((TypeError, ValueError), match=message):
                call(X, wrong)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (None, r"y should be a 1d array, got an array of shape \(\)"),
            (np.c_[y, y], r"y should be a 1d array.*\(20, 2\)"),
            (["a"] * 20, r"not seen in fit: \['a'\]; expected some of \[0"),
            (np.full(20, NAN), "y has labels that were not seen in fit: .nan"),
            (y[:5], "inconsistent numbers of samples"),
        ],
    )
    def test_of_images_to_start_from(self, fitted, wrong, message):
        with pytest.raises(ValueError, match=message):
            fitted.synthesize(X, wrong)

    @pytest.mark.parametrize("missing", ["string", "Int64", "boolean", "category"])
    def test_that_pandas_misses(self, fitted, missing):
        pd = pytest.importorskip("pandas")
        values = {"Int64": [1, None], "boolean": [True, None]}.get(missing, ["a", None])
        with pytest.raises(ValueError, match=r"y contains (missing labels|NaN)"):
            clone(fitted).fit(X, pd.Series(values * 10, dtype=missing))


class TestRequests:
    @pytest.mark.parametrize("n_samples", [0, 1.5, True, "3", None, [3]])
    def test_numbers_that_are_none(self, fitted, n_samples):
        with pytest.raises(ValueError, match=r"n_samples=.* expected an integer of at least 1"):
            fitted.sample(n_samples)

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            ({"y": "1"}, r"not seen in fit: \['1'\]; expected some of \[0, 1, 2, 3\]"),
            ({"y": [0, 9]}, r"not seen in fit: \[9\]"),
            ({"y": {0, 1}}, r"not seen in fit: \[{0, 1}\]"),
            ({"y": []}, "asks for no rows"),
            ({"y": {1: -1}}, r"y=\{1: -1\} is not valid"),
            ({"y": {1: True}}, r"y=\{1: True\} is not valid"),
            ({"n_samples": 3, "y": [0, 1]}, "n_samples=3 contradicts y, which asks for 2 rows"),
            ({"y": [[0, 1]]}, "y has 2 dimensions"),
            ({"random_state": -1}, "Seed must be between 0"),
        ],
    )
    def test_that_cannot_be_met(self, fitted, request_, message):
        with pytest.raises(ValueError, match=message):
            fitted.sample(**request_)

    @pytest.mark.parametrize(
        ("sampling_strategy", "message"),
        [
            (0.5, "a ratio, is defined for two classes; y has 4"),
            ({0: 1}, "asks for 1 rows of class 0; .*synthesis only adds"),
            ({9: 40}, r"must name labels of y, .*; got \[9\]"),
            (lambda y: None, "callable sampling_strategy gave None; expected a dict"),
        ],
    )
    def test_strategies_that_cannot_be_met_before_anything_trains(
        self, fitted, sampling_strategy, message
    ):
        one = clone(fitted).set_params(sampling_strategy=sampling_strategy)
        one.set_params(classifier=NetClassifier(max_epochs=10**9))
        with pytest.raises(ValueError, match=message):
            one.fit_resample(X, y)
