"""Nets whose module is sized from, or initialised by, the data that they are fitted on."""

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

# Size of the rows by which a module is sized and initialised, of more data than that; and the
# number of rows that it takes at least, whatever their size.
_BYTES_TO_SIZE_BY, _ROWS_TO_SIZE_BY = 2**25, 100

# By this, where it exists, skorch's `fit` tells its `partial_fit` who was called.
_AS_FIT = {"_routing_method": "fit"}
_AS_FIT = _AS_FIT if _AS_FIT.keys() <= (NeuralNet.fit_loop.__kwdefaults__ or {}).keys() else {}


class SizedFromData(NeuralNet):
    """Base of nets whose module is sized from, or initialised by, the first training data.

    The module class has a classmethod ``from_data(X, y, **params)``; what it needs to know beyond
    ``module__`` parameters, it reads off the data.
    """

    def fit(self, X, y=None, **fit_params):
        """Initialise the module from the data and fit it; see ``skorch.NeuralNet.fit``."""
        with sized_by(self, X, y):
            if not self.warm_start or not self.initialized_:
                self.initialize()
            return super().partial_fit(X, y, **_AS_FIT, **fit_params)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Go on fitting; see ``skorch.NeuralNet.partial_fit``."""
        with sized_by(self, X, y):
            return super().partial_fit(X, y, classes=classes, **fit_params)

    def initialize_module(self):
        """Build the module from the data at hand, or from its parameters alone."""
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
                f"{torch.get_default_dtype()}, torch's default dtype: convert X to it"
            )
        self.module_ = self.module.from_data(X, y, **kwargs)
        return self


def is_sized_from_data(net: NeuralNet) -> bool:
    """Return whether the module of a net is built from the data that it is fitted on."""
    module = net.module if isinstance(net, SizedFromData) else None
    return isinstance(module, type) and hasattr(module, "from_data")


@contextmanager
def sized_by(net: NeuralNet, X, y) -> Iterator[None]:
    """Let a net size its module by data whenever it is initialised meanwhile."""
    outermost = isinstance(net, SizedFromData) and "_data" not in vars(net)
    if outermost:
        net._data = (X, y)
    try:
        yield
    finally:
        if outermost:
            del net._data


def initialize_by_sizes(net: NeuralNet, sizes: dict[str, Any] | None) -> None:
    """Initialise a net by what was once read off data, without any data."""
    net._sizes = sizes
    with warnings.catch_warnings():
        # Of weights that are about to be replaced nothing is to be said.
        warnings.simplefilter("ignore", UserWarning)
        net.initialize()
    del net._sizes


def _representatives(X, y) -> tuple[Tensor, Any]:
    """Choose rows evenly over the data, at least one of each class, that surely fit in memory."""
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
