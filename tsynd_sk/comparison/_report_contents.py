"""What the report shows: tables, positions of marks and lines, and images as text."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tsynd_sk.comparison._differences import SCORES, Difference, is_better_low
from tsynd_sk.comparison._summary import attack_of, score_names
from tsynd_sk.comparison._verdict import first_arm, time_ratio

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult
    from tsynd_sk.comparison._results_folder import Sample

# Classes to list.
_MAX_CLASSES = 20

_SHORT = {**SCORES, "balanced_accuracy": "Balanced accuracy"}
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


def score_label(score: str) -> tuple[str, str]:
    """Return the name of a score, and the kind of images that it is for."""
    if attack := attack_of(score):
        return "Accuracy", " ".join(attack)
    clean = score.removeprefix("perturbed_")
    return _SHORT[clean], "clean" if clean == score else "corrupted"


def shown_scores(result: ComparisonResult) -> list[str]:
    """List the scores that a report shows, the primary one first."""
    primary = result.primary
    wanted = [*(s for s in SCORES if s != "expected_calibration_error"), f"perturbed_{primary}"]
    return [name for name in score_names(result) if name in wanted or attack_of(name)]


def score_table(result: ComparisonResult) -> dict[str, Any]:
    """Return the means over runs of all arms."""
    scores, first = shown_scores(result), first_arm(result)
    rows = {
        arm: {
            "values": [result.values(arm, score).mean() for score in scores],
            "seconds": f"{np.median(result.values(arm, 'seconds')):.3g}",
            "ratio": f"{time_ratio(result, arm, first):.1f}×",
        }
        for arm in result.arms
    }
    masked = sum(bool(row.get("gradient_masking")) for row in result.rows)
    return {"columns": [score_label(s) for s in scores], "rows": rows, "n_masked": masked}


def difference_table(result: ComparisonResult) -> dict[str, Any]:
    """Return the differences of arms to their references in all scores but the primary one."""
    scores = [score for score in shown_scores(result) if score != result.primary]
    rows = list(zip(*(result.differences(score) for score in scores), strict=True))
    return {"columns": [score_label(score) for score in scores], "rows": rows}


def class_table(result: ComparisonResult) -> dict[str, Any]:
    """Return the images, and groups, of each class in the first run."""
    sides, n_classes = (result.train_rows[0], result.test_rows[0]), len(result.classes)
    counts = [np.bincount(result.codes[rows], minlength=n_classes) for rows in sides]
    groups = result.groups
    return {
        "rows": list(zip(map(str, result.classes), *counts, strict=True))[:_MAX_CLASSES],
        "n_more": max(n_classes - _MAX_CLASSES, 0),
        "total": [len(rows) for rows in sides],
        "groups": None if groups is None else [len(np.unique(groups[rows])) for rows in sides],
    }


def number(value: float, sign: str = "") -> str:
    """Return a number with three decimals and a proper minus; a dash for nan."""
    # Adding zero removes the minus of a negative zero.
    return "–" if math.isnan(value) else f"{round(value, 3) + 0.0:{sign}.3f}".replace("-", "−")


def interval(difference: Difference) -> str:
    """Return the interval of a difference, "" if there is none."""
    low, high = difference.low, difference.high
    return "" if math.isnan(low) else f"{number(low, '+')} to {number(high, '+')}"


def word(difference: Difference) -> str:
    """Return what was found."""
    if not difference.is_found:
        return ""
    return "better" if difference.is_gain else "worse"


def forest(result: ComparisonResult) -> dict[str, Any]:
    """Return differences in the primary score, with positions in percent of the width."""
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
        at = round(50 + 50 * min(max(value / reach, -1), 1), 2)
        return None if math.isnan(value) else at

    step = _step(reach)
    n = int(reach / step)
    decimals = max(-math.floor(math.log10(step)), 0)

    def tick(value: float) -> str:
        return f"{value:+.{decimals}f}".replace("-", "−") if value else "0"

    name, images = score_label(primary)
    return {
        "score": f"{name} on {images} images",
        "less_is_better": is_better_low(primary),
        "ticks": [(place(k * step), tick(k * step)) for k in range(-n, n + 1)],
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


def _step(reach: float) -> float:
    """Return a round distance between ticks, for two or three on each side."""
    size = 10.0 ** math.floor(math.log10(reach / 2))
    return next(m * size for m in (5, 2, 1) if m * size <= reach / 1.5)


def loss_curves(result: ComparisonResult) -> dict[str, Any]:
    """Return the training losses of all runs as lines of SVG, on one scale for all arms."""
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
    return {
        **{"arms": arms, "top": f"{top:.2g}", "n_epochs": n_epochs},
        **{"width": width, "height": height},
    }


def _thinned(losses: Sequence[float]) -> list[float]:
    parts = np.array_split(np.asarray(losses, dtype=float), min(len(losses), _MAX_POINTS))
    return [float(part.mean()) for part in parts]


def pictures(sample: Sample) -> dict[str, Any]:
    """Return images as text for HTML, with their measurements."""
    low, high = (float(value) for value in sample["value_range"])
    scale = (high - low) or 1.0
    source, synthetic = ((sample[name] - low) / scale for name in ("source", "synthetic"))
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
    """Convert an image with values from 0 to 1 for Pillow: in colour, or in grey."""
    image = (255 * np.clip(shares, 0, 1)).round().astype(np.uint8)
    return image if image.shape[-1] == 3 else image.mean(axis=-1).round().astype(np.uint8)


def _signed(shares: np.ndarray) -> np.ndarray:
    """Colour an image with values from -1 to 1: blue below 0, red above, transparent at 0."""
    colours = np.where(shares[..., np.newaxis] > 0, _RED, _BLUE)
    opacity = 255 * np.abs(shares)[..., np.newaxis]
    return np.concatenate([colours, opacity], axis=-1).round().astype(np.uint8)


def _png(pixels: np.ndarray) -> str:
    image, content = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    image.save(content, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
