"""The callback that exchanges synthetic training images while a skorch net trains."""

from __future__ import annotations

import math
import warnings
from numbers import Integral, Real
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from skorch.callbacks import Callback, PrintLog

from tsynd_sk import _skorch
from tsynd_sk._utils._names import UNMOVED
from tsynd_sk.images import ImageFormat, Selection, Stored, ValueRange, empty_on_disk
from tsynd_sk.synthesis._engine import Engine
from tsynd_sk.synthesis._fitting import (
    MembersCheck,
    clone_synthesizer,
    default_net,
    take_engine,
)
from tsynd_sk.synthesis._sampling import draw_sources, requested_codes
from tsynd_sk.synthesis._synthesizer import TargetedSynthesizer
from tsynd_sk.synthesis._training_data import AugmentingIterator, training_rows

__all__ = ["TargetedSynthesis"]

# What the history gains at a refresh, of which the first are means of columns.
_MEANS = ("uncertainty_source", "uncertainty", "label_agreement")
_GAINED = {f"synthesis_{name}" for name in (*_MEANS, "dur")}


class TargetedSynthesis(Callback):
    """Callback that refreshes synthetic training images while a skorch classifier trains.

    After the warm-up, and every few epochs from then on, it synthesises from the training rows
    against the net as it is at that moment, and replaces the synthetic part of the training set.
    Everything else goes on undisturbed: optimiser, schedules, other callbacks, validation.

    Parameters
    ----------
    synthesizer : TargetedSynthesizer or None, default=None
        How to synthesise; its `classifier`, the net that trains, must be None. Its autoencoder,
        unless frozen, is fitted on the net's training rows before the first refresh.
    synthetic_ratio : float or "balanced", default=0.5
        Synthetic rows for each real training row. With 0 nothing is synthesised. "balanced": as
        many of each class as it has fewer than the most frequent one.
    warm_up : float, default=0.25
        Fraction of the epochs that train on real rows alone.
    refresh_every : int, default=5
        Epochs between two refreshes.
    batches : {"apart", "mixed"}, default="apart"
        "apart": a batch holds real or synthetic rows, so that batch normalisation does not mix
        their statistics; only the last batch of an epoch, or two, may hold both. "mixed": batches
        are drawn from all rows. A net with an ``iterator_train`` of its own makes its own batches.
    random_state : int, RandomState instance or None, default=None
        Seed of the synthesis, and of the autoencoder.

    Attributes
    ----------
    synthesizer_ : TargetedSynthesizer
        Fitted on the rows of the latest training; from its first refresh on.

    Raises
    ------
    TypeError, ValueError
        When training begins: if a parameter is out of its range, `synthesizer` has a classifier,
        nothing can be synthesised from the net's rows, or the net has two such callbacks or an
        ``iterator_train__batch_sampler``.

    See Also
    --------
    AugmentedClassifier : Estimator that trains with this callback.
    TargetedSynthesizer : Says how images are synthesised.

    Notes
    -----
    For each refresh the net's history gains ``synthesis_uncertainty_source`` and
    ``synthesis_uncertainty`` (mean mutual information in nats before and after),
    ``synthesis_label_agreement`` (fraction of synthetic rows whose label the members predict) and
    ``synthesis_dur`` (seconds).

    The net's rows are float32: images of shape (n, C, H, W), or the rows of a table.

    An epoch has ``ceil(n / batch_size)`` batches of its `n` rows: real ones in the first
    ``ceil(warm_up * max_epochs)`` epochs, and from then on synthetic ones too. For ``OneCycleLR``
    and other schedules that count batches, their sum is the ``total_steps``.

    ``iterator_train__sampler`` draws real rows and, by them, synthetic ones, so that what it
    balances stays balanced. Training iterators are made anew at each refresh.

    On several devices, by ``skorch.hf.AccelerateMixin``, each process trains on its share of every
    epoch's rows, but synthesises all of them: the same only if `random_state` is an integer.

    Examples
    --------
    >>> from tsynd_sk import TargetedSynthesis
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.datasets import load_digits_images
    >>> X, y, _ = load_digits_images()
    >>> net = NetClassifier(max_epochs=4, callbacks=[TargetedSynthesis(random_state=0)])
    >>> net = net.fit(X[:100, None], y[:100])
    >>> [bool("synthesis_uncertainty" in epoch) for epoch in net.history]
    [False, True, False, False]
    """

    _parameter_constraints: dict = {
        "synthesizer": "no_validation",
        "synthetic_ratio": [Interval(Real, 0, None, closed="left"), StrOptions({"balanced"})],
        "warm_up": [Interval(Real, 0, 1, closed="both")],
        "refresh_every": [Interval(Integral, 1, None, closed="left")],
        "batches": [StrOptions({"apart", "mixed"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        synthesizer=None,
        synthetic_ratio=0.5,
        warm_up=0.25,
        refresh_every=5,
        batches="apart",
        random_state=None,
    ):
        self.synthesizer = synthesizer
        self.synthetic_ratio = synthetic_ratio
        self.warm_up = warm_up
        self.refresh_every = refresh_every
        self.batches = batches
        self.random_state = random_state

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Check everything, and make room for synthetic rows among the training rows."""
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )
        given, n_own, is_checked = check_synthesizer(self.synthesizer), 0, False
        for _, callback in net.callbacks_:
            n_own += isinstance(callback, TargetedSynthesis)
            is_checked |= isinstance(callback, _skorch.NetCheck)
            if isinstance(callback, PrintLog):
                # The columns of its table are those of the first epoch.
                callback.keys_ignored_.update(_GAINED)
        if n_own > 1:
            raise ValueError(
                "the net has two callbacks TargetedSynthesis: leave one out. AugmentedClassifier "
                "adds its own, so that its estimator needs none"
            )
        # Another training, even of the same net, has rows of its own.
        self.__dict__.pop("synthesizer_", None)
        self.rng_ = check_random_state(self.random_state)
        self.first_epoch_, self.exchanged_ = len(net.history), False
        if not self.synthetic_ratio:
            return
        params = net.get_params_for("iterator_train")
        if self.synthetic_ratio == "balanced" and params.get("sampler") is not None:
            raise ValueError(
                "synthetic_ratio='balanced' and iterator_train__sampler both decide how many rows "
                "of a class are trained on: give one of the two"
            )
        if params.get("batch_sampler") is not None:
            raise ValueError(
                "iterator_train__batch_sampler knows real rows alone, so that the net would never "
                "train on a synthetic one: give iterator_train a function that makes the batch "
                "sampler from the data set it gets, or use iterator_train__sampler, which "
                "synthetic rows follow"
            )
        # What cannot be synthesised from is refused before the warm-up, not after it.
        drawn = _skorch.drawn_rows(net.get_dataset(X, y))
        rows, _ = training_rows(drawn)
        if not is_checked:
            _skorch.NetCheck(rows[:], None).on_train_begin(net)
        MembersCheck(given, 1, rows, drawn).on_train_begin(net)
        self.rows_ = AugmentingIterator(net, apart=self.batches == "apart")

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Refresh the synthetic rows where the schedule says so."""
        if not self.synthetic_ratio:
            return
        if self.rows_.loader_ is None:
            self.rows_.detach()
            raise TypeError(
                f"{type(net).__name__}.get_iterator does not make its training iterator by "
                "iterator_train, so that synthetic rows cannot join: let it call super()"
            )
        epoch = len(net.history) - 1 - self.first_epoch_
        if epoch == 0 and self.synthesizer is not None and self.synthesizer.verbose:
            parts = image_passes(self, net, dataset_train).items()
            print("Image passes:", ", ".join(f"{name} {part.sum():,}" for name, part in parts))
        # A training may go on beyond max_epochs.
        if epoch not in self._refreshes(net.max_epochs, until=epoch + 1):
            return
        start = perf_counter()
        if not hasattr(self, "synthesizer_"):
            X, y = training_rows(dataset_train)
            self.synthesizer_ = self._unfitted_synthesizer(net, X).fit(X, y)
        synthesizer, engine = self.synthesizer_, self.synthesizer_.engine_
        # What `TargetedSynthesizer.sample` does, but on disk where the real rows are.
        rng = check_random_state(self.rng_.randint(2**31 - 1))
        if self.synthetic_ratio == "balanced":
            counts = np.bincount(engine.codes, minlength=len(synthesizer.classes_))
            wanted = rng.permutation(np.repeat(np.arange(len(counts)), counts.max() - counts))
            if len(wanted) == 0:
                return
        else:
            n_samples = max(round(self.synthetic_ratio * len(dataset_train)), 1)
            wanted = requested_codes(n_samples, None, synthesizer.classes_, engine.codes, rng)
        sources, occurrence = draw_sources(wanted, engine.codes, rng)
        X = Selection(engine.images, sources)
        empty: Any = empty_on_disk if isinstance(engine.images, Stored) else np.empty
        X_new, info = engine.synthesize(synthesizer, X, wanted, occurrence, rng, empty)
        self.rows_.exchange(X_new, synthesizer.classes_[wanted], sources)
        self.exchanged_ = True
        for name in _MEANS:
            net.history.record(f"synthesis_{name}", float(info[name].mean()))
        net.history.record("synthesis_dur", perf_counter() - start)

    def _refreshes(self, n_epochs: int, until: int | None = None) -> range:
        """Epochs, counted from 0, at whose beginning synthetic rows are exchanged."""
        # In floating point 0.28 * 25 is a little more than 7.
        first = math.ceil(round(self.warm_up * n_epochs, 6))
        until = n_epochs if until is None else until
        return range(first, max(until, first), self.refresh_every)

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Let go of the training data; warn if no synthetic row was among it."""
        self.__dict__.pop("rows_", None)
        if not self.synthetic_ratio or self.warm_up == 1 or self.exchanged_:
            return
        if hasattr(self, "synthesizer_"):
            reason = "synthetic_ratio='balanced' adds none to classes of equal size"
        else:
            reason = (
                f"synthesis begins after {self._refreshes(net.max_epochs).start} of "
                f"{net.max_epochs} epochs, and the training had "
                f"{len(net.history) - self.first_epoch_}. Give a smaller warm_up or more epochs, "
                "or let the training stop later"
            )
        warnings.warn(f"no synthetic row was trained on: {reason}", UserWarning, stacklevel=2)

    def _unfitted_synthesizer(self, net: Any, X: Any) -> Any:
        """Return a copy of the given synthesizer that targets a net, and takes rows like `X`."""
        synthesizer = clone_synthesizer(check_synthesizer(self.synthesizer))
        synthesizer.classifier = _skorch.ComparedNet(net)
        synthesizer.image_shape = None if X.ndim == 2 else X.shape[1:]
        if synthesizer.random_state is None:
            synthesizer.random_state = self.rng_.randint(2**31 - 1)
        return synthesizer

    def __getstate__(self):
        # A net that is saved while it trains takes no loader along.
        return {name: value for name, value in vars(self).items() if name != "rows_"}


def image_passes(synthesis: TargetedSynthesis, net: Any, rows: Any) -> dict[str, np.ndarray]:
    """Count the images that pass through networks, by part and epoch, when `net` trains on `rows`.

    A pass of synthesis is one for all members, and an autoencoder may stop before.
    """
    given = TargetedSynthesizer() if synthesis.synthesizer is None else synthesis.synthesizer
    n_epochs, n_real = net.max_epochs, len(rows)
    passes = {name: np.zeros(n_epochs, int) for name in ("classifier", "synthesis", "autoencoder")}
    passes["classifier"] += n_real
    refreshes, ratio = list(synthesis._refreshes(n_epochs)), synthesis.synthetic_ratio
    if not ratio or not refreshes:
        return passes
    # Only the labels tell how many even the classes out; about as many as there are, say.
    n_new = n_real if ratio == "balanced" else max(round(ratio * n_real), 1)
    passes["classifier"][refreshes[0] :] += n_new
    moves, autoencoder = given.objective not in UNMOVED, given.autoencoder
    climbs = moves and given.objective != "random"
    passes["synthesis"][refreshes] = n_new * (given.max_iter if climbs else 1)
    if autoencoder is None:
        shape = np.shape(rows[0][0])
        autoencoder = default_net("autoencoder", None if len(shape) == 1 else shape)
    if not isinstance(autoencoder, FrozenEstimator):
        n_rows = _skorch.rows_in_epoch(autoencoder, rows)
        passes["autoencoder"][refreshes[0]] = autoencoder.max_epochs * n_rows
    return passes


def synthesizer_against(synthesis: TargetedSynthesis, net: Any, X: Any, y: np.ndarray) -> Any:
    """Return a synthesizer that targets a net which a callback has trained with on `X` and `y`."""
    if hasattr(synthesis, "synthesizer_"):
        # Posteriors are of the rows that the net was trained on, and of its last state.
        synthesis.synthesizer_.engine_.members(synthesis.synthesizer_, seed=0)
        return synthesis.synthesizer_
    synthesizer = synthesis._unfitted_synthesizer(net, X)
    if synthesis.synthetic_ratio:
        # The training has ended before the first refresh.
        return synthesizer.fit(X, y)
    image_format = ImageFormat.infer(X, synthesizer.image_shape)
    value_range = ValueRange.of(X, image_format)
    seed = check_random_state(synthesizer.random_state).randint(2**31 - 1)
    # A net that trains on real rows alone needs no members.
    take_engine(synthesizer, Engine([net], image_format, value_range, X, y, seed))
    return synthesizer


def check_synthesizer(given: Any) -> TargetedSynthesizer:
    """Return the synthesizer, by default a new one; raise if it cannot target a net that trains."""
    synthesizer = TargetedSynthesizer() if given is None else given
    if not isinstance(synthesizer, TargetedSynthesizer):
        raise TypeError(f"synthesizer must be a TargetedSynthesizer or None; got {synthesizer!r}")
    if synthesizer.classifier is not None:
        raise ValueError(
            "synthesizer has a classifier of its own, but here it targets the net that trains: "
            "leave its parameter classifier at None"
        )
    synthesizer._validate_params()
    if synthesizer.sampling_strategy != "auto":
        raise ValueError(
            f"synthesizer has sampling_strategy={synthesizer.sampling_strategy!r}, which is for "
            "its fit_resample. To balance the classes within a training, leave it at 'auto' and "
            "give synthetic_ratio='balanced'"
        )
    if synthesizer.members == "ensemble":
        raise ValueError(
            "synthesizer has members='ensemble', but one net trains: use 'auto', 'dropout' or "
            "'laplace'"
        )
    if synthesizer.autoencoder is not None:
        _skorch.check_autoencoder(synthesizer.autoencoder)
    return synthesizer
