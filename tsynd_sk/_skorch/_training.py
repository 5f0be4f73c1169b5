"""Train nets: check them before, add the library's callbacks, and stop at Ctrl-C."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.helper import predefined_split
from torch import nn
from torch.nn.parameter import is_lazy

from tsynd_sk._skorch._net_checks import NetCheck
from tsynd_sk._skorch._nets import clone_net, encode_labels, scoped_seed
from tsynd_sk._skorch._sized_from_data import sized_by


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
    given: Any,
    x: Any,
    y: np.ndarray | None,
    seed: int,
    device: Any = None,
    extra_callbacks: Sequence[Callback] = (),
    role: str = "classifier",
    validation: tuple[Any, np.ndarray] | None = None,
    own_way: bool = False,
) -> NeuralNet:
    """Clone and fit a net: a classifier on class indices `y`, an autoencoder on None.

    A fitted one in `FrozenEstimator` is returned as it is. What a classifier predicts is checked
    before, and with `own_way` also that its members predict the same. `device` of None is the net's
    own. `extra_callbacks` serve this training only, after the net's own; one that raises in its
    ``on_train_begin`` stops it before the first step. `role` is what messages call a classifier.
    `validation`, pair of arrays like `x` and `y`, replaces the net's ``train_split`` in this
    training.
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
    """Raise now what the later training of a classifier would raise at its beginning.

    A temporary clone is initialised, and checked by the ``on_train_begin`` of `extra_callbacks`.
    Parameters are those of `fit_net`.
    """
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
                "every training, and every fold of a cross-validation, starts from its weights and "
                "what they have learnt. This is right for weights that were pretrained on other "
                "images; otherwise pass the class, and its arguments as "
                f"{role}__module__... parameters.",
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
