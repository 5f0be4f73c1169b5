"""How nets are trained: looked at before, heard while they train, and stopped by Ctrl-C."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Callback

from tsynd_sk._skorch._adapter import cloned_net, encode_labels, scoped_seed, sized_by
from tsynd_sk._skorch._net_checks import NetCheck, warn_if_instance


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
    *,
    seed: int,
    device=None,
    extra_callbacks: Sequence[Callback] = (),
    check: Callable[[NeuralNet], object] | None = None,
    role: str = "classifier",
) -> NeuralNet:
    """Clone and fit a classifier on class indices, after a `NetCheck`.

    Parameters
    ----------
    classifier : skorch classifier
        Unfitted.
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
    check : callable or None, default=None
        Called with an untrained net, to refuse it.
    role : str, default="classifier"
        What the user calls the net.
    """
    warn_if_instance(classifier, role)
    net, look = cloned_net(classifier, device), NetCheck(x, int(y.max()) + 1, check)
    with scoped_seed(seed):
        return _fit(net, x, encode_labels(net, y), [look, *extra_callbacks])


def fit_autoencoder(
    autoencoder: NeuralNet,
    x: Any,
    *,
    seed: int,
    device=None,
    extra_callbacks: Sequence[Callback] = (),
) -> NeuralNet:
    """Clone and fit an autoencoder; parameters are those of `fit_classifier`."""
    warn_if_instance(autoencoder, "autoencoder")
    with scoped_seed(seed):
        return _fit(cloned_net(autoencoder, device), x, x, extra_callbacks)


def _fit(net: NeuralNet, X: Any, y: Any, extra_callbacks: Sequence[Callback]) -> NeuralNet:
    try:
        with sized_by(net, X, y), interruptible(), _extra_callbacks(net, extra_callbacks):
            # A net's own `fit` is called, without being initialised again.
            net.warm_start = True
            net.fit(X, y)
            if not {id(guest) for guest in extra_callbacks} <= {
                id(named[1]) for named in net.callbacks_
            }:
                raise RuntimeError(
                    f"{type(net).__name__}.fit initialises the net anew, whose callbacks are lost "
                    "then: let it call the fit that it overrides, which does so where needed"
                )
    except KeyboardInterrupt as interrupt:
        n_epochs = sum("train_loss" in epoch for epoch in net.history)
        interrupt.add_note(
            f"{type(net).__name__} had trained for {n_epochs} of {net.max_epochs} epochs. "
            "Estimators are as they were before; to keep what an interrupted training has learnt, "
            "give the net a skorch.callbacks.Checkpoint."
        )
        raise
    return net


@contextmanager
def _extra_callbacks(net: NeuralNet, extra_callbacks: Sequence[Callback]) -> Iterator[None]:
    """Initialise a net, with further callbacks for a while."""
    warm_start = net.warm_start
    net.initialize()
    net.callbacks_ += [(type(guest).__name__, guest.initialize()) for guest in extra_callbacks]
    try:
        yield
    finally:
        net.warm_start = warm_start
        net.callbacks_ = [named for named in net.callbacks_ if named[1] not in extra_callbacks]


def dry_run(
    classifier: NeuralNet,
    x: Any,
    y: np.ndarray,
    *,
    seed: int,
    device=None,
    check: Callable[[NeuralNet], object] | None = None,
) -> None:
    """Refuse a classifier long before it is to train, by a look at a throw-away clone.

    Parameters are those of `fit_classifier`.
    """
    probe = cloned_net(classifier, device).set_params(verbose=0)
    with scoped_seed(seed), sized_by(probe, x, encode_labels(probe, y)), warnings.catch_warnings():
        # It is to be warned of when it trains.
        warnings.simplefilter("ignore")
        probe.initialize()
        NetCheck(x, int(y.max()) + 1, check).on_train_begin(probe)
