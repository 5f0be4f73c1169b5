"""Lines and images of an `AscentDisplay`."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from tsynd_sk.inspection._drawing import (
    COLOURS,
    channels_last,
    image_limits,
    label_text,
    legend_above,
    legend_entry,
    set_title,
    show_images,
    style_axes,
)

if TYPE_CHECKING:
    from tsynd_sk.inspection._ascent_display import AscentDisplay

_GREY = "0.7"
# Small letters in an inch.
_LETTERS = 13


def draw_lines(ax: Any, display: AscentDisplay, n_coloured: int) -> None:
    """Draw all ascents, the first ones in colour."""
    uncertainty = np.asarray(display.uncertainty, dtype=float)
    last = uncertainty.shape[1] - 1
    steps = np.arange(last + 1)
    # The distance from the steps to what is drawn beside them.
    aside = max(1.0, last / 8)
    # Coloured lines come last, on top of the grey ones.
    for i, values in reversed(list(enumerate(uncertainty))):
        coloured = i < n_coloured
        colour = _colour(i) if coloured else _GREY
        look: dict[str, Any] = {"color": colour, "linewidth": 1.5 if coloured else 0.8}
        look["zorder"] = 2 + coloured
        agreed = np.asarray(display.label_agreement[i], dtype=bool)
        chosen, taken = int(display.chosen[i]), display.uncertainty_synthetic[i]
        end, denied = (chosen, not agreed[chosen]) if chosen >= 0 else (last + aside, False)
        ax.plot(steps, values, **look)
        ax.plot([-aside, 0], [display.uncertainty_source[i], values[0]], ":", **look)
        if chosen < 0:
            ax.plot([last, end], [values[last], taken], ":", **look)
        star = {"color": _GREY, "markersize": 7, "zorder": 2}
        if coloured:
            for some, face in ((agreed, colour), (~agreed, "white")):
                points = {"color": colour, "mfc": face, "markersize": 5, "zorder": 4}
                ax.plot(steps[some], values[some], "o", **points)
            star = {"color": "black", "markersize": 14, "zorder": 5}
        ax.plot(end, taken, "*", mfc="white" if denied else colour, mew=0.8, **star)
    handles = [
        legend_entry(name, color=_colour(i), linestyle="-")
        for i, name in enumerate(_names(display, n_coloured))
    ]
    if len(uncertainty) > n_coloured:
        handles.append(legend_entry("others", color=_GREY, linestyle="-"))
    handles += [
        legend_entry("label agreed", marker="o", markersize=5, color="black"),
        legend_entry("label denied", marker="o", markersize=5, color="black", mfc="white"),
        legend_entry("chosen", marker="*", markersize=11, color="black"),
    ]
    legend_above(ax, handles, min(len(handles), 4))
    ticks: list[float] = [-aside, *range(0, last + 1, max(1, -(-last // 10)))]
    texts = ["source", *map(str, ticks[1:])]
    if np.min(display.chosen) < 0:
        ticks.append(last + aside)
        texts.append("mended")
    ax.set_xticks(ticks, texts)
    ax.set(xlabel="ascent step", ylabel="mutual information (nats)")
    # Stars at the top are whole.
    ax.margins(y=0.1)
    ax.set_ylim(bottom=0)
    style_axes(ax, axis="y")


def draw_images(axes: np.ndarray, display: AscentDisplay, height: float) -> None:
    """Draw source, iterates and what was taken, one source a row of so many inches."""
    limits = image_limits(display.value_range, display.source, display.iterates, display.synthetic)
    uncertainty, agreed = np.asarray(display.uncertainty), np.asarray(display.label_agreement)
    for i, (row, name) in enumerate(zip(axes, _names(display, len(axes)), strict=True)):
        chosen = int(display.chosen[i])
        images = np.stack([display.source[i], *display.iterates[i], display.synthetic[i]])
        show_images(row, channels_last(images), limits)
        columns = [
            ("source", display.uncertainty_source[i], True),
            *((f"step {step}", uncertainty[i, step], agreed[i, step]) for step in display.steps),
            (
                f"chosen: {chosen}" if chosen >= 0 else "mended",
                display.uncertainty_synthetic[i],
                chosen < 0 or agreed[i, chosen],
            ),
        ]
        for ax, (title, value, agrees) in zip(row, columns, strict=True):
            ax.set(xticks=[], yticks=[])
            set_title(ax, title if agrees else f"{title}, denied", warn=not agrees, pad=3)
            ax.set_xlabel(f"{value:.3g} nats", fontsize="small", labelpad=2)
        # A space that does not break keeps a row together with its number.
        name = name.replace(", row ", ", row\N{NO-BREAK SPACE}")
        row[0].set_ylabel(fill(name, max(12, int(_LETTERS * height))), fontsize="small")
        row[0].spines[:].set(color=_colour(i), linewidth=2.5)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _names(display: AscentDisplay, n_named: int) -> list[str]:
    """Return names of rows: their label, with the row's number where a label repeats."""
    if display.labels is None:
        return [f"row {i}" for i in range(n_named)]
    names = [label_text(label) for label in list(display.labels)[:n_named]]
    return [f"{name}, row {i}" if names.count(name) > 1 else name for i, name in enumerate(names)]
