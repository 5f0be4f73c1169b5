"""Synthetic rows among the training data of a net, exchanged while it trains.

skorch makes one training iterator for a whole training, by the net's ``iterator_train``. For that
moment `AugmentingIterator` takes its place, and then makes the net's own loader anew at exchanges.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset
from torch.utils.data import ConcatDataset, DataLoader, Sampler, Subset, default_collate

from tsynd_sk._utils._batches import load
from tsynd_sk.images import NetworkInput, Selection

# Passes of a user's sampler after which no more sources are looked for.
_PASSES = 100


def joined_rows(real: Any, X: np.ndarray, y: np.ndarray) -> ConcatDataset:
    """Return a data set of real rows, followed by synthetic ones in the same types."""
    columns: list[Any] = []
    for new, example in zip((X, y), real[0], strict=True):
        if isinstance(example, torch.Tensor):
            columns.append(torch.from_numpy(new).to(example).reshape(-1, *example.shape))
        else:
            dtype = np.asarray(example).dtype
            columns.append(new.astype(dtype, copy=False).reshape(-1, *np.shape(example)))
    synthetic: Any = list(zip(*columns, strict=True))
    return ConcatDataset([real, synthetic])


class AugmentingIterator:
    """Takes the place of a net's ``iterator_train`` while the net makes its training iterator.

    With `apart`, synthetic rows come in batches of their own if torch's `DataLoader` makes them.
    """

    def __init__(self, net: Any, apart: bool):
        self.net = net
        self.apart = apart
        # Left by a training that failed before.
        while isinstance(net.iterator_train, AugmentingIterator):
            net.iterator_train = net.iterator_train.make_loader
        self.make_loader: Any = net.iterator_train
        # They can depend on what iterator_train is.
        self.own_kwargs = net.get_params_for("iterator_train")
        self.loader_: Any = None
        net.iterator_train = self

    def __call__(self, dataset: Any, **kwargs: Any) -> AugmentingIterator:
        """Make the loader of real rows; skorch takes this for the training iterator."""
        self.net.iterator_train = self.make_loader
        self.real, self.kwargs = dataset, {**self.own_kwargs, **kwargs}
        self.loader_ = self._made(dataset, self.kwargs)
        return self

    def __iter__(self) -> Iterator:
        return iter(self.loader_)

    def __len__(self) -> int:
        return len(self.loader_)

    def detach(self) -> None:
        """Put the net's own ``iterator_train`` back."""
        if self.net.iterator_train is self:
            self.net.iterator_train = self.make_loader

    def exchange(self, X: np.ndarray, y: np.ndarray, sources: np.ndarray) -> None:
        """Put new synthetic rows, from the real rows `sources`, in the place of the old ones."""
        # Samplers that have counted rows, and workers with a copy of the data, do not see new ones.
        dataset, kwargs = joined_rows(self.real, X, y), dict(self.kwargs)
        n_real = len(self.real)
        if self.own_kwargs.get("batch_size", self.net.batch_size) == -1:
            # For skorch that is all rows.
            kwargs["batch_size"] = len(dataset)
        if kwargs.get("sampler") is not None:
            kwargs["sampler"] = SourceSampler(kwargs["sampler"], n_real, sources)
        elif self.make_loader is DataLoader and not kwargs.get("shuffle"):
            # At the end, synthetic rows would have the last word in every epoch.
            places = [(np.arange(n) + 0.5) / max(n, 1) for n in (n_real, len(X))]
            kwargs["sampler"] = np.argsort(np.concatenate(places), kind="stable").tolist()
        self.loader_ = self._made(dataset, kwargs, n_real if self.apart else None)

    def _made(self, dataset: Any, kwargs: dict[str, Any], n_real: int | None = None) -> Any:
        if self.make_loader is DataLoader:
            loader: Any = load(dataset, n_real=n_real, **kwargs)
        else:
            loader = self.make_loader(dataset, **kwargs)
        # As skorch.hf.AccelerateMixin does with loaders that it makes itself.
        accelerator = getattr(self.net, "accelerator", None)
        return loader if accelerator is None else accelerator.prepare(loader)


def training_rows(dataset: Any) -> tuple[Any, np.ndarray]:
    """Return the images, which stay where they are, and integer classes of a data set of pairs."""
    inner: Any = dataset
    index = np.arange(len(dataset))
    while isinstance(inner, Subset):
        inner, index = inner.dataset, np.asarray(inner.indices)[index]
    if type(inner) is Dataset and isinstance(inner.X, NetworkInput):
        return Selection(inner.X, index), np.asarray(inner.y)[index].astype(np.int64)
    X, y = default_collate(list(map(dataset.__getitem__, range(len(dataset)))))
    if not isinstance(X, torch.Tensor):
        raise TypeError(
            f"the net's data set must yield one array as the input of a row; got {type(X).__name__}"
        )
    if not isinstance(y, torch.Tensor) or y.numel() != len(X):
        tensors = isinstance(y, torch.Tensor)
        got = f"of shape {tuple(y.shape[1:])}" if tensors else f"such as {str(dataset[0][1])!r}"
        raise TypeError(
            "the net's data set must yield one integer label for each row; got targets "
            f"{got}. Other labels are for AugmentedClassifier, which takes any"
        )
    return X.float().cpu().numpy(), y.reshape(len(X)).cpu().numpy().astype(np.int64)


class SourceSampler(Sampler):
    """Draws synthetic rows by the rule by which a user's sampler draws real ones.

    The sampler draws once for the `n_real` real rows, and again for the `sources` of synthetic
    rows, which are numbered after them and of which as large a share is drawn.
    """

    def __init__(self, sampler: Any, n_real: int, sources: np.ndarray):
        self.sampler = sampler
        self.n_real = n_real
        self.sources = sources

    def _n_synthetic(self, n_drawn: int) -> int:
        return round(n_drawn * len(self.sources) / self.n_real)

    def __len__(self) -> int:
        return len(self.sampler) + self._n_synthetic(len(self.sampler))

    def __iter__(self) -> Iterator[int]:
        real = [int(row) for row in self.sampler]
        rows = real + self._synthetic(self._n_synthetic(len(real)))
        return iter([rows[i] for i in torch.randperm(len(rows)).tolist()])

    def _synthetic(self, n: int) -> list[int]:
        images: dict[int, list[int]] = {}
        # In another order in every epoch: a source may be drawn once only.
        for number in torch.randperm(len(self.sources)).tolist():
            images.setdefault(int(self.sources[number]), []).append(self.n_real + number)
        drawn: list[int] = []
        for _ in range(_PASSES):
            for source in map(int, self.sampler):
                if len(drawn) == n:
                    return drawn
                if source in images:
                    # Take turns.
                    images[source].append(images[source].pop(0))
                    drawn.append(images[source][-1])
        return drawn
