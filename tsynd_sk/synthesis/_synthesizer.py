"""Targeted synthesis: new training images that a classifier is epistemically uncertain about."""

from __future__ import annotations

import numpy as np
from sklearn.base import _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from tsynd_sk import _skorch
from tsynd_sk._utils._labels import encode_labels, labels_of
from tsynd_sk._utils._names import UNMOVED
from tsynd_sk._utils._validation import refuse_metadata
from tsynd_sk.images import Selection, check_images
from tsynd_sk.synthesis import _fitting, _sampling
from tsynd_sk.synthesis._codec import check_finite, latent_scale
from tsynd_sk.synthesis._engine import Engine
from tsynd_sk.synthesis._sampling import ResamplingMixin
from tsynd_sk.synthesis._saving import SavingMixin


class TargetedSynthesizer(
    ResamplingMixin, SavingMixin, _skorch.CallbackSupportMixin, _fitting.EstimatorOfParts
):
    """Synthesise labelled images that a classifier is epistemically uncertain about.

    The code of a real image, in the latent space of an autoencoder, is moved by gradient ascent
    on the mutual information between prediction and member, inside a trust
    region around it, and decoded [1]_. What the code has lost is added again, and the label kept.

    Parameters
    ----------
    classifier : skorch classifier, list of them, or None, default=None
        An unfitted net is cloned and fitted; a fitted one in `sklearn.frozen.FrozenEstimator` is
        used as it is. A list is a deep ensemble. ``None``: a small convolutional network, or a
        dense one for tables.
    autoencoder : skorch net or None, default=None
        Its module has ``encode(x) -> z`` and ``decode(z) -> x``. Unfitted, or fitted and frozen.
        ``None``: principal components, by `PatchPCA` or, for tables, `DensePCA`.
    objective : {"mutual_info", "entropy", "random", "duplicate", "reconstruction"} or callable, \
            default="mutual_info"
        What is maximised: the mutual information, or the entropy of the mean prediction. Controls:
        "random" goes to the surface of the trust region in a random direction; "duplicate" copies
        the sources, or "reconstruction" for ``keep_detail=False``. A callable maps
        ``(log_probs, y)``, tensors of shapes (n_members, n, n_classes) and (n,), to values (n,),
        differentiably.
    keep_detail : bool, default=True
        Whether an image is its source `x`, of the code `z_0`, plus ``decode(z) - decode(z_0)``;
        else ``decode(z)``, as in [1]_.
    members : {"auto", "dropout", "laplace", "ensemble"}, default="auto"
        The versions of the classifier over which uncertainty is measured. "dropout": one per
        dropout mask, or other fixed noise, see `DropoutMembers`. "laplace": drawn from a Laplace
        approximation of the last layer, see `last_layer_posterior`. "ensemble": the classifiers of
        a list, of each of which "dropout" and "laplace" make `n_members`. "auto": "ensemble" for a
        list, else "dropout" if there is a random layer, else "laplace".
    n_members : int, default=16
        Members of each classifier. Unused for ``members="ensemble"``.
    restrict : None, "last", int or list of str, default=None
        For ``members="dropout"``: the random layers that make members: all, the last, that many of
        the last, or those of these names. Later ones are faster, and miss what earlier ones add.
    radius : float, default=0.5
        Trust region: largest root-mean-square displacement of a latent coordinate, in latent
        standard deviations.
    random_start : float, default=1.0
        How far from the code of its source an ascent starts, in a random direction, as a share of
        `radius`: the larger, the more diverse are images. A source that is used again starts at
        0.5 at least.
    max_iter : int, default=1
        Number of ascent steps. More make images more uncertain, but not classifiers better.
    label_policy : {"constrain", "keep"}, default="constrain"
        Both keep the label of the source. "constrain" shortens the displacement until the members
        predict that label: to a thousandth, or to a tenth where they misjudge the source itself.
        With "keep" a small `radius` alone guards the label.
    sampling_strategy : str, float, dict or callable, default="auto"
        For `fit_resample`, as in imbalanced-learn: "minority", "not minority", "not majority"
        (= "auto"), "all"; for two classes the ratio of minority to majority rows; a dict from
        label to rows after resampling; or a callable that makes it from `y`.
    image_shape : tuple of int or None, default=None
        (H, W), (C, H, W) or (H, W, C): shape of the images in flat rows, which are those of a
        table without it; also resolves ambiguous layouts.
    batch_size : int or "auto", default="auto"
        Images at a time; halved, with a warning, if they do not fit in memory. Changes results by
        rounding only. "auto": 256, but on a processor no more than 65,536 pixels.
    device : str, torch.device or None, default=None
        Where to train and to synthesise. ``None``: on the `device` of each net.
    n_jobs : int or None, default=None
        Batches that are synthesised in parallel, each on one core: by threads, or as
        `joblib.parallel_config` says. Does not change results.
    verbose : int, default=0
        1: a bar for each training and synthesis; 2: also the default nets' lines for each epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random: initial weights, training, masks, starts.

    Attributes
    ----------
    classifier_, autoencoder_ : skorch net, or list of them for an ensemble
        Fitted nets.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_features_in_, image_shape_ : int, and tuple of int or None
        Columns of `X`, only where it has two dimensions; shape (C, H, W), None for tables.
    latent_scale_ : ndarray of shape (1, C, 1, 1) or (1, d), float32
        Standard deviations of the codes: by channel of spatial ones, by coordinate of flat ones.
    sampling_strategy_, sample_indices_ : dict, and ndarray of shape (n_rows,)
        After `fit_resample`: from label to the number of rows added, and the row of `X` that each
        row returned is or comes from.

    See Also
    --------
    AugmentedClassifier : Trains a classifier on what it synthesises.
    TargetedSynthesis : Synthesises while a skorch net trains.
    tsynd_sk.evaluation.synthesis_report : Describes what samples are like.
    tsynd_sk.inspection.SynthesisDisplay : Shows samples below their sources.

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
    ...     NetClassifier(max_epochs=5), AutoencoderNet(max_epochs=1), random_state=0
    ... )
    >>> X_new, y_new, info = synthesizer.fit(X[:100], y[:100]).sample(10, return_info=True)
    >>> X_new.shape, y_new.shape, info.uncertainty.shape
    ((10, 8, 8), (10,), (10,))
    >>> synthesizer.set_params(radius=0.2).sample(y={3: 2, 8: 1})[1].tolist()
    [3, 3, 8]
    >>> X_new, y_new = synthesizer.synthesize(X[100:103], y[100:103])
    >>> lost = X[100:103] - synthesizer.reconstruct(X[100:103])
    >>> most_uncertain = synthesizer.uncertainty(X[100:200]).argsort()[::-1][:5]
    >>> X_balanced, y_balanced = synthesizer.fit_resample(X[:30], y[:30] == 0)
    """

    _examples = {"classifier": "NetClassifier()", "autoencoder": "AutoencoderNet()"}
    _parameter_constraints: dict = _fitting.CONSTRAINTS

    def __init__(
        self,
        classifier=None,
        autoencoder=None,
        *,
        objective="mutual_info",
        keep_detail=True,
        members="auto",
        n_members=16,
        restrict=None,
        radius=0.5,
        random_start=1.0,
        max_iter=1,
        label_policy="constrain",
        sampling_strategy="auto",
        image_shape=None,
        batch_size="auto",
        device=None,
        n_jobs=None,
        verbose=0,
        random_state=None,
    ):
        self.classifier = classifier
        self.autoencoder = autoencoder
        self.objective = objective
        self.keep_detail = keep_detail
        self.members = members
        self.n_members = n_members
        self.restrict = restrict
        self.radius = radius
        self.random_start = random_start
        self.max_iter = max_iter
        self.label_policy = label_policy
        self.sampling_strategy = sampling_strategy
        self.image_shape = image_shape
        self.batch_size = batch_size
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, **unsupported):
        """Fit classifier and autoencoder, as far as they are not frozen.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
            Images: uint8 or integers from 0 to 255 (divided by 255 for the networks), or floats
            (passed as they are). Those not in memory (`numpy.memmap`, zarr, ...) are read in parts.
        y : array-like of shape (n,)
            Labels of any type.
        **unsupported
            Nothing: `sample_weight` and the like raise TypeError, which says what to do.

        Returns
        -------
        self : TargetedSynthesizer
            This estimator, fitted.

        Raises
        ------
        ValueError, TypeError
            If `X` or `y` is empty, not finite, of one class, of different lengths or of an
            ambiguous layout, a net is not what it should be, or a classifier has no members.
        """
        refuse_metadata(self, unsupported)
        classifiers = _fitting.check_parts(self)
        with _fitting.all_or_nothing(self):
            frozen = [net for net in classifiers if isinstance(net, FrozenEstimator)]
            n_trainings = len(classifiers) - len(frozen)
            n_trainings += not isinstance(self.autoencoder, FrozenEstimator)
            task = _skorch.Task.of_fit(self, X, y, n_subtasks=n_trainings)
            X = check_images(self, X, reset=True, image_shape=self.image_shape)
            y = _sampling.check_labels(self, y, X)
            x = self.format_.as_network_input(X)
            self.classes_ = _fitting.classes_of_frozen(frozen, x, y) if frozen else np.unique(y)
            codes = encode_labels(y, self.classes_)
            rng = check_random_state(self.random_state)
            seed = rng.randint(2**31 - 1)
            if self.classifier is None:
                classifiers = [_fitting.default_net("classifier", self.image_shape_, self.verbose)]
            checks = [_fitting.MembersCheck(self, len(classifiers), x)]
            if not frozen:
                # Check all nets before the first one trains; `fit_net` checks that one.
                for net in classifiers[1:]:
                    _skorch.dry_run(net, x, codes, seed, self.device, checks)
            nets = []
            for net in classifiers:
                net_seed = rng.randint(2**31 - 1)
                with _fitting.reported(task, "classifier", net, self.verbose) as reports:
                    net = _skorch.fit_net(net, x, codes, net_seed, self.device, [*checks, *reports])
                nets.append(net)
            engine = Engine(nets, self.format_, self.value_range_, X, codes, seed)
            members, example = engine.members(self, 0), engine.example.to(engine.device(self))
            check_finite(members(example).exp(), "classifier")
            _fitting.check_ascent(members, nets, example, self.objective)

            net, net_seed = self.autoencoder, rng.randint(2**31 - 1)
            net = net or _fitting.default_net("autoencoder", self.image_shape_, self.verbose)
            with _fitting.reported(task, "autoencoder", net, self.verbose) as callbacks:
                net = _skorch.fit_net(net, x, None, net_seed, self.device, callbacks)
            engine.autoencoder = net
            engine.latent_scale = latent_scale(engine.codec(self), engine.batches(self))
            _fitting.take_engine(self, engine)
            task.end(attributes={})
        return self

    def sample(self, n_samples=1, *, y=None, random_state=None, return_info=False):
        """Draw real images of the training set and synthesise a new one from each.

        Images are as confidential as their sources. Every source of a class is used once before
        one is used again, from another start and against other members.

        Parameters
        ----------
        n_samples : int, default=1
            Number of images, unless `y` says it.
        y : label, array-like of labels, dict or None, default=None
            ``None``: classes as in the training set. A label: that class alone. An array: one
            image for each label, in its order. A dict: from label to count.
        random_state : int, RandomState instance or None, default=None
            Seed of this call; ``None`` for the estimator's. With an integer, equal calls return
            equal images.
        return_info : bool, default=False
            Whether to return where the images come from.

        Returns
        -------
        X_new : ndarray of shape (n_samples, ...)
            Images in the layout, dtype and value range of those in `fit`.
        y_new : ndarray of shape (n_samples,)
            Their labels.
        info : Bunch
            Only with `return_info`: arrays of shape (n_samples,). `source_index`, row of `X` in
            fit; `uncertainty_source` and `uncertainty`, mutual information of source and new image
            in nats; `displacement`, root mean square in latent standard deviations;
            `reconstruction_error` of the source, root mean square, as networks see it;
            `label_agreement`, whether the members predict the label.

        Raises
        ------
        NotFittedError, ValueError
            If the synthesizer is not fitted, `n_samples` is below one or contradicts `y`, or `y`
            has unknown labels.
        """
        self._check_ready()
        self.engine_.check_has_images()
        rng = check_random_state(self.random_state if random_state is None else random_state)
        wanted = _sampling.requested_codes(n_samples, y, self.classes_, self.engine_.codes, rng)
        sources, occurrence = _sampling.draw_sources(wanted, self.engine_.codes, rng)
        X = Selection(self.engine_.images, sources)
        X_new, info = self.engine_.synthesize(self, X, wanted, occurrence, rng)
        y_new, info = self.classes_[wanted], Bunch(source_index=sources, **info)
        return (X_new, y_new, info) if return_info else (X_new, y_new)

    def synthesize(self, X, y, *, random_state=None, return_info=False):
        """Synthesise one image from each image given.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`.
        y : array-like of shape (n,)
            Their labels, all of them seen in `fit`.
        random_state, return_info : int, RandomState instance or None; bool
            As in `sample`; `source_index` counts rows of this `X`.

        Returns
        -------
        X_new, y_new[, info]
            As in `sample`, row by row for the images given.

        Raises
        ------
        NotFittedError, ValueError
            If the synthesizer is not fitted or has no autoencoder, `X` is not as in `fit`, or `y`
            has another length or unknown labels.
        """
        self._check_ready()
        X, y = check_images(self, X, reset=False), labels_of(y)
        check_consistent_length(X, y)
        codes = encode_labels(y, self.classes_)
        rng = check_random_state(self.random_state if random_state is None else random_state)
        X_new, info = self.engine_.synthesize(self, X, codes, np.zeros_like(codes), rng)
        y_new, info = self.classes_[codes], Bunch(source_index=np.arange(len(X)), **info)
        return (X_new, y_new, info) if return_info else (X_new, y_new)

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
            If the synthesizer is not fitted, or `X` is not as in `fit`.
        """
        self._check_ready()
        return self.engine_.uncertainty(self, check_images(self, X, reset=False))

    def reconstruct(self, X):
        """Encode and decode images.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`.

        Returns
        -------
        ndarray of the shape of `X`
            As in `fit`.

        Raises
        ------
        NotFittedError, ValueError
            If the synthesizer is not fitted or has no autoencoder, or `X` is not as in `fit`.
        """
        self._check_ready()
        return self.engine_.reconstruct(self, check_images(self, X, reset=False))

    def _check_ready(self) -> None:
        check_is_fitted(self, "engine_")
        # Parameters of synthesis may have been set after fit.
        self._validate_params()

    def _validate_params(self) -> None:
        super()._validate_params()
        control = UNMOVED[not self.keep_detail]
        if self.objective in UNMOVED and self.objective != control:
            raise ValueError(
                f"objective={self.objective!r} does not go with keep_detail={self.keep_detail}: "
                f"give objective={control!r}, or keep_detail={not self.keep_detail}"
            )
