"""Fitted skorch nets as tensors and JSON, and back into nets of the same parameters."""

from __future__ import annotations

import inspect
import json
import math
import warnings
from typing import Any

import numpy as np
import torch
from skorch.history import History
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tsynd_sk import _skorch
from tsynd_sk._utils._tensor_file import Refused, field, json_of, json_tensor

Tensors = dict[str, Tensor]

#: The way out of most misfits.
SAME_PARAMETERS = "Construct the estimator with the parameters of the one that was saved."

# What a parameter of a module is in JSON if JSON cannot hold it.
_NO_JSON = object()


def net_state(estimator: Any, net: Any, role: str) -> tuple[Tensors, dict[str, Any]]:
    """Give the weights of a fitted net, and what a net that is to take them must agree with.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None
        What the fitted net was made from.
    net : skorch net
        Fitted.
    role : str
        What the names of its tensors start with.

    Raises
    ------
    ValueError
        If it has something to keep that is no tensor, or cannot be built again without data.
    """
    tensors = plain_weights(_weights(_skorch.parts_of(net)), role)
    history = _json_rows(net.history)
    if history is not None:
        tensors[f"{role}_history"] = json_tensor(history)
    return tensors, {
        "module": type(_skorch.bare_module(net)).__name__,
        "params": _module_params(net),
        "sizes": _sizes(net, frozen=_skorch.is_frozen(estimator)),
    }


def restored_net(
    estimator: Any, tensors: Tensors, fields: dict[str, Any], role: str, device: Any
) -> Any:
    """Give a net of an estimator's parameters with the weights of a saved one.

    Its optimizer starts afresh. The estimator stays as it is, also if it is frozen.

    Parameters
    ----------
    estimator : skorch net or FrozenEstimator
        Architecture.
    tensors, fields, role
        As from `net_state`; tensors that are used are taken out.
    device : str, torch.device or None
        Where to; ``None`` for where the net says.

    Raises
    ------
    Refused
        If the net does not fit what was saved.
    """
    saved = taken(tensors, role)
    net = _blank_net(estimator, saved, fields, role, device)
    _check_params(net, field(fields, "params", dict), role)
    expected, given = type(_skorch.bare_module(net)).__name__, field(fields, "module", str)
    if expected != given:
        raise Refused(
            f"{role} holds the weights of a {given}, but the module of the estimator is a "
            f"{expected}. {SAME_PARAMETERS}"
        )
    load_weights(_skorch.parts_of(net), saved, role)
    history = tensors.pop(f"{role}_history", None)
    if history is not None:
        net.history = _history(json_of(history), role)
        _skorch.let_schedules_resume(net)
    return net


def _weights(parts: dict[str, nn.Module]) -> dict[str, Any]:
    return {
        f"{name}.{key}" if name else key: value
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }


def plain_weights(weights: dict[str, Any], role: str) -> Tensors:
    """Copy weights to the CPU, each with memory of its own.

    Raises
    ------
    ValueError
        If some are no dense tensors.
    """
    return {f"{role}.{name}": _plain(value, f"{role}.{name}") for name, value in weights.items()}


def _plain(value: Any, name: str) -> Tensor:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        kind = "sparse or quantized tensor" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"cannot save {name!r}, which is a {kind}: such a file holds dense tensors alone, so "
            "that loading it runs no code. pickle and joblib save the estimator as a whole."
        )
    # Weights that are tied share memory, which a file cannot tell.
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)


def taken(tensors: Tensors, role: str) -> Tensors:
    """Take the tensors of a role out of those of a file, under their names within it."""
    names = [name for name in sorted(tensors) if name.startswith(f"{role}.")]
    return {name.removeprefix(f"{role}."): tensors.pop(name) for name in names}


def load_weights(parts: dict[str, nn.Module], saved: Tensors, role: str) -> None:
    """Copy saved weights into modules, or refuse all of them.

    Parameters
    ----------
    parts : dict of Module
        By name; "" for a single one.
    saved : dict of Tensor
        As from `taken`.
    role : str
        To name them by.
    """
    _check_weights(_weights(parts), saved, role)
    for name, part in parts.items():
        prefix = f"{name}." if name else ""
        part.load_state_dict({key: saved[prefix + key] for key in part.state_dict()})


def _check_weights(own: dict[str, Any], saved: Tensors, role: str) -> None:
    """Refuse weights that are not those of a net, naming the first that differs."""
    for name in [*own, *saved]:
        if name not in saved:
            reason = "the file has no such tensor"
        elif name not in own:
            reason = "the net of the estimator has no such tensor"
        elif is_lazy(own[name]):
            continue
        elif own[name].shape != saved[name].shape:
            came, expected = tuple(saved[name].shape), tuple(own[name].shape)
            reason = f"it has shape {came} in the file, but {expected} in the net of the estimator"
        elif own[name].dtype != saved[name].dtype:
            reason = (
                f"it is {saved[name].dtype} in the file, but {own[name].dtype} in the net of the "
                "estimator"
            )
        else:
            continue
        raise Refused(f"{role}.{name[:60]} does not fit: {reason}. {SAME_PARAMETERS}")


def _sizes(net: Any, *, frozen: bool) -> dict[str, Any] | None:
    """Give what a module was built with that its net has read off the data."""
    if not _skorch.is_sized_from_data(net):
        return None
    module = _skorch.bare_module(net)
    sizes = getattr(module, "sizes", None)
    if sizes is None and frozen:
        return None
    name = type(module).__name__
    if not isinstance(sizes, dict):
        raise ValueError(
            f"cannot save the weights of {name}, for it was built by {name}.from_data, and there "
            "are no data when they are loaded. Give it an attribute sizes: a dict of what its "
            "from_data reads off the data, as keyword arguments of its constructor, for instance "
            "{'n_features': 64, 'n_classes': 10}."
        )
    if _as_json(sizes) is _NO_JSON:
        raise ValueError(f"{name}.sizes is {sizes!r}; expected numbers, strings and tuples of them")
    return _as_json(sizes)


def _blank_net(
    estimator: Any, saved: Tensors, fields: dict[str, Any], role: str, device: Any
) -> Any:
    """Build a net as `estimator` says, untrained unless it is frozen."""
    given = _skorch.unfreeze(estimator)
    sizes = _as_tuples(field(fields, "sizes", dict, type(None)))
    if given.initialized_ and _skorch.is_frozen(estimator):
        return _skorch.copy_net(given)
    net = _skorch.clone_net(given, device)
    if sizes is None and _skorch.is_sized_from_data(net):
        raise Refused(
            f"it does not say how {role} was sized from data, as it was not built here but frozen. "
            "Give a fitted net of the same sizes in FrozenEstimator."
        )
    if sizes is not None and not _skorch.is_sized_from_data(net):
        raise Refused(
            f"the net of the estimator for {role} is not sized from data, unlike that in the file. "
            f"{SAME_PARAMETERS}"
        )
    # Initial weights are drawn, and then overwritten.
    with _skorch.scoped_seed(0), _skorch.with_sizes(net, sizes):
        try:
            if sizes is not None:
                _check_sizes(net, sizes, saved, role)
            return net.initialize()
        except Refused:
            raise
        except Exception as error:
            raise Refused(
                f"the estimator's net for {role} cannot be built: {error}. {SAME_PARAMETERS}"
            ) from error


def _check_sizes(net: Any, sizes: dict[str, Any], saved: Tensors, role: str) -> None:
    """Compare shapes before memory is taken, of which a wrong file may claim any amount."""
    try:
        with torch.device("meta"):
            module = net.module(**{**net.get_params_for("module"), **sizes})
            own = {f"module.{key}": value for key, value in module.state_dict().items()}
    except Exception:
        # Not every module can be built without memory; what is wrong is said when it is built.
        return
    _check_weights(own, {k: v for k, v in saved.items() if k.startswith("module.")}, role)


def _module_params(net: Any) -> dict[str, Any]:
    """Parameters of a net's module, those at their defaults included, as far as JSON goes."""
    if isinstance(net.module, nn.Module):
        return {}
    try:
        signature = list(inspect.signature(net.module).parameters.values())
    except (TypeError, ValueError):
        signature = []
    defaults = {p.name: p.default for p in signature if p.default is not p.empty}
    params = {**defaults, **net.get_params_for("module")}
    kept = {name: _as_json(value) for name, value in params.items()}
    return {name: value for name, value in kept.items() if value is not _NO_JSON}


def _check_params(net: Any, saved: dict[str, Any], role: str) -> None:
    """Refuse a net with another dropout rate, say, which no shape tells."""
    own = _module_params(net)
    for name in sorted(own.keys() & saved.keys()):
        if own[name] != saved[name]:
            raise Refused(
                f"{role} was trained with module__{name}={saved[name]!r}, but the net of the "
                f"estimator has module__{name}={own[name]!r}. {SAME_PARAMETERS}"
            )


def _as_tuples(value: Any) -> Any:
    """Turn the lists of JSON into the tuples that shapes are."""
    if isinstance(value, dict):
        return {key: _as_tuples(item) for key, item in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _as_json(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _NO_JSON
    if isinstance(value, list | tuple):
        items = [_as_json(item) for item in value]
        return _NO_JSON if _NO_JSON in items else items
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        entries = {key: _as_json(item) for key, item in value.items()}
        return _NO_JSON if _NO_JSON in entries.values() else entries
    return _NO_JSON


def _json_rows(history: Any) -> list[dict[str, Any]] | None:
    """Rows of a history, without entries that a callback has made and JSON cannot hold."""
    if not isinstance(history, list):
        return None
    rows, dropped = [], set()
    for row in history:
        kept = {}
        for name, value in row.items():
            try:
                kept[name] = json.loads(json.dumps(value, default=_number))
            except (TypeError, ValueError):
                dropped.add(name)
        rows.append(kept)
    if dropped:
        warnings.warn(
            f"the file leaves out {sorted(map(str, dropped))} of the history, which JSON cannot "
            "hold",
            stacklevel=2,
        )
    return rows


def _number(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return value.tolist()
    raise TypeError(type(value).__name__)


def _history(rows: Any, role: str) -> History:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Refused(f"the history of {role} is no list of rows")
    history = History()
    history.extend(rows)
    return history
