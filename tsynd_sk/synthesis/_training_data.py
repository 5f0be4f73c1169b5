"""Training data of a net to which synthetic rows join, and the iterators that follow them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skorch.dataset import Dataset
from torch.utils.data import DataLoader, RandomSampler, Sampler, Subset, default_collate

from tsynd_sk.images import NetworkInput, Selection


class AugmentedDataset(Subset):
    """Real rows, followed by synthetic ones that can be exchanged between epochs.

    To callbacks that take data sets apart, as skorch's scores do, it is the real rows alone.

    Parameters
    ----------
    real : Dataset
        Real rows.

    Attributes
    ----------
    synthetic : sequence of pairs
        Synthetic rows and their targets.
    sources : ndarray of shape (n_synthetic,)
        The real row of each.
    version : int
        How often synthetic rows have been exchanged.
    """

    def __init__(self, real: Any):
        super().__init__(real, np.arange(len(real)))  # type: ignore[arg-type]
        self.real = real
        self.synthetic: Sequence = []
        self.sources = np.empty(0, dtype=np.int64)
        self.version = 0

    def exchange(self, X: np.ndarray, y: np.ndarray, sources: np.ndarray) -> None:
        """Put new synthetic rows in the place of the old ones, in the types of the real ones."""
        example = self.real[0]
        self.synthetic = _Pairs(
            *(_cast(new, old) for new, old in zip((X, y), example, strict=True))
        )
        self.sources = sources
        self.version += 1

    def __len__(self) -> int:
        return len(self.real) + len(self.synthetic)

    def __getitem__(self, i):
        n_real = len(self.real)
        return self.real[i] if i < n_real else self.synthetic[i - n_real]

    def __getitems__(self, indices):
        return [self[i] for i in indices]


class _Pairs(Sequence):
    """Images and targets, paired as they are asked for: a view of each row would take memory."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.y[i]


def _cast(new: np.ndarray, example):
    """Rows of the type, dtype and shape of an example."""
    if isinstance(example, torch.Tensor):
        return torch.from_numpy(new).to(example).reshape(-1, *example.shape)
    dtype = np.asarray(example).dtype
    return new.astype(dtype, copy=False).reshape(-1, *np.shape(example))


def join(net: Any, *, apart: bool = False) -> None:
    """Let synthetic rows join the training data that a net is about to make.

    With `apart`, they come in batches of their own wherever the net makes its batches itself.

    They never join validation data. Once the data are made, the net can be what it was before:
    what is saved, cloned or stopped by an error has no trace of this.
    """
    leave(net)
    net.train_split = AugmentedSplit(net)
    vars(net)["get_iterator"] = FollowingIterators(net, apart)


def leave(net: Any) -> None:
    """Give a net back what `join` has exchanged."""
    if isinstance(net.train_split, AugmentedSplit):
        net.train_split = net.train_split.train_split
    vars(net).pop("get_iterator", None)


@contextmanager
def _leaving_on_error(net: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        leave(net)
        raise


class AugmentedSplit:
    """A net's own ``train_split``, after which synthetic rows can join the training part alone."""

    def __init__(self, net: Any):
        self.net = net
        self.train_split = net.train_split

    def __call__(self, dataset, y=None, **fit_params):
        if not self.train_split:
            return AugmentedDataset(dataset), None
        targets = () if y is None else (y,)
        with _leaving_on_error(self.net):
            train, valid = self.train_split(dataset, *targets, **fit_params)
        return AugmentedDataset(train), valid


def training_rows(dataset: Any, n: int | None = None) -> tuple[Any, np.ndarray]:
    """First `n` images and integer labels of a data set of pairs; all of them by default.

    Images that are not in memory stay where they are.
    """
    n = len(dataset) if n is None else n
    stored = _stored_rows(dataset, n)
    if stored is not None:
        return stored
    X, y = default_collate([dataset[i] for i in range(n)])
    if not isinstance(X, torch.Tensor):
        raise TypeError(
            f"the net's data set yields {type(X).__name__} as its input; targeted synthesis needs "
            "single arrays"
        )
    if y.numel() != len(X):
        raise TypeError(
            f"the net's data set yields targets of shape {tuple(y.shape[1:])}; targeted synthesis "
            "needs one integer label a row"
        )
    return X.float().cpu().numpy(), y.reshape(len(X)).cpu().numpy().astype(np.int64)


def _stored_rows(dataset: Any, n: int) -> tuple[Selection, np.ndarray] | None:
    index = np.arange(n)
    while isinstance(dataset, Subset):
        index = np.asarray(dataset.indices)[index]
        dataset = dataset.dataset
    if type(dataset) is not Dataset or not isinstance(dataset.X, NetworkInput):
        return None
    return Selection(dataset.X, index), np.asarray(dataset.y)[index].astype(np.int64)


class FollowingIterators:
    """A net's ``get_iterator``, whose training iterators are made anew for new synthetic rows.

    Samplers that count the rows when they are made, and workers that hold a copy of the data,
    would not see them otherwise.
    """

    def __init__(self, net: Any, apart: bool = False):
        self.net = net
        self.apart = apart

    def __call__(self, dataset, training=False):
        make = partial(type(self.net).get_iterator, self.net, dataset, training=training)
        with _leaving_on_error(self.net):
            if training and isinstance(dataset, AugmentedDataset):
                return _Following(self.net, dataset, make, self.apart)
            return make()


class _Following:
    def __init__(self, net, dataset: AugmentedDataset, make, apart: bool):
        self.net, self.dataset, self.make, self.apart = net, dataset, make, apart
        self.iterator, self.version = make(), dataset.version

    def __len__(self) -> int:
        return len(self._latest())

    def __iter__(self) -> Iterator:
        return iter(self._latest())

    def _latest(self):
        if self.version != self.dataset.version:
            self.iterator, self.version = self._made_anew(), self.dataset.version
        return self.iterator

    def _made_anew(self):
        params = self.net.get_params_for("iterator_train")
        plain = self.net.iterator_train is DataLoader
        changes: dict[str, Any] = {}
        if (sampler := params.get("sampler")) is not None:
            changes["iterator_train__sampler"] = SourceSampler(sampler, self.dataset)
        elif plain and not params.get("shuffle"):
            changes["iterator_train__sampler"] = InterleavingSampler(self.dataset)
        if plain and self.apart:
            changes["iterator_train"] = load_apart
        # Parameters are read while the iterator is made.
        with _changed(self.net, changes):
            return self.make()


@contextmanager
def _changed(net: Any, changes: dict[str, Any]) -> Iterator[None]:
    before = {name: vars(net)[name] for name in changes if name in vars(net)}
    try:
        for name, value in changes.items():
            setattr(net, name, value)
        yield
    finally:
        for name in changes:
            if name in before:
                setattr(net, name, before[name])
            else:
                delattr(net, name)


if TYPE_CHECKING:
    pass

# Passes of a user's sampler after which no more sources are looked for.
_PASSES = 100


def load_apart(
    dataset: AugmentedDataset,
    batch_size: int,
    sampler: Any = None,
    shuffle: bool = False,
    drop_last: bool = False,
    **kwargs: Any,
) -> DataLoader:
    """Make a loader whose batches are of real or of synthetic rows; parameters as of DataLoader.

    Without a sampler it shuffles, whatever `shuffle` is: an order to be kept comes by a sampler.
    """
    if sampler is None:
        sampler = RandomSampler(dataset, generator=kwargs.get("generator"))
    batches = BatchesApart(sampler, len(dataset.real), batch_size, drop_last)
    return DataLoader(dataset, batch_sampler=batches, **kwargs)


class BatchesApart(Sampler):
    """Batches of real rows and batches of synthetic ones, as they fill in the order of a sampler.

    Both have batch statistics of their own, as Xie and Yuille (ICLR 2020) advise for adversarial
    images. What remains in the end is joined, so that there are as many batches as without it.

    Parameters
    ----------
    sampler : iterable of int
        Draws rows: real ones, which are numbered first, and synthetic ones.
    n_real : int
        Number of real rows.
    batch_size : int
        Rows in a batch.
    drop_last : bool
        Whether a last batch of fewer rows is left out.
    """

    def __init__(self, sampler: Any, n_real: int, batch_size: int, drop_last: bool = False):
        self.sampler = sampler
        self.n_real = n_real
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __len__(self) -> int:
        n_full, n_rest = divmod(len(self.sampler), self.batch_size)
        return n_full + (n_rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        filling: tuple[list[int], list[int]] = ([], [])
        for row in self.sampler:
            batch = filling[int(row) >= self.n_real]
            batch.append(int(row))
            if len(batch) == self.batch_size:
                yield batch.copy()
                batch.clear()
        rest = filling[0] + filling[1]
        if len(rest) >= self.batch_size:
            yield rest[: self.batch_size]
            rest = rest[self.batch_size :]
        if rest and not self.drop_last:
            yield rest


class InterleavingSampler(Sampler):
    """Spreads synthetic rows evenly among real ones, which keep the order of an unshuffled loader.

    After them, synthetic rows would have the last word in every epoch.

    Parameters
    ----------
    dataset : AugmentedDataset
        Real and synthetic rows.
    """

    def __init__(self, dataset: AugmentedDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        counts = len(self.dataset.real), len(self.dataset.synthetic)
        places = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in counts])
        return iter(np.argsort(places, kind="stable").tolist())


class SourceSampler(Sampler):
    """Draws synthetic rows by the rule by which a user's sampler draws real ones.

    The sampler knows real rows only. It draws once for these, and again for the sources of
    synthetic rows, of which as large a share is drawn; then both are shuffled.

    Parameters
    ----------
    sampler : iterable of int
        The user's.
    dataset : AugmentedDataset
        Real and synthetic rows.
    """

    def __init__(self, sampler: Any, dataset: AugmentedDataset):
        self.sampler = sampler
        self.dataset = dataset

    def _n_synthetic(self, n_real: int) -> int:
        return round(n_real * len(self.dataset.synthetic) / len(self.dataset.real))

    def __len__(self) -> int:
        return len(self.sampler) + self._n_synthetic(len(self.sampler))

    def __iter__(self) -> Iterator[int]:
        real = [int(row) for row in self.sampler]
        rows = real + self._synthetic(self._n_synthetic(len(real)))
        return iter([rows[i] for i in torch.randperm(len(rows)).tolist()])

    def _synthetic(self, n: int) -> list[int]:
        n_real = len(self.dataset.real)
        images: dict[int, list[int]] = {}
        # In an order of its own in every epoch: a source may be drawn once only.
        for number in torch.randperm(len(self.dataset.sources)).tolist():
            source = int(self.dataset.sources[number])
            images.setdefault(source, []).append(n_real + number)
        drawn: list[int] = []
        for _ in range(_PASSES):
            for source in map(int, self.sampler):
                if len(drawn) == n:
                    return drawn
                if source in images:
                    # One image of a source after the other.
                    images[source].append(images[source].pop(0))
                    drawn.append(images[source][-1])
        return drawn
