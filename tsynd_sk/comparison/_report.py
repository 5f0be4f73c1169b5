"""The report of a comparison: one HTML file that shows everything."""

from __future__ import annotations

import inspect
import platform
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tsynd_sk import __version__
from tsynd_sk._utils._files import write_atomically
from tsynd_sk._utils._versions import installed
from tsynd_sk.comparison._arms import Arm
from tsynd_sk.comparison._report_contents import (
    class_table,
    difference_table,
    forest,
    interval,
    loss_curves,
    number,
    pictures,
    score_table,
    word,
)
from tsynd_sk.comparison._verdict import doubts, findings, first_arm

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult

_AUGMENTATIONS = {
    None: "images as they are",
    "standard": "flips, turns, scales and shifts",
    "mixup": "mixtures of two images and of their labels",
    "trivial_augment": "one of fourteen operations an image, at random",
    "smote": "further images between neighbours of a class",
    "adversarial": "attacked images",
}

_OBJECTIVES = {
    "duplicate": "copies in place of synthetic images",
    "reconstruction": "decoded copies in place of synthetic images",
    "random": "synthetic images, displaced at random",
    "entropy": "synthetic images whose prediction is uncertain",
    "mutual_info": "synthetic images about which versions of the network disagree",
}


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


def write_report(path: Path, result: ComparisonResult, about: About) -> bool:
    """Replace an HTML file by a report; return whether it could be written.

    If not, a warning says why, so that the result is not lost.
    """
    try:
        content = render(result, about).encode()
        write_atomically(path, lambda file: file.write(content))
    except Exception as error:
        warnings.warn(f"no report could be written: {error}", stacklevel=2)
        return False
    return True


def render(result: ComparisonResult, about: About) -> str:
    """Return the page of a result."""
    environment = Environment(
        loader=PackageLoader("tsynd_sk.comparison", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "name": _name}
    environment.filters |= {"number": number, "interval": interval, "word": word}
    best = result.recommended
    today = date.today()
    packages = ("torch", "scikit-learn", "skorch", "numpy")
    found = {each.arm for each in result.differences() if each.is_found}
    return environment.get_template("report.html").render(
        about=about,
        # `%-d` is not known everywhere.
        date=f"{today.day} {today:%B %Y}",
        findings=list(findings(result)),
        doubts=list(doubts(result)),
        recommended=best,
        is_better=best is not None and best in found,
        facts=_facts(result, about),
        arms={
            name: {
                "words": words_of(arm, flip=bool(result.options.get("flip", True))),
                "converged": bool(result.values(name, "converged").all()),
                "synthesises": arm.objective is not None,
            }
            for name, arm in result.arms.items()
        },
        first=first_arm(result),
        n_runs=result.n_runs,
        forest=forest(result),
        scores=score_table(result),
        differences=difference_table(result),
        classes=class_table(result),
        training=_training(result),
        curves=loss_curves(result),
        samples={arm: pictures(sample) for arm, sample in result.samples.items()},
        versions={
            "tsynd_sk": __version__,
            **{name: installed(name) for name in packages},
            "Python": platform.python_version(),
            "System": platform.platform(terse=True),
        },
    )


def _prose(sentence: str) -> Markup:
    """Mark names in backticks as code, write minus signs, and keep intervals on one line."""
    text = re.sub(r"(?<!\w)-(?=\d)", "−", str(escape(sentence)))
    text = re.sub(r"[+−][\d.]+ \[.+?\]", r'<span class="whole">\g<0></span>', text)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", text))


def _name(name: str) -> Markup:
    """Allow lines to break within the name of an arm."""
    return Markup("+<wbr>").join(escape(part) for part in name.split("+"))


def _facts(result: ComparisonResult, about: About) -> dict[str, str]:
    """Return the size of a comparison, by name."""
    seconds = sum(result.values(arm, "seconds").sum() for arm in result.arms)
    n_channels, height, width = about.image_shape
    colours = {1: "grey", 3: "colour"}.get(n_channels, f"{n_channels} channels")
    return {
        "Training images": _range([len(rows) for rows in result.train_rows]),
        "Test images": _range([len(rows) for rows in result.test_rows]),
        "Images": f"{width} × {height} px, {colours}",
        "Classes": str(len(result.classes)),
        "Runs": f"{result.n_runs} × {len(result.arms)} arms",
        "Processor time": f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s",
    }


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _training(result: ComparisonResult) -> dict[str, str]:
    """Describe the network and its training, by name."""
    net, row = result.base, result.rows[0]
    told = {"Network": network_text(net)} if net is not None else {}
    if "epochs" in row:
        told["Epochs"] = f"{row['epochs']}, {row['steps']} steps"
    for name, what in (("batch_size", "Batch size"), ("lr", "Learning rate"), ("device", "Device")):
        if (value := getattr(net, name, None)) is not None:
            told[what] = str(value)
    return told


def network_text(net: Any) -> str:
    """Return the module of a net, and what it was given."""
    module = getattr(net, "module", net)
    name = getattr(module, "__name__", type(module).__name__)
    given = {
        key.removeprefix("module__"): value
        for key, value in vars(net).items()
        if key.startswith("module__") and isinstance(value, str | int | float | Path)
    }
    return ", ".join([name, *(f"{key} {value}" for key, value in given.items())])


def division_text(result: ComparisonResult, cv: Any) -> str:
    """Say what runs were scored on."""
    if cv is None:
        groups = "groups and " if result.groups is not None else ""
        return (
            "scored on: a quarter drawn anew for each run, stratified by class, "
            f"with {groups}images of equal pixels kept together"
        )
    if result.has_one_test_split:
        return f"scored on: the same {len(result.test_rows[0])} images in all runs"
    return f"scored on: parts that cv={_shown(cv) or 'your own'} holds out"


def call_text(function: Callable, given: Mapping[str, Any]) -> str:
    """Write a call with the arguments that differ from the defaults; arrays by their name."""
    parts = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty:
            parts.append(name)
        elif repr(given[name]) != repr(parameter.default):
            parts.append(f"{name}={_shown(given[name]) or name}")
    return f"{function.__name__}({', '.join(parts)})"


def _shown(value: Any) -> str:
    """Return a value as code; "" for arrays and anything long."""
    if isinstance(value, Arm):
        parts = (f"{name}={_shown(each)}" for name, each in value.definition().items())
        return f"Arm({', '.join(parts)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_shown(each)}" for key, each in value.items()) + "}"
    text = repr(str(value) if isinstance(value, Path) else value)
    is_code = not isinstance(value, np.ndarray) and " at 0x" not in text
    return text if is_code and len(text) <= 200 else ""


def words_of(arm: Arm, *, flip: bool = True) -> str:
    """Describe an arm in a line; parameters that differ from the defaults come last."""
    augmentation = arm.augmentation
    if callable(augmentation):
        name = getattr(augmentation, "__qualname__", type(augmentation).__qualname__)
        words = f"your augmentation {name}"
    else:
        words = _AUGMENTATIONS[augmentation]
    if augmentation == "standard" and not flip:
        words = words.removeprefix("flips, ")
    parts = [words, *([_OBJECTIVES[arm.objective]] if arm.objective else [])]
    changed = [
        f"{name} {value}"
        for part in (arm.synthesizer, arm.classifier, arm.net, arm.autoencoder)
        for name, value in part.items()
    ]
    text = "; ".join([*parts, *changed])
    return text[0].upper() + text[1:]
