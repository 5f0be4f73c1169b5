"""What is wrong with an input is said in terms of it: which argument, what came, what would do."""

import pickle
import re

import numpy as np
import pytest
import torch
from helpers.small import digits
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from tsynd_sk import AugmentedClassifier, TargetedSynthesis, TargetedSynthesizer
from tsynd_sk.autoencoders._net import AutoencoderNet
from tsynd_sk.classifiers._default import NetClassifier
from tsynd_sk.datasets._image_folder import load_image_folder
from tsynd_sk.datasets._loaders import load_medmnist, load_npz, subsample
from tsynd_sk.images._format import ImageFormat
from tsynd_sk.inspection._synthesis_display import SynthesisDisplay
from tsynd_sk.members._ensemble import EnsembleMembers

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


def table(*rows):
    """Rows of ids and arguments as parameters of a test."""
    return [pytest.param(*row[1:], id=row[0]) for row in rows]


def one_of(*names):
    return "must be a str among " + "".join(rf"(?=.*'{name}')" for name in names)


INT = r"must be an int in the range \[{}, inf\)"
OBJECTIVES = one_of("mutual_info", "entropy", "random", "reconstruction")

SYNTHESIZER = [
    ("objective", 3, OBJECTIVES),
    ("objective", None, OBJECTIVES),
    ("members", None, one_of("auto", "dropout", "laplace", "ensemble")),
    ("n_members", True, INT.format(2)),
    ("n_members", 8.0, INT.format(2)),
    ("n_members", "8", INT.format(2)),
    ("n_members", NAN, INT.format(2)),
    ("restrict", 1.5, r"among \{'last'\}, an int .* 'list'.* or None"),
    ("restrict", b"last", r"among \{'last'\}, an int .* 'list'.* or None"),
    ("radius", "0.5", r"must be a float in the range \(0.0, inf\)"),
    ("radius", NAN, r"must be a float in the range \(0.0, inf\)"),
    ("radius", INF, r"must be a float in the range \(0.0, inf\)"),
    ("radius", [0.5], r"must be a float in the range \(0.0, inf\)"),
    ("random_start", -0.1, r"must be a float in the range \[0.0, 1.0\]"),
    ("random_start", 1.5, r"must be a float in the range \[0.0, 1.0\]"),
    ("random_start", None, r"must be a float in the range \[0.0, 1.0\]"),
    ("max_iter", 2.5, INT.format(1)),
    ("max_iter", None, INT.format(1)),
    ("label_policy", True, one_of("constrain", "keep")),
    ("label_policy", ["keep"], one_of("constrain", "keep")),
    ("sampling_strategy", -0.5, r"a float in the range \(0.0, 1.0\], .* 'dict' or a callable"),
    ("sampling_strategy", NAN, r"a float in the range \(0.0, 1.0\], .* 'dict' or a callable"),
    ("sampling_strategy", None, r"a float in the range \(0.0, 1.0\], .* 'dict' or a callable"),
    ("image_shape", "8x8", "must be an instance of 'tuple', .* 'list' or None"),
    ("image_shape", {8, 9}, "must be an instance of 'tuple', .* 'list' or None"),
    ("batch_size", -1, INT.format(1)),
    ("batch_size", 16.0, INT.format(1)),
    ("device", 0, "must be an instance of 'str', an instance of 'torch.device' or None"),
    ("device", True, "must be an instance of 'str', an instance of 'torch.device' or None"),
    ("n_jobs", 0, r"an int in the range \[1, inf\), an int in the range \(-inf, -1\] or None"),
    ("n_jobs", 1.5, r"an int in the range \[1, inf\), an int in the range \(-inf, -1\] or None"),
    ("verbose", -1, r"must be an int in the range \[0, inf\)"),
    ("verbose", "yes", r"must be an int in the range \[0, inf\)"),
    ("random_state", -1, r"an int in the range \[0, 4294967295\], .*RandomState.* or None"),
    ("random_state", 2**32, r"an int in the range \[0, 4294967295\], .*RandomState.* or None"),
    ("random_state", 1.5, r"an int in the range \[0, 4294967295\], .*RandomState.* or None"),
    ("random_state", np.random.default_rng(0), r"'numpy.random.mtrand.RandomState' or None"),
]
CLASSIFIER = [
    ("synthetic_ratio", "1", r"must be a float in the range \[0.0, inf\)"),
    ("synthetic_ratio", NAN, r"must be a float in the range \[0.0, inf\)"),
    ("synthetic_ratio", None, r"must be a float in the range \[0.0, inf\)"),
    ("warm_up", -0.1, r"must be a float in the range \[0.0, 1.0\]"),
    ("warm_up", NAN, r"must be a float in the range \[0.0, 1.0\]"),
    ("warm_up", "all", r"must be a float in the range \[0.0, 1.0\]"),
    ("refresh_every", 2.0, INT.format(1)),
    ("refresh_every", None, INT.format(1)),
    ("batches", "together", one_of("apart", "mixed")),
    ("batches", None, one_of("apart", "mixed")),
    ("n_snapshots", 1.0, r"must be an int in the range \[0, inf\)"),
    ("n_snapshots", "2", r"must be an int in the range \[0, inf\)"),
    ("n_peers", -1, r"must be an int in the range \[0, inf\)"),
    ("n_peers", None, r"must be an int in the range \[0, inf\)"),
    ("verbose", None, r"must be an int in the range \[0, inf\)"),
    ("random_state", -1, r"an int in the range \[0, 4294967295\]"),
]


def named(rows):
    # Addresses differ from process to process, names may not.
    shown = [re.sub(" at 0x.*", "", repr(value)) for _, value, *_ in rows]
    return [pytest.param(*row, id=f"{row[0]}={s:.30}") for row, s in zip(rows, shown, strict=True)]


class TestParameters:
    @pytest.mark.parametrize(("name", "value", "expected"), named(SYNTHESIZER))
    def test_of_synthesizers(self, synthesizer, name, value, expected):
        message = f"'{name}' parameter of TargetedSynthesizer .*{expected}.* Got "
        for learn in ("fit", "fit_resample"):
            if (learn, name) == ("fit_resample", "sampling_strategy"):
                # It is understood, and refused, before anything is learnt.
                message = "sampling_strategy"
            with pytest.raises(ValueError, match=message):
                getattr(synthesizer(**{name: value}), learn)(X, y)

    @pytest.mark.parametrize(("name", "value", "expected"), named(CLASSIFIER))
    def test_of_classifiers(self, classifier, name, value, expected):
        message = f"'{name}' parameter of AugmentedClassifier .*{expected}.* Got "
        with pytest.raises(ValueError, match=message):
            clone(classifier).set_params(**{name: value}).fit(X, y)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("synthetic_ratio", "1"), ("n_snapshots", None), ("random_state", -1)],
    )
    def test_of_the_callback(self, name, value):
        net = NetClassifier(max_epochs=1, callbacks=[TargetedSynthesis(**{name: value})])
        with pytest.raises(ValueError, match=f"'{name}' parameter of TargetedSynthesis .* Got "):
            net.fit(X[:, None], y)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("radius", -1.0),
            ("objective", "bald"),
            ("batch_size", 0),
            ("n_jobs", 0),
            ("label_policy", None),
        ],
    )
    def test_set_after_fit_are_checked_before_synthesis(self, fitted, name, value):
        fitted = pickle.loads(pickle.dumps(fitted)).set_params(**{name: value})
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

    @pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "", torch.device("cuda:99")])
    def test_device_that_is_not_there_is_named_for_fitted_nets_too(self, synthesizer, device):
        with pytest.raises(ValueError, match=r"device=.* is not to be had here.*or give 'cpu'"):
            synthesizer(device=device).fit(X, y)

    @pytest.mark.parametrize(
        "image_shape", [(INF, 8), (NAN, 8), (8, -8), (None, 8), ("8", "8"), (), (1, 1, 8, 8)]
    )
    def test_image_shape_that_is_none(self, synthesizer, image_shape):
        with pytest.raises(ValueError, match=r"image_shape=.* is not valid: .*\(height, width\)"):
            synthesizer(image_shape=image_shape).fit(FLAT, y)


OBJECTS = np.full((20, 8, 8), "a", object)
LATER = X.copy()
LATER[3, 2, 1] = NAN

IMAGES = table(
    ("nothing", None, "X must be an array of images.* got a NoneType"),
    ("a word", "images", "X must be an array of images.* got a str"),
    ("a number", 3.0, "X must be an array of images.* got a float"),
    ("a dict", {"X": 1}, "X must be an array of images.* got a dict"),
    ("a generator", (row for row in X), "X must be an array of images.* got a generator"),
    ("a module", nn.Linear(1, 1), "X must be an array of images.* got a Linear"),
    ("ragged rows", [[1, 2], [3]], "X is ragged, but all images must be of one shape"),
    ("ragged images", [X[0], X[1, :5]], "X is ragged, but all images must be of one shape"),
    ("words", OBJECTS, "X must hold numbers only: could not convert string .*'a'"),
    ("days", np.zeros((20, 8, 8), "M8[D]"), r"X has dtype datetime64\[D\]; .* integers or floats"),
    ("hours", np.zeros((20, 64), "m8[h]"), r"X has dtype timedelta64\[h\]; .* integers or floats"),
    ("one row", X[0, 0], "Expected 2D array, got 1D array"),
    ("no rows", [], "Expected 2D array, got 1D array"),
    ("no height", X[:, :0], r"X has shape \(20, 0, 8\): there is nothing in it"),
    ("one nan", LATER, "X contains NaN"),
    ("one nan among objects", LATER.astype(object), "X contains NaN"),
    ("long floats", np.full((20, 8, 8), 1e300), r"X has values too large for .*float32"),
    ("longer floats", np.full((20, 8, 8), 1e300, "g"), r"X has values too large for .*float32"),
)

LABELS = table(
    ("a word", "cyst", "y must be an array with one label for each row; got 'cyst'"),
    ("a number", 3, "y must be an array with one label for each row; got 3"),
    ("a dict", {0: 10, 1: 10}, "y must be an array with one label for each row; got {0: 10"),
    ("ragged", [[1], [2, 3]] * 10, "y is ragged; expected one label for each row"),
    ("missing", [None, "a"] * 10, "y contains missing labels"),
    ("missing among words", np.array([NAN, "a"] * 10, object), "y contains missing labels"),
    ("no day", np.array(["NaT", "2020-01-01"] * 10, "M8[D]"), "y contains NaT"),
    ("types mixed", np.array([1, "a"] * 10, object), "objects of type int and str. .*astype"),
    ("word first", np.array(["a", 1] * 10, object), "objects of type int and str. .*astype"),
    ("tuples", np.fromiter([(1,), (2,)] * 10, object), "objects of type tuple"),
    ("complex", y + 1j, "Complex data not supported"),
    ("infinite", np.where(y == 0, INF, y), "y contains infinity"),
    ("one-hot", np.eye(4)[y], r"y should be a 1d array, got an array of shape \(20, 4\)"),
    ("none", [], "0 sample"),
    ("too many", np.arange(21) % 2, r"inconsistent numbers of samples: \[20, 21\]"),
)


class TestImages:
    @pytest.mark.parametrize(("wrong", "message"), IMAGES)
    def test_that_are_none(self, fitted, classifier, wrong, message):
        for estimator in (fitted, classifier):
            with pytest.raises(ValueError, match=message):
                clone(estimator).fit(wrong, y)
        for call in (
            fitted.uncertainty,
            fitted.reconstruct,
            lambda X: fitted.synthesize(X, y),
            classifier.predict,
            classifier.predict_proba,
            classifier.uncertainty,
        ):
            with pytest.raises(ValueError, match=message):
                call(wrong)

    def test_of_five_dimensions(self, fitted, classifier):
        with pytest.raises(ValueError, match=r"X has 5 dimensions; expected .*\(n, n_features\)"):
            clone(fitted).fit(X[:, None, None], y)
        with pytest.raises(ValueError, match=r"shape \(1, 1, 8, 8\).*expecting .*\(8, 8\)"):
            classifier.predict(X[:, None, None])

    @pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array, sparse.lil_array])
    def test_that_are_sparse(self, fitted, classifier, kind):
        for call in (lambda X: clone(fitted).fit(X, y), fitted.reconstruct, classifier.predict):
            with pytest.raises(TypeError, match=r"Sparse data was passed for X.*toarray"):
                call(kind(FLAT))


class TestLabels:
    @pytest.mark.parametrize(("wrong", "message"), LABELS)
    def test_that_are_none(self, fitted, classifier, wrong, message):
        for call in (
            clone(fitted).fit,
            clone(fitted).fit_resample,
            clone(classifier).fit,
        ):
            with pytest.raises(ValueError, match=message):
                call(X, wrong)

    @pytest.mark.parametrize(
        ("wrong", "error", "message"),
        table(
            ("nothing", None, ValueError, "y must be an array with one label for each row"),
            ("ragged", [[1], [2, 3]] * 10, ValueError, "y is ragged"),
            ("two columns", np.c_[y, y], ValueError, r"y should be a 1d array.*\(20, 2\)"),
            ("words", ["a"] * 20, ValueError, r"not seen in fit: \['a'\]; expected some of \[0"),
            ("nan", np.full(20, NAN), ValueError, "y has labels that were not seen in fit: .nan"),
            ("sparse", sparse.csr_matrix(y[:, None]), TypeError, "Sparse data was passed for y"),
        ),
    )
    def test_of_images_to_start_from(self, fitted, wrong, error, message):
        with pytest.raises(error, match=message):
            fitted.synthesize(X, wrong)

    @pytest.mark.parametrize("missing", ["string", "Int64", "boolean", "category"])
    def test_that_pandas_misses(self, fitted, missing):
        pd = pytest.importorskip("pandas")
        values = {"Int64": [1, None], "boolean": [True, None]}.get(missing, ["a", None])
        with pytest.raises(ValueError, match=r"y contains (missing labels|NaN)"):
            clone(fitted).fit(X, pd.Series(values * 10, dtype=missing))


class TestRequests:
    @pytest.mark.parametrize(
        ("request_", "message"),
        table(
            ("too many", {"n_samples": 10**30}, "n_samples asks for 1000.* rows"),
            ("too many of one", {"y": {0: 10**30}}, "y asks for 1000.* rows"),
            ("number list", {"n_samples": [3]}, r"n_samples=\[3\] is not valid: .* integer"),
            ("number nan", {"n_samples": NAN}, "n_samples=nan is not valid: .* integer"),
            ("number array", {"n_samples": np.array(3)}, r"n_samples=array\(3\) is not valid"),
            ("set", {"y": {0, 1}}, r"not seen in fit: \[{0, 1}\]; expected some of"),
            ("ragged", {"y": [[0], [1, 2]]}, "y is ragged; expected a label or a 1-D array"),
            ("generator", {"y": (i for i in y)}, "not seen in fit: .<generator"),
            ("missing", {"y": [None, 0]}, r"not seen in fit: \[None\]"),
            ("nan", {"y": NAN}, r"not seen in fit: \[nan\]"),
            ("list of lists", {"y": {0: [1]}}, r"y={0: \[1\]} is not valid"),
            ("seed word", {"random_state": "a"}, "'random_state' parameter .* Got 'a'"),
            ("seed negative", {"random_state": -1}, "'random_state' parameter .* Got -1"),
            (
                "generator of numpy",
                {"random_state": np.random.default_rng(0)},
                "'random_state' parameter .*RandomState",
            ),
        ),
    )
    def test_that_cannot_be_met(self, fitted, request_, message):
        with pytest.raises(ValueError, match=message):
            fitted.sample(**request_)

    @pytest.mark.parametrize("name", ["n", "labels", "seed"])
    def test_arguments_that_are_none(self, fitted, name):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            fitted.sample(2, **{name: 1})

    @pytest.mark.parametrize(
        ("sampling_strategy", "message"),
        [
            ({0: 10**30}, "sampling_strategy asks for 1000.* rows"),
            ({None: 3}, r"labels that are not in y: \[None\]"),
            ({0: NAN}, "sampling_strategy asks for nan rows of class 0"),
            (lambda y: None, "callable sampling_strategy gave None; expected a dict"),
        ],
    )
    def test_strategies_that_are_none(self, synthesizer, sampling_strategy, message):
        with pytest.raises(ValueError, match=message):
            synthesizer(sampling_strategy=sampling_strategy).fit_resample(X, y)


class TestFormats:
    def test_of_something_else_than_arrays(self):
        for wrong in (X.tolist(), None, 3):
            with pytest.raises(TypeError, match=r"X must be an array, got a .*numpy.asarray"):
                ImageFormat.infer(wrong)

    def test_of_other_rows(self):
        image_format = ImageFormat.infer(X)
        with pytest.raises(ValueError, match=r"rows of shape \(7, 8\); expected \(8, 8\)"):
            image_format.to_tensor(X[:, 1:])
        for wrong, shown in [(torch.ones(2, 8, 8), r"\(2, 8, 8\)"), (X, "a ndarray")]:
            with pytest.raises(ValueError, match=rf"x must be a Tensor .*\(1, 8, 8\); got {shown}"):
                image_format.to_array(wrong)


def display(**params):
    arguments = {
        "source": X[:2],
        "synthetic": X[:2],
        "uncertainty_source": [0.1, 0.2],
        "uncertainty": [0.1, 0.2],
        "label_agreement": [True, False],
    }
    return SynthesisDisplay(**{**arguments, **params})


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    table(
        ("no source", "source", None, r"source and synthetic must be images .*got \(\) and"),
        ("one source", "source", X[0], r"source and synthetic must be images .*got \(8, 8\)"),
        ("none at all", "source", X[:0], r"source and synthetic must be images .*\(0, 8, 8\)"),
        ("narrower", "synthetic", X[:2, 1:], r"must be images of one shape.*\(2, 7, 8\)"),
        ("uncertainty", "uncertainty", [0.1], r"uncertainty must have one value .* 2 .*\(1,\)"),
        ("sources'", "uncertainty_source", None, "uncertainty_source must have one value"),
        ("agreement", "label_agreement", [True] * 3, "label_agreement must have one value"),
        ("labels", "labels", [1], r"labels must have one value for each of the 2 .*\(1,\)"),
        ("range", "value_range", 255, r"value_range must be \(low, high\) or None; got 255"),
    ),
)
def test_displays_of_something_else(name, wrong, message):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=message):
        display(**{name: wrong}).plot()


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (TargetedSynthesizer(), NotFittedError, "TargetedSynthesizer .* not fitted"),
        (NetClassifier(), NotFittedError, "NetClassifier .* not fitted"),
        (None, TypeError, "None is not an estimator"),
    ],
)
def test_displays_from_something_else(estimator, error, message):
    with pytest.raises(error, match=message):
        SynthesisDisplay.from_estimator(estimator, X)


@pytest.mark.parametrize(
    ("call", "name"),
    table(
        ("npz nothing", lambda: load_npz(None), "path"),
        ("npz number", lambda: load_npz(3), "path"),
        ("npz split", lambda: load_npz("own.npz", split="valid"), "split"),
        ("folder bytes", lambda: load_image_folder(b"images"), "path"),
        ("folder size", lambda: load_image_folder("images", size=28.0), "size"),
        ("medmnist name", lambda: load_medmnist(None), "name"),
        ("subsample number", lambda: subsample([0, 1], "1"), "n_samples"),
        ("subsample stratify", lambda: subsample([0, 1], 1, stratify="no"), "stratify"),
        ("subsample seed", lambda: subsample([0, 1], 1, random_state=-1), "random_state"),
    ),
)
def test_arguments_of_loaders(call, name):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of .* must be .* Got "):
        call()


@pytest.mark.parametrize(
    ("wrong", "message"),
    table(
        ("nothing", None, "y must be an array with one label for each row; got None"),
        ("word", "ab", "y must be an array with one label for each row; got 'ab'"),
        ("mixed", np.array([1, "a"], object), "objects of type int and str"),
        ("missing", [None, "a"], "y contains missing labels"),
        ("two columns", [[1, 2], [3, 4]], r"y should be a 1d array.*\(2, 2\)"),
    ),
)
def test_labels_to_subsample(wrong, message):
    with pytest.raises(ValueError, match=message):
        subsample(wrong, 1)


def test_modules_that_are_none():
    with pytest.raises(TypeError, match=r"modules\[0\] must be a torch.nn.Module, got a str"):
        EnsembleMembers(["net"], [lambda x: x])


def test_estimators_that_are_none(classifier):
    for estimator in (NetClassifier, "net", 3, NAN):
        with pytest.raises(TypeError, match="estimator must be a skorch net, for instance"):
            clone(classifier).set_params(estimator=estimator).fit(X, y)
    for synthesizer in (TargetedSynthesizer, "auto", 3, NeuralNetClassifier(nn.Linear)):
        with pytest.raises(TypeError, match="synthesizer must be a TargetedSynthesizer or None"):
            clone(classifier).set_params(synthesizer=synthesizer).fit(X, y)
