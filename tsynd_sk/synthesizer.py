"""Targeted synthesis: new training images that a classifier is epistemically uncertain about."""

from __future__ import annotations

import copy
from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import NotFittedError
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from tsynd_sk import _sampling, _skorch
from tsynd_sk._codec import Codec, latent_scale
from tsynd_sk._inference import PRECISIONS
from tsynd_sk._membership import KINDS, N_JUDGED, Scheme
from tsynd_sk._plans import PLANS
from tsynd_sk._stream import Rows, stream
from tsynd_sk._synthesis import Synthesis, derived_seed
from tsynd_sk.autoencoders import AutoencoderNet, DenseAutoencoder, PatchAutoencoder
from tsynd_sk.classifiers import ConvNet, DenseNet, NetClassifier
from tsynd_sk.images import check_images
from tsynd_sk.uncertainty import mutual_information

__all__ = ["TargetedSynthesizer"]

# Streams of random numbers beside the occurrences of sources, which count up from zero.
_UNCERTAINTY_STREAM = 2**31


def unlearned(estimator):
    """Copy an estimator without its fitted attributes.

    Fitting the copy leaves what an earlier fit has learnt whole if it fails, and lets nothing of
    it outlive a success.
    """
    duplicate = copy.copy(estimator)
    duplicate.__dict__ = {k: v for k, v in vars(estimator).items() if not k.endswith("_")}
    return duplicate


class TargetedSynthesizer(BaseEstimator):
    """Synthesise labelled images that a classifier is epistemically uncertain about.

    The code of a real image, in the latent space of an autoencoder, is moved by gradient ascent
    on the mutual information between the prediction and the classifier's members, inside a trust
    region around it, and decoded [1]_. The new image keeps the label of its source.

    Parameters
    ----------
    classifier : skorch classifier, list of them, or None, default=None
        An unfitted net is cloned and fitted; a fitted one wrapped in
        `sklearn.frozen.FrozenEstimator` is used as it is. A list of classifiers is a deep
        ensemble. ``None``: a small convolutional network, or a dense one for tables.
    autoencoder : skorch net or None, default=None
        Its module has ``encode(x) -> z`` and ``decode(z) -> x``. Unfitted (cloned and fitted on
        `X`) or wrapped in `sklearn.frozen.FrozenEstimator`, which is how unlabelled images are put
        to use. ``None``: an `AutoencoderNet` around a `PatchAutoencoder`, or around a
        `DenseAutoencoder` for tables.
    objective : {"mutual_info", "entropy", "random", "reconstruction"} or callable, \
            default="mutual_info"
        What is maximised: the mutual information, or the entropy of the mean prediction.
        "random" goes to the surface of the trust region in a random direction, "reconstruction"
        does not move: controls, on the same path. A callable maps ``(log_probs, y)``, tensors of
        shapes (n_members, n, n_classes) and (n,), to values (n,), differentiably.
    members : {"auto", "dropout", "laplace", "ensemble"}, default="auto"
        What tells how uncertain a classifier is. "dropout": the classifier under frozen draws of
        all that is random in it, see `DropoutMembers`. "laplace": under draws of its last layer
        from the posterior that its training images leave, see `last_layer_posterior`.
        "ensemble": the classifiers of a list, each as it predicts. With a list, "dropout" and
        "laplace" give every classifier `n_members` members. "auto": "ensemble" for a list,
        "dropout" for a classifier in which something is random, else "laplace".
    n_members : int, default=16
        Number of members of each classifier. Unused for ``members="ensemble"``.
    restrict : None, "last", int or list of str, default=None
        For ``members="dropout"``: which random layers of the classifier make members, the others
        at rest: all of them, the last, as many last ones, or those of these names. Fewer and later
        ones are faster; what earlier ones would contribute to the uncertainty is left out.
    radius : float, default=0.5
        Trust region: largest root-mean-square displacement of a latent coordinate, in latent
        standard deviations.
    max_iter : int, default=10
        Number of ascent steps.
    n_iter_no_change : int or None, default=5
        An image is finished before `max_iter` when its best value has not risen, by more than a
        thousandth, for so many steps. ``None``: never.
    label_policy : {"constrain", "keep"}, default="constrain"
        Both give the label of the source. "keep" takes the most uncertain iterate whatever it
        is taken for; "constrain" the most uncertain one at which the members' mean prediction is
        that label. Where there is none, the start of the ascent is taken, or, if the source
        itself was classified correctly, a mixture with the source that is so too (with as little
        of the source as will do; where the members are sure of nothing, that can be the source).
    sampling_strategy : str, float, dict or callable, default="auto"
        Used by `fit_resample`, as in imbalanced-learn: "minority", "not minority",
        "not majority" (= "auto"), "all"; the wanted ratio of minority to majority rows for two
        classes; a dict from label to the number of rows after resampling; or a callable that
        makes that dict from `y`.
    image_shape : tuple of int or None, default=None
        (H, W), (C, H, W) or (H, W, C): shape of the images in flat rows, without which rows are
        those of a table; also settles ambiguous layouts.
    batch_size : int, default=256
        Images that are synthesised at a time. Changes results by rounding only. Batches for
        which a device has not enough memory are halved, with a warning.
    plan : {"auto", "fold", "vmap", "loop"}, default="auto"
        How members are computed, see `DropoutMembers`. Changes results by rounding only.
    precision : {"float32", "bfloat16"}, default="float32"
        Number format of the networks in the ascent; measures are computed in float32. "bfloat16"
        is faster on processors and accelerators with units for it, but small uncertainties, which
        are differences of predictions, lose digits.
    device : str, torch.device or None, default=None
        Where to train and to synthesise. ``None``: where each net says.
    n_jobs : int or None, default=None
        Batches that are synthesised side by side, each on one core: by threads, or in whatever
        way `joblib.parallel_config` says ("loky", "dask", ...). Does not change results.
    verbose : int, default=0
        With 1, progress bars; with 2, also the nets' lines for every epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random: initial weights, training, masks, starts.

    Attributes
    ----------
    classifier_ : skorch classifier or list of them
        Fitted classifier.
    autoencoder_ : skorch net
        Fitted autoencoder.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_features_in_ : int
        Values in an image.
    image_shape_ : tuple of int or None
        (C, H, W); None for tables.
    latent_scale_ : Tensor
        Standard deviations of the latent coordinates over the training images.
    sample_indices_ : ndarray of shape (n_rows,)
        After `fit_resample`: for every row returned, the row of `X` it is or comes from.

    References
    ----------
    .. [1] J. Niemeijer, J. Ehrhardt, H. Uzunova, H. Handels, "TSynD: Targeted Synthetic Data
       Generation for Enhanced Medical Image Classification", arXiv:2406.17473, 2024.

    Examples
    --------
    >>> from tsynd_sk import TargetedSynthesizer
    >>> from tsynd_sk.autoencoders import AutoencoderNet
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> from tsynd_sk.datasets import load_digits_images
    >>> X, y, _ = load_digits_images()
    >>> synthesizer = TargetedSynthesizer(
    ...     NetClassifier(max_epochs=5), AutoencoderNet(max_epochs=2), random_state=0
    ... )
    >>> X_new, y_new, info = synthesizer.fit(X[:200], y[:200]).sample(10, return_info=True)
    >>> X_new.shape, y_new.shape, info.uncertainty.shape
    ((10, 8, 8), (10,), (10,))
    """

    _parameter_constraints: dict = {
        "classifier": "no_validation",
        "autoencoder": "no_validation",
        "objective": [
            StrOptions({"mutual_info", "entropy", "random", "reconstruction"}),
            callable,
        ],
        "members": [StrOptions(set(KINDS))],
        "n_members": [Interval(Integral, 2, None, closed="left")],
        "restrict": [
            StrOptions({"last"}),
            Interval(Integral, 1, None, closed="left"),
            list,
            tuple,
            None,
        ],
        "radius": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "label_policy": [StrOptions({"constrain", "keep"})],
        "sampling_strategy": [
            StrOptions(set(_sampling.STRATEGIES)),
            Interval(Real, 0, 1, closed="right"),
            dict,
            callable,
        ],
        "image_shape": [tuple, list, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "plan": [StrOptions({"auto", *PLANS})],
        "precision": [StrOptions(set(PRECISIONS))],
        "device": [str, torch.device, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        classifier=None,
        autoencoder=None,
        *,
        objective="mutual_info",
        members="auto",
        n_members=16,
        restrict=None,
        radius=0.5,
        max_iter=10,
        n_iter_no_change=5,
        label_policy="constrain",
        sampling_strategy="auto",
        image_shape=None,
        batch_size=256,
        plan="auto",
        precision="float32",
        device=None,
        n_jobs=None,
        verbose=0,
        random_state=None,
    ):
        self.classifier = classifier
        self.autoencoder = autoencoder
        self.objective = objective
        self.members = members
        self.n_members = n_members
        self.restrict = restrict
        self.radius = radius
        self.max_iter = max_iter
        self.n_iter_no_change = n_iter_no_change
        self.label_policy = label_policy
        self.sampling_strategy = sampling_strategy
        self.image_shape = image_shape
        self.batch_size = batch_size
        self.plan = plan
        self.precision = precision
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Fit classifier and autoencoder, as far as they are not frozen.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
            Images, uint8 or float. Networks see float32 of shape (n, C, H, W); uint8 is divided
            by 255, floats pass as they are.
        y : array-like of shape (n,)
            Labels of any type.

        Returns
        -------
        self : TargetedSynthesizer

        Raises
        ------
        ValueError
            If `X` or `y` is empty, not finite, of one class, of different lengths or of an
            ambiguous layout, or if a classifier does not predict probabilities or has no members.
        TypeError
            If `classifier` or `autoencoder` is not what it should be.
        """
        learned = unlearned(self)
        learned._fit(X, y)
        self.__dict__ = learned.__dict__
        return self

    def _fit(self, X, y, *, with_autoencoder=True) -> None:
        given = self.classifier
        ensemble = isinstance(given, list | tuple)
        if ensemble and len(given) < 2:
            raise ValueError(f"classifier is a list of {len(given)}; an ensemble needs two or more")
        if self.members == "ensemble" and not ensemble:
            raise ValueError("members='ensemble' needs a list of classifiers; got one classifier")
        for i, classifier in enumerate(given if ensemble else [given]):
            if classifier is not None or ensemble:
                _skorch.check_classifier(
                    classifier, f"classifier[{i}]" if ensemble else "classifier"
                )
        if self.autoencoder is not None:
            _skorch.check_autoencoder(self.autoencoder)

        X = check_images(self, X, reset=True, image_shape=self.image_shape)
        y = _sampling.check_labels(self, y, X)
        self._set_sources(X, y, np.unique(y))
        x = self.format_.to_tensor(X)
        rng = check_random_state(self.random_state)
        self._seed = rng.randint(2**31 - 1)
        classifiers = (
            given if ensemble else [self._default_classifier() if given is None else given]
        )
        if ensemble and not any(map(_skorch.is_frozen, classifiers)):
            # What the last one is refused for is said before the first one trains.
            for classifier in classifiers[1:]:
                _skorch.rehearse(
                    classifier, x, self._codes, seed=self._seed, **self._circumstances(x)
                )
        nets = [self._fitted_classifier(c, x, y, rng.randint(2**31 - 1)) for c in classifiers]
        self.classifier_ = nets if ensemble else nets[0]
        self._snapshots: list = []
        self._kinds: list[str] = []
        self._posteriors: list = []
        if with_autoencoder:
            # What keeps the members from answering is said now and not at the first sample.
            self._members(seed=0)(x[:1].to(self._device))
            self.autoencoder_ = self._fitted_autoencoder(x, rng.randint(2**31 - 1))
            self.latent_scale_ = latent_scale(self._codec(), x, self.batch_size, self._device)

    def _set_sources(self, X, y, classes) -> None:
        """Remember the real images from which `sample` starts."""
        self.classes_ = classes
        self._X, self._y, self._codes = X, y, _sampling.encode(y, classes)

    def _over(self, owner, X, y):
        """Give the same synthesizer for an owner's images, in its layout and with its labels."""
        other = copy.copy(self)
        for name in ("format_", "value_range_", "image_shape_", "n_features_in_"):
            setattr(other, name, getattr(owner, name))
        if hasattr(owner, "feature_names_in_"):
            other.feature_names_in_ = owner.feature_names_in_
        other._set_sources(X, y, owner.classes_)
        return other

    def _default_classifier(self):
        module = DenseNet if self.image_shape_ is None else ConvNet
        return NetClassifier(module, verbose=max(int(self.verbose) - 1, 0))

    def _default_autoencoder(self):
        module = DenseAutoencoder if self.image_shape_ is None else PatchAutoencoder
        return AutoencoderNet(module, verbose=max(int(self.verbose) - 1, 0))

    def _fitted_classifier(self, classifier, x, y, seed):
        if _skorch.is_frozen(classifier):
            classes = _skorch.classes_of_frozen(classifier.estimator, x, y)
            if len(classes) != len(self.classes_):
                self._set_sources(self._X, y, classes)
            return classifier.estimator
        return _skorch.fit_classifier(
            classifier, x, self._codes, seed=seed, **self._circumstances(x)
        )

    def _circumstances(self, x) -> dict:
        return {"device": self.device, "check": partial(self._scheme().settled, x=x)}

    def _fitted_autoencoder(self, x, seed):
        given = self.autoencoder
        autoencoder = self._default_autoencoder() if given is None else given
        if _skorch.is_frozen(autoencoder):
            return autoencoder.estimator
        with _skorch.scoped_seed(seed):
            return _skorch.cloned_net(autoencoder, self.device).fit(x.numpy(), x.numpy())

    def _check_can_synthesize(self) -> None:
        if hasattr(self, "classifier_") and not hasattr(self, "autoencoder_"):
            raise NotFittedError(
                "this synthesizer comes from training with synthetic_ratio=0 and has no "
                "autoencoder: it tells uncertainty, but cannot synthesise"
            )
        check_is_fitted(self, "latent_scale_")

    @property
    def _device(self) -> torch.device:
        return torch.device(self.device) if self.device else _skorch.device_of(self._nets[0])

    def _codec(self) -> Codec:
        module = _skorch.bare_module(self.autoencoder_)
        codec = Codec(module, self.value_range_, self._device, self.precision)
        return codec.prepare(self._example())

    @property
    def _nets(self) -> list:
        return self.classifier_ if isinstance(self.classifier_, list) else [self.classifier_]

    def _scheme(self, kind: str | None = None) -> Scheme:
        kind = kind or self.members
        if kind == "auto" and isinstance(self.classifier, list | tuple):
            kind = "ensemble"
        return Scheme(kind, self.n_members, self.restrict, self.plan, self.precision)

    # Also in a caller's inference mode, for gradients are taken.
    @torch.inference_mode(False)
    def _update_posteriors(self) -> None:
        """Learn the posteriors of the last layers as the classifiers are now."""
        if not self._kinds:
            x = self._example()
            self._kinds = [self._scheme().settled(net, x) for net in self._nets]
        self._posteriors = [
            self._scheme().posterior(net, self._batches(), self._some_images())
            if kind == "laplace"
            else None
            for net, kind in zip(self._nets, self._kinds, strict=True)
        ]

    def _some_images(self):
        """Batches of training images, evenly spread, as many as serve to judge members."""
        n_rows = len(self._X)
        rows = np.linspace(0, n_rows - 1, min(n_rows, N_JUDGED)).astype(int)
        return self.format_.to_tensor(self._X[rows]).split(self.batch_size)

    def _batches(self):
        """Training images as networks see them."""
        for first in range(0, len(self._X), self.batch_size):
            yield self.format_.to_tensor(self._X[first : first + self.batch_size])

    def _members(self, seed: int):
        """Private copies of the classifier's members; equal seeds, equal members."""
        trained_on = any(
            posterior is not None and not posterior.is_of(_skorch.bare_module(net))
            for net, posterior in zip(self._nets, self._posteriors, strict=False)
        )
        if trained_on or not self._posteriors:
            self._update_posteriors()
        return self._scheme(self._kinds[0]).members(
            self._nets, self._posteriors, self._snapshots, seed=seed, device=self._device
        )

    def _example(self):
        """One training image as networks see it."""
        return self.format_.to_tensor(self._X[:1]).to(self._device)

    # Tensors made in a caller's inference mode could not take part in the ascent.
    @torch.inference_mode(False)
    def _synthesize(self, X, codes, occurrence, random_state):
        """Synthesise from rows of the user's array; the way that all public methods go."""
        members = self._members(seed=0)
        # What is prepared now is shared by all jobs.
        members.plan(self._example())
        synthesis = Synthesis(
            codec=self._codec(),
            make_members=members.redrawn,
            latent_scale=self.latent_scale_,
            objective=self.objective,
            radius=self.radius,
            max_iter=self.max_iter,
            n_iter_no_change=self.n_iter_no_change,
            constrain=self.label_policy == "constrain",
            device=self._device,
        )
        return stream(
            synthesis,
            X,
            codes,
            occurrence,
            self.format_,
            seed=check_random_state(random_state).randint(2**31 - 1),
            batch_size=self.batch_size,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )

    def sample(self, n_samples=1, *, y=None, random_state=None, return_info=False):
        """Draw real images of the training set and synthesise a new one from each.

        Every image of a class is used once before one is used again; then it starts from another
        point, against other members, so that no row comes twice. (With
        ``objective="reconstruction"`` nothing moves, and a repeated source gives a repeated row.)

        Parameters
        ----------
        n_samples : int, default=1
            Number of images. May be left out if `y` tells it.
        y : label, array-like of labels, dict or None, default=None
            ``None``: classes in the proportions of the training set. A label: that class alone.
            An array: one image for each label, in its order. A dict: from label to count.
        random_state : int, RandomState instance or None, default=None
            Seed of this call; ``None`` for the estimator's.
        return_info : bool, default=False
            Whether to say where the images come from.

        Returns
        -------
        X_new : ndarray of shape (n_samples, ...)
            Images in the layout, dtype and value range of those in `fit`.
        y_new : ndarray of shape (n_samples,)
            Their labels.
        info : Bunch
            Only with `return_info`: arrays of shape (n_samples,). `source_index`, row of `X` in
            fit; `uncertainty_source` and `uncertainty`, mutual information of source and
            synthetic image in nats; `displacement`, root mean square in latent standard
            deviations; `reconstruction_error`, root-mean-square difference of the source from
            its reconstruction, on the scale that networks see; `label_agreement`, whether the
            members' mean prediction for the synthetic image is its label.

        Raises
        ------
        NotFittedError
            If the synthesizer is not fitted.
        ValueError
            If `n_samples` is below one or contradicts `y`, or if `y` has unknown labels.
        """
        self._check_can_synthesize()
        rng = check_random_state(self.random_state if random_state is None else random_state)
        wanted = _sampling.requested_codes(n_samples, y, self.classes_, self._codes, rng)
        sources, occurrence = _sampling.draw_sources(wanted, self._codes, rng)
        X_new, columns = self._synthesize(Rows(self._X, sources), wanted, occurrence, rng)
        return self._answer(X_new, wanted, sources, columns, return_info)

    def synthesize(self, X, y, *, random_state=None, return_info=False):
        """Synthesise one targeted image from each image given.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`.
        y : array-like of shape (n,)
            Their labels, all of them seen in `fit`.
        random_state, return_info
            As in `sample`; `source_index` counts rows of this `X`.

        Returns
        -------
        X_new, y_new[, info]
            As in `sample`, row by row for the images given.
        """
        self._check_can_synthesize()
        X = check_images(self, X, reset=False)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        codes = _sampling.encode(y, self.classes_)
        rng = check_random_state(self.random_state if random_state is None else random_state)
        X_new, columns = self._synthesize(X, codes, np.zeros(len(X), dtype=np.int64), rng)
        return self._answer(X_new, codes, np.arange(len(X)), columns, return_info)

    def _answer(self, X_new, codes, sources, columns, return_info):
        y_new = self.classes_[codes]
        if not return_info:
            return X_new, y_new
        return X_new, y_new, Bunch(source_index=sources, **columns)

    def fit_resample(self, X, y):
        """Fit, and add synthetic rows until classes are as `sampling_strategy` says.

        The protocol of imbalanced-learn's samplers, so that the synthesizer is a step of
        ``imblearn.pipeline.Pipeline``; on images too.

        Parameters
        ----------
        X, y
            As in `fit`.

        Returns
        -------
        X_resampled : ndarray of shape (n + n_new, ...)
            The rows of `X`, unchanged and in their order, then the synthetic ones.
        y_resampled : ndarray of shape (n + n_new,)
            Their labels.
        """
        y = _sampling.check_labels(self, y, X)
        # Before fit, which may take minutes, for it can be impossible.
        counts = _sampling.resampling_counts(self.sampling_strategy, y)
        self.fit(X, y)
        counts = {label: count for label, count in counts.items() if count}
        if not counts:
            self.sample_indices_ = np.arange(len(self._X))
            return self._X.copy(), self._y.copy()
        X_new, y_new, info = self.sample(y=counts, return_info=True)
        self.sample_indices_ = np.concatenate([np.arange(len(self._X)), info.source_index])
        return np.concatenate([self._X, X_new]), np.concatenate([self._y, y_new])

    def uncertainty(self, X):
        """Mutual information between prediction and classifier, in nats.

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
        check_is_fitted(self, "classifier_")
        x = self.format_.to_tensor(check_images(self, X, reset=False))
        members = self._members(derived_seed(self._seed, _UNCERTAINTY_STREAM))
        with torch.no_grad():
            parts = [
                mutual_information(members(p.to(self._device))) for p in x.split(self.batch_size)
            ]
        return torch.cat(parts).cpu().numpy()

    def reconstruct(self, X):
        """Encode and decode images, without any displacement.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`.

        Returns
        -------
        ndarray of the shape of `X`
            In the layout, dtype and value range of `fit`.
        """
        self._check_can_synthesize()
        x = self.format_.to_tensor(check_images(self, X, reset=False))
        codec = self._codec()
        with torch.no_grad():
            parts = [
                codec.decode(codec.encode(p.to(self._device))) for p in x.split(self.batch_size)
            ]
        return self.format_.to_array(torch.cat(parts))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        return tags
