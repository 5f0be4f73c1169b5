"""The report of a comparison: one HTML file that shows everything."""

from __future__ import annotations

import base64
import io
import math
import platform
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from tsynd_sk import __version__
from tsynd_sk._utils._files import write_atomically
from tsynd_sk._utils._versions import installed
from tsynd_sk.comparison._arms import Arm
from tsynd_sk.comparison._runs import SCORES, is_better_low
from tsynd_sk.comparison._summary import (
    attack_of,
    doubts,
    findings,
    first_arm,
    score_names,
    time_ratio,
)

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult, Difference
    from tsynd_sk.comparison._results_folder import Sample

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

# Intervals of two or three runs can be so wide that they hide all else.
_WIDEST = 12.0
# Points of a curve; more cannot be seen.
_MAX_POINTS = 200
_CURVE = 260.0, 110.0
# Longest side of images in pixels, so that a report can be mailed.
_MAX_SIDE = 192
# Images smaller than this are shown with square pixels.
_FEW_PIXELS = 96
_RED, _BLUE = (178, 34, 34), (31, 92, 168)


@dataclass(frozen=True)
class About:
    """What a report says besides the result.

    `title` names the data set, `image_shape` is (C, H, W); `notes` tell how images were read and
    split, each as "what: how"; `repeat` is the command or call.
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
    environment = Environment(
        loader=PackageLoader("tsynd_sk.comparison", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "name": _name, "number": number, "word": word}
    environment.filters["words"] = partial(words_of, flip=result.options.get("flip", True))
    today, packages = date.today(), ("torch", "scikit-learn", "skorch", "numpy")
    wanted = {*SCORES, f"perturbed_{result.primary}"} - {"expected_calibration_error"}
    # The first is the primary one.
    scores = [score for score in score_names(result) if score in wanted or attack_of(score)]
    first, n_classes = first_arm(result), len(result.classes)
    sides = result.train_rows[0], result.test_rows[0]
    counts = [np.bincount(result.codes[rows], minlength=n_classes) for rows in sides]
    groups = [] if result.groups is None else [np.unique(result.groups[rows]) for rows in sides]
    return environment.get_template("report.html").render(
        result=result,
        about=about,
        # `%-d` is not known everywhere.
        date=f"{today.day} {today:%B %Y}",
        findings=findings(result),
        doubts=list(doubts(result)),
        facts=_facts(result, about),
        first=first,
        forest=forest(result),
        scores=scores,
        labels=[score_label(score) for score in scores],
        times={
            arm: (time_ratio(result, arm, first), np.median(result.values(arm, "seconds")))
            for arm in result.arms
        },
        differences=list(zip(*map(result.differences, scores[1:]), strict=True)),
        classes=list(zip(result.classes.tolist(), *counts, strict=True)),
        groups=groups,
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
    return Markup("+<wbr>").join(name.split("+"))


def number(value: float, sign: str = "") -> str:
    """Return a number with a proper minus; a dash for nan."""
    # Adding zero removes the minus of a negative zero.
    return "–" if math.isnan(value) else f"{round(value, 3) + 0.0:{sign}.3f}".replace("-", "−")


def word(difference: Difference) -> str:
    if not difference.is_found:
        return ""
    return "better" if difference.is_gain else "worse"


def words_of(arm: Arm, *, flip: bool = True) -> str:
    augmentation = arm.augmentation
    if callable(augmentation):
        name = getattr(augmentation, "__qualname__", type(augmentation).__qualname__)
        words = f"your augmentation {name}"
    else:
        words = _AUGMENTATIONS[augmentation]
    if augmentation == "standard" and not flip:
        words = words.removeprefix("flips, ")
    changed = arm.synthesizer, arm.classifier, arm.net, arm.autoencoder
    text = "; ".join(
        [
            words,
            *([_OBJECTIVES[arm.objective]] if arm.objective else []),
            *(f"{name} {value}" for part in changed for name, value in part.items()),
        ]
    )
    return text[0].upper() + text[1:]


def score_label(score: str) -> tuple[str, str]:
    if attack := attack_of(score):
        return "Accuracy", " ".join(attack)
    clean = score.removeprefix("perturbed_")
    name = SCORES[clean]
    return name[0].upper() + name[1:], "clean" if clean == score else "corrupted"


def _facts(result: ComparisonResult, about: About) -> dict[str, str]:
    seconds = sum(result.values(arm, "seconds").sum() for arm in result.arms)
    n_channels, height, width = about.image_shape
    colours = {1: "grey", 3: "colour"}.get(n_channels, f"{n_channels} channels")
    return {
        "Training images": _range(result.train_rows),
        "Test images": _range(result.test_rows),
        "Images": f"{width} × {height} px, {colours}",
        "Classes": str(len(result.classes)),
        "Runs": f"{result.n_runs} × {len(result.arms)} arms",
        "Processor time": f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s",
    }


def _range(parts: Sequence[np.ndarray]) -> str:
    ends = {min(map(len, parts)): None, max(map(len, parts)): None}
    return " to ".join(f"{n:,}" for n in ends)


def _training(result: ComparisonResult) -> dict[str, Any]:
    net, row = result.base, result.rows[0]
    told = {
        "Network": None if net is None else network_text(net),
        "Epochs": f"{row['epochs']}, {row['steps']} steps" if "epochs" in row else None,
        "Batch size": getattr(net, "batch_size", None),
        "Learning rate": getattr(net, "lr", None),
        "Device": getattr(net, "device", None),
    }
    return {name: value for name, value in told.items() if value is not None}


def network_text(net: Any) -> str:
    module = getattr(net, "module", net)
    name = getattr(module, "__name__", type(module).__name__)
    given = [
        f"{key.removeprefix('module__')} {value}"
        for key, value in vars(net).items()
        if key.startswith("module__") and isinstance(value, str | int | float | Path)
    ]
    return ", ".join([name, *given])


def forest(result: ComparisonResult) -> dict[str, Any]:
    """Return differences in the primary score, with places in percent of the width."""
    first, primary = first_arm(result), result.primary
    found: list[Difference] = []
    for each in result.differences():
        found.append(each)
        if each.reference != first:
            found.append(result.difference(each.arm, first, primary))
    known = [d for d in found if not math.isnan(d.mean)]
    ends = [abs(v) for d in known for v in (d.mean, d.low, d.high) if not math.isnan(v)]
    widest = max([_WIDEST * abs(d.mean) for d in known] + [0.006])
    reach = min(max([*ends, 0.003]), widest) * 1.08

    def place(value: float) -> float | None:
        at = 50 + 50 * min(max(value / reach, -1), 1)
        return None if math.isnan(value) else round(at, 2)

    # A round step, for two or three ticks on each side.
    size = 10.0 ** math.floor(math.log10(reach / 2))
    step = next(m * size for m in (5, 2, 1) if m * size <= reach / 1.5)
    decimals = max(-math.floor(math.log10(step)), 0)
    n = int(reach / step)
    marks = {k * step: f"{k * step:+.{decimals}f}".replace("-", "−") for k in range(-n, n + 1)}
    name, images = score_label(primary)
    return {
        "score": f"{name} on {images} images",
        "less_is_better": is_better_low(primary),
        "ticks": [(place(at), text if at else "0") for at, text in marks.items()],
        "lines": [
            {
                "difference": d,
                "is_tested": d.reference == result.references[d.arm],
                "dot": place(d.mean),
                "low": place(d.low),
                "high": place(d.high),
            }
            for d in found
        ],
    }


def loss_curves(result: ComparisonResult) -> dict[str, Any]:
    """Return the losses of all runs as lines of SVG, on one scale."""
    known = {pair: _thinned(losses) for pair, losses in result.losses.items()}
    finite = [v for losses in known.values() for v in losses if math.isfinite(v)]
    if not finite:
        return {}
    width, height = _CURVE
    top = max(finite) or 1.0

    def line(losses: Sequence[float]) -> str:
        n = max(len(losses) - 1, 1)
        return " ".join(
            f"{width * k / n:.1f},{height * (1 - loss / top):.1f}"
            for k, loss in enumerate(losses)
            if math.isfinite(loss)
        )

    arms = {}
    for arm in result.arms:
        if curves := [known[run, arm] for run in range(result.n_runs) if (run, arm) in known]:
            arms[arm] = {
                "lines": [line(losses) for losses in curves],
                "last": f"{np.mean([losses[-1] for losses in curves]):.2g}",
                "converged": int(result.values(arm, "converged").sum()),
            }
    n_epochs = max(map(len, result.losses.values()))
    return {"arms": arms, "top": f"{top:.2g}", "n_epochs": n_epochs, "size": _CURVE}


def _thinned(losses: Sequence[float]) -> list[float]:
    parts = np.array_split(np.asarray(losses, dtype=float), min(len(losses), _MAX_POINTS))
    return [float(part.mean()) for part in parts]


def pictures(sample: Sample) -> dict[str, Any]:
    low, high = (float(value) for value in sample["value_range"])
    source, synthetic = (
        (sample[name] - low) / ((high - low) or 1.0) for name in ("source", "synthetic")
    )
    if source.ndim == 3:
        source, synthetic = source[..., np.newaxis], synthetic[..., np.newaxis]
    difference = (synthetic - source).mean(axis=-1)
    bound = float(np.abs(difference).max())
    columns = [
        {
            "label": str(sample["labels"][k]),
            "source": _png(_bytes(source[k])),
            "synthetic": _png(_bytes(synthetic[k])),
            "difference": _png(_signed(difference[k] / (bound or 1.0))),
            "before": f"{sample['uncertainty_source'][k]:.3f}",
            "after": f"{sample['uncertainty'][k]:.3f}",
            "agreed": bool(sample["label_agreement"][k]),
        }
        for k in range(len(source))
    ]
    return {
        "columns": columns,
        "bound": f"{100 * bound:.0f}" if bound >= 0.1 else f"{100 * bound:.2g}",
        "pixelated": max(source.shape[1:3]) < _FEW_PIXELS,
    }


def _bytes(shares: np.ndarray) -> np.ndarray:
    """Convert values from 0 to 1 for Pillow, in colour or in grey."""
    image = (255 * np.clip(shares, 0, 1)).round().astype(np.uint8)
    return image if image.shape[-1] == 3 else image.mean(axis=-1).round().astype(np.uint8)


def _signed(shares: np.ndarray) -> np.ndarray:
    """Colour values from -1 to 1: blue below 0, red above, transparent at 0."""
    colours = np.where(shares[..., np.newaxis] > 0, _RED, _BLUE)
    opacity = 255 * np.abs(shares)[..., np.newaxis]
    return np.concatenate([colours, opacity], axis=-1).round().astype(np.uint8)


def _png(pixels: np.ndarray) -> str:
    image, content = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    image.save(content, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
