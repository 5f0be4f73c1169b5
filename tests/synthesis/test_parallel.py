"""Rows are synthesised batch by batch: by whatever workers, and as memory allows."""

import copy
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from helpers.small import assert_same_answer, digits, quick, tiny
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet
from torch import nn

from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.images import ImageFormat, Selection, ValueRange
from tsynd_sk.synthesis import _engine
from tsynd_sk.synthesis._engine import Engine


def margin(log_probs, y):
    """A user's own objective: how close the second class comes to the first."""
    best = log_probs.exp().mean(0).topk(2).values
    return best[:, 1] - best[:, 0]


class TestWorkers:
    def test_number_of_jobs_changes_nothing(self, frozen):
        one, *others = (
            frozen(n_jobs=n_jobs, batch_size=16).sample(60, return_info=True)
            for n_jobs in (None, 2, -1)
        )
        for other in others:
            assert_same_answer(one, other)

    @pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
    def test_kind_of_workers_changes_nothing(self, frozen, backend):
        weight = torch.tensor(2.0)
        synthesizers = [
            frozen(batch_size=16, members="laplace"),
            frozen(batch_size=16, objective=lambda log_probs, y: weight * margin(log_probs, y)),
        ]
        alone = [s.sample(60, return_info=True) for s in synthesizers]
        assert all((answer[2].uncertainty > 0).all() for answer in alone)
        with joblib.parallel_config(backend, n_jobs=2):
            together = [s.sample(60, return_info=True) for s in synthesizers]
        for one, other in zip(alone, together, strict=True):
            assert_same_answer(one, other)

    def test_an_error_comes_back_from_a_worker(self, frozen):
        def failing(log_probs, y):
            raise ZeroDivisionError("on purpose")

        with pytest.raises(ZeroDivisionError, match="on purpose"):
            frozen(n_jobs=2, batch_size=16, objective=failing).sample(60)


@contextmanager
def torch_threads(n):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TestThreadsOfTorch:
    def test_their_number_is_the_callers_in_all_threads_but_the_jobs(self, frozen):
        within, beside = set(), set()

        def objective(log_probs, y):
            within.add(torch.get_num_threads())
            beside.add(bystander.submit(torch.get_num_threads).result())
            with ThreadPoolExecutor(1) as newcomer:
                beside.add(newcomer.submit(torch.get_num_threads).result())
            return margin(log_probs, y)

        # Not before fit, which tries an objective of one's own.
        synthesizer = frozen(n_jobs=2, batch_size=16, max_iter=2).set_params(objective=objective)
        with torch_threads(2), ThreadPoolExecutor(1) as bystander:
            assert bystander.submit(torch.get_num_threads).result() == 2
            synthesizer.sample(30)
            assert torch.get_num_threads() == 2
            assert bystander.submit(torch.get_num_threads).result() == 2
        assert within == {1}
        assert beside == {2}

    def test_their_number_changes_nothing(self):
        # So large that kernels share their work among threads.
        X, y = digits(64)
        X = np.kron(X, np.ones((4, 4), np.float32))
        classifier = NetClassifier(max_epochs=1, module__width=32)
        synthesizer = quick(max_iter=2).set_params(classifier=classifier)
        synthesizer.fit(X, y)
        answers = []
        for n_threads in (1, 3):
            with torch_threads(n_threads):
                answers.append(synthesizer.sample(64, return_info=True))
        assert_same_answer(*answers)


class Watched:
    """Rows of an array that tells which of them were asked for, and when."""

    def __init__(self, X, events):
        self.X, self.events = X, events
        self.shape, self.dtype = X.shape, X.dtype

    def __getitem__(self, rows):
        self.events.append(("read", rows))
        return self.X[rows]


class Copying:
    """In place of a synthesis: the images themselves."""

    device = torch.device("cpu")

    def __init__(self, events, value_range):
        self.events = events
        self.codec = SimpleNamespace(value_range=value_range)

    def __call__(self, x, y, *, rows, occurrence, seed):
        self.events.append(("work", rows))
        return x, {"row": rows, "label": y.numpy(), "occurrence": np.full(len(y), occurrence)}


class TestRows:
    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_only_those_in_work_are_read(self, n_jobs):
        X = np.random.default_rng(0).random((500, 3, 3), dtype=np.float32)
        image_format = ImageFormat.infer(X)
        index = np.random.default_rng(1).permutation(np.repeat(np.arange(500), 2))
        y, occurrence = index % 7, np.arange(1000) % 3
        events = []
        value_range = ValueRange.of(X, image_format)
        engine = Engine([], image_format, value_range, None, None, seed=0)
        engine.batch_synthesis = lambda params: Copying(events, value_range)
        images, info = engine.synthesize(
            SimpleNamespace(batch_size=20, n_jobs=n_jobs, verbose=0),
            Selection(Watched(X, events), index),
            y,
            occurrence,
            np.random.RandomState(0),
        )
        np.testing.assert_array_equal(images, X[index])
        np.testing.assert_array_equal(info["row"], np.arange(1000))
        np.testing.assert_array_equal(info["label"], y)
        np.testing.assert_array_equal(info["occurrence"], occurrence)
        sizes = [len(rows) for kind, rows in events if kind == "read"]
        assert max(sizes) == 20
        assert sum(sizes) == 1000
        ahead = np.cumsum([1 if kind == "read" else -1 for kind, _ in events])
        assert ahead.max() <= (1 if n_jobs == 1 else 3 * n_jobs)

    def test_images_on_disk_stay_there(self, frozen, tmp_path):
        X, y = digits()
        path = tmp_path / "images.npy"
        np.save(path, np.tile(X, (100, 1, 1)))
        on_disk = np.load(path, mmap_mode="r")
        synthesizer = frozen(objective="duplicate").fit(on_disk, np.tile(y, 100))
        tracemalloc.start()
        X_new, _, info = synthesizer.sample(20, return_info=True)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < on_disk.nbytes / 4
        np.testing.assert_array_equal(X_new, on_disk[info.source_index])


class Crowded(nn.Module):
    """An autoencoder for which a device has not enough memory beyond some images at a time."""

    def __init__(self, module):
        super().__init__()
        self.module, self.limit, self.error = module, 10**9, None
        self.tried = []

    def __deepcopy__(self, memo):
        # Copies tell the original what they tried.
        return self

    def encode(self, x):
        return self.module.encode(x)

    def decode(self, z):
        self.tried.append(len(z))
        if len(z) > self.limit:
            raise self.error
        return self.module.decode(z)

    def forward(self, x):
        return self.decode(self.encode(x))


@pytest.fixture
def crowded(digits_synthesizer):
    """Fitted synthesizer, and the module that decides what fits in its memory."""
    fitted = digits_synthesizer.autoencoder_.module_
    net = NeuralNet(Crowded(copy.deepcopy(fitted)), nn.MSELoss, verbose=0).initialize()
    synthesizer = tiny(FrozenEstimator(digits_synthesizer.classifier_), FrozenEstimator(net))
    return synthesizer.fit(*digits()), net.module_


OUT_OF_MEMORY = {
    "accelerator": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "metal": RuntimeError("MPS backend out of memory (MPS allocated: 9.07 GB)"),
    "processor": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"),
}


class TestMemory:
    @pytest.mark.parametrize(
        ("shape", "n"),
        [
            ((1, 28, 28), 83),
            ((3, 64, 64), 16),
            ((1, 224, 224), 1),
            ((3, 512, 512), 1),
            ((1, 8, 8), 256),
            ((30,), 256),
            ((10_000,), 6),
        ],
    )
    def test_of_large_images_few_are_computed_at_a_time(self, shape, n):
        image_format = ImageFormat.infer(np.empty((1, *shape), np.float32))
        engine = Engine([], image_format, None, np.empty((1, *shape), np.float32), None, seed=0)
        params = SimpleNamespace(batch_size="auto")
        for device, expected in [("cpu", n), ("meta", 256)]:
            engine.device = lambda params, device=device: torch.device(device)
            assert engine.batch_size(params) == expected

    def test_takes_as_many_images_at_a_time_as_are_asked_for(self, crowded, monkeypatch):
        synthesizer, module = crowded
        monkeypatch.setattr(_engine, "_PIXELS", 11 * 8 * 8)
        for batch_size, most in (("auto", 11), (7, 7)):
            synthesizer.set_params(batch_size=batch_size)
            module.tried.clear()
            synthesizer.sample(30)
            synthesizer.reconstruct(digits()[0][:30])
            assert max(module.tried) == most

    @pytest.mark.filterwarnings("ignore:out of memory:RuntimeWarning")
    @pytest.mark.parametrize(
        ("kind", "n_jobs"), [("accelerator", 2), ("metal", 1), ("processor", 1)]
    )
    def test_batches_are_halved_until_they_fit(self, crowded, kind, n_jobs):
        synthesizer, module = crowded
        synthesizer.set_params(batch_size=30, n_jobs=n_jobs)
        expected = synthesizer.sample(70, return_info=True)
        module.limit, module.error = 8, OUT_OF_MEMORY[kind]
        module.tried.clear()
        with pytest.warns(RuntimeWarning, match=r"30 images at a time, .* 15: .* batch_size"):
            answer = synthesizer.sample(70, return_info=True)
        assert max(module.tried) == 30
        np.testing.assert_array_equal(answer[1], expected[1])
        np.testing.assert_array_equal(answer[2].source_index, expected[2].source_index)
        np.testing.assert_allclose(answer[0], expected[0], atol=1e-3)
        for column in ("uncertainty", "uncertainty_source", "displacement"):
            np.testing.assert_allclose(answer[2][column], expected[2][column], atol=1e-3)

    @pytest.mark.filterwarnings("ignore:out of memory:RuntimeWarning")
    def test_a_single_image_that_does_not_fit_is_an_error(self, crowded):
        synthesizer, _ = crowded
        tried = []

        def objective(log_probs, y):
            tried.append(len(y))
            raise OUT_OF_MEMORY["accelerator"]

        synthesizer.set_params(objective=objective)
        with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 20\.00 GiB"):
            synthesizer.sample(20)
        assert tried == [20, 10, 5, 3, 2, 1]

    def test_other_errors_come_through_at_once(self, crowded):
        synthesizer, module = crowded
        module.limit, module.error = 8, RuntimeError("shapes cannot be multiplied")
        module.tried.clear()
        with (
            warnings.catch_warnings(action="error"),
            pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        ):
            synthesizer.sample(20)
        assert [n for n in module.tried if n > 1] == [20]
