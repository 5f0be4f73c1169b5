"""How nets are trained: checked before, with callbacks of the library, and stopped by Ctrl-C."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Callback

from tsynd_sk._skorch._copies import clone_net
from tsynd_sk._skorch._net_checks import NetCheck, warn_if_instance
from tsynd_sk._skorch._nets import encode_labels, is_frozen
from tsynd_sk._skorch._seeding import scoped_seed
from tsynd_sk._skorch._sized_from_data import sized_by


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the user's Ctrl-C through skorch, which takes it for the wish to train no further.

    Callbacks of skorch end a training by the same exception, so that only the signal tells.
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


def fit_classifier(
    classifier: NeuralNet,
    x: Any,
    y: np.ndarray,
    seed: int,
    device: Any = None,
    extra_callbacks: Sequence[Callback] = (),
    role: str = "classifier",
) -> NeuralNet:
    """Clone and fit a classifier on class indices, after a check of what it predicts untrained.

    Parameters
    ----------
    classifier : skorch classifier
        Unfitted; or a fitted one in `FrozenEstimator`, which is returned as it is.
    x : array of shape (n, ...), float32
        What the net is to see.
    y : ndarray of shape (n,)
        Class indices.
    seed : int
        Seed of this training.
    device : str or None, default=None
        Where to train; None for the net's own.
    extra_callbacks : sequence of skorch callbacks
        They take part in this one training, after the net's own, and leave no trace in the net.
        One that raises in its ``on_train_begin`` stops the training before the first step.
    role : str, default="classifier"
        What the user calls the net.
    """
    if is_frozen(classifier):
        return classifier.estimator
    warn_if_instance(classifier, role)
    net, check = clone_net(classifier, device), NetCheck(x, int(y.max()) + 1)
    with scoped_seed(seed):
        return _fit(net, x, encode_labels(net, y), [check, *extra_callbacks])


def fit_autoencoder(
    autoencoder: NeuralNet, x: Any, seed: int, device: Any = None, extra_callbacks: Sequence = ()
) -> NeuralNet:
    """Clone and fit an autoencoder; parameters are those of `fit_classifier`."""
    if is_frozen(autoencoder):
        return autoencoder.estimator
    warn_if_instance(autoencoder, "autoencoder")
    with scoped_seed(seed):
        return _fit(clone_net(autoencoder, device), x, x, extra_callbacks)


def dry_run(
    classifier: NeuralNet,
    x: Any,
    y: np.ndarray,
    seed: int,
    device: Any = None,
    extra_callbacks: Sequence[Callback] = (),
) -> None:
    """Begin the training of a classifier that trains later, to raise now what would raise then.

    A throw-away clone is initialised, and checked by the ``on_train_begin`` of `extra_callbacks`.
    Parameters are those of `fit_classifier`.
    """
    probe = clone_net(classifier, device).set_params(verbose=0)
    with scoped_seed(seed), sized_by(probe, x, encode_labels(probe, y)), warnings.catch_warnings():
        # The training itself will warn.
        warnings.simplefilter("ignore")
        probe.initialize()
        for callback in (NetCheck(x, int(y.max()) + 1), *extra_callbacks):
            callback.on_train_begin(probe)


def _fit(net: NeuralNet, X: Any, y: Any, extra_callbacks: Sequence[Callback]) -> NeuralNet:
    try:
        with sized_by(net, X, y), interruptible(), _extra_callbacks(net, extra_callbacks):
            # A net's own `fit` is called, without being initialised again.
            net.warm_start = True
            net.fit(X, y)
            if not set(map(id, extra_callbacks)) <= {id(named[1]) for named in net.callbacks_}:
                raise RuntimeError(
                    f"{type(net).__name__}.fit initialises the net anew, whose callbacks are lost "
                    "then: let it call the fit that it overrides, which does so where needed"
                )
    except KeyboardInterrupt as interrupt:
        n_epochs = sum("train_loss" in epoch for epoch in net.history)
        interrupt.add_note(
            f"{type(net).__name__} had trained for {n_epochs} of {net.max_epochs} epochs. "
            "Estimators are as they were before; to keep what an interrupted training has learnt, "
            "add a skorch.callbacks.Checkpoint to the net."
        )
        raise
    return net


@contextmanager
def _extra_callbacks(net: NeuralNet, callbacks: Sequence[Callback]) -> Iterator[None]:
    """Initialise a net, with further callbacks for a while.

    They join the initialised ones, for as parameters they would stay with the net, and be lost
    where it has ``callbacks="disable"``.
    """
    warm_start = net.warm_start
    net.initialize()
    net.callbacks_ += [(type(extra).__name__, extra.initialize()) for extra in callbacks]
    try:
        yield
    finally:
        net.warm_start = warm_start
        net.callbacks_ = [named for named in net.callbacks_ if named[1] not in callbacks]
