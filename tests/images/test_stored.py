"""Images that are not in memory are read in parts, and give what they would give in memory."""

import errno
import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from helpers.tiny_nets import net, own_net
from scipy import sparse
from skorch.dataset import Dataset, ValidSplit

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk._skorch import _training
from tsynd_sk.autoencoders._components import DenseAutoencoder
from tsynd_sk.autoencoders._net import AutoencoderNet
from tsynd_sk.classifiers._default import DenseNet
from tsynd_sk.images import _stored as _arrays
from tsynd_sk.images._format import ImageFormat
from tsynd_sk.images._stored import NetworkInput, Selection, Stored, empty_on_disk, is_stored
from tsynd_sk.synthesis._training_data import AugmentingIterator


class Duck:
    """As little of an array as is needed, which tells how many rows it was asked for at a time."""

    def __init__(self, array):
        self.array, self.reads = array, []
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, rows):
        self.reads.append(np.size(np.arange(self.shape[0])[rows]))
        return self.array[rows]


class Hdf5(Duck):
    """Refuses what h5py refuses."""

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            assert rows.step in (1, None), "Step must be >= 1"
        elif np.ndim(rows):
            assert (np.diff(rows) > 0).all(), "Indexing elements must be in increasing order"
        return super().__getitem__(rows)

    def __reduce__(self):
        raise TypeError("h5py objects cannot be pickled")


@pytest.fixture
def stores(tmp_path):
    """Put an array where it is not in memory."""

    def memmap(array):
        np.save(tmp_path / "images.npy", array)
        return np.load(tmp_path / "images.npy", mmap_mode="r")

    def zarr_(array):
        chunks = (7, *array.shape[1:])
        stored = zarr.create_array(
            tmp_path / "images.zarr", shape=array.shape, dtype=array.dtype, chunks=chunks
        )
        stored[:] = array
        return stored

    return {"memmap": memmap, "zarr": zarr_, "hdf5": Hdf5, "duck": Duck}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    # Of the images below, between three and fifty rows.
    monkeypatch.setattr(_arrays, "PART_BYTES", 3200)


ROW_SHAPES = {
    "grey": (8, 8),
    "channels last": (8, 8, 3),
    "channels first": (3, 8, 8),
    "flat": (64,),
    "table": (6,),
}


def make(layout, dtype, n=60):
    """Images of three classes, and labels."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(n) % 3)
    X = rng.random((n, *ROW_SHAPES[layout])) + y.reshape(n, *[1] * len(ROW_SHAPES[layout])) / 3
    X = X * 120 if dtype == "uint8" else X
    return X.astype(dtype), np.array(["a", "b", "c"])[y]


def synthesizer(layout, classifier=None, **params):
    module = {"module": DenseAutoencoder} if layout == "table" else {"module__width": 4}
    return TargetedSynthesizer(
        classifier,
        AutoencoderNet(max_epochs=1, epoch_size=64, **module),
        n_members=4,
        max_iter=2,
        batch_size=16,
        image_shape=(8, 8) if layout == "flat" else None,
        random_state=0,
        **params,
    )


def classifier(layout, **params):
    module = {"module": DenseNet} if layout == "table" else {"module__width": 2}
    return net(**{**module, "module__dropout": 0.5, "max_epochs": 2, **params})


def augmented(layout, estimator=None, **params):
    estimator = classifier(layout) if estimator is None else estimator
    return AugmentedClassifier(
        estimator, synthesizer(layout), refresh_every=1, random_state=0, **params
    )


def of_synthesizer(estimator, X, y):
    estimator.fit(X, y)
    *sampled, info = estimator.sample(70, return_info=True)
    return [
        *sampled,
        *info.values(),
        *estimator.synthesize(X, y),
        estimator.uncertainty(X),
        estimator.reconstruct(X),
        *estimator.set_params(sampling_strategy={"a": len(y) // 2}).fit_resample(X, y),
        estimator.sample_indices_,
    ]


def of_classifier(estimator, X, y):
    estimator.fit(X, y)
    loss = estimator.history_[:, "train_loss"]
    sampled = estimator.synthesizer_.sample(30)
    return [
        np.array(loss),
        estimator.predict(X),
        estimator.predict_proba(X),
        estimator.uncertainty(X),
        *sampled,
    ]


def assert_equal(answers, expected):
    for one, other in zip(answers, expected, strict=True):
        assert type(one) is np.ndarray
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


CASES = [
    ("grey", "uint8", "memmap"),
    ("channels last", "float32", "hdf5"),
    ("flat", ">f4", "duck"),
    ("table", "float64", "zarr"),
]


class Copied(Dataset):
    """A user's data set with a transform of its own, which leaves images as they are."""

    def transform(self, X, y):
        X, y = super().transform(X, y)
        return X.copy(), y


class Tensors(torch.utils.data.Dataset):
    """A user's data set of its own kind."""

    def __init__(self, X, y=None, length=None):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return torch.from_numpy(self.X[i]), torch.tensor(0 if self.y is None else self.y[i])


NETS = {
    "data set": lambda: classifier(
        "grey", dataset=Copied, train_split=ValidSplit(0.3, stratified=True)
    ),
    "own data set": lambda: classifier("grey", dataset=Tensors),
    "plain skorch": lambda: own_net(max_epochs=2, module__n_out=3),
}


class TestBits:
    @pytest.mark.parametrize(("layout", "dtype", "store"), CASES)
    def test_of_a_synthesizer_are_those_in_memory(self, stores, layout, dtype, store):
        X, y = make(layout, dtype)
        estimator = synthesizer(layout, classifier(layout))
        expected = of_synthesizer(estimator, X, y)
        assert_equal(of_synthesizer(estimator, stores[store](X), y), expected)

    @pytest.mark.parametrize(("layout", "dtype", "store"), CASES)
    def test_of_a_classifier_are_those_in_memory(self, stores, layout, dtype, store):
        X, y = make(layout, dtype)
        expected = of_classifier(augmented(layout), X, y)
        assert_equal(of_classifier(augmented(layout), stores[store](X), y), expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("given", NETS)
    def test_are_those_in_memory_for_nets_that_handle_data_themselves(self, stores, given):
        X, y = make("grey", "uint8")
        for estimator, answers in (
            (synthesizer("grey", NETS[given]()), of_synthesizer),
            (augmented("grey", NETS[given]()), of_classifier),
        ):
            expected = answers(estimator, X, y)
            assert_equal(answers(estimator, stores["hdf5"](X), y), expected)

    @pytest.mark.slow
    def test_are_those_in_memory_with_a_posterior_and_an_ensemble(self, stores):
        X, y = make("grey", "float32")
        stored = stores["memmap"](X)
        for nets, members in (
            (classifier("grey"), "laplace"),
            ([classifier("grey"), classifier("grey")], "ensemble"),
        ):
            estimator = synthesizer("grey", nets, members=members)
            expected = of_synthesizer(estimator, X, y)
            assert_equal(of_synthesizer(estimator, stored, y), expected)


class TestMemory:
    @pytest.mark.parametrize("members", ["auto", "laplace"])
    def test_no_more_rows_are_read_at_once_than_a_batch_or_a_part(self, members):
        # A part has 50 rows, a batch of either kind 16.
        X, y = make("grey", "uint8", n=120)
        for estimator, method in (
            (synthesizer("grey", classifier("grey"), members=members), of_synthesizer),
            (augmented("grey").set_params(synthesizer__members=members), of_classifier),
        ):
            stored = Duck(X)
            method(estimator, stored, y)
            assert max(stored.reads) == 50
            assert len(stored.reads) > 2 * len(X) / 50

    def test_synthetic_rows_of_a_training_are_on_disk_as_the_real_ones_are(
        self, stores, monkeypatch
    ):
        X, y = make("grey", "uint8")
        exchanged, exchange = [], AugmentingIterator.exchange

        def spy(self, X, y, sources):
            exchanged.append(X)
            exchange(self, X, y, sources)

        monkeypatch.setattr(AugmentingIterator, "exchange", spy)
        augmented("grey").fit(X, y)
        assert not any(isinstance(synthetic, np.memmap) for synthetic in exchanged)
        exchanged.clear()
        augmented("grey").fit(stores["zarr"](X), y)
        assert len(exchanged) == 1
        assert all(isinstance(synthetic, np.memmap) for synthetic in exchanged)

    def test_a_disk_without_space_for_them_is_told_of_before_they_are_made(self, monkeypatch):
        def full(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        array = empty_on_disk((5, 8, 8), "float32")
        array[:] = 3
        assert array.sum() == 3 * array.size
        monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
        with pytest.raises(OSError, match="No space left"):
            empty_on_disk((5, 8, 8), "float32")

    def test_modules_are_sized_from_some_rows_with_every_class_among_them(self, monkeypatch):
        X = np.arange(3000, dtype=np.float32).reshape(-1, 1)
        y = np.zeros(3000, np.int64)
        y[[7, 1234, 2998]] = 1, 2, 2
        monkeypatch.setattr(_training, "_BYTES_TO_SIZE_BY", 4 * 1500)
        rows, labels = rows_to_size_by(X, y)
        assert 1500 <= len(rows) <= 1503
        assert set(labels) == {0, 1, 2}
        np.testing.assert_array_equal(y[rows[:, 0].int()], labels)
        stored = Stored(Hdf5(X))
        given = NetworkInput(stored, ImageFormat.infer(stored))
        found = rows_to_size_by(given, y)
        for one, other in zip(found, (rows, labels), strict=True):
            np.testing.assert_array_equal(one, other)
        # Few rows say little of large images, however many bytes they have.
        monkeypatch.setattr(_training, "_BYTES_TO_SIZE_BY", 4)
        assert 100 <= len(rows_to_size_by(X, None)[0]) <= 103

    def test_what_a_store_can_pickle_is_pickled_by_name(self, stores):
        X, y = make("grey", "uint8", n=300)
        estimator = synthesizer("grey", classifier("grey")).fit(stores["zarr"](X), y)
        in_memory = synthesizer("grey", classifier("grey")).fit(X, y)
        pickled = pickle.dumps(estimator)
        assert len(pickled) < len(pickle.dumps(in_memory)) - 0.9 * X.nbytes
        assert_equal(pickle.loads(pickled).sample(9), in_memory.sample(9))
        estimator.fit(stores["memmap"](X), y)
        assert_equal(pickle.loads(pickle.dumps(estimator)).sample(9), in_memory.sample(9))


class RemembersData(torch.nn.Linear):
    """Is made from training data, which it keeps."""

    @classmethod
    def from_data(cls, X, y):
        made = cls(1, 1)
        made.data = X, y
        return made


def rows_to_size_by(X, y):
    net = AutoencoderNet(RemembersData)
    with _training.sized_by(net, X, y):
        return net.initialize().module_.data


class Elsewhere(Duck):
    """An array of a library that works with the array API standard."""

    def __array_namespace__(self, api_version=None):
        return np

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype=dtype)


class TestRecognition:
    def test_arrays_of_other_libraries_are_told_from_stored_ones(self, stores):
        X, _ = make("grey", "float32")
        assert all(is_stored(store(X)) for store in stores.values())
        table = X.reshape(60, -1)
        in_memory = [
            X,
            X.tolist(),
            np.ma.array(X),
            stores["memmap"](X)[[3, 1, 2]],
            torch.from_numpy(X),
            pd.DataFrame(table),
            pd.Series(table[0]),
            sparse.csr_matrix(table),
            sparse.csr_array(table),
            Elsewhere(X),
            np.float32(3),
            None,
        ]
        assert not any(map(is_stored, in_memory))


NO_IMAGES = {
    "words": (np.full((20, 8, 8), "word"), "dtype <U4; expected integers or floats"),
    "numbers": (np.zeros(20), r"shape \(20,\) .* at least 2 dimensions"),
    "no rows": (np.zeros((0, 8, 8)), r"shape \(0, 8, 8\) .* none of them empty"),
    "volumes": (np.zeros((20, 8, 8, 8, 3)), "Volumes and videos"),
    "infinite": (np.full((20, 8, 8), np.inf), "Input X contains infinity"),
    "too large": (np.full((20, 8, 8), 1e300), r"too large for dtype\('float32'\)"),
}


class TestRefusals:
    @pytest.mark.parametrize("kind", NO_IMAGES)
    def test_what_is_no_image_is_named(self, kind):
        X, message = NO_IMAGES[kind]
        y = np.arange(len(X)) % 2
        for estimator in (synthesizer("grey"), augmented("grey")):
            with pytest.raises(ValueError, match=message):
                estimator.fit(Duck(X), y)

    def test_a_value_that_is_missing_in_a_late_part_is_found_and_named(self, stores):
        X, y = make("grey", "float64")
        X[57, 3, 3] = np.nan
        for estimator, store in ((synthesizer("grey"), "memmap"), (augmented("grey"), "zarr")):
            with pytest.raises(ValueError, match="Input X contains NaN") as caught:
                estimator.fit(stores[store](X), y)
            assert caught.value.__notes__ == ["The first such row of X is 57."]

    def test_images_unlike_those_of_fit_are_refused_as_in_memory(self, stores):
        X, y = make("grey", "uint8")
        estimator = augmented("grey").fit(stores["memmap"](X), y)
        for other, message in (
            (X[:, :7], r"rows of shape \(7, 8\), but .* expecting rows of shape \(8, 8\)"),
            (X.astype(np.float32), "fitted on uint8 images, which it divides by 255"),
        ):
            with pytest.raises(ValueError, match=message) as in_memory:
                estimator.predict(other)
            with pytest.raises(ValueError, match=message) as stored:
                estimator.predict(Duck(other))
            assert str(stored.value) == str(in_memory.value)

    def test_a_shape_that_dask_does_not_know_is_refused(self):
        X = Duck(np.zeros((20, 8, 8)))
        X.shape = (float("nan"), 8, 8)
        with pytest.raises(ValueError, match=r"compute_chunk_sizes\(\)"):
            synthesizer("grey").fit(X, np.arange(20) % 2)


INDICES = [
    0,
    -1,
    np.int64(3),
    slice(None),
    slice(-3, None),
    slice(40, 3),
    slice(None, None, -7),
    [],
    [7, 8, 9],
    [3, 3, -57, 59],
    np.array([50, 2, 2, 31]),
    np.arange(60) % 3 == 0,
    torch.tensor([5, 1, 1]),
]


class TestRows:
    @pytest.mark.parametrize("store", ["memmap", "zarr", "hdf5", "duck"])
    def test_are_those_that_numpy_gives(self, stores, store):
        X, _ = make("channels last", "uint8")
        stored = Stored(stores[store](X))
        image_format = ImageFormat.infer(X)
        seen, x = NetworkInput(stored, image_format), image_format.to_tensor(X).numpy()
        order = np.random.default_rng(1).permutation(60)
        selection = Selection(stored, order)
        assert seen.shape == x.shape
        assert seen.dtype == x.dtype
        for index in INDICES:
            expected = X[index]
            for found, wanted in (
                (stored[index], expected),
                (seen[index], x[index]),
                (selection[index], X[order][index]),
            ):
                assert found.dtype == wanted.dtype
                assert found.flags.c_contiguous or found is stored[index]
                np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(np.asarray(stored), X)
        np.testing.assert_array_equal(np.stack(list(seen)), x)
