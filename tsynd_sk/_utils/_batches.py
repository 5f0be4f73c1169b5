"""Batches of training rows: none of a single one, and real rows apart from further ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler


@dataclass(eq=False)
class Batches(Sampler):
    """Batches in the order of a sampler; a single row that is left joins the batch before it.

    Batch normalisation cannot learn from one row. The first `n_real` rows, if given, and the others
    are in batches of their own, and so have batch statistics of their own, as Xie and Yuille (ICLR
    2020) advise for adversarial images. What remains in the end is together.
    """

    sampler: Any
    batch_size: int
    drop_last: bool = False
    n_real: int | None = None

    def __len__(self) -> int:
        n_full, n_rest = divmod(len(self.sampler), self.batch_size)
        joins = n_rest == 1 and n_full > 0 and self._can_join
        return n_full + (n_rest > 0 and not joins and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        filling: tuple[list[int], list[int]] = ([], [])
        # The last full batch waits for the row that may join it.
        full: list[int] = []
        for row in map(int, self.sampler):
            batch = filling[self.n_real is not None and row >= self.n_real]
            batch.append(row)
            if len(batch) == self.batch_size:
                if full:
                    yield full
                full = batch.copy()
                batch.clear()
        rest = filling[0] + filling[1]
        if len(rest) >= self.batch_size:
            if full:
                yield full
            full, rest = rest[: self.batch_size], rest[self.batch_size :]
        if self.drop_last:
            rest = []
        elif len(rest) == 1 and full and self._can_join:
            full, rest = full + rest, []
        yield from filter(None, (full, rest))

    @property
    def _can_join(self) -> bool:
        # Several processes fill the last batch up, which must not be the larger one.
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        return self.batch_size > 1 and not distributed


def load(dataset: Any, *, n_real: int | None = None, **kwargs: Any) -> DataLoader:
    """Make torch's `DataLoader`, but with the batches of `Batches`."""
    loader = DataLoader(dataset, **kwargs)
    if loader.batch_size is None or isinstance(dataset, IterableDataset):
        # Batches that the user, or nobody, makes.
        return loader
    batches = Batches(loader.sampler, loader.batch_size, loader.drop_last, n_real)
    for name in ("batch_size", "shuffle", "sampler", "drop_last"):
        kwargs.pop(name, None)
    return DataLoader(dataset, batch_sampler=batches, **kwargs)
