"""Nets whose module is sized from, or initialised by, their training data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.dataset import get_len

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
    ``module__`` parameters. The net may have a method ``n_epochs(n_rows)``, which makes a number of
    its ``max_epochs``.
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
        """Build the module from the present data, or from its parameters only.

        It gets rows evenly over the data, at least one of each class, few enough for memory.
        """
        own, kwargs = vars(self), self.get_params_for("module")
        if own.get("_sizes") is not None:
            self.module_ = self.module(**{**kwargs, **self._sizes})
            return self
        from_data = getattr(self.module, "from_data", None)
        if "_data" not in own or from_data is None or not isinstance(self.module, type):
            return super().initialize_module()
        X, y = self._data
        X = X if hasattr(X, "shape") else np.asarray(X)
        bytes_a_row = max(4 * int(np.prod(X.shape[1:])), 1)
        n_rows = max(_BYTES_TO_SIZE_BY // bytes_a_row, _ROWS_TO_SIZE_BY)
        if len(X) > n_rows:
            rows = spread(len(X), n_rows)
            if np.ndim(y) == 1:
                y = np.asarray(y)
                rows = np.union1d(rows, np.unique(y, return_index=True)[1])
            X, y = X[rows], y if y is None else y[rows]
        # The data may be a torch or numpy array, or one that is not in memory.
        X = torch.as_tensor(X if isinstance(X, torch.Tensor) else np.asarray(X[:]))
        if X.dtype != torch.get_default_dtype():
            raise ValueError(
                f"X has dtype {X.dtype}, but {type(self).__name__} computes in "
                f"{torch.get_default_dtype()}, torch's default dtype: convert X to that dtype"
            )
        self.module_ = from_data(X, y, **kwargs)
        return self


def is_sized_from_data(net: NeuralNet) -> bool:
    """Return whether the module of a net is built from its training data."""
    module = net.module if isinstance(net, SizedFromData) else None
    return isinstance(module, type) and hasattr(module, "from_data")


@contextmanager
def sized_by(net: NeuralNet, X, y) -> Iterator[None]:
    """Let a net size its module, and count its epochs, by these data inside the context."""
    if not isinstance(net, SizedFromData) or "_data" in vars(net):
        yield
        return
    net._data, given = (X, y), net.max_epochs
    if hasattr(net, "n_epochs"):
        # A number in the place of "auto", because all callbacks read it.
        net.max_epochs = net.n_epochs(get_len(X))
    try:
        yield
    finally:
        del net._data
        net.max_epochs = given


def initialize_by_sizes(net: NeuralNet, sizes: dict[str, Any] | None) -> None:
    """Initialise a net by sizes that were read from data earlier."""
    net._sizes = sizes
    with warnings.catch_warnings():
        # The weights are about to be replaced, so warnings about them do not matter.
        warnings.simplefilter("ignore", UserWarning)
        net.initialize()
    del net._sizes
