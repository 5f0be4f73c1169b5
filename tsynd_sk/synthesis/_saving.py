"""`save_params` and `load_params`: what an estimator has learnt, in a file without any code."""

from __future__ import annotations

import os
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from tsynd_sk import _skorch
from tsynd_sk._skorch._net_state import (
    SAME_PARAMETERS,
    Tensors,
    load_weights,
    net_state,
    plain_weights,
    restored_net,
    taken,
)
from tsynd_sk._utils._inference import private_copy
from tsynd_sk._utils._tensor_file import (
    Contents,
    Refused,
    field,
    list_field,
    read_tensors,
    write_tensors,
)
from tsynd_sk.members import LastLayerPosterior
from tsynd_sk.synthesis._data_state import (
    check_has_images,
    data_state,
    images_state,
    restore_data,
    restore_images,
    take,
)


class SavingMixin:
    """The two methods, for estimators that learn as `TargetedSynthesizer` does.

    A subclass gives by `_to_save` its fitted synthesizer and what the classifiers were made from,
    and by `_restored` a copy of itself that has taken over the contents of a file.
    """

    #: Name of the class in files, also of those that users derive from it.
    _saved_as: str

    def save_params(self: Any, path, *, with_images=False):
        """Write what was learnt to a safetensors file, which holds numbers and text but no code.

        Weights of all nets, their histories, labels, format and range of the images, and what
        makes the members. Not: the parameters of the estimator, from which `load_params` takes the
        architecture; states of optimizers; training images, unless asked for.

        Parameters
        ----------
        path : path-like
            File to write; by custom its name ends in ".safetensors". A file that is there is
            replaced once the new one is whole.
        with_images : bool, default=False
            Whether to write the training images and their labels too, which may be confidential.
            Only with them can `sample` draw from a synthesizer that loads the file; without them
            it still answers `synthesize`, `reconstruct` and `uncertainty`, for images that are
            given. They are brought into memory.

        Raises
        ------
        NotFittedError
            If nothing was learnt yet.
        ValueError
            If something that was learnt is neither numbers nor text.
        OSError
            If the file cannot be written. What was there stays.

        See Also
        --------
        load_params : Read such a file.

        Notes
        -----
        `pickle`, `joblib` and `cloudpickle` save the estimator as a whole, with parameters,
        training images and optimizers; but reading a pickle runs whatever code is in it. What was
        trained on an accelerator can be read from either kind of file on a machine without one;
        if the parameter `device` names it, what comes from a pickle needs ``set_params``.

        A module class of your own with a ``from_data`` classmethod needs an attribute ``sizes``: a
        dict of what it has read off the data, as keyword arguments of its constructor.

        Examples
        --------
        >>> from tempfile import TemporaryDirectory
        >>> from sklearn.base import clone
        >>> from tsynd_sk import TargetedSynthesizer, autoencoders, classifiers, datasets
        >>> X, y, _ = datasets.load_digits_images()
        >>> classifier = classifiers.NetClassifier(max_epochs=2)
        >>> autoencoder = autoencoders.AutoencoderNet(max_epochs=1, epoch_size=200)
        >>> synthesizer = TargetedSynthesizer(classifier, autoencoder).fit(X[:50], y[:50])
        >>> with TemporaryDirectory() as folder:
        ...     synthesizer.save_params(f"{folder}/digits.safetensors", with_images=True)
        ...     loaded = clone(synthesizer).load_params(f"{folder}/digits.safetensors")
        >>> loaded.sample(3)[0].shape
        (3, 8, 8)
        """
        check_is_fitted(self)
        synthesizer, given = self._to_save()
        tensors, body = _state(synthesizer, given, with_images=with_images)
        write_tensors(path, self._saved_as, tensors, body)

    def load_params(self: Any, path):
        """Read what `save_params` has written, as if this estimator had learnt it.

        Nothing in the file is run. The estimator must have the parameters of the one that was
        saved, as they say how its nets are built, and where: on its own `device`, whichever
        trained them. A frozen net stays as it is; the weights go to a copy of it. All answers are
        those of the estimator that was saved, to the bit on the same machine. Optimizers start
        afresh if nets are trained on.

        Parameters
        ----------
        path : path-like
            File to read.

        Returns
        -------
        self : object
            This estimator, fitted.

        Raises
        ------
        ValueError
            If the file is damaged, is none of this library, was written by a later version than
            this one can read, or does not fit the parameters of the estimator. The estimator then
            stays as it was.
        OSError
            If there is no such file, or none that can be read.

        See Also
        --------
        save_params : Write such a file.
        """
        self._validate_params()
        try:
            contents = read_tensors(path)
            if contents.kind != self._saved_as:
                raise Refused(
                    f"it was saved from an estimator of class {contents.kind[:40]}, but this is "
                    f"a synthesizer or classifier of class {self._saved_as}"
                )
            learned = self._restored(contents)
            if contents.tensors:
                raise Refused(
                    f"it is damaged: {min(contents.tensors)[:60]!r} in it belongs to nothing"
                )
        except Refused as error:
            raise ValueError(f"cannot load {os.fspath(path)!r}: {error}") from error.__cause__
        self.__dict__ = learned.__dict__
        return self


def _state(synthesizer, given: list, *, with_images: bool) -> tuple[Tensors, dict[str, Any]]:
    """Give all that a synthesizer has learnt as tensors and JSON."""
    if with_images:
        check_has_images(synthesizer)
    tensors, body = data_state(synthesizer)
    body["classifiers"], body["autoencoder"] = [], None
    for i, (estimator, net) in enumerate(zip(given, synthesizer._nets, strict=True)):
        weights, described = net_state(estimator, net, f"classifier{i}")
        tensors.update(weights)
        body["classifiers"].append(described)
    if hasattr(synthesizer, "autoencoder_"):
        weights, body["autoencoder"] = net_state(
            synthesizer.autoencoder, synthesizer.autoencoder_, "autoencoder"
        )
        tensors.update(weights, latent_scale=synthesizer.latent_scale_.clone())
    values, body["members"] = _members_state(synthesizer)
    tensors.update(values)
    if with_images:
        tensors.update(images_state(synthesizer))
    return tensors, body


def _members_state(synthesizer) -> tuple[Tensors, dict[str, Any]]:
    kinds, posteriors = [], []
    try:
        # Posteriors are learnt when they are needed, from images that the file need not hold.
        synthesizer._settle()
        kinds, posteriors = list(synthesizer._kinds), list(synthesizer._posteriors)
    except ValueError:
        # A net that can have no members has predictions nevertheless, and says why when it is
        # asked for more.
        pass
    tensors: Tensors = {}
    for i, posterior in enumerate(posteriors):
        for part in dataclass_fields(posterior) if posterior else ():
            value = getattr(posterior, part.name)
            if isinstance(value, torch.Tensor):
                tensors[f"posterior{i}.{part.name}"] = value.contiguous().clone()
    for i, snapshot in enumerate(synthesizer._snapshots):
        tensors.update(plain_weights(snapshot.state_dict(), f"snapshot{i}"))
    seed = synthesizer.random_state
    return tensors, {
        "seed": int(synthesizer._seed),
        "random_state": int(seed) if isinstance(seed, int | np.integer) else None,
        "kinds": kinds,
        "posteriors": [
            {"layer": p.layer, "prior_precision": p.prior_precision} if p else None
            for p in posteriors
        ],
        "n_snapshots": len(synthesizer._snapshots),
    }


def restore_synthesizer(synthesizer, contents: Contents) -> None:
    """Take over all that a synthesizer had learnt."""
    given = as_list(synthesizer.classifier)
    for i, classifier in enumerate(given):
        if classifier is not None:
            _skorch.check_classifier(_skorch.unfreeze(classifier), f"classifier[{i}]")
    restore_data(synthesizer, contents, synthesizer.image_shape)
    nets = restored_classifiers(
        [synthesizer._default_classifier() if given is None else given for given in given],
        contents,
        len(synthesizer.classes_),
        synthesizer.device,
    )
    several = isinstance(synthesizer.classifier, list | tuple)
    synthesizer.classifier_ = nets if several else nets[0]
    restore_members(synthesizer, contents)


def restored_classifiers(estimators: list, contents: Contents, n_classes: int, device: Any) -> list:
    """Build classifiers as estimators say, with the weights of a file."""
    described = list_field(contents.body, "classifiers", dict)
    if len(described) != len(estimators):
        raise Refused(
            f"it holds {len(described)} classifiers, but the estimator has {len(estimators)}. "
            + SAME_PARAMETERS
        )
    nets = []
    for i, (estimator, fields) in enumerate(zip(estimators, described, strict=True)):
        net = restored_net(estimator, contents.tensors, fields, f"classifier{i}", device)
        # skorch tells them from the data of a fit.
        vars(net).setdefault("classes_inferred_", np.arange(n_classes))
        nets.append(net)
    return nets


def restore_members(synthesizer, contents: Contents) -> None:
    """Take over all that makes new images, once data and classifiers are there."""
    fields = field(contents.body, "members", dict)
    synthesizer._seed = _seed(field(fields, "seed", int))
    synthesizer._kinds = _kinds(synthesizer, list_field(fields, "kinds", str))
    synthesizer._posteriors = _posteriors(synthesizer, contents.tensors, fields)
    synthesizer._snapshots = _snapshots(
        _skorch.bare_module(synthesizer._nets[0]),
        contents.tensors,
        field(fields, "n_snapshots", int),
    )
    _restore_autoencoder(synthesizer, contents)
    restore_images(synthesizer, contents)


def restored_random_state(contents: Contents) -> int | None:
    """Give the seed that an `AugmentedClassifier` has drawn for its synthesizer."""
    fields = field(contents.body, "members", dict)
    seed = field(fields, "random_state", int, type(None))
    return None if seed is None else _seed(seed)


def as_list(given: Any) -> list:
    """Give a list of one for what is none."""
    return list(given) if isinstance(given, list | tuple) else [given]


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**32:
        raise Refused("it is damaged: its seed is out of range")
    return seed


def _kinds(synthesizer, kinds: list[str]) -> list[str]:
    """Check that members are made as the estimator says."""
    asked = synthesizer._scheme().kind
    strange = set(kinds) - ({"dropout", "laplace"} if asked == "auto" else {asked})
    if strange:
        raise Refused(
            f"its members are of the kind {min(strange)[:20]!r}, but the estimator has "
            f"members={synthesizer.members!r}. {SAME_PARAMETERS}"
        )
    if kinds and len(kinds) != len(synthesizer._nets):
        raise Refused(f"it is damaged: {len(kinds)} kinds of members")
    return kinds


def _posteriors(synthesizer, tensors: Tensors, fields: dict[str, Any]) -> list:
    described = list_field(fields, "posteriors", dict, type(None))
    if [d is not None for d in described] != [kind == "laplace" for kind in synthesizer._kinds]:
        raise Refused("it is damaged: its posteriors do not belong to its members")
    modules = map(_skorch.bare_module, synthesizer._nets)
    return [
        None if d is None else _posterior(module, tensors, d, f"posterior{i}")
        for i, (d, module) in enumerate(zip(described, modules, strict=False))
    ]


def _posterior(
    module: nn.Module, tensors: Tensors, fields: dict[str, Any], role: str
) -> LastLayerPosterior:
    layer, precision = field(fields, "layer", str), field(fields, "prior_precision", float)
    linear = dict(module.named_modules()).get(layer)
    if not isinstance(linear, nn.Linear) or not 0 < precision < float("inf"):
        raise Refused(f"it is damaged: {role} belongs to no linear layer of the network")
    n_in, n_out = linear.in_features + (linear.bias is not None), linear.out_features
    factors = {
        "feature_eigenvalues": (n_in,),
        "feature_eigenvectors": (n_in, n_in),
        "output_eigenvalues": (n_out,),
        "output_eigenvectors": (n_out, n_out),
    }
    values: dict[str, Any] = {
        name: take(tensors, f"{role}.{name}", torch.float64, shape)
        for name, shape in factors.items()
    }
    for name in ("weight", "bias"):
        own = getattr(linear, name)
        values[name] = (
            None if own is None else take(tensors, f"{role}.{name}", own.dtype, tuple(own.shape))
        )
    posterior = LastLayerPosterior(layer=layer, prior_precision=precision, **values)
    if not posterior.is_of(module):
        raise Refused(f"it is damaged: {role} belongs to another network")
    return posterior


def _snapshots(module: nn.Module, tensors: Tensors, n_snapshots: int) -> list[nn.Module]:
    if not 0 <= n_snapshots <= len(tensors):
        raise Refused("it is damaged: it does not hold as many snapshots as it says")
    snapshots = [private_copy(module, torch.device("cpu")) for _ in range(n_snapshots)]
    for i, snapshot in enumerate(snapshots):
        load_weights({"": snapshot}, taken(tensors, f"snapshot{i}"), f"snapshot{i}")
    return snapshots


def _restore_autoencoder(synthesizer, contents: Contents) -> None:
    fields = field(contents.body, "autoencoder", dict, type(None))
    if fields is None:
        return
    given = synthesizer.autoencoder
    if given is not None:
        _skorch.check_autoencoder(_skorch.unfreeze(given))
    synthesizer.autoencoder_ = restored_net(
        synthesizer._default_autoencoder() if given is None else given,
        contents.tensors,
        fields,
        "autoencoder",
        synthesizer.device,
    )
    scale = contents.tensors.pop("latent_scale", torch.empty(0))
    finite = bool(scale.isfinite().all()) and bool((scale >= 0).all())
    if scale.dtype != torch.float32 or scale.ndim < 2 or not finite:
        raise Refused("it is damaged: it holds no scale of codes")
    synthesizer.latent_scale_ = scale
