"""`save_params` and `load_params`: what an estimator has learned, in a safetensors file.

Beside tensors it holds a checksum and, as JSON, a description of what is not a tensor.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from skorch.history import History
from torch import Tensor, nn

from tsynd_sk import __version__, _skorch
from tsynd_sk._utils._files import write_atomically
from tsynd_sk.images import check_images
from tsynd_sk.members import LastLayerPosterior
from tsynd_sk.synthesis import _fitting
from tsynd_sk.synthesis._engine import Engine

#: Counts up with every change that earlier releases cannot read, or would misread.
FORMAT_VERSION = 1


class SavingMixin:
    """The two methods, for estimators that learn an `Engine`."""

    def save_params(self: Any, path, *, with_images=False, reading=None):
        """Write what was learned to a safetensors file, which holds no code.

        Weights and histories of all nets, and what is known of labels, images and members; not
        the states of optimizers.

        Parameters
        ----------
        path : path-like
            File to write, or to replace, such as "x.safetensors".
        with_images : bool, default=False
            Whether to write the training images, from which `sample` draws, too. They may be
            confidential.
        reading : Reading, what `load_image_folder` returned, or None, default=None
            How image files became arrays; the estimator that loads the file has it as ``reading_``,
            for ``read_images(paths, like=estimator)``.

        Raises
        ------
        NotFittedError, ValueError, OSError
            If nothing was learned yet, something that was learned is neither numbers nor text, or
            the file cannot be written.

        Examples
        --------
        >>> from tempfile import TemporaryDirectory
        >>> from tsynd_sk import AugmentedClassifier, datasets
        >>> X, y, _ = datasets.load_digits_images()
        >>> fitted = AugmentedClassifier(synthetic_ratio=0).fit(X[:50], y[:50])
        >>> with TemporaryDirectory() as folder:
        ...     fitted.save_params(f"{folder}/digits.safetensors")
        ...     loaded = AugmentedClassifier().load_params(f"{folder}/digits.safetensors")
        >>> bool((loaded.predict(X) == fitted.predict(X)).all())
        True
        """
        check_is_fitted(self)
        tensors, description = _learned(getattr(self, "synthesizer_", self), with_images)
        reading = getattr(reading, "reading", reading) or getattr(self, "reading_", None)
        description["reading"] = reading and asdict(reading)
        metadata = {
            "format": "tsynd_sk",
            "format_version": str(FORMAT_VERSION),
            "library_version": __version__,
            "description": json.dumps(description),
        }
        data = save(tensors, {**metadata, "sha256": _checksum(tensors, metadata)})
        write_atomically(path, lambda file: file.write(data))

    def load_params(self: Any, path):
        """Read what `save_params` has written, as if this estimator had learned it.

        Nothing in the file is run. The estimator must have the parameters of the one that was
        saved, because they say how its nets are built. Predictions are the same, to the bit on the
        same machine.

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
        ValueError, OSError
            If the file cannot be opened, is damaged, has another format version, or does not fit
            the parameters of the estimator, which stays as it was.
        """
        self._validate_params()
        saved = _read(path)
        try:
            with _fitting.all_or_nothing(self):
                self._restore(saved)
                if kept := saved.description["reading"]:
                    # It imports packages that nothing else here needs.
                    from tsynd_sk.datasets import Reading

                    self.reading_ = Reading(**kept)
                if saved.tensors:
                    raise ValueError(f"nothing of the estimator is called {min(saved.tensors)!r}")
        except Exception as error:
            # Modules and torch raise any type.
            raise ValueError(
                f"cannot load {str(path)!r}: {error}. Construct the estimator with the "
                "parameters of the one that was saved."
            ) from error
        return self

    def _restore(self: Any, saved: SavedFile) -> None:
        """Take over what a file holds."""
        saved.restore_data(self, self.image_shape)
        _fitting.take_engine(self, saved.engine(self))


def _learned(synthesizer: Any, with_images: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what a synthesizer has learned: tensors, and a description of the rest."""
    engine, classes, seed = synthesizer.engine_, synthesizer.classes_, synthesizer.random_state
    row_shape, dtype = engine.image_format.row_shape, engine.image_format.dtype
    # Loading finds format and range in these two images, as the fit did in all.
    extremes = [np.broadcast_to(values, row_shape) for values in engine.value_range.extremes]
    # Objects are strings: a fit takes no others.
    labels = classes.astype(str) if classes.dtype == object else classes
    tensors = {"extremes": _bytes(extremes, dtype), "labels": _bytes(labels, labels.dtype)}
    description: dict[str, Any] = {
        "dtype": dtype.str,
        "layout": _json_part(vars(engine.image_format)),
        "feature_names": list(getattr(synthesizer, "feature_names_in_", [])),
        "labels": labels.dtype.str,
        "labels_are_objects": classes.dtype == object,
        "members": synthesizer.members,
        "seed": int(engine.seed),
        # Drawn by an `AugmentedClassifier` without a seed.
        "random_state": int(seed) if isinstance(seed, int | np.integer) else None,
        "posteriors": [],
    }
    nets = {f"classifier{i}": net for i, net in enumerate(engine.nets)}
    if engine.latent_scale is not None:
        nets["autoencoder"] = engine.autoencoder
        tensors["latent_scale"] = engine.latent_scale.contiguous()
    description["nets"] = {role: _add_net(tensors, net, role) for role, net in nets.items()}
    # A net predicts even without members, or without the images that they are fitted to.
    with suppress(ValueError):
        engine.members(synthesizer, seed=0)
        for i, posterior in enumerate(engine.posteriors):
            fields = asdict(posterior) if posterior else {}
            for name in [name for name, value in fields.items() if isinstance(value, Tensor)]:
                tensors[f"posterior{i}.{name}"] = fields.pop(name).contiguous()
            description["posteriors"].append(fields or None)
    if with_images:
        engine.check_has_images()
        tensors["images"] = _bytes(engine.images, dtype)
        tensors["image_classes"] = torch.tensor(engine.codes)
    return tensors, description


def _add_net(tensors: dict[str, Tensor], net: NeuralNet, role: str) -> dict[str, Any]:
    """Add weights and history of a net to tensors; return how it is built."""
    for part, module in _skorch.parts_of(net).items():
        for key, value in module.state_dict().items():
            name = f"{role}.{part}.{key}"
            if not isinstance(value, Tensor) or value.layout != torch.strided:
                raise ValueError(
                    f"cannot save {name}, which is a {type(value).__name__}: such a file holds "
                    "dense tensors alone. Use pickle or joblib to save the whole estimator."
                )
            # Tied weights share memory, which the format does not allow.
            tensors[name] = value.detach().cpu().contiguous().clone()
    # The header of a file is limited in length.
    history = bytearray(json.dumps([_json_part(row) for row in net.history]).encode())
    tensors[f"{role}_history"] = torch.frombuffer(history, dtype=torch.uint8)
    sizes = None
    if _skorch.is_sized_from_data(net):
        found = getattr(_skorch.bare_module(net), "sizes", None)
        if not isinstance(found, dict) or len(sizes := _json_part(found)) < len(found):
            raise ValueError(
                f"cannot save a module built by {net.module.__name__}.from_data. Give it an "
                "attribute sizes: a dict of what from_data reads off the data, as keyword "
                f"arguments of its constructor; got {found!r}"
            )
    return {"params": _module_params(net), "sizes": sizes}


def _module_params(net: NeuralNet) -> dict[str, Any]:
    """Return what a net is built of, as far as JSON goes."""
    params: dict[str, Any] = {}
    if not isinstance(net.module, nn.Module):
        signature = inspect.signature(net.module).parameters.values()
        params = {p.name: p.default for p in signature if p.default is not p.empty}
    params.update(net.get_params_for("module"))
    # With another criterion, the same weights would be read as other probabilities.
    built = {"module": net.module, "criterion": net.criterion}
    names = {part: getattr(made, "__name__", type(made).__name__) for part, made in built.items()}
    return _json_part({**names, **{f"module__{key}": params[key] for key in params}})


def _json_part(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that JSON can hold, as they are read back."""
    kept = {}
    for name, value in fields.items():
        with suppress(TypeError, ValueError, AttributeError):
            kept[name] = json.loads(json.dumps(value, default=lambda array: array.tolist()))
    return kept


def _bytes(array: Any, dtype: np.dtype) -> Tensor:
    # Torch does not know all of numpy's types and byte orders.
    return torch.from_numpy(np.array(array, dtype, order="C").view(np.uint8))


def _checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Hash all that is in a file; safetensors itself does not notice another weight."""
    total = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _read(path: Any) -> SavedFile:
    refused = f"cannot load {str(path)!r}: it"
    # Errors of the system come in Python's words.
    Path(path).open("rb").close()
    try:
        # Copies, for the tensors of safetensors change with the file.
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ValueError(
            f"{refused} is damaged, or not a safetensors file: {error}. Copy or save it again"
        ) from error
    if metadata.get("format") != "tsynd_sk":
        raise ValueError(f"{refused} was not written by save_params: give a file that was")
    if (version := metadata.get("format_version")) != str(FORMAT_VERSION):
        raise ValueError(
            f"{refused} has format version {version}, written by tsynd_sk "
            f"{metadata.get('library_version')}: use that version, or upgrade tsynd_sk "
            f"{__version__}"
        )
    if metadata.pop("sha256", None) != _checksum(tensors, metadata):
        raise ValueError(
            f"{refused} is damaged: its checksum is not that of its contents. Copy or save it again"
        )
    return SavedFile(tensors, json.loads(metadata["description"]))


def _check_same(what: str, saved: Any, own: Any) -> None:
    # Only NaN differs from itself.
    if saved != own and saved == saved:
        raise ValueError(f"{what} is {saved} in the file, but {own} in the estimator")


@dataclass
class SavedFile:
    """What a file holds; a tensor is taken out where it is used."""

    tensors: dict[str, Tensor]
    description: dict[str, Any]

    def restore_data(self, estimator: Any, image_shape: Any) -> None:
        description = self.description
        extremes = self._array("extremes", description["dtype"])
        with warnings.catch_warnings():
            # The fit has said it.
            warnings.simplefilter("ignore")
            check_images(estimator, extremes, reset=True, image_shape=image_shape)
        layout = _json_part(vars(estimator.format_))
        _check_same(f"the layout, by image_shape={image_shape!r},", description["layout"], layout)
        if description["feature_names"]:
            estimator.feature_names_in_ = np.array(description["feature_names"], dtype=object)
        labels = self._array("labels", description["labels"])
        estimator.classes_ = labels.astype(object) if description["labels_are_objects"] else labels

    def engine(self, synthesizer: Any) -> Engine:
        description, seed = self.description, self.description["seed"]
        shape, verbose = synthesizer.image_shape_, synthesizer.verbose
        _check_same("members", description["members"], synthesizer.members)
        given = synthesizer.classifier
        given = given if isinstance(given, list | tuple) else [given]
        n_saved = len(description["nets"].keys() - {"autoencoder"})
        _check_same("the number of classifiers", n_saved, len(given))
        nets = []
        for i, net in enumerate(given):
            net = net or _fitting.default_net("classifier", shape, verbose)
            nets.append(self._net(net, f"classifier{i}", synthesizer.device))
            # skorch reads them off labels.
            vars(nets[i]).setdefault("classes_inferred_", np.arange(len(synthesizer.classes_)))
        engine = Engine(nets, synthesizer.format_, synthesizer.value_range_, None, None, seed)
        engine.posteriors = [
            numbers and LastLayerPosterior(**numbers, **self._take(f"posterior{i}."))
            for i, numbers in enumerate(description["posteriors"])
        ]
        if "autoencoder" in description["nets"]:
            net = synthesizer.autoencoder or _fitting.default_net("autoencoder", shape, verbose)
            engine.autoencoder = self._net(net, "autoencoder", synthesizer.device)
            engine.latent_scale = self.tensors.pop("latent_scale")
        if "images" in self.tensors:
            engine.images = self._array("images", description["dtype"])
            engine.codes = self.tensors.pop("image_classes").numpy()
        return engine

    def _net(self, estimator: Any, role: str, device: Any) -> NeuralNet:
        given, saved = _skorch.unfreeze(estimator), self.description["nets"][role]
        params = _module_params(given)
        for name, value in saved["params"].items():
            _check_same(f"{name} of {role}", value, params.get(name, value))
        if isinstance(estimator, FrozenEstimator) and given.initialized_:
            net = _skorch.copy_net(given)
        else:
            net = _skorch.clone_net(given, device)
            # Initial weights are overwritten.
            with _skorch.scoped_seed(0):
                _skorch.initialize_by_sizes(net, saved["sizes"])
        for part, module in _skorch.parts_of(net).items():
            weights = self._take(f"{role}.{part}.")
            # torch checks names and shapes, but converts numbers.
            for key, own in module.state_dict().items():
                dtype = weights.get(key, own).dtype
                _check_same(f"the dtype of {role}.{part}.{key}", dtype, own.dtype)
            module.load_state_dict(weights)
        net.history = History(json.loads(self.tensors.pop(f"{role}_history").numpy().tobytes()))
        _skorch.let_schedules_resume(net)
        return net

    def _take(self, prefix: str) -> dict[str, Any]:
        names = [name for name in self.tensors if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.tensors.pop(name) for name in names}

    def _array(self, name: str, dtype: Any) -> np.ndarray:
        return self.tensors.pop(name).numpy().view(dtype)
