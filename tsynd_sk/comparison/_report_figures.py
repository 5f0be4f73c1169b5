"""Figures of the report: positions of marks and lines, and images as text."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tsynd_sk.comparison._differences import Difference, is_better_low
from tsynd_sk.comparison._report_tables import interval, number, score_label, word
from tsynd_sk.comparison._verdict import first_arm

if TYPE_CHECKING:
    from tsynd_sk.comparison._picture import Sample
    from tsynd_sk.comparison._result import ComparisonResult

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


def forest(result: ComparisonResult) -> dict[str, Any]:
    """Return differences in the primary score, with positions in percent of the width."""
    first, n_arms = first_arm(result), len(result.arms)
    lines: list[tuple[Difference, str]] = []
    for each in result.differences():
        kind = "twin" if result.arms[each.arm].objective else "plain"
        lines.append((each, kind))
        if each.reference != first:
            lines.append((result.difference(each.arm, first, result.primary), "plain"))
    shown = [each for each, _ in lines if not math.isnan(each.mean)]
    ends = [abs(v) for d in shown for v in (d.mean, d.low, d.high) if not math.isnan(v)]
    widest = max([_WIDEST * abs(d.mean) for d in shown] + [0.006])
    reach = min(max([*ends, 0.003]), widest) * 1.08

    def place(value: float) -> float:
        return round(50 + 50 * min(max(value / reach, -1), 1), 2)

    step = _step(reach)
    n = int(reach / step)
    ticks = [k * step for k in range(-n, n + 1)]
    decimals = max(-math.floor(math.log10(step)), 0)
    name, images = score_label(result.primary)
    return {
        "score": f"{name} on {images} images",
        "less_is_better": is_better_low(result.primary),
        "ticks": [
            (place(tick), f"{tick:+.{decimals}f}".replace("-", "−") if tick else "0")
            for tick in ticks
        ],
        "n_arms": n_arms,
        "lines": [
            {
                "arm": each.arm,
                "reference": each.reference,
                "kind": kind,
                "mean": number(each.mean, "+"),
                "interval": interval(each),
                "word": word(each),
                "tested": each.reference == result.references[each.arm],
                "dot": None if math.isnan(each.mean) else place(each.mean),
                "low": None if math.isnan(each.low) else place(each.low),
                "high": None if math.isnan(each.high) else place(each.high),
                "cut": each.low < -reach or each.high > reach,
            }
            for each, kind in lines
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
    n_epochs = max(map(len, result.losses.values()))

    def line(losses: Sequence[float]) -> str:
        n = max(len(losses) - 1, 1)
        points = [
            f"{width * k / n:.1f},{height * (1 - loss / top):.1f}"
            for k, loss in enumerate(losses)
            if math.isfinite(loss)
        ]
        return " ".join(points)

    arms = {}
    for arm in result.arms:
        curves = [known[run, arm] for run in range(result.n_runs) if (run, arm) in known]
        if curves:
            last = [losses[-1] for losses in curves]
            arms[arm] = {
                "lines": [line(losses) for losses in curves],
                "last": f"{np.mean(last):.2g}",
                "converged": int(result.values(arm, "converged").sum()),
            }
    size = {"width": width, "height": height}
    return {"arms": arms, "top": f"{top:.2g}", "n_epochs": n_epochs, **size}


def _thinned(losses: Sequence[float]) -> list[float]:
    parts = np.array_split(np.asarray(losses, dtype=float), min(len(losses), _MAX_POINTS))
    return [float(part.mean()) for part in parts]


def pictures(sample: Sample) -> dict[str, Any]:
    """Return images as text for HTML, with their measurements."""
    source, synthetic = (_with_channels(sample[name]) for name in ("source", "synthetic"))
    low, high = (float(value) for value in sample["value_range"])
    scale = (high - low) or 1.0
    difference = (synthetic.astype(float) - source).mean(axis=-1) / scale
    bound = float(np.abs(difference).max())
    columns = [
        {
            "label": str(label),
            "source": _png(_bytes((before - low) / scale)),
            "synthetic": _png(_bytes((after - low) / scale)),
            "difference": _png(_signed(change / (bound or 1.0))),
            "before": f"{mi_before:.3f}",
            "after": f"{mi_after:.3f}",
            "agreed": bool(agreed),
        }
        for before, after, change, label, mi_before, mi_after, agreed in zip(
            source,
            synthetic,
            difference,
            *(sample[name] for name in ("labels", "uncertainty_source", "uncertainty")),
            sample["label_agreement"],
            strict=True,
        )
    ]
    return {
        "columns": columns,
        "bound": f"{100 * bound:.0f}" if bound >= 0.1 else f"{100 * bound:.2g}",
        "pixelated": max(source.shape[1:3]) < _FEW_PIXELS,
    }


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images[..., np.newaxis] if images.ndim == 3 else images


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
