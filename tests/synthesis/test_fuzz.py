"""Whatever array and labels come, an answer holds what was promised, or a refusal says why."""

from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from helpers.odd_arrays import MEMORY, dtypes, images, labels, laid_out, seeds
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk._utils._labels import encode_labels
from tsynd_sk.autoencoders import AutoencoderNet, DenseAutoencoder, PatchAutoencoder
from tsynd_sk.classifiers import ConvNet, DenseNet, NetClassifier
from tsynd_sk.images import check_images
from tsynd_sk.synthesis._sampling import (
    check_labels,
    requested_codes,
)

pytestmark = pytest.mark.slow


def examples(n, phases=tuple(Phase)):
    """So many examples, the same ones in every run, however busy the machine is."""
    return settings(
        max_examples=n,
        phases=phases,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@contextmanager
def refusals():
    """Let the documented exceptions pass, with a message."""
    refusal = None
    try:
        yield
    except (ValueError, TypeError, NotFittedError) as error:
        refusal = error
    if refusal is not None:
        assert len(str(refusal)) > 15


class Seeing:
    """What learns the format of images, and nothing else."""

    def __sklearn_tags__(self):
        return TargetedSynthesizer().__sklearn_tags__()

    def fit(self, X, image_shape=None):
        self.X = check_images(self, X, reset=True, image_shape=image_shape)
        return self


@st.composite
def anything(draw):
    """Array of any shape, dtype and numbers, good or bad."""
    shape = draw(st.lists(st.integers(0, 6), max_size=5))
    rng = np.random.default_rng(draw(seeds))
    dtype = draw(st.one_of(dtypes, st.sampled_from(["c8", "M8[D]", "m8[s]", "U3", "S2", "O", "g"])))
    X = np.array(10 * rng.standard_normal(shape))
    if draw(st.booleans()) and X.size:
        X.flat[0] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e39, 3e38, 1e-45]))
    with np.errstate(all="ignore"):
        X = np.asarray(X.astype("i8") if np.dtype(dtype).kind in "mM" else X).astype(dtype)
    return laid_out(X, draw(st.sampled_from(MEMORY)), rng) if X.ndim > 1 and X.size else X


SIDES = st.one_of(st.integers(-1, 9), st.sampled_from([1.5, 2.0, True, None, "3", np.int64(4)]))


@given(anything(), st.one_of(st.none(), st.lists(SIDES, max_size=4).map(tuple)))
@examples(200)
@pytest.mark.filterwarnings("ignore")
def test_any_array_is_learnt_or_refused(X, image_shape):
    # By bytes, for nan is not equal to nan.
    before = X.tobytes()
    seeing = Seeing()
    with refusals():
        seeing.fit(X, image_shape)
    if hasattr(seeing, "format_"):
        assert seeing.X.dtype.kind in "buif"
        assert seeing.format_.to_tensor(seeing.X).isfinite().all()
        assert getattr(seeing, "n_features_in_", None) == (X.shape[1] if X.ndim == 2 else None)
        assert seeing.image_shape_ is None or np.prod(seeing.image_shape_) == X[0].size
    assert X.tobytes() == before


LABELS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=3),
    st.booleans(),
    st.none(),
    st.binary(max_size=2),
    st.tuples(st.integers(0, 1)),
    st.sampled_from([np.int64(3), np.float32(0.5), np.str_("a"), np.datetime64("NaT"), 1j, [1]]),
)


@given(st.lists(LABELS, max_size=6), st.booleans())
@examples(200)
@pytest.mark.filterwarnings("ignore")
def test_any_labels_are_learnt_or_refused(values, as_objects):
    y = values
    if as_objects:
        y = np.empty(len(values), object)
        y[:] = values
    with refusals():
        checked = check_labels(Seeing(), y, np.ones((len(values), 3)))
        classes = np.unique(checked)
        codes = encode_labels(checked, classes)
        np.testing.assert_array_equal(classes[codes], checked)
        assert len(classes) >= 2


KNOWN = np.array(["a", "b", "c"])
ASKED = st.one_of(st.sampled_from(["a", "b", "c"]), LABELS)
REQUESTS = st.one_of(
    st.none(),
    ASKED,
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=6),
    st.lists(ASKED, max_size=3),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 5)),
    st.dictionaries(
        st.sampled_from(["a", "b", 1, None]),
        st.one_of(st.integers(-1, 4), st.sampled_from([True, 1.0, np.uint8(2), "2"])),
    ),
)


@given(
    st.one_of(st.just(1), st.integers(-1, 9), st.sampled_from([True, 2.0, None])),
    REQUESTS,
    st.lists(st.integers(0, 2), min_size=1, max_size=9),
    seeds,
)
@examples(200)
def test_any_request_is_met_exactly_or_refused(n_samples, y, pool, seed):
    pool, rng = np.array(pool), np.random.RandomState(seed)
    codes = None
    with refusals():
        codes = requested_codes(n_samples, y, KNOWN, pool, rng)
    if codes is None:
        return
    answered = KNOWN[codes].tolist()
    assert set(codes) <= set(pool)
    if y is None:
        quotas = n_samples * np.bincount(pool, minlength=3) / len(pool)
        assert (np.abs(np.bincount(codes, minlength=3) - quotas) < 1).all()
    elif isinstance(y, dict):
        assert Counter(answered) == Counter({label: int(n) for label, n in y.items() if n})
    else:
        assert answered == (y if isinstance(y, list) else [y] * n_samples)


def nets(table):
    small = {"max_epochs": 1, "module__width": 3}
    return (
        NetClassifier(DenseNet if table else ConvNet, **small),
        AutoencoderNet(
            DenseAutoencoder if table else PatchAutoencoder, epoch_size=8, batch_size=8, **small
        ),
    )


@st.composite
def tasks(draw):
    """Images, labels, and a synthesizer with tiny nets for them."""
    X, image_shape = draw(images(n_rows=draw(st.sampled_from([2, 3, 5, 11, 24, 40]))))
    y = draw(labels(len(X)))
    params = {
        "objective": draw(st.sampled_from(["mutual_info", "entropy", "random", None])),
        "keep_detail": draw(st.booleans()),
        "members": draw(st.sampled_from(["auto", "dropout", "laplace"])),
        "label_policy": draw(st.sampled_from(["constrain", "keep"])),
        "radius": draw(st.sampled_from([1e-6, 0.5, np.float32(3), 100])),
        "batch_size": draw(st.sampled_from([1, 5, 64])),
        "n_members": draw(st.integers(2, 4)),
        "random_state": draw(st.integers(0, 2**32 - 1)),
    }
    if params["objective"] is None:
        params["objective"] = "duplicate" if params["keep_detail"] else "reconstruction"
    table = X.ndim == 2 and image_shape is None
    return X, y, TargetedSynthesizer(*nets(table), image_shape=image_shape, max_iter=2, **params)


def diverges(X):
    """Tell whether the squares of images are too large for float32 to train on."""
    return np.abs(X.astype(np.float64)).max() > 1e12


def check_answer(synthesizer, X, y, answer):
    """Check what is promised of every synthetic image."""
    X_new, y_new, info = answer
    n = len(y_new)
    check_images_like(synthesizer, X, X_new)
    assert len(X_new) == n
    assert y_new.dtype == np.asarray(y).dtype
    assert info.source_index.min() >= 0
    assert info.source_index.max() < len(X)
    np.testing.assert_array_equal(np.asarray(y)[info.source_index], y_new)
    for name in ("uncertainty_source", "uncertainty"):
        check_information(synthesizer, info[name], n)
    assert ((info.displacement >= 0) & (info.displacement <= synthesizer.radius * 1.0001)).all()
    assert np.isfinite(info.reconstruction_error).all()
    assert info.label_agreement.dtype == bool


def check_information(synthesizer, values, n):
    bound = np.log(min(synthesizer.n_members, len(synthesizer.classes_)))
    assert values.shape == (n,)
    assert ((values >= 0) & (values <= np.float32(bound))).all()


def check_images_like(synthesizer, X, X_new):
    assert isinstance(X_new, np.ndarray)
    assert X_new.shape[1:] == X.shape[1:]
    assert X_new.dtype == X.dtype
    assert np.isfinite(X_new).all()
    axis = 0 if synthesizer.image_shape_ is None else None
    assert (X_new >= X.min(axis)).all()
    assert (X_new <= X.max(axis)).all()


# Failures are not shrunk, which would take minutes of training.
ONCE = (Phase.explicit, Phase.generate)


@given(tasks(), st.integers(1, 20))
@examples(50, ONCE)
@pytest.mark.filterwarnings("ignore")
def test_synthesizers_keep_their_promises(task, n_samples):
    X, y, synthesizer = task
    before = X.copy(), list(y)
    with refusals():
        synthesizer.fit(X, y)
    if not hasattr(synthesizer, "classes_"):
        assert diverges(X)
        return
    np.testing.assert_array_equal(synthesizer.classes_, np.unique(y))
    answer = synthesizer.sample(n_samples, return_info=True)
    assert len(answer[0]) == n_samples
    check_answer(synthesizer, X, y, answer)
    answer = synthesizer.synthesize(X[:3], y[:3], return_info=True)
    np.testing.assert_array_equal(answer[1], y[:3])
    check_answer(synthesizer, X[:3], y[:3], answer) if len(X) == 3 else None
    reconstructed = synthesizer.reconstruct(X)
    assert len(reconstructed) == len(X)
    check_images_like(synthesizer, X, reconstructed)
    check_information(synthesizer, synthesizer.uncertainty(X), len(X))
    np.testing.assert_array_equal(X, before[0])
    assert list(y) == before[1]


@given(tasks(), st.sampled_from([0.0, 0.01, 0.5, 2.5]))
@examples(20, ONCE)
@pytest.mark.filterwarnings("ignore")
def test_classifiers_keep_their_promises(task, synthetic_ratio):
    X, y, synthesizer = task
    before = X.copy()
    net = synthesizer.classifier.set_params(max_epochs=2)
    classifier = AugmentedClassifier(
        net,
        synthesizer.set_params(classifier=None),
        synthetic_ratio=synthetic_ratio,
        refresh_every=1,
        random_state=0,
    )
    with refusals():
        classifier.fit(X, y)
    if not hasattr(classifier, "classes_"):
        assert diverges(X)
        return
    predicted, proba = classifier.predict(X), classifier.predict_proba(X)
    np.testing.assert_array_equal(classifier.classes_, np.unique(y))
    assert set(predicted.tolist()) <= set(np.asarray(y).tolist())
    assert proba.shape == (len(X), len(classifier.classes_))
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(classifier.classes_[proba.argmax(1)], predicted)
    assert len(classifier.history_) == 2
    check = classifier.uncertainty(X)
    assert ((check >= 0) & (check <= np.float32(np.log(len(classifier.classes_))))).all()
    if synthetic_ratio:
        answer = classifier.synthesizer_.sample(5, return_info=True)
        check_answer(classifier.synthesizer_, X, y, answer)
    np.testing.assert_array_equal(X, before)
