"""Batches of real rows and batches of further ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler


class BatchesApart(Sampler):
    """Batches of real rows and batches of further ones, as they fill in the order of a sampler.

    Both have batch statistics of their own, as Xie and Yuille (ICLR 2020) advise for adversarial
    images. What remains in the end is joined, so that there are as many batches as without it.

    Parameters
    ----------
    sampler : iterable of int
        Draws rows: real ones, which are numbered first, and further ones.
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
