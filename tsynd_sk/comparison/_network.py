"""Make the network of a comparison by name: torchvision's, or that of a user's function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from skorch import NeuralNet
from torch import nn

from tsynd_sk import _skorch
from tsynd_sk._utils._by_name import object_of, users_code
from tsynd_sk.classifiers import NetClassifier, Pretrained
from tsynd_sk.images import ImageFormat


def make_network(
    net: str | Callable[[int, int], Any] | None,
    X: np.ndarray,
    y: np.ndarray,
    *,
    weights: str | Path | None = None,
    freeze: bool = False,
    lr: float | None = None,
    batch_size: int | None = None,
    max_epochs: int | None = None,
    device: str | None = None,
) -> NeuralNet:
    """Make a skorch classifier by name, as ``--net`` does.

    Parameters
    ----------
    net : str, callable or None
        As in `Pretrained`; a function may also return an unfitted skorch classifier. None:
        `ConvNet`.
    X : ndarray of shape (n, H, W), (n, H, W, C) or (n, C, H, W)
        Images.
    y : ndarray of shape (n,)
        Labels.
    weights, freeze : default=None and False
        As in `Pretrained`.
    lr, batch_size, max_epochs, device : default=None
        Parameters of the net; None: its own.

    Returns
    -------
    skorch classifier
        Unfitted.

    Raises
    ------
    TypeError, ValueError, ImportError, OSError
        As of `Pretrained`; or if parameters do not fit together, or `device` is not available.

    See Also
    --------
    compare : Train the network with several arms.
    tsynd_sk.classifiers.NetClassifier : What it returns.
    tsynd_sk.classifiers.Pretrained : Module behind the names of torchvision's networks.

    Examples
    --------
    >>> import numpy as np
    >>> from tsynd_sk.comparison import make_network
    >>> X, y = np.zeros((4, 32, 32), np.uint8), np.arange(4) % 2
    >>> make_network("resnet18", X, y, lr=1e-4).get_params()["module__net"]
    'resnet18'
    """
    if net is None and (weights is not None or freeze):
        what = "weights are" if weights is not None else "freeze is"
        raise ValueError(f"{what} for a network by name: give net, too")
    given = {"lr": lr, "batch_size": batch_size, "max_epochs": max_epochs, "device": device}
    params: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name, value in params.items():
        if name == "device":
            _skorch.check_device(value)
        elif not value > 0:
            raise ValueError(f"{name} must be above 0; got {value!r}")
    if net is None:
        return NetClassifier(**params)
    if (own := _own_classifier(net, X, y)) is None:
        params |= {"module__net": net, "module__weights": weights, "module__freeze": freeze}
        made = NetClassifier(Pretrained, **params)
        # Raise errors now, not when it trains.
        x = ImageFormat.infer(X).to_tensor(X[:2])
        Pretrained.from_data(x, np.arange(len(np.unique(y))), **made.get_params_for("module"))
        return made
    _skorch.check_net(own, f"what {net!r} returns")
    if weights is not None or freeze:
        raise ValueError(
            f"{net!r} returns a skorch classifier: leave weights and freeze out, and let it load "
            "weights and freeze layers itself"
        )
    return own.set_params(**params)


def _own_classifier(net: Any, X: np.ndarray, y: np.ndarray) -> NeuralNet | None:
    """Return the skorch classifier that the user's function makes, if it does."""
    if isinstance(net, str) and ":" not in net:
        return None
    function: Any = object_of(net, "net") if isinstance(net, str) else net
    if not callable(function) or isinstance(function, type | nn.Module):
        return None
    shape = ImageFormat.infer(X).image_shape
    assert shape is not None
    counts = shape[0], len(np.unique(y))
    try:
        inspect.signature(function).bind(*counts)
    except (TypeError, ValueError):
        # `Pretrained` says what is expected.
        return None
    with users_code(f"net={net!r}"):
        made = function(*counts)
    # It may return the same one whenever it is called.
    return clone(made) if isinstance(made, NeuralNet) else None
