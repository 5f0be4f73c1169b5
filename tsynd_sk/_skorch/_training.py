"""Train nets: size them from data, check them, add the library's callbacks, stop at Ctrl-C."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import get_len
from skorch.helper import predefined_split
from torch import nn
from torch.nn.parameter import is_lazy

from tsynd_sk._skorch._net_checks import NetCheck
from tsynd_sk._skorch._nets import clone_net, encode_labels, scoped_seed
from tsynd_sk.images import spread

# Largest size of the rows by which a module is sized and initialised; and their least number.
_BYTES_TO_SIZE_BY, _ROWS_TO_SIZE_BY = 2**25, 100

# By this, if it exists, skorch's `fit` tells its `partial_fit` which method was called.
_AS_FIT = {"_routing_method": "fit"}
_AS_FIT = _AS_FIT if _AS_FIT.keys() <= (NeuralNet.fit_loop.__kwdefaults__ or {}).keys() else {}


class SizedFromData(NeuralNet):
    """Base of nets whose module is sized from, or initialised by, the first training data.

    The module class has a classmethod ``from_data(X, y, **params)``, which gets the data and the
    ``module__`` parameters. A method ``n_epochs(n_rows)`` of the net makes a number of its
    ``max_epochs``.
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
                f"{torch.get_default_dtype()}, torch's default dtype: convert X to it"
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


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the user's Ctrl-C through skorch, which only ends the training.

    skorch's callbacks end a training by the same exception; only the signal tells them apart.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    interrupts: list[KeyboardInterrupt] = []

    def remember(*arguments):
        try:
            before(*arguments)
        except KeyboardInterrupt as interrupt:
            interrupts.append(interrupt)
            raise

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if interrupts:
            raise KeyboardInterrupt


def fit_net(
    given: NeuralNet | FrozenEstimator,
    x: Any,
    y: np.ndarray | None,
    seed: int,
    device: Any = None,
    extra_callbacks: Sequence[Callback] = (),
    role: str = "classifier",
    validation: tuple[Any, np.ndarray] | None = None,
    own_way: bool = False,
) -> NeuralNet:
    """Clone, check and fit a net: a classifier on class indices `y`, an autoencoder on None.

    A fitted one in `FrozenEstimator` is returned as it is. `extra_callbacks` serve this training
    only, after the net's own; one that raises in its ``on_train_begin`` stops it before the first
    step. `role` is what messages call a classifier. `validation`, a pair like `x` and `y`, replaces
    the net's ``train_split`` in this training. `own_way` is that of `NetCheck`.
    """
    if isinstance(given, FrozenEstimator):
        return given.estimator
    net, callbacks, targets = clone_net(given, device), list(extra_callbacks), x
    if y is not None:
        callbacks.insert(0, NetCheck(x, int(y.max()) + 1, own_way))
        targets = encode_labels(net, y)
    train_split = net.train_split
    if validation is not None:
        x_val, y_val = validation
        net.train_split = predefined_split(net.get_dataset(x_val, encode_labels(net, y_val)))
    with _training(net, x, targets, seed, callbacks, "autoencoder" if y is None else role):
        net.fit(x, targets)
    net.train_split = train_split
    return net


def dry_run(
    classifier: NeuralNet,
    x: Any,
    y: np.ndarray,
    seed: int,
    device: Any = None,
    extra_callbacks: Sequence[Callback] = (),
) -> None:
    """Raise now what `fit_net` of these parameters would raise before the first step."""
    probe = clone_net(classifier, device).set_params(verbose=0)
    with scoped_seed(seed), sized_by(probe, x, encode_labels(probe, y)), warnings.catch_warnings():
        # The training itself will warn.
        warnings.simplefilter("ignore")
        probe.initialize()
        for callback in (NetCheck(x, int(y.max()) + 1), *extra_callbacks):
            callback.on_train_begin(probe)


@contextmanager
def _training(
    net: NeuralNet, X: Any, y: Any, seed: int, callbacks: Sequence[Callback], role: str
) -> Iterator[None]:
    """Initialise a net by a seed, and add callbacks while its own `fit` runs."""
    given = {"module": net.module}
    for name, value in net.get_params_for("module").items():
        given[f"module__{name}"] = value
    for name, module in given.items():
        if isinstance(module, nn.Module) and not all(map(is_lazy, module.parameters())):
            warnings.warn(
                f"the {name} of {role} is an instance of {type(module).__name__}, not the class: "
                "every training, and every fold of a cross-validation, starts from its weights. "
                "This is right if they were pretrained on other images; otherwise pass the class, "
                f"and its arguments as {role}__module__... parameters.",
                UserWarning,
                stacklevel=4,
            )
    warm_start = net.warm_start
    try:
        with scoped_seed(seed), sized_by(net, X, y), interruptible():
            net.initialize()
            # They join the initialised ones: as parameters they would stay in the net, and be lost
            # with ``callbacks="disable"``.
            n_own = len(net.callbacks_)
            for callback in callbacks:
                net.callbacks_.append((type(callback).__name__, callback.initialize()))
            added = net.callbacks_[n_own:]
            net.warm_start = True
            yield
    except KeyboardInterrupt as interrupt:
        # There is no history yet if the net was being initialised.
        n_epochs = sum("train_loss" in epoch for epoch in vars(net).get("history_") or ())
        interrupt.add_note(
            f"{type(net).__name__} had trained for {n_epochs} epochs. "
            "Estimators are as they were before; to keep the weights of an interrupted training, "
            "add a skorch.callbacks.Checkpoint to the net."
        )
        raise
    if added and added[-1] not in net.callbacks_:
        raise RuntimeError(
            f"{type(net).__name__}.fit initialises the net again, which loses its callbacks: let "
            "it call super().fit, which initialises if needed"
        )
    net.warm_start = warm_start
    # Users may take the module out, to export it for instance.
    net.module_.eval()
    for named in added:
        net.callbacks_.remove(named)
