"""Synthesis while a skorch net trains: the callback that exchanges synthetic training images."""

from __future__ import annotations

import math
from functools import partial
from numbers import Integral, Real
from time import perf_counter

import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from skorch.callbacks import Callback, PrintLog

from tsynd_sk import _skorch
from tsynd_sk._skorch._net_checks import Look, look_at
from tsynd_sk._utils._inference import private_copy
from tsynd_sk.images import Stored, empty_on_disk
from tsynd_sk.synthesis._peers import check_fitting, check_frozen, with_peers
from tsynd_sk.synthesis._synthesizer import TargetedSynthesizer
from tsynd_sk.synthesis._training_data import join, leave, training_rows

__all__ = ["TargetedSynthesis"]

_MEANS = ("uncertainty_source", "uncertainty", "label_agreement")


class TargetedSynthesis(Callback):
    """Callback that refreshes synthetic training images while a skorch classifier trains.

    After the warm-up, and every few epochs from then on, it synthesises from the training rows
    against the net as it is at that moment, and exchanges the synthetic part of the training
    set. Everything else goes on undisturbed: optimiser state, learning-rate schedule, other
    callbacks, validation (to which synthetic rows never come), number of epochs.

    Parameters
    ----------
    synthesizer : TargetedSynthesizer or None, default=None
        How to synthesise; its `classifier` is the net that trains and must be None. Its
        autoencoder, unless frozen, is fitted on the net's training rows before the first
        refresh.
    synthetic_ratio : float, default=0.5
        Synthetic rows for each real training row. With 0 nothing is synthesised.
    warm_up : float, default=0.25
        Fraction of the epochs that train on real rows alone.
    refresh_every : int, default=5
        Epochs between two refreshes.
    batches : {"apart", "mixed"}, default="apart"
        Whether real and synthetic rows come in batches, and with them batch statistics, of their
        own; but for the last batch of an epoch, or two, which take what is left. Nets with an
        ``iterator_train`` of their own make their batches as they do.
    n_snapshots : int, default=0
        Number of earlier states of the net, those at its latest refreshes, that are members beside
        those of the present one: each counts as one, as it predicts. They cost predictions, but no
        training.
    peers : sequence of FrozenEstimator, default=()
        Fitted skorch classifiers of the same classes, in `sklearn.frozen.FrozenEstimator`, that
        form an ensemble with the net that trains. With the synthesizer's ``members="auto"`` each
        of them, and the net, is one member as it predicts.
    random_state : int, RandomState instance or None, default=None
        Seed of the synthesis, and of the autoencoder.

    Attributes
    ----------
    synthesizer_ : TargetedSynthesizer
        Fitted on the rows of the latest training; from its first refresh on.

    Raises
    ------
    TypeError
        When training begins: if `synthesizer` is no `TargetedSynthesizer`, its autoencoder is no
        skorch net that encodes and decodes, or one of the `peers` is not frozen.
    ValueError
        When training begins: if a parameter is out of its range, `synthesizer` has a classifier of
        its own, nothing can be synthesised from the net's rows, one of the `peers` predicts other
        classes, or the net has two such callbacks or an ``iterator_train__batch_sampler``.

    Notes
    -----
    For each refresh the net's history gains ``synthesis_uncertainty_source`` and
    ``synthesis_uncertainty`` (mean mutual information in nats before and after),
    ``synthesis_label_agreement`` (fraction of synthetic rows that the members take for their
    label) and ``synthesis_dur`` (seconds, the autoencoder's training included the first time).

    The net's rows are what `TargetedSynthesizer.fit` takes, as float32: images of shape
    (n, C, H, W), or the rows of a table.

    ``iterator_train__sampler`` draws real rows; it draws the sources of synthetic rows too, so that
    what it balances stays balanced. Training iterators are made anew at each refresh.

    On several devices, ``skorch.hf.AccelerateMixin`` trains the net: each process takes its share
    of every epoch's rows, real and synthetic. Each makes all synthetic rows for itself, on its own
    device and against its own copy of the net, and trains the autoencoder, which thus takes as
    long as on one device. The rows are the same everywhere only if `random_state` is an integer;
    give one. Mixed precision is for the training; how to synthesise, the synthesizer's `precision`
    says.

    Ctrl-C ends the training as skorch has it: `fit` returns, and the net keeps what it has learnt.

    Examples
    --------
    >>> from skorch import NeuralNetClassifier
    >>> from tsynd_sk import TargetedSynthesis, TargetedSynthesizer
    >>> from tsynd_sk.autoencoders import AutoencoderNet
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.datasets import load_digits_images
    >>> X, y, _ = load_digits_images()
    >>> synthesis = TargetedSynthesis(
    ...     TargetedSynthesizer(autoencoder=AutoencoderNet(max_epochs=1)), random_state=0
    ... )
    >>> net = NetClassifier(max_epochs=4, callbacks=[synthesis])
    >>> net = net.fit(X[:100, None], y[:100])
    >>> [bool("synthesis_uncertainty" in epoch) for epoch in net.history]
    [False, True, False, False]
    """

    _parameter_constraints: dict = {
        "synthesizer": "no_validation",
        "synthetic_ratio": [Interval(Real, 0, None, closed="left")],
        "warm_up": [Interval(Real, 0, 1, closed="both")],
        "refresh_every": [Interval(Integral, 1, None, closed="left")],
        "batches": [StrOptions({"apart", "mixed"})],
        "n_snapshots": [Interval(Integral, 0, None, closed="left")],
        "peers": [list, tuple],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        synthesizer=None,
        synthetic_ratio=0.5,
        warm_up=0.25,
        refresh_every=5,
        batches="apart",
        n_snapshots=0,
        peers=(),
        random_state=None,
    ):
        self.synthesizer = synthesizer
        self.synthetic_ratio = synthetic_ratio
        self.warm_up = warm_up
        self.refresh_every = refresh_every
        self.batches = batches
        self.n_snapshots = n_snapshots
        self.peers = peers
        self.random_state = random_state

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Make room for synthetic rows behind the net's own split."""
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )
        check_synthesizer(self._given(), n_peers=len(self.peers))
        check_frozen(self.peers)
        check_callbacks(net, n_allowed=1)
        if self.synthetic_ratio:
            check_iterator(net)
        if self.synthetic_ratio or self.peers:
            # What cannot be synthesised from is refused before the warm-up, not after it.
            dataset = net.get_dataset(X, y)
            rows, _ = training_rows(dataset, min(len(dataset), 8))
            if not any(isinstance(callback, Look) for _, callback in net.callbacks_):
                look_at(net, rows[:], None)
            scheme = self._against(net)._scheme()
            scheme.resolve_kind(net, torch.from_numpy(rows[:1]))
            check_fitting(self.peers, net, rows[:], scheme)
        # Another training, also one that goes on with the same net, has rows of its own.
        self.__dict__.pop("synthesizer_", None)
        self.rng_ = check_random_state(self.random_state)
        self.first_epoch_ = len(net.history)
        join(net, apart=self.batches == "apart")
        for _, callback in net.callbacks_:
            # The columns of its table are those of the first epoch.
            if isinstance(callback, PrintLog):
                callback.keys_ignored_.update(f"synthesis_{name}" for name in (*_MEANS, "dur"))

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Give the net its own split back."""
        leave(net)
        if hasattr(self, "synthesizer_"):
            # Learnt when they are next needed, for other callbacks may yet load another state.
            self.synthesizer_._posteriors = []

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Refresh the synthetic rows where the schedule says so."""
        leave(net)
        if not self.synthetic_ratio:
            return
        real = dataset_train.real
        epoch = len(net.history) - 1 - self.first_epoch_
        if not is_refresh(epoch, net.max_epochs, self.warm_up, self.refresh_every):
            return
        start = perf_counter()
        if hasattr(self, "synthesizer_"):
            self.synthesizer_._update_posteriors()
        else:
            self._fit_synthesizer(net, *training_rows(real))
        synthesizer = self.synthesizer_
        sample = synthesizer.sample
        if isinstance(synthesizer._X, Stored):
            # As many rows as there are real ones fit in memory only where those do.
            sample = partial(synthesizer._sample, empty=empty_on_disk)
        X_new, y_new, info = sample(
            max(round(self.synthetic_ratio * len(real)), 1),
            random_state=self.rng_.randint(2**31 - 1),
            return_info=True,
        )
        if self.n_snapshots:
            # At rest on the CPU, where a pickle of it can be read on every machine.
            snapshot = private_copy(_skorch.bare_module(net), torch.device("cpu"))
            synthesizer._snapshots = [*synthesizer._snapshots, snapshot][-self.n_snapshots :]
        dataset_train.exchange(X_new, y_new, info.source_index)
        for name in _MEANS:
            net.history.record(f"synthesis_{name}", float(info[name].mean()))
        net.history.record("synthesis_dur", perf_counter() - start)

    def fitted(self, net, X, y):
        """Give the synthesizer against a net, fitted on its training rows if it is not yet.

        Parameters
        ----------
        net : skorch classifier
            The net.
        X : array of shape (n, C, H, W) or (n, n_features), float32
            Its training rows.
        y : ndarray of shape (n,)
            Their classes, numbered from 0.

        Returns
        -------
        TargetedSynthesizer
            With ``synthetic_ratio=0`` without an autoencoder: it can tell uncertainty only.

        Raises
        ------
        TypeError, ValueError
            As `TargetedSynthesizer.fit`.
        """
        if hasattr(self, "synthesizer_"):
            self.synthesizer_._update_posteriors()
        else:
            self._fit_synthesizer(net, X, y)
        return self.synthesizer_

    def _fit_synthesizer(self, net, X, y) -> None:
        synthesizer = self._against(net).set_params(
            image_shape=None if X.ndim == 2 else X.shape[1:]
        )
        if synthesizer.random_state is None:
            synthesizer.set_params(random_state=self.rng_.randint(2**31 - 1))
        synthesizer._fit(X, y, with_autoencoder=self.synthetic_ratio > 0)
        self.synthesizer_ = synthesizer

    def _given(self):
        return TargetedSynthesizer() if self.synthesizer is None else self.synthesizer

    def _against(self, net):
        """Give the synthesizer, unfitted, that targets a net and its peers."""
        return clone(self._given()).set_params(classifier=with_peers(net, self.peers))


def is_refresh(epoch: int, max_epochs: int, warm_up: float, refresh_every: int) -> bool:
    """Tell whether further rows are exchanged at the beginning of an epoch, counted from 0."""
    # In floating point 0.28 * 25 is a little more than 7.
    first = math.ceil(round(warm_up * max_epochs, 6))
    return epoch >= first and (epoch - first) % refresh_every == 0


def check_callbacks(net, *, n_allowed: int) -> None:
    """Refuse more callbacks of this kind than there may be."""
    if sum(isinstance(guest, TargetedSynthesis) for _, guest in net.callbacks_) > n_allowed:
        raise ValueError(
            "the net has two callbacks TargetedSynthesis, where one is for all its synthetic "
            "rows; AugmentedClassifier brings its own, so that its estimator needs none"
        )


def check_iterator(net) -> None:
    """Refuse batches in which no synthetic row could be."""
    if net.get_params_for("iterator_train").get("batch_sampler") is not None:
        raise ValueError(
            "iterator_train__batch_sampler numbers real rows alone, so that the net would never "
            "see a synthetic one: give iterator_train a function that makes the batch sampler from "
            "the data set it gets, or use iterator_train__sampler, which synthetic rows follow"
        )


def check_synthesizer(synthesizer, *, n_peers: int = 0) -> None:
    """Refuse what cannot synthesise against the net that trains."""
    if not isinstance(synthesizer, TargetedSynthesizer):
        raise TypeError(f"synthesizer must be a TargetedSynthesizer or None; got {synthesizer!r}")
    if synthesizer.classifier is not None:
        raise ValueError(
            "synthesizer has a classifier of its own, but targets the net that trains: leave its "
            "parameter classifier at None"
        )
    synthesizer._validate_params()
    if synthesizer.members == "ensemble" and not n_peers:
        raise ValueError(
            "synthesizer has members='ensemble', but one net trains: let it have peers (n_peers of "
            "AugmentedClassifier, peers of TargetedSynthesis), or use 'auto', 'dropout' or "
            "'laplace', and n_snapshots for earlier states of the net as further members"
        )
    if synthesizer.autoencoder is not None:
        _skorch.check_autoencoder(synthesizer.autoencoder)
