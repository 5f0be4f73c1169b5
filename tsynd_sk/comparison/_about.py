"""What a report says besides the result: the images, their splits, and how to repeat it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsynd_sk.comparison._arms import Arm

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult


@dataclass(frozen=True)
class About:
    """What a report says besides the result.

    Attributes
    ----------
    title : str
        Name of the data set.
    image_shape : tuple of int
        Channels, height and width of the images.
    notes : sequence of str
        How they were read and split, each as "what: how".
    repeat : str
        Command or call that repeats the comparison.
    """

    title: str
    image_shape: tuple[int, int, int]
    notes: Sequence[str]
    repeat: str

    @property
    def images(self) -> str:
        """Size and kind of the images."""
        n_channels, height, width = self.image_shape
        colours = {1: "grey", 3: "colour"}.get(n_channels, f"{n_channels} channels")
        return f"{width} × {height} px, {colours}"


def division_text(result: ComparisonResult, cv: Any) -> str:
    """Say what runs were scored on."""
    if cv is None:
        groups = "groups and " if result.groups is not None else ""
        return (
            f"scored on: a quarter that each run holds out by class, {groups}images of equal "
            "pixels on one side"
        )
    if result.has_one_test_split:
        return f"scored on: the same {len(result.test_rows[0])} images in all runs"
    return f"scored on: parts that cv={_shown(cv) or 'your own'} holds out"


def call_text(function: Callable, given: Mapping[str, Any]) -> str:
    """Write a call with the arguments that differ from the defaults.

    Parameters
    ----------
    function : callable
        What was called.
    given : dict
        Its arguments by name. For arrays and networks only the name is written.
    """
    parts = []
    for name, parameter in inspect.signature(function).parameters.items():
        value, default = given[name], parameter.default
        if default is parameter.empty:
            parts.append(name)
        elif not (isinstance(value, type(default)) and np.array_equal(value, default)):
            parts.append(f"{name}={_shown(value) or name}")
    return f"{function.__name__}({', '.join(parts)})"


def _shown(value: Any) -> str:
    """Return a value as code; "" for arrays and anything long."""
    if isinstance(value, Arm):
        parts = (f"{name}={_shown(each)}" for name, each in value.definition().items())
        return f"Arm({', '.join(parts)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Path):
        return repr(str(value))
    is_short = not isinstance(value, np.ndarray) and " at 0x" not in (text := repr(value))
    return text if is_short and len(text) <= 200 else ""
