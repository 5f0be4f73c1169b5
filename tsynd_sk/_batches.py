"""Order and batches in which a net sees real and synthetic rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, Sampler

if TYPE_CHECKING:
    from tsynd_sk._augmented_data import AugmentedDataset

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
