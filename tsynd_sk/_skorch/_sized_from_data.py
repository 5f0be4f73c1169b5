"""Nets whose module is sized from, or initialised by, their training data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor

from tsynd_sk.images import spread

# Largest size of the rows by which a module is sized and initialised; and the least number of rows,
# whatever their size.
_BYTES_TO_SIZE_BY, _ROWS_TO_SIZE_BY = 2**25, 100

# By this, if it exists, skorch's `fit` tells its `partial_fit` which method was called.
_AS_FIT = {"_routing_method": "fit"}
_AS_FIT = _AS_FIT if _AS_FIT.keys() <= (NeuralNet.fit_loop.__kwdefaults__ or {}).keys() else {}


class SizedFromData(NeuralNet):
    """Base of nets whose module is sized from, or initialised by, the first training data.

    The module class has a classmethod ``from_data(X, y, **params)``, which gets the data and the
    ``module__`` parameters.
    """

    def fit(self, X, y=None, **fit_params):
        """Initialise the module from the data and fit it; see ``skorch.NeuralNet.fit``."""
        with sized_by(self, X, y):
            if not self.warm_start or not self.initialized_:
                self.initialize()
            return super().partial_fit(X, y, **_AS_FIT, **fit_params)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Continue fitting; see ``skorch.NeuralNet.partial_fit``."""
        with sized_by(self, X, y):
            return super().partial_fit(X, y, classes=classes, **fit_params)

    def initialize_module(self):
        """Build the module from the present data, or from its parameters only."""
        own, kwargs = vars(self), self.get_params_for("module")
        if own.get("_sizes") is not None:
            self.module_ = self.module(**{**kwargs, **self._sizes})
            return self
        if "_data" not in own or not is_sized_from_data(self):
            return super().initialize_module()
        X, y = _representatives(*self._data)
        if X.dtype != torch.get_default_dtype():
            raise ValueError(
                f"X has dtype {X.dtype}, but {type(self).__name__} computes in "
                f"{torch.get_default_dtype()}, torch's default dtype: convert X to that dtype"
            )
        self.module_ = self.module.from_data(X, y, **kwargs)
        return self


def is_sized_from_data(net: NeuralNet) -> bool:
    """Return whether the module of a net is built from its training data."""
    module = net.module if isinstance(net, SizedFromData) else None
    return isinstance(module, type) and hasattr(module, "from_data")


@contextmanager
def sized_by(net: NeuralNet, X, y) -> Iterator[None]:
    """Let a net size its module by these data whenever it is initialised inside the context."""
    outermost = isinstance(net, SizedFromData) and "_data" not in vars(net)
    if outermost:
        net._data = (X, y)
    try:
        yield
    finally:
        if outermost:
            del net._data


def initialize_by_sizes(net: NeuralNet, sizes: dict[str, Any] | None) -> None:
    """Initialise a net by sizes that were read from data earlier."""
    net._sizes = sizes
    with warnings.catch_warnings():
        # The weights are about to be replaced, so warnings about them do not matter.
        warnings.simplefilter("ignore", UserWarning)
        net.initialize()
    del net._sizes


def _representatives(X, y) -> tuple[Tensor, Any]:
    """Choose rows evenly over the data, at least one of each class, few enough for memory."""
    X = X if hasattr(X, "shape") else np.asarray(X)
    bytes_a_row = max(4 * int(np.prod(X.shape[1:])), 1)
    n_rows = max(_BYTES_TO_SIZE_BY // bytes_a_row, _ROWS_TO_SIZE_BY)
    if len(X) <= n_rows:
        # The data may be a torch or numpy array, or one that is not in memory.
        return torch.as_tensor(X if isinstance(X, Tensor) else np.asarray(X[:])), y
    rows = spread(len(X), n_rows)
    if np.ndim(y) == 1:
        y = np.asarray(y)
        rows = np.union1d(rows, np.unique(y, return_index=True)[1])
    return torch.as_tensor(X[rows]), y if y is None else y[rows]
