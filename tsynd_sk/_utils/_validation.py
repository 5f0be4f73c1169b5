"""Checks of arguments."""

from __future__ import annotations

import math
from inspect import signature
from numbers import Integral, Real
from typing import Any


def type_name(value: Any) -> str:
    """Return what to call a value of the wrong type in a message."""
    return f"the type {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def check_int_at_least(name: str, value: Any, low: int) -> int:
    """Return an integer that is not below a bound as an int."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be an int of at least {low}; got {value}")
    return int(value)


def check_number(name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raise if a value is no finite number within bounds."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (low <= float(value) <= high and math.isfinite(value)):
        raise ValueError(f"{name} must be finite and in the range [{low}, {high}]; got {value!r}")


def refuse_metadata(estimator: Any, metadata: dict) -> None:
    """Raise if fit is called with more than images and labels, as wrappers may with None."""
    for name, value in metadata.items():
        if value is None:
            continue
        refused = f"{type(estimator).__name__}.fit takes no {name}"
        if name == "groups":
            raise TypeError(
                f"{refused}: pass them to cross_validate or GridSearchCV with cv=GroupKFold(), or "
                "split by them, and pass what is held out as X_val and y_val"
            )
        if name == "sample_weight":
            raise TypeError(
                f"{refused}: to weigh classes, set criterion__weight of the net; to weigh rows, "
                "its iterator_train__sampler to a torch.utils.data.WeightedRandomSampler"
            )
        params = signature(estimator.fit).parameters.values()
        known = [param.name for param in params if param.kind != param.VAR_KEYWORD]
        raise TypeError(
            f"{refused}, only {', '.join(known)}: set max_epochs, lr and the like as parameters of "
            "the net"
        )
