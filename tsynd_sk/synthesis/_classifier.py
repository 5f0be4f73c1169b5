"""A classifier that is trained on real images and, in turn, on images synthesised against it."""

from __future__ import annotations

from functools import partial
from numbers import Integral

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from tsynd_sk import _skorch
from tsynd_sk._skorch._progress import CallbackSupportMixin, EpochBar, EpochTasks, Task
from tsynd_sk._utils._validation import refuse_metadata
from tsynd_sk.classifiers import ConvNet, DenseNet, NetClassifier
from tsynd_sk.images import check_images
from tsynd_sk.synthesis import _sampling
from tsynd_sk.synthesis._callback import (
    TargetedSynthesis,
    check_callbacks,
    check_iterator,
    check_synthesizer,
)
from tsynd_sk.synthesis._data_state import restore_data
from tsynd_sk.synthesis._engine import unlearned
from tsynd_sk.synthesis._peers import refuse_common_start, train_peers, with_peers
from tsynd_sk.synthesis._saving import (
    SavingMixin,
    restore_members,
    restored_classifiers,
    restored_random_state,
)
from tsynd_sk.synthesis._synthesizer import TargetedSynthesizer

__all__ = ["AugmentedClassifier"]


class AugmentedClassifier(CallbackSupportMixin, SavingMixin, ClassifierMixin, BaseEstimator):
    """Train a skorch classifier on real images and on images synthesised against it.

    Training and synthesis alternate inside one fit of the net, see `TargetedSynthesis`, which
    trains for exactly its own ``max_epochs``.

    Parameters
    ----------
    estimator : skorch classifier or None, default=None
        The net. Without `n_peers` its members come from what is random in it, or from a Laplace
        approximation of its last layer. It is cloned. It sees float32 of shape (n, C, H, W), or
        (n, n_features) for tables, and classes numbered from 0. ``None``: a small convolutional
        network, or a dense one for tables.
    synthesizer : TargetedSynthesizer or None, default=None
        How to synthesise; its `classifier` must be None. Its `image_shape` holds for `X`.
    synthetic_ratio : float, default=0.5
        Synthetic images for each real training image. With 0 the net trains on real ones alone.
    warm_up : float, default=0.25
        Fraction of the epochs that train on real images alone.
    refresh_every : int, default=5
        Epochs between two refreshes of the synthetic images.
    batches : {"apart", "mixed"}, default="apart"
        Whether real and synthetic rows come in batches, and with them batch statistics, of their
        own; but for the last batch of an epoch, or two, which take what is left. Nets with an
        ``iterator_train`` of their own make their batches as they do.
    n_snapshots : int, default=0
        Number of earlier states of the net, those at its latest refreshes, that are members beside
        those of the present one: each counts as one, as it predicts. They cost predictions, but no
        training.
    n_peers : int, default=0
        Number of further nets, made as `estimator` is, that are trained on the real images before
        it and form an ensemble with it. With the synthesizer's ``members="auto"`` each of them,
        and the net, is one member as it predicts, so that `n_members` is unused. Each costs a
        training, in which the callbacks of `estimator` take part. The net alone predicts.
    verbose : int, default=0
        With 1, a progress bar for each net, the autoencoder and each synthesis; with 2, the default
        nets print a line an epoch, too. Nets of your own have a `verbose` of theirs.
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
    >>> synthesizer = TargetedSynthesizer(autoencoder=AutoencoderNet(max_epochs=1))
    >>> classifier = AugmentedClassifier(NetClassifier(max_epochs=5), synthesizer, random_state=0)
    >>> classifier.fit(X[:100], y[:100]).predict(X[100:105]).shape
    (5,)
    >>> classifier.predict_proba(X[100:105]).shape
    (5, 10)
    >>> most_uncertain = classifier.uncertainty(X[100:200]).argsort()[::-1][:5]
    >>> [epoch["epoch"] for epoch in classifier.history_ if "synthesis_uncertainty" in epoch]
    [3]
    """

    _parameter_constraints: dict = {
        **{k: v for k, v in TargetedSynthesis._parameter_constraints.items() if k != "peers"},
        "estimator": "no_validation",
        "n_peers": [Interval(Integral, 0, None, closed="left")],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator=None,
        synthesizer=None,
        *,
        synthetic_ratio=0.5,
        warm_up=0.25,
        refresh_every=5,
        batches="apart",
        n_snapshots=0,
        n_peers=0,
        verbose=0,
        random_state=None,
    ):
        self.estimator = estimator
        self.synthesizer = synthesizer
        self.synthetic_ratio = synthetic_ratio
        self.warm_up = warm_up
        self.refresh_every = refresh_every
        self.batches = batches
        self.n_snapshots = n_snapshots
        self.n_peers = n_peers
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, **unsupported):
        """Train the net; see `TargetedSynthesizer.fit` for what `X` and `y` may be.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
            Images, uint8 or float. Those that are not in memory (`numpy.memmap`, zarr, h5py, ...)
            are read in parts.
        y : array-like of shape (n,)
            Labels of any type.
        **unsupported
            Nothing: `sample_weight` and the like are refused with an explanation.

        Returns
        -------
        self : AugmentedClassifier
            This estimator, fitted.

        Raises
        ------
        ValueError, TypeError
            As `TargetedSynthesizer.fit`; or if `synthesizer` has a classifier of its own.
        """
        refuse_metadata(self, unsupported)
        net = NetClassifier() if self.estimator is None else self.estimator
        epochs = getattr(net, "max_epochs", None)
        task = Task.of_fit(self, X, y, n_subtasks=epochs)
        learned = unlearned(self)
        learned._fit(X, y, task)
        self.__dict__ = learned.__dict__
        task.end(attributes={})
        return self

    def _fit(self, X, y, task) -> None:
        synthesizer = self._checked_synthesizer()
        X = check_images(self, X, reset=True, image_shape=synthesizer.image_shape)
        y = _sampling.check_labels(self, y, X)
        self.classes_, codes = np.unique(y, return_inverse=True)
        x = self.format_.seen(X)
        rng = check_random_state(self.random_state)
        synthesis_seed, seed = rng.randint(2**31 - 1), rng.randint(2**31 - 1)
        peers = train_peers(
            self._given_estimator(),
            x,
            codes,
            [rng.randint(2**31 - 1) for _ in range(self.n_peers)],
            device=synthesizer.device,
            check=partial(self._check_peer, synthesizer=synthesizer, x=torch.from_numpy(x[:2])),
            verbose=bool(self.verbose),
        )
        synthesis = TargetedSynthesis(
            synthesizer,
            synthetic_ratio=self.synthetic_ratio,
            warm_up=self.warm_up,
            refresh_every=self.refresh_every,
            batches=self.batches,
            n_snapshots=self.n_snapshots,
            peers=peers,
            random_state=synthesis_seed,
        )
        self.estimator_ = _skorch.fit_classifier(
            self._given_estimator(),
            x,
            codes,
            seed=seed,
            device=synthesizer.device,
            guests=[synthesis, EpochTasks(task, self._learnt), *self._bars()],
            role="estimator",
        )
        self.history_ = self.estimator_.history
        self.synthesizer_ = synthesis.fitted(self.estimator_, x, codes)._over(self, X, y)

    def _check_peer(self, net, synthesizer, x) -> None:
        """Refuse before any training what the net itself would be refused for after its peers'."""
        check_callbacks(net, n_allowed=0)
        refuse_common_start(net)
        if self.synthetic_ratio:
            check_iterator(net)
        kind = "ensemble" if synthesizer.members == "auto" else synthesizer.members
        synthesizer._scheme(kind).resolve_kind(net, x)

    def _checked_synthesizer(self):
        """Check the nets, and give a synthesizer of its own to the fit."""
        synthesizer = TargetedSynthesizer() if self.synthesizer is None else self.synthesizer
        check_synthesizer(synthesizer, n_peers=self.n_peers)
        if isinstance(self.estimator, list | tuple):
            raise TypeError(
                f"estimator is a list of {len(self.estimator)}, but AugmentedClassifier trains one "
                "skorch net. Further nets that are made alike are members with n_peers, earlier "
                "states of the net with n_snapshots; lists are for "
                "TargetedSynthesizer(classifier=...)"
            )
        if self.estimator is not None:
            _skorch.check_classifier(self.estimator, "estimator")
            if _skorch.is_frozen(self.estimator):
                raise TypeError("estimator is frozen, but AugmentedClassifier trains it: unwrap it")
        return clone(synthesizer).set_params(verbose=max(synthesizer.verbose, self.verbose))

    def _given_estimator(self):
        if self.estimator is not None:
            return self.estimator
        module = DenseNet if self.image_shape_ is None else ConvNet
        return NetClassifier(module, verbose=max(int(self.verbose) - 1, 0))

    def _bars(self) -> list:
        return [EpochBar("classifier")] if self.verbose else []

    def _learnt(self, net) -> dict:
        return {**vars(self), "estimator_": net, "history_": net.history}

    def _as_seen(self, X):
        check_is_fitted(self, "estimator_")
        return self.format_.seen(check_images(self, X, reset=False))

    def predict(self, X):
        """Predict labels, as the net does.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`.

        Returns
        -------
        ndarray of shape (n,)
            Labels, of the type of those in `fit`.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If `X` is not as in `fit`.
        """
        x = self._as_seen(X)
        return self.classes_[_skorch.predicting(self.estimator_).predict(x).astype(np.int64)]

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

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If `X` is not as in `fit`.
        """
        x = self._as_seen(X)
        return _skorch.predicting(self.estimator_).predict_proba(x)

    def uncertainty(self, X):
        """Mutual information between prediction and the members, in nats.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`.

        Returns
        -------
        ndarray of shape (n,), float32
            Between 0 and the logarithm of the number of members in all, or of classes, whichever
            is smaller.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If `X` is not as in `fit`.
        """
        check_is_fitted(self, "estimator_")
        return self.synthesizer_.uncertainty(X)

    _saved_as = "AugmentedClassifier"

    def _to_save(self):
        # n_peers may have been set since.
        return self.synthesizer_, [self.estimator] * len(self.synthesizer_._nets)

    def _restored(self, contents):
        learned, synthesizer = unlearned(self), self._checked_synthesizer()
        restore_data(learned, contents, synthesizer.image_shape)
        device, n_classes = synthesizer.device, len(learned.classes_)
        given = [learned._given_estimator()] * (1 + learned.n_peers)
        nets = restored_classifiers(given, contents, n_classes, device)
        net, *peers = nets
        learned.estimator_, learned.history_ = net, net.history
        synthesizer.set_params(
            classifier=with_peers(net, [FrozenEstimator(peer) for peer in peers]),
            image_shape=learned.image_shape_,
        )
        if synthesizer.random_state is None:
            synthesizer.set_params(random_state=restored_random_state(contents))
        synthesizer.classifier_ = nets if peers else net
        learned.synthesizer_ = synthesizer._laid_out_as(learned)
        restore_members(learned.synthesizer_, contents)
        return learned

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
