"""Training a classifier on real images and, in turn, on images synthesised against it."""

from __future__ import annotations

import copy
import math
from numbers import Integral, Real
from time import perf_counter

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback
from torch.utils.data import Dataset, default_collate

from tsynd_sk import _sampling, _skorch
from tsynd_sk.classifiers import ConvNet, DenseNet, NetClassifier
from tsynd_sk.images import check_images
from tsynd_sk.synthesizer import TargetedSynthesizer
from tsynd_sk.uncertainty import check_has_dropout

__all__ = ["AugmentedClassifier", "TargetedSynthesis"]


class _AugmentedDataset(Dataset):
    """Real rows, followed by synthetic ones that can be exchanged between epochs."""

    def __init__(self, real: Dataset):
        self.real = real
        self.synthetic: list = []

    def __len__(self) -> int:
        return len(self.real) + len(self.synthetic)

    def __getitem__(self, i):
        n_real = len(self.real)
        return self.real[i] if i < n_real else self.synthetic[i - n_real]


class _AugmentedSplit:
    """A net's own ``train_split``, after which synthetic rows can join the training part alone."""

    def __init__(self, train_split):
        self.train_split = train_split

    def __call__(self, dataset, y=None, **fit_params):
        if not self.train_split:
            return _AugmentedDataset(dataset), None
        targets = () if y is None else (y,)
        train, valid = self.train_split(dataset, *targets, **fit_params)
        return _AugmentedDataset(train), valid


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
    synthetic_ratio : float, default=1.0
        Synthetic rows for each real training row. With 0 nothing is synthesised.
    warm_up : float, default=0.25
        Fraction of the epochs that train on real rows alone.
    refresh_every : int, default=5
        Epochs between two refreshes.
    random_state : int, RandomState instance or None, default=None
        Seed of the synthesis, and of the autoencoder.

    Attributes
    ----------
    synthesizer_ : TargetedSynthesizer
        Fitted on the net's training rows; from the first refresh on.

    Notes
    -----
    For each refresh the net's history gains ``synthesis_uncertainty_source`` and
    ``synthesis_uncertainty`` (mean mutual information in nats before and after),
    ``synthesis_label_agreement`` (fraction of synthetic rows that the members take for their
    label) and ``synthesis_dur`` (seconds, the autoencoder's training included the first time).

    The net's rows are what `TargetedSynthesizer.fit` takes, as float32: images of shape
    (n, C, H, W), or the rows of a table.

    Examples
    --------
    >>> from skorch import NeuralNetClassifier
    >>> from tsynd_sk import TargetedSynthesis, TargetedSynthesizer
    >>> from tsynd_sk.autoencoders import AutoencoderNet
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.datasets import load_digits_images
    >>> X, y, _ = load_digits_images()
    >>> synthesis = TargetedSynthesis(
    ...     TargetedSynthesizer(autoencoder=AutoencoderNet(max_epochs=2)), random_state=0
    ... )
    >>> net = NetClassifier(max_epochs=4, callbacks=[synthesis])
    >>> net = net.fit(X[:100, None], y[:100])
    >>> [bool("synthesis_uncertainty" in epoch) for epoch in net.history]
    [False, True, False, False]
    """

    def __init__(
        self,
        synthesizer=None,
        synthetic_ratio=1.0,
        warm_up=0.25,
        refresh_every=5,
        random_state=None,
    ):
        self.synthesizer = synthesizer
        self.synthetic_ratio = synthetic_ratio
        self.warm_up = warm_up
        self.refresh_every = refresh_every
        self.random_state = random_state

    def initialize(self):
        """Forget an earlier training."""
        vars(self).pop("synthesizer_", None)
        return self

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Make room for synthetic rows behind the net's own split."""
        if self.synthetic_ratio:
            check_has_dropout(_skorch.bare_module(net))
        self.rng_ = check_random_state(self.random_state)
        self.first_epoch_ = len(net.history)
        self.train_split_ = net.train_split
        # An earlier training that ended in an error has left its wrapper behind.
        if isinstance(net.train_split, _AugmentedSplit):
            self.train_split_ = net.train_split.train_split
        net.train_split = _AugmentedSplit(self.train_split_)

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Give the net its own split back."""
        net.train_split = self.train_split_

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Refresh the synthetic rows where the schedule says so."""
        epoch = len(net.history) - 1 - self.first_epoch_
        warm_up = math.ceil(self.warm_up * net.max_epochs)
        if epoch < warm_up or (epoch - warm_up) % self.refresh_every or not self.synthetic_ratio:
            return
        start = perf_counter()
        real = dataset_train.real
        X, y = _rows_of(real)
        n_synthetic = max(round(self.synthetic_ratio * len(real)), 1)
        X_new, y_new, info = self.fitted(net, X, y).sample(
            n_synthetic, random_state=self.rng_.randint(2**31 - 1), return_info=True
        )
        dataset_train.synthetic = _like(real[0], X_new, y_new)
        for name in ("uncertainty_source", "uncertainty", "label_agreement"):
            net.history.record(f"synthesis_{name}", float(info[name].mean()))
        net.history.record("synthesis_dur", perf_counter() - start)

    def fitted(self, net, X, y):
        """Give the synthesizer against a net, fitted on its training rows if it is not yet.

        Parameters
        ----------
        net : skorch classifier
            The net.
        X : ndarray of shape (n, C, H, W) or (n, n_features), float32
            Its training rows.
        y : ndarray of shape (n,)
            Their classes, numbered from 0.

        Returns
        -------
        TargetedSynthesizer
            With ``synthetic_ratio=0`` without an autoencoder: it can tell uncertainty only.
        """
        if not hasattr(self, "synthesizer_"):
            given = TargetedSynthesizer() if self.synthesizer is None else self.synthesizer
            check_synthesizer(given)
            synthesizer = clone(given).set_params(
                classifier=FrozenEstimator(net), image_shape=None if X.ndim == 2 else X.shape[1:]
            )
            if synthesizer.random_state is None:
                synthesizer.set_params(random_state=self.rng_.randint(2**31 - 1))
            synthesizer._fit(X, y, with_autoencoder=self.synthetic_ratio > 0)
            self.synthesizer_ = synthesizer
        return self.synthesizer_


def check_synthesizer(synthesizer) -> None:
    """Refuse what cannot synthesise against the net that trains."""
    if not isinstance(synthesizer, TargetedSynthesizer):
        raise TypeError(f"synthesizer must be a TargetedSynthesizer or None; got {synthesizer!r}")
    if synthesizer.classifier is not None:
        raise ValueError(
            "synthesizer has a classifier of its own, but targets the net that trains: leave its "
            "parameter classifier at None"
        )


def _rows_of(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Images and integer labels of a data set of pairs."""
    X, y = default_collate([dataset[i] for i in range(len(dataset))])
    if not isinstance(X, torch.Tensor):
        raise TypeError(
            f"the net's data set yields {type(X).__name__} as its input; targeted synthesis needs "
            "single arrays"
        )
    return X.float().cpu().numpy(), y.reshape(len(X)).cpu().numpy().astype(np.int64)


def _like(example, X: np.ndarray, y: np.ndarray) -> list:
    """Pairs of the types that a data set yields, so that a batch may mix both."""
    x_real, y_real = example
    if isinstance(x_real, torch.Tensor):
        X = torch.from_numpy(X).to(x_real)
    else:
        X = X.astype(np.asarray(x_real).dtype)
    if isinstance(y_real, torch.Tensor):
        y = torch.from_numpy(y).to(y_real).reshape(-1, *y_real.shape)
    else:
        y = y.astype(np.asarray(y_real).dtype).reshape(-1, *np.shape(y_real))
    return list(zip(X, y, strict=True))


class AugmentedClassifier(ClassifierMixin, BaseEstimator):
    """Train a skorch classifier on real images and on images synthesised against it.

    Training and synthesis alternate inside one fit of the net, see `TargetedSynthesis`, which
    trains for exactly its own ``max_epochs``.

    Parameters
    ----------
    estimator : skorch classifier or None, default=None
        The net, with dropout layers. It is cloned. It sees float32 of shape (n, C, H, W), or
        (n, n_features) for tables, and classes numbered from 0. ``None``: a small convolutional
        network, or a dense one for tables.
    synthesizer : TargetedSynthesizer or None, default=None
        How to synthesise; its `classifier` must be None. Its `image_shape` holds for `X`.
    synthetic_ratio : float, default=1.0
        Synthetic images for each real training image. With 0 the net trains on real ones alone.
    warm_up : float, default=0.25
        Fraction of the epochs that train on real images alone.
    refresh_every : int, default=5
        Epochs between two refreshes of the synthetic images.
    verbose : int, default=0
        With 1, the default net prints a line an epoch. Nets of your own have a `verbose` of
        theirs, and so has `synthesizer`.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random: initial weights, training, autoencoder, synthesis.

    Attributes
    ----------
    estimator_ : skorch classifier
        Fitted net.
    synthesizer_ : TargetedSynthesizer
        Fitted against the trained net, from the images of `fit`: sample from it as you like.
        With ``synthetic_ratio=0`` it has no autoencoder and cannot sample.
    history_ : skorch History
        The net's history; see `TargetedSynthesis` for what it gains.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_features_in_ : int
        Values in an image.
    image_shape_ : tuple of int or None
        (C, H, W); None for tables.

    Examples
    --------
    >>> from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
    >>> from tsynd_sk.autoencoders import AutoencoderNet
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.datasets import load_digits_images
    >>> X, y, _ = load_digits_images()
    >>> synthesizer = TargetedSynthesizer(autoencoder=AutoencoderNet(max_epochs=2))
    >>> classifier = AugmentedClassifier(NetClassifier(max_epochs=5), synthesizer, random_state=0)
    >>> classifier.fit(X[:200], y[:200]).predict(X[200:205]).shape
    (5,)
    """

    _parameter_constraints: dict = {
        "estimator": "no_validation",
        "synthesizer": "no_validation",
        "synthetic_ratio": [Interval(Real, 0, None, closed="left")],
        "warm_up": [Interval(Real, 0, 1, closed="both")],
        "refresh_every": [Interval(Integral, 1, None, closed="left")],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator=None,
        synthesizer=None,
        *,
        synthetic_ratio=1.0,
        warm_up=0.25,
        refresh_every=5,
        verbose=0,
        random_state=None,
    ):
        self.estimator = estimator
        self.synthesizer = synthesizer
        self.synthetic_ratio = synthetic_ratio
        self.warm_up = warm_up
        self.refresh_every = refresh_every
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Train the net; see `TargetedSynthesizer.fit` for what `X` and `y` may be.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
            Images, uint8 or float.
        y : array-like of shape (n,)
            Labels of any type.

        Returns
        -------
        self : AugmentedClassifier

        Raises
        ------
        ValueError, TypeError
            As `TargetedSynthesizer.fit`; or if `synthesizer` has a classifier of its own.
        """
        # On a copy, so that a failing fit leaves what an earlier one has learnt whole.
        learned = copy.copy(self)
        learned._fit(X, y)
        vars(self).update(vars(learned))
        return self

    def _fit(self, X, y) -> None:
        synthesizer = TargetedSynthesizer() if self.synthesizer is None else self.synthesizer
        check_synthesizer(synthesizer)
        if self.estimator is not None:
            _skorch.check_classifier(self.estimator, "estimator")
            if _skorch.is_frozen(self.estimator):
                raise TypeError("estimator is frozen, but AugmentedClassifier trains it: unwrap it")
        X = check_images(self, X, reset=True, image_shape=synthesizer.image_shape)
        y = _sampling.check_labels(self, y, X)
        self.classes_, codes = np.unique(y, return_inverse=True)
        x = self.format_.to_tensor(X)
        rng = check_random_state(self.random_state)
        synthesis = TargetedSynthesis(
            synthesizer,
            synthetic_ratio=self.synthetic_ratio,
            warm_up=self.warm_up,
            refresh_every=self.refresh_every,
            random_state=rng.randint(2**31 - 1),
        )
        self.estimator_ = _skorch.fit_classifier(
            self._default_estimator() if self.estimator is None else self.estimator,
            x,
            codes,
            seed=rng.randint(2**31 - 1),
            device=synthesizer.device,
            callback=synthesis,
        )
        self.history_ = self.estimator_.history
        self.synthesizer_ = synthesis.fitted(self.estimator_, x.numpy(), codes)._over(self, X, y)

    def _default_estimator(self):
        module = DenseNet if self.image_shape_ is None else ConvNet
        return NetClassifier(module, verbose=int(self.verbose))

    def _as_seen(self, X) -> np.ndarray:
        check_is_fitted(self, "estimator_")
        return self.format_.to_tensor(check_images(self, X, reset=False)).numpy()

    def predict(self, X):
        """Predict labels, as the net does.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`.

        Returns
        -------
        ndarray of shape (n,)
        """
        x = self._as_seen(X)
        return self.classes_[self.estimator_.predict(x).astype(np.int64)]

    def predict_proba(self, X):
        """Predict probabilities of the labels, as the net does.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`.

        Returns
        -------
        ndarray of shape (n, n_classes), float32
            Columns in the order of `classes_`.
        """
        x = self._as_seen(X)
        return self.estimator_.predict_proba(x)

    def uncertainty(self, X):
        """Mutual information between prediction and the net's members, in nats.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`.

        Returns
        -------
        ndarray of shape (n,), float32
            Between 0 and ``log(min(n_members, n_classes))``.
        """
        check_is_fitted(self, "estimator_")
        return self.synthesizer_.uncertainty(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
