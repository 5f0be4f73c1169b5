"""Seed nets, whose random numbers all come from the global generators of torch and numpy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import numpy as np
import torch
from skorch import NeuralNet
from torch.utils.data import DataLoader

from tsynd_sk._skorch._nets import variant

_generators = RLock()


@contextmanager
def scoped_seed(seed: int | None) -> Iterator[None]:
    """Seed the global generators of torch and numpy for a while, then restore them.

    Weight initialisation, dropout and data loaders use no others. With ``None`` they are only
    restored. The whole process shares them, so threads take turns.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with _generators, torch.random.fork_rng(devices=devices):
        state = np.random.get_state()  # noqa: NPY002
        if seed is not None:
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def without_global_rng(net: NeuralNet) -> NeuralNet:
    """Return the same net, but with predictions that do not change the global generators.

    The loader draws a seed from them for each pass over the data, which nothing uses.
    """
    if net.iterator_valid is DataLoader and "generator" not in net.get_params_for("iterator_valid"):
        return variant(net, iterator_valid__generator=torch.Generator())
    return variant(net)
