"""Synthetic rows among the training data of a net, exchanged while it trains.

skorch makes one training iterator for a whole training, by the net's ``iterator_train``. For that
moment `AugmentingIterator` takes its place: what it makes draws batches by the net's own loader,
which is made anew whenever synthetic rows are exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset
from torch.utils.data import DataLoader, Sampler, Subset, default_collate

from tsynd_sk._utils._batches import load
from tsynd_sk.images import NetworkInput, Selection

# Passes of a user's sampler after which no more sources are looked for.
_PASSES = 100


class AugmentedDataset(Subset):
    """Real rows, followed by synthetic ones in the types of the real ones.

    Parameters
    ----------
    real : Dataset
        Pairs of an image and its class.
    X : ndarray of shape (n, ...)
        Synthetic images.
    y : ndarray of shape (n,)
        Their classes.
    sources : ndarray of shape (n,)
        The real row that each comes from.
    """

    def __init__(self, real: Any, X: np.ndarray, y: np.ndarray, sources: np.ndarray):
        super().__init__(real, np.arange(len(real)))  # type: ignore[arg-type]
        image, target = real[0]
        self.real = real
        self.X, self.y = _cast(X, image), _cast(y, target)
        self.sources = sources

    def __len__(self) -> int:
        return len(self.real) + len(self.X)

    def __getitem__(self, i):
        n_real = len(self.real)
        return self.real[i] if i < n_real else (self.X[i - n_real], self.y[i - n_real])

    def __getitems__(self, indices):
        return [self[i] for i in indices]


def _cast(new: np.ndarray, example: Any) -> Any:
    """Rows of the type, dtype and shape of an example."""
    if isinstance(example, torch.Tensor):
        return torch.from_numpy(new).to(example).reshape(-1, *example.shape)
    dtype = np.asarray(example).dtype
    return new.astype(dtype, copy=False).reshape(-1, *np.shape(example))


class AugmentingIterator:
    """Takes the place of a net's ``iterator_train`` while the net makes its training iterator.

    Parameters
    ----------
    net : skorch classifier
        Whose training iterator is to be followed by synthetic rows.
    apart : bool
        Whether synthetic rows come in batches of their own, wherever the net makes its batches by
        torch's `DataLoader`.

    Attributes
    ----------
    loader_ : iterable or None
        Of the rows as they are now; None until the net has made its iterator.
    """

    def __init__(self, net: Any, apart: bool):
        self.net = net
        self.apart = apart
        # Left by a training that has failed before it made its iterator.
        while isinstance(net.iterator_train, AugmentingIterator):
            net.iterator_train = net.iterator_train.make_loader
        self.make_loader: Any = net.iterator_train
        # Asked for now, for they can depend on what iterator_train is.
        self.own_kwargs = net.get_params_for("iterator_train")
        self.loader_: Any = None
        net.iterator_train = self

    def __call__(self, dataset: Any, **kwargs: Any) -> AugmentingIterator:
        """Make the loader of real rows; skorch takes the answer for the training iterator."""
        self.detach()
        self.real, self.kwargs = dataset, {**self.own_kwargs, **kwargs}
        self.loader_ = self._made(dataset, self.kwargs)
        return self

    def __iter__(self) -> Iterator:
        return iter(self.loader_)

    def __len__(self) -> int:
        return len(self.loader_)

    def detach(self) -> None:
        """Put the net's own ``iterator_train`` back: what is saved or cloned has no trace."""
        if self.net.iterator_train is self:
            self.net.iterator_train = self.make_loader

    def exchange(self, X: np.ndarray, y: np.ndarray, sources: np.ndarray) -> None:
        """Put new synthetic rows in the place of the old ones.

        The loader is made anew: samplers that have counted the rows, and workers that hold a copy
        of the data, would not see them.
        """
        dataset, kwargs = AugmentedDataset(self.real, X, y, sources), dict(self.kwargs)
        if self.own_kwargs.get("batch_size", self.net.batch_size) == -1:
            # For skorch that is all rows.
            kwargs["batch_size"] = len(dataset)
        if kwargs.get("sampler") is not None:
            kwargs["sampler"] = SourceSampler(kwargs["sampler"], dataset)
        elif self.make_loader is DataLoader and not kwargs.get("shuffle"):
            kwargs["sampler"] = InterleavingSampler(dataset)
        self.loader_ = self._made(dataset, kwargs, n_real=len(self.real) if self.apart else None)

    def _made(self, dataset: Any, kwargs: dict[str, Any], n_real: int | None = None) -> Any:
        if self.make_loader is DataLoader:
            loader: Any = load(dataset, n_real=n_real, **kwargs)
        else:
            loader = self.make_loader(dataset, **kwargs)
        # skorch.hf.AccelerateMixin would hand its share of the rows to each process, had it made
        # the loader itself.
        accelerator = getattr(self.net, "accelerator", None)
        return loader if accelerator is None else accelerator.prepare(loader)


def training_rows(dataset: Any, n: int | None = None) -> tuple[Any, np.ndarray]:
    """First `n` images and integer classes of a data set of pairs; all of them by default.

    Images that are not in memory stay where they are.

    Raises
    ------
    TypeError
        If the data set does not yield an array and one class a row.
    """
    n = len(dataset) if n is None else n
    stored = _stored_rows(dataset, n)
    if stored is not None:
        return stored
    X, y = default_collate([dataset[i] for i in range(n)])
    if not isinstance(X, torch.Tensor):
        raise TypeError(
            f"the net's data set must yield one array as the input of a row; got {type(X).__name__}"
        )
    if y.numel() != len(X):
        raise TypeError(
            f"the net's data set must yield one integer label for each row; got targets of shape "
            f"{tuple(y.shape[1:])}"
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
        counts = len(self.dataset.real), len(self.dataset.sources)
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
        return round(n_real * len(self.dataset.sources) / len(self.dataset.real))

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
