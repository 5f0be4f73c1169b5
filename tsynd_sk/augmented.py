"""A classifier that is trained on real images and, in turn, on images synthesised against it."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from tsynd_sk import _sampling, _skorch
from tsynd_sk.callbacks import TargetedSynthesis, check_synthesizer
from tsynd_sk.classifiers import ConvNet, DenseNet, NetClassifier
from tsynd_sk.images import check_images
from tsynd_sk.synthesizer import TargetedSynthesizer, unlearned

__all__ = ["AugmentedClassifier"]


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
    n_snapshots : int, default=0
        Number of earlier states of the net, those at its latest refreshes, that are members beside
        those of the present one: each counts as one, as it predicts. They cost predictions, but no
        training.
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
        **TargetedSynthesis._parameter_constraints,
        "estimator": "no_validation",
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator=None,
        synthesizer=None,
        *,
        synthetic_ratio=1.0,
        warm_up=0.25,
        refresh_every=5,
        n_snapshots=0,
        verbose=0,
        random_state=None,
    ):
        self.estimator = estimator
        self.synthesizer = synthesizer
        self.synthetic_ratio = synthetic_ratio
        self.warm_up = warm_up
        self.refresh_every = refresh_every
        self.n_snapshots = n_snapshots
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
        learned = unlearned(self)
        learned._fit(X, y)
        self.__dict__ = learned.__dict__
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
            n_snapshots=self.n_snapshots,
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
            Between 0 and the logarithm of the number of members in all, or of classes, whichever
            is smaller.
        """
        check_is_fitted(self, "estimator_")
        return self.synthesizer_.uncertainty(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
