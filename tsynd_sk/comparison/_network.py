"""The network that all arms of a comparison train: the library's own, or one of the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from skorch import NeuralNet
from torch import nn

from tsynd_sk import _skorch
from tsynd_sk._utils._by_name import file_of, object_of
from tsynd_sk._utils._files import content_hash
from tsynd_sk.classifiers import NetClassifier, Pretrained
from tsynd_sk.images import ImageFormat
from tsynd_sk.synthesis import check_trainable

__all__ = ["Network"]


@dataclass(frozen=True)
class Network:
    """The network that all arms of a comparison train.

    Parameters
    ----------
    net : str, callable or None, default=None
        As in `Pretrained`. The function may also return a skorch classifier, unfitted, which is
        then trained as it is. None: `ConvNet`.
    weights : None, "imagenet" or path-like, default=None
        As in `Pretrained`.
    freeze : bool, default=False
        As in `Pretrained`.
    lr : float or None, default=None
        Learning rate at the start; None: that of `NetClassifier`, or of the skorch classifier.
    batch_size : int or None, default=None
        Images in a batch; None: as for `lr`.
    device : str or None, default=None
        Where to train and to synthesise; None: on the processor.

    Raises
    ------
    ValueError
        If there are weights, or something to freeze, without a network by name.

    Examples
    --------
    >>> from tsynd_sk.comparison import Network, Settings
    >>> network = Network("resnet18", weights="imagenet", freeze=True)
    >>> Settings(100, network=network).network.definition()
    {'net': 'resnet18', 'weights': 'imagenet', 'freeze': True}
    """

    net: str | Callable[[int, int], Any] | None = None
    weights: str | Path | None = None
    freeze: bool = False
    lr: float | None = None
    batch_size: int | None = None
    device: str | None = None

    def __post_init__(self):
        if self.net is None and (self.weights is not None or self.freeze):
            what = "weights are" if self.weights is not None else "freeze is"
            raise ValueError(f"{what} for a network by name: give net, too")
        for name in ("lr", "batch_size"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} must be above 0; got {value!r}")

    def definition(self) -> dict[str, Any]:
        """Return what differs from the defaults, as JSON has it; files by their contents.

        Returns
        -------
        dict
            From names to values.
        """
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        defined = {f.name: given[f.name] for f in fields(self) if given[f.name] != f.default}
        if callable(self.net):
            defined["net"] = f"{self.net.__module__}:{getattr(self.net, '__qualname__', '')}"
        elif self.net is not None and (code := _code_of(self.net)) is not None:
            # The same file in another place is the same network.
            file, _, name = self.net.rpartition(":")
            defined["net"] = f"{Path(file).name}:{name}"
            defined["net_sha256"] = content_hash(code)
        if self.weights not in (None, "imagenet"):
            defined["weights"] = content_hash(Path(str(self.weights)).expanduser())
        return defined

    def make(self, net_class: type[NetClassifier], X: Any, y: Any, **params: Any) -> NeuralNet:
        """Make the net of an arm, unfitted.

        Parameters
        ----------
        net_class : type
            `NetClassifier`, or what an arm has in its place.
        X : ndarray of shape (n, H, W), (n, H, W, C) or (n, C, H, W)
            Training images.
        y : ndarray of shape (n,)
            Their labels.
        **params
            Parameters of the net.

        Returns
        -------
        skorch classifier
            With these parameters.
        """
        given = {"lr": self.lr, "batch_size": self.batch_size}
        params |= {name: value for name, value in given.items() if value is not None}
        if (own := self._own_classifier(X, y)) is not None:
            if not isinstance(own.callbacks, str):
                params["callbacks"] = [*(own.callbacks or ()), *params["callbacks"]]
            return own.set_params(**params)
        return net_class(**self._module_params(), **params)

    def check(self, arms: Mapping[str, Any], X: np.ndarray, y: np.ndarray) -> None:
        """Raise for what the network cannot do, before anything trains.

        Parameters
        ----------
        arms : dict of str to Arm
            What is compared.
        X : ndarray of shape (n, H, W), (n, H, W, C) or (n, C, H, W)
            Training images.
        y : ndarray of shape (n,)
            Their labels.

        Raises
        ------
        TypeError, ValueError, ImportError, OSError
            As `Pretrained`; if the network does not predict the classes, or has no members with
            gradients where images are synthesised against it; if an arm needs a loss or a class of
            net that a skorch classifier of the user's has not; or if there is no such device.
        """
        if self.device is not None:
            _skorch.check_device(self.device)
        if (own := self._own_classifier(X, y)) is not None:
            self._check_own(own, arms)
        if self.net is None:
            return
        # Once for each way in which a network is used.
        ways = {(arm.augmentation == "adversarial", arm.objective): arm for arm in arms.values()}
        rows = np.unique(y, return_index=True)[1]
        for arm in ways.values():
            classifier = arm.make_classifier(X[rows], y[rows], max_epochs=1, network=self)
            check_trainable(classifier, X[rows], y[rows])

    def _check_own(self, own: NeuralNet, arms: Mapping[str, Any]) -> None:
        """Raise for what a skorch classifier of the user's cannot do."""
        _skorch.check_classifier(own, f"what {self.net!r} returns")
        if self.weights is not None or self.freeze:
            raise ValueError(
                f"weights and freeze are for a torch.nn.Module, but {self.net!r} returns a skorch "
                "classifier: let it load weights and freeze layers itself"
            )
        criterion = own.criterion if isinstance(own.criterion, type) else type(own.criterion)
        for name, arm in arms.items():
            if arm.augmentation == "adversarial":
                raise ValueError(
                    f"the arm {name!r} needs a class of net of its own, but {self.net!r} returns a "
                    "skorch classifier: let it return a torch.nn.Module, or leave the arm out"
                )
            if arm.augmentation == "mixup" and not issubclass(criterion, nn.CrossEntropyLoss):
                raise ValueError(
                    f"the arm {name!r} mixes labels, which the criterion {criterion.__name__} of "
                    f"{self.net!r} does not take: use torch.nn.CrossEntropyLoss, or leave the arm "
                    "out"
                )

    def _module_params(self) -> dict[str, Any]:
        if self.net is None:
            return {}
        params = {"net": self.net, "weights": self.weights, "freeze": self.freeze}
        return {"module": Pretrained, **{f"module__{name}": params[name] for name in params}}

    def _own_classifier(self, X: Any, y: Any) -> NeuralNet | None:
        """Return the skorch classifier that the user's function makes, if that is what it makes."""
        if self.net is None or (isinstance(self.net, str) and ":" not in self.net):
            return None
        function: Any = object_of(self.net, "net") if isinstance(self.net, str) else self.net
        if not callable(function) or isinstance(function, type | nn.Module):
            return None
        shape = ImageFormat.infer(X).image_shape
        assert shape is not None
        try:
            made = function(shape[0], len(np.unique(y)))
        except TypeError:
            # `Pretrained` says what is expected.
            return None
        # It may return the same one whenever it is called.
        return clone(made) if isinstance(made, NeuralNet) else None


def _code_of(net: str) -> Path | None:
    """Return the file of code that a text names, by its path or as a module."""
    if ":" not in net:
        return None
    if (file := file_of(net)) is not None:
        return file
    try:
        spec = find_spec(net.rpartition(":")[0])
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and Path(spec.origin).is_file() else None
