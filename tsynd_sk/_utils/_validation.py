"""Refusals of what members cannot be made of, or cannot answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn


def check_network(
    module: Any, to_log_proba: Any, names: tuple[str, str] = ("module", "to_log_proba")
) -> None:
    """Refuse what is no network, or no head for one."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"{names[0]} must be a torch.nn.Module, got {type_name(module)}")
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"{names[0]} is a {type(module).__name__}, in which layers such as dropout cannot be "
            "found; give the module that was scripted or traced"
        )
    if not callable(to_log_proba):
        raise TypeError(
            f"{names[1]} must be callable and turn the output of the network into "
            f"log-probabilities, such as lambda logits: logits.log_softmax(-1); "
            f"got {type_name(to_log_proba)}"
        )


def type_name(value: Any) -> str:
    """Say what came in place of what was expected."""
    return f"the type {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def check_int(name: str, value: Any) -> int:
    """Give an int, whatever integer came."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an int, got {value!r}")
    return int(value)


def at_least(name: str, value: Any, low: int) -> int:
    """Give an int that is not below a bound."""
    value = check_int(name, value)
    if value < low:
        raise ValueError(f"{name} must be an int of at least {low}; got {value}")
    return value


def check_number(name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Refuse what is no finite number within bounds."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (low <= float(value) <= high and math.isfinite(value)):
        raise ValueError(f"{name} must be finite and in the range [{low}, {high}]; got {value!r}")


def check_sides(image_shape: Any) -> tuple[int, int, int]:
    """Give (n_channels, height, width) as integers."""
    sides = image_shape if isinstance(image_shape, Sequence) else ()
    valid = len(sides) == 3 and all(
        isinstance(side, Integral) and not isinstance(side, bool) and int(side) >= 1
        for side in sides
    )
    if not valid:
        raise ValueError(
            "image_shape must be three positive ints, (n_channels, height, width); got "
            f"{image_shape!r}"
        )
    return int(sides[0]), int(sides[1]), int(sides[2])


def training_data(X: Any, ndim: int, expected: str) -> Tensor:
    """Give the data that a module is sized by as floats, if they are as expected."""
    try:
        x = torch.as_tensor(X)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"X must be a Tensor, got {type_name(X)}; {expected}") from None
    if x.ndim != ndim:
        raise ValueError(f"X has shape {tuple(x.shape)}; {expected}")
    if 0 in x.shape:
        raise ValueError(f"X has shape {tuple(x.shape)}: there is nothing in it")
    x = x.float()
    if not x.isfinite().all():
        raise ValueError("X contains NaN or infinity; a network can learn from finite numbers only")
    return x


def check_list(name: str, values: Any, what: str) -> list[Any]:
    """Give a list that is not empty."""
    # A network may be iterable: torch.nn.Sequential gives its layers.
    if isinstance(values, nn.Module) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of {what}, got {type_name(values)}; give a list")
    values = list(values)
    if not values:
        raise ValueError(f"{name} is empty; give at least one of {what}")
    return values


def check_images(x: Any) -> None:
    """Refuse images that are no tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"x must be a Tensor, got {type_name(x)}; torch.from_numpy makes one of arrays"
        )


def check_predictions(log_probs: Any) -> None:
    """Refuse what are no predictions of members."""
    if not isinstance(log_probs, Tensor):
        raise TypeError(
            f"log_probs must be a Tensor, got {type_name(log_probs)}; torch.from_numpy makes one "
            "of arrays"
        )
    shape = log_probs.shape
    if len(shape) != 3 or not log_probs.is_floating_point() or 0 in (shape[0], shape[2]):
        raise ValueError(
            "log_probs must be log-probabilities of shape (n_members, n_samples, n_classes); got "
            f"shape {tuple(shape)} and dtype {log_probs.dtype}"
        )


def check_log_probs(log_probs: Tensor, x: Tensor) -> Tensor:
    """Refuse what a head should not have given."""
    if log_probs.ndim != 3 or log_probs.shape[1] != len(x):
        raise ValueError(
            f"to_log_proba must give log-probabilities of shape (n_samples, n_classes), here "
            f"({len(x)}, n_classes), got {tuple(log_probs.shape[1:])}"
        )
    return log_probs


def check_agreement(parts: Sequence[Tensor], whose: str) -> None:
    """Refuse predictions of different classes."""
    shapes = [tuple(part.shape[-2:]) for part in parts]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"{whose} must give log-probabilities of the same classes, but their shapes "
            f"(n_samples, n_classes) are {shapes}"
        )


def refuse_metadata(estimator: Any, metadata: dict) -> None:
    """Refuse what scikit-learn's estimators may be given beside images and labels.

    Raises
    ------
    TypeError
        If there is any.
    """
    if not metadata:
        return
    name, given = type(estimator).__name__, ", ".join(metadata)
    raise TypeError(
        f"{name}.fit takes no {given}: the losses of skorch's nets know no weights of rows. To "
        "weigh classes, give the net criterion__weight; to weigh rows, give it, as "
        "iterator_train__sampler, a torch.utils.data.WeightedRandomSampler, whose rule synthetic "
        "rows follow."
    )
