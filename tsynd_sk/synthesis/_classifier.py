"""A classifier that is trained on real images and, in turn, on images synthesised against it."""

from __future__ import annotations

from copy import copy
from functools import partial

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from tsynd_sk import _skorch
from tsynd_sk._utils._labels import encode_labels
from tsynd_sk._utils._validation import refuse_metadata
from tsynd_sk.images import check_images
from tsynd_sk.synthesis import _sampling
from tsynd_sk.synthesis._callback import (
    TargetedSynthesis,
    check_synthesizer,
    image_passes,
    synthesizer_against,
)
from tsynd_sk.synthesis._fitting import (
    EstimatorOfParts,
    all_or_nothing,
    clone_synthesizer,
    default_net,
    take_data_attributes,
    take_engine,
)
from tsynd_sk.synthesis._saving import SavingMixin
from tsynd_sk.synthesis._synthesizer import TargetedSynthesizer

__all__ = ["AugmentedClassifier"]


class AugmentedClassifier(
    _skorch.CallbackSupportMixin, SavingMixin, ClassifierMixin, EstimatorOfParts
):
    """Train a skorch classifier on real images and on images synthesised against it.

    Training and synthesis alternate inside one fit of the net, by the callback `TargetedSynthesis`.

    Parameters
    ----------
    estimator : skorch classifier or None, default=None
        The net, which is cloned. It gets float32 of shape (n, C, H, W), or (n, n_features) for
        tables, and classes numbered from 0. ``None``: a small convolutional network, or a dense
        one for tables.
    synthesizer : TargetedSynthesizer or None, default=None
        How to synthesise; its `classifier` must be None. Its `image_shape` holds for `X`.
    synthetic_ratio : float or "balanced", default=0.5
        Synthetic images for each real training image. With 0 the net trains on real ones alone.
        "balanced": as many of each class as it has fewer than the most frequent one.
    warm_up : float, default=0.25
        Fraction of the epochs that train on real images alone.
    refresh_every : int, default=5
        Epochs between two refreshes of the synthetic images.
    batches : {"apart", "mixed"}, default="apart"
        Whether a batch holds real or synthetic images alone, or any; see `TargetedSynthesis`.
    verbose : int, default=0
        1: how many images will pass through the nets, and bars that count them; 2: also the default
        nets' lines for each epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random: initial weights, training, synthesis.

    Attributes
    ----------
    estimator_ : skorch classifier
        Fitted net.
    synthesizer_ : TargetedSynthesizer
        Fitted against the trained net, to sample from. With ``synthetic_ratio=0`` it has no
        autoencoder and cannot sample.
    history_ : skorch History
        The net's history; see `TargetedSynthesis` for what it adds.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_features_in_ : int
        Columns of `X`, only where it has two dimensions.
    image_shape_ : tuple of int or None
        (C, H, W); None for tables.

    See Also
    --------
    TargetedSynthesizer : Synthesises the images; without a training, it resamples a data set.
    TargetedSynthesis : The same as a callback of a skorch net that you train yourself.
    tsynd_sk.comparison.compare : Say whether it helps with your images and your network.
    tsynd_sk.evaluation.robustness_report : Compare classifiers, also under attack.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.datasets import load_digits_images
    >>> X, y, _ = load_digits_images()
    >>> synthesizer = TargetedSynthesizer(radius=0.2)
    >>> classifier = AugmentedClassifier(NetClassifier(max_epochs=5), synthesizer, random_state=0)
    >>> classifier.fit(X[:100], y[:100]).predict(X[100:105]).shape
    (5,)
    >>> classifier.predict_proba(X[100:105]).shape, classifier.predict_log_proba(X[100:105]).shape
    ((5, 10), (5, 10))
    >>> classifier.module_(torch.zeros(1, 1, 8, 8)).shape
    torch.Size([1, 10])
    >>> classifier.set_params(synthesizer__radius=0.5).synthesizer.radius
    0.5
    >>> most_uncertain = classifier.uncertainty(X[100:200]).argsort()[::-1][:5]
    >>> [epoch["epoch"] for epoch in classifier.history_ if "synthesis_uncertainty" in epoch]
    [3]
    """

    _examples = {"estimator": "NetClassifier()", "synthesizer": "TargetedSynthesizer()"}
    _parameter_constraints: dict = {
        **TargetedSynthesis._parameter_constraints,
        "estimator": "no_validation",
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
        verbose=0,
        random_state=None,
    ):
        self.estimator = estimator
        self.synthesizer = synthesizer
        self.synthetic_ratio = synthetic_ratio
        self.warm_up = warm_up
        self.refresh_every = refresh_every
        self.batches = batches
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, *, X_val=None, y_val=None, **unsupported):
        """Train the net.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
            Images, as in `TargetedSynthesizer.fit`.
        y : array-like of shape (n,)
            Labels of any type.
        X_val, y_val : array-likes like `X` and `y`, or None, default=None
            Images by which the net is validated after every epoch, in place of its own
            ``train_split``. Nothing is trained on them, nor synthesised from them.
        **unsupported
            Nothing: `sample_weight` and the like raise TypeError, which says what to do.

        Returns
        -------
        self : AugmentedClassifier
            This estimator, fitted.

        Raises
        ------
        ValueError, TypeError
            As `TargetedSynthesizer.fit`; or if `synthesizer` has a classifier of its own, or
            `X_val` and `y_val` are not like `X` and `y`.
        """
        refuse_metadata(self, unsupported)
        synthesizer = self._check_parts()
        with all_or_nothing(self):
            n_epochs = getattr(self.estimator, "max_epochs", None)
            task = _skorch.Task.of_fit(self, X, y, n_subtasks=n_epochs)
            X = check_images(self, X, reset=True, image_shape=synthesizer.image_shape)
            y = _sampling.check_labels(self, y, X)
            x = self.format_.as_network_input(X)
            self.classes_, codes = np.unique(y, return_inverse=True)
            validation = None
            if X_val is not None or y_val is not None:
                validation = self._validation(X_val, y_val)

            rng = check_random_state(self.random_state)
            synthesis_seed, net_seed = rng.randint(2**31 - 1), rng.randint(2**31 - 1)
            # Training and synthesis alternate by this callback.
            synthesis = TargetedSynthesis(
                synthesizer,
                synthetic_ratio=self.synthetic_ratio,
                warm_up=self.warm_up,
                refresh_every=self.refresh_every,
                batches=self.batches,
                random_state=synthesis_seed,
            )
            callbacks = [synthesis]
            if task.context is not None:
                callbacks.append(_skorch.EpochTasks(task, self._learned))
            if self.verbose:
                callbacks.append(
                    _skorch.TrainingBar("classifier", partial(image_passes, synthesis))
                )
            net = self.estimator
            if net is None:
                net = default_net("classifier", self.image_shape_, self.verbose)
            net = _skorch.fit_net(
                net,
                x,
                codes,
                net_seed,
                synthesizer.device,
                callbacks,
                role="estimator",
                validation=validation,
                own_way=bool(self.synthetic_ratio),
            )

            self.estimator_, self.history_ = net, net.history
            self.synthesizer_ = synthesizer = synthesizer_against(synthesis, net, x, codes)
            take_data_attributes(synthesizer, like=self)
            synthesizer.engine_.start_from(self.format_, self.value_range_, X, codes)
            task.end(attributes={})
        return self

    def _validation(self, X_val, y_val):
        """Return validation data as the net sees them."""
        if X_val is None or y_val is None:
            raise ValueError("X_val and y_val belong together: give both of them, or none")
        try:
            X_val = check_images(self, X_val, reset=False)
            codes = encode_labels(y_val, self.classes_)
            check_consistent_length(X_val, codes)
        except ValueError as error:
            error.add_note("This is about X_val and y_val.")
            raise
        return self.format_.as_network_input(X_val), codes

    def _check_parts(self) -> TargetedSynthesizer:
        """Check the nets, and return a synthesizer for this fit alone."""
        synthesizer = copy(check_synthesizer(self.synthesizer))
        if isinstance(self.estimator, list | tuple):
            raise TypeError(
                f"estimator must be one skorch net; got a list of {len(self.estimator)}. For an "
                "ensemble use TargetedSynthesizer(classifier=[...])"
            )
        if self.estimator is not None:
            _skorch.check_net(self.estimator, "estimator")
            if isinstance(self.estimator, FrozenEstimator):
                raise TypeError(
                    "estimator is frozen, but AugmentedClassifier trains it: pass the net itself, "
                    "without FrozenEstimator"
                )
        synthesizer.verbose = max(synthesizer.verbose, self.verbose)
        return synthesizer

    def _learned(self, net) -> dict:
        """Attributes of a fit that would stop now."""
        return {**vars(self), "estimator_": net, "history_": net.history}

    def _restore(self, saved) -> None:
        """Take over what a file holds."""
        synthesizer = clone_synthesizer(self._check_parts()).set_params(classifier=self.estimator)
        saved.restore_data(synthesizer, synthesizer.image_shape)
        take_data_attributes(self, like=synthesizer)
        engine = saved.engine(synthesizer)
        self.estimator_ = net = engine.nets[0]
        self.history_ = net.history
        synthesizer.set_params(classifier=FrozenEstimator(net), image_shape=self.image_shape_)
        if synthesizer.random_state is None:
            synthesizer.set_params(random_state=saved.description["random_state"])
        take_engine(synthesizer, engine)
        self.synthesizer_ = synthesizer

    @property
    def module_(self):
        """The trained network in evaluation mode, without what the net does around it.

        It takes float32 of shape (n, C, H, W), or (n, n_features), and returns what its criterion
        takes, such as logits.
        """
        check_is_fitted(self, "estimator_")
        return _skorch.bare_module(self.estimator_).eval()

    def _network_input(self, X):
        check_is_fitted(self, "estimator_")
        return self.format_.as_network_input(check_images(self, X, reset=False))

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
        NotFittedError, ValueError
            If the classifier is not fitted, or `X` is not as in `fit`.
        """
        x = self._network_input(X)
        return self.classes_[
            _skorch.without_global_rng(self.estimator_).predict(x).astype(np.int64)
        ]

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
        NotFittedError, ValueError
            If the classifier is not fitted, or `X` is not as in `fit`.
        """
        x = self._network_input(X)
        return _skorch.without_global_rng(self.estimator_).predict_proba(x)

    def predict_log_proba(self, X):
        """Predict logarithms of the probabilities, where small ones are not rounded to zero.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`.

        Returns
        -------
        ndarray of shape (n, n_classes), float32
            Natural logarithms.

        Raises
        ------
        NotFittedError, ValueError
            If the classifier is not fitted, or `X` is not as in `fit`.
        """
        x = self._network_input(X)
        net = _skorch.without_global_rng(self.estimator_)
        to_log_proba = _skorch.log_proba_head(net)
        return np.concatenate(
            [to_log_proba(output).float().numpy() for output in net.forward_iter(x)]
        )

    def uncertainty(self, X):
        """Mutual information between prediction and member, in nats.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`.

        Returns
        -------
        ndarray of shape (n,), float32
            At most the logarithm of the number of members, or of classes.

        Raises
        ------
        NotFittedError, ValueError
            If the classifier is not fitted, or `X` is not as in `fit`.
        """
        check_is_fitted(self, "estimator_")
        if not hasattr(self.synthesizer_, "autoencoder_"):
            # Trained on real images alone, it may prepare them in any way.
            _skorch.check_own_way(self.estimator_, self._network_input(X))
        return self.synthesizer_.uncertainty(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
