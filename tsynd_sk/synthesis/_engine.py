"""How a synthesizer learns, what it keeps of it, and the way by which it synthesises."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from tsynd_sk import _skorch
from tsynd_sk._skorch._net_checks import classes_of_frozen
from tsynd_sk._skorch._progress import CallbackSupportMixin, EpochBar, EpochTasks, Task
from tsynd_sk.autoencoders import AutoencoderNet, DenseAutoencoder, PatchAutoencoder
from tsynd_sk.classifiers import ConvNet, DenseNet, NetClassifier
from tsynd_sk.images import Selection, check_images, spread
from tsynd_sk.synthesis import _sampling
from tsynd_sk.synthesis._batch import Synthesis
from tsynd_sk.synthesis._codec import Codec, check_finite, latent_scale
from tsynd_sk.synthesis._data_state import check_has_images, stand_in
from tsynd_sk.synthesis._member_scheme import N_JUDGED, MemberScheme
from tsynd_sk.synthesis._parallel import stream
from tsynd_sk.synthesis._saving import SavingMixin


def unlearned(estimator):
    """Copy an estimator without its fitted attributes.

    Fitting the copy leaves what an earlier fit has learnt whole if it fails, and lets nothing of
    it outlive a success.
    """
    duplicate = copy.copy(estimator)
    duplicate.__dict__ = {k: v for k, v in vars(estimator).items() if not k.endswith("_")}
    return duplicate


class BaseSynthesizer(CallbackSupportMixin, SavingMixin, BaseEstimator):
    """All of `TargetedSynthesizer` but its parameters and its public methods."""

    def _n_trainings(self) -> int:
        given = self.classifier if isinstance(self.classifier, list | tuple) else [self.classifier]
        return sum(not _skorch.is_frozen(net) for net in [*given, self.autoencoder])

    def _fit(self, X, y, *, with_autoencoder=True, task=None) -> None:
        task = task or Task(self, None, {})
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
        x = self.format_.seen(X)
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
        nets = [self._fitted_classifier(c, x, y, rng.randint(2**31 - 1), task) for c in classifiers]
        self.classifier_ = nets if ensemble else nets[0]
        self._snapshots: list = []
        self._kinds: list[str] = []
        self._posteriors: list = []
        if with_autoencoder:
            # What keeps the members from answering is said now and not at the first sample.
            check_finite(self._members(seed=0)(self._example()).exp(), "classifier")
            self.autoencoder_ = self._fitted_autoencoder(x, rng.randint(2**31 - 1), task)
            self.latent_scale_ = latent_scale(self._codec(), self._batches())

    def _set_sources(self, X, y, classes) -> None:
        """Remember the real images from which `sample` starts."""
        self.classes_ = classes
        self._X, self._y, self._codes = X, y, _sampling.encode(y, classes)

    def _over(self, owner, X, y):
        """Give the same synthesizer for an owner's images, in its layout and with its labels."""
        other = self._laid_out_as(owner)
        other._set_sources(X, y, owner.classes_)
        return other

    def _laid_out_as(self, owner):
        other = copy.copy(self)
        for name in ("classes_", "format_", "value_range_", "image_shape_", "n_features_in_"):
            setattr(other, name, getattr(owner, name))
        if hasattr(owner, "feature_names_in_"):
            other.feature_names_in_ = owner.feature_names_in_
        return other

    def _default_classifier(self):
        module = DenseNet if self.image_shape_ is None else ConvNet
        return NetClassifier(module, verbose=max(int(self.verbose) - 1, 0))

    def _default_autoencoder(self):
        module = DenseAutoencoder if self.image_shape_ is None else PatchAutoencoder
        return AutoencoderNet(module, verbose=max(int(self.verbose) - 1, 0))

    def _fitted_classifier(self, classifier, x, y, seed, task):
        if _skorch.is_frozen(classifier):
            classes = classes_of_frozen(classifier.estimator, x, y)
            if len(classes) != len(self.classes_):
                self._set_sources(self._X, y, classes)
            return classifier.estimator
        subtask, guests = self._heard("classifier", classifier, task)
        net = _skorch.fit_classifier(
            classifier, x, self._codes, seed=seed, guests=guests, **self._circumstances(x)
        )
        subtask.end()
        return net

    def _heard(self, role, net, task):
        """Callbacks that tell of a net's training, and the task that it is."""
        subtask = task.subtask(role, getattr(net, "max_epochs", None))
        return subtask, [EpochTasks(subtask), *([EpochBar(role)] if self.verbose else [])]

    def _circumstances(self, x) -> dict:
        example = torch.from_numpy(x[:2])
        return {"device": self.device, "check": partial(self._scheme().resolve_kind, x=example)}

    def _fitted_autoencoder(self, x, seed, task):
        given = self.autoencoder
        autoencoder = self._default_autoencoder() if given is None else given
        if _skorch.is_frozen(autoencoder):
            return autoencoder.estimator
        subtask, guests = self._heard("autoencoder", autoencoder, task)
        net = _skorch.fit_autoencoder(autoencoder, x, seed=seed, device=self.device, guests=guests)
        subtask.end()
        return net

    def _check_can_synthesize(self) -> None:
        if hasattr(self, "classifier_") and not hasattr(self, "autoencoder_"):
            raise NotFittedError(
                "this synthesizer comes from training with synthetic_ratio=0 and has no "
                "autoencoder: it tells uncertainty, but cannot synthesise"
            )
        check_is_fitted(self, "latent_scale_")
        # Those of synthesis may have been set after fit.
        self._validate_params()

    @property
    def _device(self) -> torch.device:
        if self.device is None:
            return _skorch.device_of(self._nets[0])
        return _skorch.available(self.device)

    def _codec(self) -> Codec:
        module = _skorch.bare_module(self.autoencoder_)
        codec = Codec(module, self.value_range_, self._device)
        return codec.prepare(self._example())

    @property
    def _nets(self) -> list:
        return self.classifier_ if isinstance(self.classifier_, list) else [self.classifier_]

    def _scheme(self, kind: str | None = None) -> MemberScheme:
        kind = kind or self.members
        if kind == "auto" and isinstance(self.classifier, list | tuple):
            kind = "ensemble"
        return MemberScheme(kind, self.n_members, self.restrict)

    # Also in a caller's inference mode, for gradients are taken.
    @torch.inference_mode(False)
    def _update_posteriors(self) -> None:
        """Learn the posteriors of the last layers as the classifiers are now."""
        if not self._kinds:
            x = self._example()
            self._kinds = [self._scheme().resolve_kind(net, x) for net in self._nets]
        if "laplace" in self._kinds:
            check_has_images(self)
        self._posteriors = [
            self._scheme().posterior(net, self._batches(), self._some_images())
            if kind == "laplace"
            else None
            for net, kind in zip(self._nets, self._kinds, strict=True)
        ]

    def _some_images(self):
        """Batches of training images, evenly spread, as many as serve to judge members."""
        return self._batches(Selection(self._X, spread(len(self._X), N_JUDGED)))

    def _batches(self, X=None):
        """Images as networks see them, those of training by default."""
        X = self._X if X is None else X
        for first in range(0, len(X), self.batch_size):
            yield self.format_.to_tensor(X[first : first + self.batch_size]).to(self._device)

    def _settle(self) -> None:
        """Learn of the classifiers as they are now what members need, if that is not known yet."""
        trained_on = any(
            posterior is not None and not posterior.is_of(_skorch.bare_module(net))
            for net, posterior in zip(self._nets, self._posteriors, strict=False)
        )
        if trained_on or not self._posteriors:
            self._update_posteriors()

    def _members(self, seed: int):
        """Private copies of the classifier's members; equal seeds, equal members."""
        self._settle()
        return self._scheme(self._kinds[0]).members(
            self._nets, self._posteriors, seed=seed, device=self._device
        )

    def _example(self):
        """One training image as networks see it, or something like it."""
        x = stand_in(self) if self._X is None else self.format_.to_tensor(self._X[:1])
        return x.to(self._device)

    def _generator(self, random_state) -> np.random.RandomState:
        """Make the source of randomness of a call."""
        validate_parameter_constraints(
            {"random_state": ["random_state"]}, {"random_state": random_state}, type(self).__name__
        )
        return check_random_state(self.random_state if random_state is None else random_state)

    # Tensors made in a caller's inference mode could not take part in the ascent.
    @torch.inference_mode(False)
    def _synthesis(self, callback=None) -> Synthesis:
        """Give what synthesises a batch, with what is prepared for all batches."""
        members = self._members(seed=0)
        # What does not depend on the images is done once, before threads share it.
        members(self._example())
        return Synthesis(
            codec=self._codec(),
            make_members=members.redrawn,
            latent_scale=self.latent_scale_,
            objective=self.objective,
            random_start=self.random_start,
            radius=self.radius,
            max_iter=self.max_iter,
            constrain=self.label_policy == "constrain",
            device=self._device,
            callback=callback,
        )

    @torch.inference_mode(False)
    def _synthesize(self, X, codes, occurrence, random_state, empty=np.empty):
        """Synthesise from rows of the user's array; the way that all public methods go."""
        return stream(
            self._synthesis(),
            X,
            codes,
            occurrence,
            self.format_,
            seed=check_random_state(random_state).randint(2**31 - 1),
            batch_size=self.batch_size,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
            empty=empty,
        )

    def _sample(self, n_samples, *, y=None, random_state, return_info, empty=np.empty):
        check_has_images(self)
        rng = self._generator(random_state)
        wanted = _sampling.requested_codes(n_samples, y, self.classes_, self._codes, rng)
        sources, occurrence = _sampling.draw_sources(wanted, self._codes, rng)
        X_new, columns = self._synthesize(
            Selection(self._X, sources), wanted, occurrence, rng, empty
        )
        return self._answer(X_new, wanted, sources, columns, return_info)

    def _answer(self, X_new, codes, sources, columns, return_info):
        y_new = self.classes_[codes]
        if not return_info:
            return X_new, y_new
        return X_new, y_new, Bunch(source_index=sources, **columns)
