"""Fitted nets as tensors and JSON, and back into nets of the same parameters."""

from __future__ import annotations

import inspect
import json
import warnings
from contextlib import suppress
from typing import Any

import torch
from skorch import NeuralNet
from skorch.history import History
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tsynd_sk._skorch._copies import clone_net, copy_net
from tsynd_sk._skorch._nets import bare_module, is_frozen, let_schedules_resume, parts_of, unfreeze
from tsynd_sk._skorch._seeding import scoped_seed
from tsynd_sk._skorch._sized_from_data import is_sized_from_data, with_sizes


def net_state(net: NeuralNet, role: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and history of a fitted net as tensors, and a description for JSON.

    Names of the tensors start with `role`.
    """
    tensors = {}
    for name, value in _weights(parts_of(net)).items():
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            raise ValueError(
                f"cannot save {role}.{name}, which is a {type(value).__name__}: such a file holds "
                "dense tensors alone. pickle and joblib save the estimator as a whole."
            )
        # Tied weights share memory, which the format does not allow.
        tensors[f"{role}.{name}"] = value.detach().cpu().contiguous().clone()
    rows = [_json_part(row) for row in net.history]
    pairs = zip(net.history, rows, strict=True)
    if dropped := {str(name) for row, kept in pairs for name in row.keys() - kept.keys()}:
        text = f"the file leaves out {sorted(dropped)} of the history, which JSON cannot hold"
        warnings.warn(text, stacklevel=4)
    # As a tensor, for the header of a file is limited in length.
    history = bytearray(json.dumps(rows).encode())
    tensors[f"{role}_history"] = torch.frombuffer(history, dtype=torch.uint8)
    sizes = _sizes(net) if is_sized_from_data(net) else None
    return tensors, {"params": _module_params(net), "sizes": sizes}


def restored_net(
    estimator: Any, tensors: dict[str, Tensor], description: dict, role: str, device: Any
) -> NeuralNet:
    """Return a net of an estimator's parameters with what `net_state` has returned for another.

    Its tensors are taken out of `tensors`. The estimator stays as it is, also if it is frozen.
    """
    names = [name for name in tensors if name.startswith(f"{role}.")]
    saved = {name.removeprefix(f"{role}."): tensors.pop(name) for name in names}
    given = unfreeze(estimator)
    params = _module_params(given)
    for name, value in description["params"].items():
        check_same(f"{name} of {role}", value, params.get(name, value))
    if is_frozen(estimator) and given.initialized_:
        net = copy_net(given)
    else:
        net = clone_net(given, device)
        _initialize(net, description["sizes"], saved, role)
    parts = parts_of(net)
    _check_weights(_weights(parts), saved, role)
    for name, part in parts.items():
        part.load_state_dict({key: saved[f"{name}.{key}"] for key in part.state_dict()})
    net.history = History(json.loads(tensors.pop(f"{role}_history").numpy().tobytes()))
    # Its optimizer starts afresh.
    let_schedules_resume(net)
    return net


def _weights(parts: dict[str, nn.Module]) -> dict[str, Any]:
    return {
        f"{name}.{key}": value
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }


def _initialize(net: NeuralNet, sizes: dict | None, saved: dict[str, Tensor], role: str) -> None:
    module = None
    # Initial weights are drawn, and then overwritten.
    with scoped_seed(0):
        if sizes is not None:
            sizes = {name: tuple(v) if isinstance(v, list) else v for name, v in sizes.items()}
            # Without memory, of which a file may claim any amount. Where a module cannot be built
            # that way, `initialize` says what is wrong.
            with suppress(Exception), torch.device("meta"):
                module = net.module(**{**net.get_params_for("module"), **sizes})
        if module is not None:
            weights = {name: w for name, w in saved.items() if name.startswith("module.")}
            _check_weights(_weights({"module": module}), weights, role)
        with with_sizes(net, sizes):
            net.initialize()


def _check_weights(own: dict[str, Any], saved: dict[str, Tensor], role: str) -> None:
    """Raise ValueError if saved weights are not those of a net."""
    for name in [*own, *saved]:
        weight: Any = own.get(name)
        if not is_lazy(weight):
            check_same(f"{role}.{name}", _kind(saved.get(name)), _kind(weight))


def _kind(weight: Any) -> str:
    return "missing" if weight is None else f"{weight.dtype} of shape {tuple(weight.shape)}"


def check_same(what: str, saved: Any, own: Any) -> None:
    """Raise ValueError if something in a file is not as the estimator has it."""
    # Only NaN differs from itself.
    if saved != own and saved == saved:
        raise ValueError(f"{what} is {saved} in the file, but {own} in the estimator")


def _module_params(net: NeuralNet) -> dict[str, Any]:
    """Return name and parameters of a module, default ones included, as far as JSON goes."""
    defaults: dict[str, Any] = {}
    if not isinstance(net.module, nn.Module):
        with suppress(TypeError, ValueError):
            signature = inspect.signature(net.module).parameters.values()
            defaults = {p.name: p.default for p in signature if p.default is not p.empty}
    params = {**defaults, **net.get_params_for("module")}
    name = getattr(net.module, "__name__", type(net.module).__name__)
    return _json_part({"module": name, **{f"module__{key}": params[key] for key in params}})


def _sizes(net: NeuralNet) -> dict[str, Any]:
    """Return what a net has read off the data to build its module."""
    module = bare_module(net)
    sizes = getattr(module, "sizes", None)
    if not isinstance(sizes, dict) or (kept := _json_part(sizes)).keys() != sizes.keys():
        name = type(module).__name__
        raise ValueError(
            f"cannot save the weights of {name}, for it was built by {name}.from_data, and there "
            "are no data when they are loaded. Give it an attribute sizes: a dict of what its "
            "from_data reads off the data, as keyword arguments of its constructor, for instance "
            f"{{'n_features': 64, 'n_classes': 10}}; got {sizes!r}"
        )
    return kept


def _json_part(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that JSON can hold, as they are read back."""
    kept = {}
    for name, value in fields.items():
        with suppress(TypeError, ValueError, AttributeError):
            # Of numpy and torch.
            kept[name] = json.loads(json.dumps(value, default=lambda number: number.tolist()))
    return kept
