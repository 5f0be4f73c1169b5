"""Figures of the MedMNIST benchmark."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from medmnist_statistics import Estimate, Results
from medmnist_tables import METRICS, Family, Pair, Place, Ranking
from PIL import Image

# The width of a page of the documentation, in inches, and twice its pixels, for fine screens.
WIDTH, DPI = 7.5, 170

# Few colours are all there are; a palette makes files a third as large.
N_COLOURS = 256

# Colours that all kinds of colour vision tell apart (Okabe and Ito); markers tell as well.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#777777"

# Filled markers stand for standard augmentation, those of another filling for TrivialAugment.
FACES = {"standard": None, "trivial_augment": "#FFE3A6"}

# Arms by what they add to these.
LOOKS = {
    "": (BLACK, "D"),
    "random": (BLUE, "^"),
    "entropy": (GREEN, "s"),
    "mutual_info": (RED, "o"),
    "reconstruction": (PURPLE, "v"),
    "duplicate": (PURPLE, "v"),
    "mixup": (SKY, "P"),
    "trivial_augment": (ORANGE, "X"),
    "smote": (GREY, "<"),
    "adversarial": (GREY, "*"),
}

# Data sets, or other things of which there may be any number.
SERIES = [(BLUE, "^"), (ORANGE, "s"), (GREEN, "D"), (PURPLE, "v"), (SKY, "P"), (GREY, "X")]

plt.rcParams.update({"font.size": 8, "axes.titlesize": 8, "legend.fontsize": 8})


def look(arm: str) -> dict[str, Any]:
    """Give the marker of an arm."""
    augmentation, _, added = arm.rpartition("+")
    if arm == "standard":
        augmentation, added = arm, ""
    colour, marker = LOOKS.get("" if arm == "plain" else added, (GREY, "h"))
    face = FACES.get(augmentation, "white") or colour
    return {"color": colour, "marker": marker, "markerfacecolor": face, "markeredgecolor": colour}


def of_series(i: int) -> dict[str, Any]:
    """Give the marker of the i-th of several things."""
    colour, marker = SERIES[i % len(SERIES)]
    return {"color": colour, "marker": marker, "linestyle": "none", "markersize": 4}


def save(figure: Any, path: Path) -> None:
    """Write a picture of few colours, the same bytes for the same numbers."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png")
    plt.close(figure)
    image = Image.open(buffer).convert("RGB")
    image.quantize(N_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def axis_label(metric: str) -> str:
    return f"difference of\n{METRICS[metric]}"


def _new(n_panels: int, height: float, width: float = WIDTH) -> tuple[Any, Any]:
    figure = plt.figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, n_panels, sharey=True, squeeze=False)[0]
    return figure, axes


def _limits(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Choose limits for means and usual intervals: those of two seeds may span everything."""
    widths = [e.high - e.low for e in estimates if not math.isnan(e.low)]
    usual = 1.5 * float(np.median(widths)) if widths else 0.0
    lows = [max(e.low, e.mean - usual) if not math.isnan(e.low) else e.mean for e in estimates]
    highs = [min(e.high, e.mean + usual) if not math.isnan(e.low) else e.mean for e in estimates]
    low, high = min(0, *lows, 0), max(0, *highs, 0)
    margin = 0.05 * (high - low) or 0.01
    return low - margin, high + margin


def _interval(ax: Any, estimate: Estimate, y: float, limits: tuple[float, float], **style) -> None:
    """Draw a mean and its interval; arrows tell that it goes on beyond the panel."""
    if not math.isnan(estimate.low):
        # Heads of arrows stay clear of the labels beside the panel.
        inset = 0.02 * (limits[1] - limits[0])
        ends = np.clip((estimate.low, estimate.high), limits[0] + inset, limits[1] - inset)
        ax.plot(ends, [y, y], color=style["color"], linewidth=1.3, solid_capstyle="butt")
        for end, inside, marker in zip(ends, (estimate.low, estimate.high), "<>", strict=True):
            if end != inside:
                ax.plot(end, y, marker=marker, color=style["color"], markersize=4)
    ax.plot(estimate.mean, y, linestyle="none", **{"markersize": 5, **style})


def _finish(ax: Any, metric: str, limits: tuple[float, float]) -> None:
    ax.axvline(0, color=BLACK, linewidth=0.8, zorder=0)
    ax.set_xlim(limits)
    ax.set_xlabel(axis_label(metric))
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.grid(axis="x", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)


def _legend(figure: Any, handles: list[Any], ncols: int = 4) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, frameon=False)


def _handle(label: str, **style: Any) -> Line2D:
    return Line2D([], [], label=label, **{"markersize": 5, "linestyle": "none", **style})


def forest(path: Path, family: Family) -> None:
    """Draw differences in each place, a row for each place and a marker for each pair of arms."""
    places = [place for place in family.places if any(k[2] == place.key for k in family.estimates)]
    n = len(family.pairs)
    step = 0.8 / n
    figure, axes = _new(len(family.metrics), 1.1 + len(places) * (0.14 + 0.09 * n))
    for ax, metric in zip(axes, family.metrics, strict=True):
        found = [estimate for key, estimate in family.estimates.items() if key[1] == metric]
        limits = _limits(found)
        for row, place in enumerate(places):
            if len(place.cells) > 1:
                ax.axhspan(row - 0.5, row + 0.5, color="0.94", zorder=-2)
            for i, pair in enumerate(family.pairs):
                estimate = family.get(pair, metric, place.key)
                if estimate is not None:
                    y = row + (i - (n - 1) / 2) * step
                    _interval(ax, estimate, y, limits, **look(pair.arm))
            if row and place.cells[0][0] != places[row - 1].cells[0][0]:
                ax.axhline(row - 0.5, color="0.8", linewidth=0.6, zorder=-1)
        _finish(ax, metric, limits)
        ax.set_ylim(len(places) - 0.5, -0.5)
    axes[0].set_yticks(range(len(places)), [place.title for place in places])
    axes[0].set_ylabel("data set, number of labels")
    _legend(figure, [_handle(pair.title, **look(pair.arm)) for pair in family.pairs], ncols=2)
    save(figure, path)


class Line(NamedTuple):
    """A row of `overview`: a difference in mean, and in each group of cells."""

    label: str
    mean: dict[str, Estimate | None]
    groups: dict[str, dict[str, Estimate | None]]
    is_reference: bool = False


def lines_of(family: Family, mean: Place, groups: Sequence[Place]) -> list[Line]:
    """Make a line for each pair of arms."""

    def at(pair: Pair, place: Place) -> dict[str, Estimate | None]:
        return {metric: family.get(pair, metric, place.key) for metric in family.metrics}

    return [
        Line(pair.arm, at(pair, mean), {group.title: at(pair, group) for group in groups})
        for pair in family.pairs
    ]


def overview(
    path: Path, lines: Sequence[Line], metrics: Sequence[str], title: str, mean_label: str
) -> None:
    """Draw a row for each line: the mean with its interval, and points for groups of cells."""
    names = list(dict.fromkeys(name for line in lines for name in line.groups))
    # Each group has a height of its own, so that no point hides another.
    step = 0.6 / max(len(names), 1)
    figure, axes = _new(len(metrics), 1.35 + len(lines) * (0.17 + 0.075 * len(names)))
    figure.suptitle(title, fontsize=8)
    for ax, metric in zip(axes, metrics, strict=True):
        means = [line.mean.get(metric) for line in lines]
        points = [group.get(metric) for line in lines for group in line.groups.values()]
        centres = [e._replace(low=math.nan, high=math.nan) for e in points if e is not None]
        limits = _limits([*(e for e in means if e is not None), *centres])
        for y, (line, mean) in enumerate(zip(lines, means, strict=True)):
            for i, name in enumerate(names):
                group = line.groups.get(name, {}).get(metric)
                if group is not None:
                    ax.plot(group.mean, y - 0.12 + (i + 0.5) * step, **of_series(i))
            if line.is_reference:
                ax.plot(0, y, marker="|", color=BLACK, markersize=10, markeredgewidth=2)
            elif mean is not None:
                _interval(ax, mean, y - 0.3, limits, color=BLACK, marker="o", markersize=4.5)
        _finish(ax, metric, limits)
        ax.set_ylim(len(lines) - 0.5, -0.5)
        for y in range(1, len(lines)):
            ax.axhline(y - 0.5, color="0.9", linewidth=0.6, zorder=-1)
    axes[0].set_yticks(range(len(lines)), [line.label for line in lines])
    handles = [Line2D([], [], marker="o", color=BLACK, markersize=4.5, label=mean_label)]
    handles += [_handle(name, **of_series(i)) for i, name in enumerate(names)]
    if any(line.is_reference for line in lines):
        bar = {"marker": "|", "color": BLACK, "markersize": 9, "markeredgewidth": 2}
        handles.append(_handle("the base arm", **bar))
    _legend(figure, handles, ncols=3)
    save(figure, path)


def heat_map(path: Path, ranked: Ranking) -> None:
    """Draw ranks in each cell, in mean over the metrics, and mean ranks in each metric."""
    order = ranked.order()
    in_cells = np.mean(list(ranked.ranks.values()), axis=0)[order]
    in_metrics = np.column_stack([*(ranked.mean(m) for m in ranked.ranks), ranked.mean()])[order]
    names = [f"{dataset}, {size}" for dataset, size in ranked.cells]
    metrics = [*(METRICS[metric] for metric in ranked.ranks), "mean"]
    figure = plt.figure(figsize=(WIDTH, 1.9 + 0.24 * len(order)), layout="constrained")
    widths = [len(names), len(metrics)]
    axes = figure.subplots(1, 2, sharey=True, width_ratios=widths)
    titles = ["mean over the three metrics, by cell", "mean over cells"]
    for ax, values, labels, title in zip(
        axes, (in_cells, in_metrics), (names, metrics), titles, strict=True
    ):
        picture = ax.imshow(values, cmap="cividis_r", vmin=1, vmax=len(order), aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            dark = value > 0.55 * len(order)
            colour = "white" if dark else BLACK
            ax.text(j, i, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=7)
        ax.set_xticks(range(len(labels)), labels, rotation=60, ha="right", rotation_mode="anchor")
        ax.set_title(title)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[0].set_yticks(range(len(order)), [ranked.arms[i] for i in order])
    figure.colorbar(picture, ax=axes, label="rank (1: best)", fraction=0.03, pad=0.01)
    save(figure, path)


def scatter(path: Path, results: Results, panels: Sequence[Place], x: str, y: str) -> None:
    """Draw one metric against another, a marker for each arm and a panel for each place."""
    n_rows = -(-len(panels) // 2)
    figure = plt.figure(figsize=(WIDTH, 0.2 + 2.6 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, min(2, len(panels)), squeeze=False).ravel()
    for ax, place in zip(axes, panels, strict=False):
        for arm in results.arms:
            point = [results.mean(arm, metric, place.cells) for metric in (x, y)]
            if not np.isnan(point).any():
                ax.plot(*point, linestyle="none", **{"markersize": 6.5, **look(arm)})
        ax.set_title(place.title)
        ax.set_xlabel(METRICS[x])
        ax.set_ylabel(METRICS[y])
        ax.margins(0.08)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.grid(color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
    for ax in axes[len(panels) :]:
        ax.remove()
    handles = [_handle(arm, **{"markersize": 6.5, **look(arm)}) for arm in results.arms]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    save(figure, path)


def survival(
    path: Path, results: Results, attacks: dict[str, str], panels: Sequence[Place], xlabel: str
) -> None:
    """Draw the accuracy of arms under several attacks, a panel for each place."""
    figure, axes = _new(len(panels), 1.2 + 0.3 * len(results.arms))
    step = 0.6 / len(attacks)
    for ax, place in zip(axes, panels, strict=True):
        for row, arm in enumerate(results.arms):
            for i, metric in enumerate(attacks):
                seeds = [list(results.values(cell, arm, metric).values()) for cell in place.cells]
                values = [value for cell in seeds for value in cell]
                if values:
                    y = row + (i - (len(attacks) - 1) / 2) * step
                    ax.plot([min(values), max(values)], [y, y], color=SERIES[i][0], linewidth=1.2)
                    ax.plot(np.mean(values), y, **of_series(i))
            if row:
                ax.axhline(row - 0.5, color="0.9", linewidth=0.6, zorder=-1)
        ax.set_title(place.title)
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(len(results.arms) - 0.5, -0.5)
        ax.set_xlabel(f"{xlabel}\n(lines: lowest to highest seed)")
        ax.grid(axis="x", color="0.9", linewidth=0.6)
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(results.arms)), results.arms)
    _legend(figure, [_handle(label, **of_series(i)) for i, label in enumerate(attacks.values())])
    save(figure, path)
