"""`save_params` and `load_params`: what an estimator has learned, in a file without any code."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from skorch.history import History
from torch import Tensor, nn

from tsynd_sk import __version__, _skorch
from tsynd_sk._utils._files import write_atomically
from tsynd_sk.images import ImageFormat, ValueRange
from tsynd_sk.members import LastLayerPosterior
from tsynd_sk.synthesis import _fitting
from tsynd_sk.synthesis._engine import Engine, scheme_of

#: Counts up with every change that earlier releases cannot read, or would misread.
FORMAT_VERSION = 1


class SavingMixin:
    """The two methods, for estimators that learn an `Engine`."""

    #: Name of the class in files, also of classes that users derive from it.
    _saved_as = "TargetedSynthesizer"

    def save_params(self: Any, path, *, with_images=False):
        """Write what was learned to a safetensors file, which holds numbers and text but no code.

        Weights and histories of all nets, labels, format and range of the images, and what makes
        the members. Not: the training images, nor states of optimizers.

        Parameters
        ----------
        path : path-like
            File to write, such as "x.safetensors". One that is there is replaced by the whole one.
        with_images : bool, default=False
            Whether to write the training images and their labels too, which may be confidential.
            Only with them can `sample` draw from a synthesizer that loads the file.

        Raises
        ------
        NotFittedError
            If nothing was learned yet.
        ValueError, OSError
            If something that was learned is neither numbers nor text; if the file cannot be
            written. What was there stays.

        See Also
        --------
        load_params : Read such a file.

        Notes
        -----
        `pickle` and `joblib` save the whole estimator, but reading a pickle runs the code in it. A
        module class of your own with a ``from_data`` classmethod needs an attribute ``sizes``: a
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
        tensors, description = _state(getattr(self, "synthesizer_", self), with_images)
        metadata = {
            "format": "tsynd_sk",
            "format_version": str(FORMAT_VERSION),
            "library_version": __version__,
            "estimator": self._saved_as,
            "description": json.dumps(description),
        }
        data = save(tensors, {**metadata, "sha256": _checksum(tensors, metadata)})
        write_atomically(path, lambda file: file.write(data))

    def load_params(self: Any, path):
        """Read what `save_params` has written, as if this estimator had learned it.

        Nothing in the file is run. The estimator must have the parameters of the one that was
        saved, for they say how its nets are built, and on which `device`. A frozen net stays as it
        is; the weights go to a copy of it. Answers are those of the estimator that was saved, to
        the bit on the same machine. Optimizers start afresh if nets are trained on.

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
            If the file is damaged, is none of this library or of a later version of it, or does
            not fit the parameters of the estimator. The estimator then stays as it was.
        OSError
            If the file cannot be opened.

        See Also
        --------
        save_params : Write such a file.
        """
        self._validate_params()
        Path(path).open("rb").close()
        saved = _read(path)
        try:
            with _fitting.all_or_nothing(self):
                _check_same("the class of the estimator", saved.estimator, self._saved_as)
                self._restore(saved)
                if saved.tensors:
                    raise ValueError(f"nothing of the estimator is called {min(saved.tensors)!r}")
        except Exception as error:
            # Whatever a file says that these parameters do not fit, in any of its parts.
            reason = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise ValueError(
                f"cannot load {os.fspath(path)!r}: {reason}. Construct the estimator with the "
                "parameters of the one that was saved."
            ) from error
        return self

    def _restore(self: Any, saved: Saved) -> None:
        """Take over what a file holds; the parameters of a synthesizer say how."""
        saved.restore_data(self, self.image_shape)
        _fitting.take_engine(self, saved.engine(self))


@dataclass
class Saved:
    """What a file holds, of which the tensors that are used are taken out."""

    estimator: str
    tensors: dict[str, Tensor]
    description: dict[str, Any]

    def restore_data(self, estimator: Any, image_shape: Any) -> None:
        """Set what an estimator knows of images and labels."""
        described, labels = self.description["images"], self.description["labels"]
        dtype, row_shape = np.dtype(described["dtype"]), tuple(described["row_shape"])
        # One image that takes no memory, whatever shape the file claims.
        image = np.broadcast_to(np.zeros((), dtype), (1, *row_shape))
        found = ImageFormat.infer(image, image_shape)
        shape = [found.layout, *(found.image_shape or ())]
        _check_same(f"the layout, by image_shape={image_shape!r},", described["shape"], shape)
        found = replace(found, pixels=described.get("pixels", False))
        ends = self.tensors.pop("extremes").numpy().view(dtype)
        low, high = ends.reshape(2, *(row_shape if found.image_shape is None else ()))
        estimator.format_, estimator.value_range_ = found, ValueRange.between((low, high), found)
        estimator.image_shape_ = found.image_shape
        if len(row_shape) == 1:
            estimator.n_features_in_ = row_shape[0]
        if (names := described["feature_names"]) is not None:
            estimator.feature_names_in_ = np.array(names, dtype=object)
        dtype = np.dtype(labels["dtype"])
        if dtype.itemsize * len(labels["values"]) > 2**26:
            raise ValueError("its labels would take more memory than labels do")
        estimator.classes_ = np.array(labels["values"], dtype=dtype)

    def engine(self, synthesizer: Any) -> Engine:
        """Return an engine with nets that are built as the parameters of a synthesizer say."""
        tensors, described = self.tensors, self.description
        shape, verbose = synthesizer.image_shape_, synthesizer.verbose - 1
        given = synthesizer.classifier
        given = given if isinstance(given, list | tuple) else [given]
        _check_same("the number of classifiers", len(described["classifiers"]), len(given))
        asked = scheme_of(synthesizer, len(given)).kind
        for kind in described["kinds"]:
            _check_same("members", kind, kind if asked == "auto" else asked)
        nets = []
        for i, net in enumerate(given):
            net = net or _fitting.default_classifier(shape, verbose)
            _skorch.check_classifier(_skorch.unfreeze(net), f"classifier{i}")
            fields = described["classifiers"][i]
            net = self._net(net, fields, f"classifier{i}", synthesizer.device)
            # skorch reads them off the labels of a fit.
            vars(net).setdefault("classes_inferred_", np.arange(len(synthesizer.classes_)))
            nets.append(net)
        image_format, seed = synthesizer.format_, described["seed"]
        engine = Engine(nets, image_format, synthesizer.value_range_, None, None, seed)
        if described["kinds"]:
            engine.kinds, engine.members_asked = described["kinds"], synthesizer.members
        engine.posteriors = [
            numbers and LastLayerPosterior(**numbers, **self._take(f"posterior{i}."))
            for i, numbers in enumerate(described["posteriors"])
        ]
        if (fields := described["autoencoder"]) is not None:
            net = synthesizer.autoencoder or _fitting.default_autoencoder(shape, verbose)
            _skorch.check_autoencoder(_skorch.unfreeze(net))
            engine.autoencoder = self._net(net, fields, "autoencoder", synthesizer.device)
            engine.latent_scale = tensors.pop("latent_scale")
        if "images" in tensors:
            images = tensors.pop("images").numpy().view(image_format.dtype)
            engine.images = images.reshape(-1, *image_format.row_shape)
            engine.codes = tensors.pop("image_classes").numpy()
        return engine

    def _net(self, estimator: Any, fields: dict, role: str, device: Any) -> NeuralNet:
        """Return a net of an estimator's parameters with saved weights; the estimator stays."""
        given = _skorch.unfreeze(estimator)
        params = _module_params(given)
        for name, value in fields["params"].items():
            _check_same(f"{name} of {role}", value, params.get(name, value))
        if _skorch.is_frozen(estimator) and given.initialized_:
            net = _skorch.copy_net(given)
        else:
            net = _skorch.clone_net(given, device)
            # Initial weights are drawn, and then overwritten.
            with _skorch.scoped_seed(0):
                _skorch.initialize_by_sizes(net, fields["sizes"])
        for name, part in _skorch.parts_of(net).items():
            weights = self._take(f"{role}.{name}.")
            for key, own in part.state_dict().items():
                saved = weights.get(key, own)
                _check_same(f"the dtype of {role}.{name}.{key}", saved.dtype, own.dtype)
            part.load_state_dict(weights)
        net.history = History(json.loads(self.tensors.pop(f"{role}_history").numpy().tobytes()))
        # Its optimizer starts afresh.
        _skorch.let_schedules_resume(net)
        return net

    def _take(self, prefix: str) -> dict[str, Any]:
        """Take out the tensors whose names have a prefix."""
        names = [name for name in self.tensors if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.tensors.pop(name) for name in names}


def _state(synthesizer: Any, with_images: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what a synthesizer has learned as tensors and for JSON."""
    engine, seed = synthesizer.engine_, synthesizer.random_state
    image_format = engine.image_format
    names = getattr(synthesizer, "feature_names_in_", None)
    tensors = {"extremes": _bytes(np.stack(engine.value_range.extremes), image_format.dtype)}
    described: dict[str, Any] = {
        "labels": _labels(synthesizer.classes_),
        "images": {
            "row_shape": list(image_format.row_shape),
            "shape": [image_format.layout, *(image_format.image_shape or ())],
            "dtype": image_format.dtype.str,
            "pixels": image_format.pixels,
            "feature_names": None if names is None else list(names),
        },
        "seed": int(engine.seed),
        # An `AugmentedClassifier` without a seed draws one for its synthesizer.
        "random_state": int(seed) if isinstance(seed, int | np.integer) else None,
        "classifiers": [],
        "autoencoder": None,
        "posteriors": [],
    }
    for i, net in enumerate(engine.nets):
        described["classifiers"].append(_add_net(tensors, net, f"classifier{i}"))
    if engine.latent_scale is not None:
        described["autoencoder"] = _add_net(tensors, engine.autoencoder, "autoencoder")
        tensors["latent_scale"] = engine.latent_scale.contiguous()
    # A net without members predicts nevertheless, and says why when it is asked for more. So does
    # one that was trained on after its images had stayed out of a file.
    with suppress(ValueError):
        engine.members(synthesizer, seed=0)
        for i, posterior in enumerate(engine.posteriors):
            fields = asdict(posterior) if posterior else {}
            for name in [name for name, value in fields.items() if isinstance(value, Tensor)]:
                tensors[f"posterior{i}.{name}"] = fields.pop(name).contiguous()
            described["posteriors"].append(fields or None)
    described["kinds"] = engine.kinds
    if with_images:
        engine.check_has_images()
        tensors["images"] = _bytes(np.asarray(engine.images), image_format.dtype)
        tensors["image_classes"] = torch.tensor(engine.codes, dtype=torch.int64)
    return tensors, described


def _add_net(tensors: dict[str, Tensor], net: NeuralNet, role: str) -> dict[str, Any]:
    """Add weights and history of a fitted net to tensors; return how it is built, for JSON."""
    for part, module in _skorch.parts_of(net).items():
        for key, value in module.state_dict().items():
            name = f"{role}.{part}.{key}"
            if not isinstance(value, Tensor) or value.layout != torch.strided:
                raise ValueError(
                    f"cannot save {name}, which is a {type(value).__name__}: such a file holds "
                    "dense tensors alone. pickle and joblib save the estimator as a whole."
                )
            # Tied weights share memory, which the format does not allow.
            tensors[name] = value.detach().cpu().contiguous().clone()
    # As a tensor, for the header of a file is limited in length.
    history = bytearray(json.dumps([_json_part(row) for row in net.history]).encode())
    tensors[f"{role}_history"] = torch.frombuffer(history, dtype=torch.uint8)
    fields: dict[str, Any] = {"params": _module_params(net), "sizes": None}
    if _skorch.is_sized_from_data(net):
        sizes = getattr(_skorch.bare_module(net), "sizes", None)
        if not isinstance(sizes, dict) or len(kept := _json_part(sizes)) < len(sizes):
            raise ValueError(
                f"cannot save a module built by {net.module.__name__}.from_data, for there are no "
                "data when it is loaded. Give it an attribute sizes: a dict of what from_data "
                f"reads off the data, as keyword arguments of its constructor; got {sizes!r}"
            )
        fields["sizes"] = kept
    return fields


def _module_params(net: NeuralNet) -> dict[str, Any]:
    """Return name and parameters of a module, default ones included, as far as JSON goes."""
    params: dict[str, Any] = {}
    if not isinstance(net.module, nn.Module):
        with suppress(TypeError, ValueError):
            signature = inspect.signature(net.module).parameters.values()
            params = {p.name: p.default for p in signature if p.default is not p.empty}
    params.update(net.get_params_for("module"))
    name = getattr(net.module, "__name__", type(net.module).__name__)
    return _json_part({"module": name, **{f"module__{key}": params[key] for key in params}})


def _json_part(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that JSON can hold, as they are read back."""
    kept = {}
    for name, value in fields.items():
        with suppress(TypeError, ValueError, AttributeError):
            # Of numpy and torch.
            kept[name] = json.loads(json.dumps(value, default=lambda number: number.tolist()))
    return kept


def _check_same(what: str, saved: Any, own: Any) -> None:
    """Raise ValueError if something in a file is not as the estimator has it."""
    # Only NaN differs from itself.
    if saved != own and saved == saved:
        raise ValueError(f"{what} is {saved} in the file, but {own} in the estimator")


def _read(path: str | os.PathLike[str]) -> Saved:
    """Read a file, or raise ValueError if it is damaged or something else."""
    refused = f"cannot load {os.fspath(path)!r}: it"
    try:
        # The library checks the header. Copies, for its tensors change with the file.
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ValueError(f"{refused} is damaged, or no safetensors file: {error}") from error
    version = metadata.get("format_version", "")
    if metadata.get("format") != "tsynd_sk":
        raise ValueError(f"{refused} was not written by save_params of tsynd_sk")
    if version != str(FORMAT_VERSION):
        raise ValueError(
            f"{refused} has format version {version:.9}, written by tsynd_sk "
            f"{metadata.get('library_version', ''):.20}: upgrade tsynd_sk {__version__}"
        )
    if metadata.pop("sha256", None) != _checksum(tensors, metadata):
        raise ValueError(
            f"{refused} is damaged, for its contents do not have the checksum that it states"
        )
    return Saved(metadata["estimator"], tensors, json.loads(metadata["description"]))


def _checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Hash all that is in a file; safetensors itself does not notice another weight."""
    total = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _bytes(array: np.ndarray, dtype: np.dtype) -> Tensor:
    """Return numbers as bytes, for torch does not know all of numpy's types and byte orders."""
    return torch.from_numpy(np.array(array, dtype, order="C", ndmin=2).view(np.uint8))


def _labels(classes: np.ndarray) -> dict[str, Any]:
    values = classes.tolist()
    if classes.dtype.kind not in "biufU" and not all(isinstance(value, str) for value in values):
        raise ValueError(
            f"cannot save labels such as {values[0]!r} of dtype {classes.dtype}, but numbers, "
            "booleans and strings: convert y before fit, for instance by y.astype(str)"
        )
    return {"dtype": classes.dtype.str, "values": values}
