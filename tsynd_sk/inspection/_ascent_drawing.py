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
    set_title,
    show_images,
    style_axes,
)

if TYPE_CHECKING:
    from tsynd_sk.inspection._ascent_display import AscentDisplay

_GREY = "0.7"
# Small letters in an inch.
_LETTERS = 13


def draw_lines(ax: Any, display: AscentDisplay, n_pictured: int) -> None:
    """Draw all ascents, in colour those that have pictures, or the first ones."""
    n, last = len(display.uncertainty), np.shape(display.uncertainty)[1] - 1
    n_coloured = n_pictured or min(n, len(COLOURS))
    # Coloured lines come last, on top of the grey ones.
    for i in reversed(range(n)):
        _draw_line(ax, display, i, _colour(i) if i < n_coloured else None)
    _draw_legend(ax, display, n_coloured)
    ticks: list[float] = [-_aside(last), *range(0, last + 1, max(1, -(-last // 10)))]
    texts = ["source", *map(str, ticks[1:])]
    if (np.asarray(display.chosen) < 0).any():
        ticks.append(last + _aside(last))
        texts.append("mended")
    ax.set_xticks(ticks, texts)
    ax.set_xlabel("ascent step")
    ax.set_ylabel("mutual information (nats)")
    # Stars at the top are whole.
    ax.margins(y=0.1)
    ax.set_ylim(bottom=0)
    style_axes(ax, axis="y")


def _draw_line(ax: Any, display: AscentDisplay, i: int, colour: str | None) -> None:
    values = np.asarray(display.uncertainty, dtype=float)[i]
    agreed = np.asarray(display.label_agreement, dtype=bool)[i]
    chosen, taken = int(display.chosen[i]), float(display.uncertainty_synthetic[i])
    last = len(values) - 1
    steps = np.arange(last + 1)
    # Colours and sizes, for lines in colour and in grey.
    look = {"color": colour or _GREY, "linewidth": 1.5 if colour else 0.8}
    look["zorder"] = 3 if colour else 2
    ax.plot(steps, values, **look)
    before = [float(display.uncertainty_source[i]), values[0]]
    ax.plot([-_aside(last), 0], before, linestyle=":", **look)
    end = float(chosen) if chosen >= 0 else last + _aside(last)
    if chosen < 0:
        ax.plot([last, end], [values[last], taken], linestyle=":", **look)
    points = {"linestyle": "none", "marker": "o", "color": colour, "markersize": 5, "zorder": 4}
    for some, face in ((agreed, colour), (~agreed, "white")):
        if colour:
            ax.plot(steps[some], values[some], markerfacecolor=face, **points)
    denied = chosen >= 0 and not agreed[chosen]
    ax.plot(
        end,
        taken,
        marker="*",
        color="black" if colour else _GREY,
        markerfacecolor="white" if denied else colour or _GREY,
        markersize=14 if colour else 7,
        markeredgewidth=0.8,
        zorder=5 if colour else 2,
    )


def _draw_legend(ax: Any, display: AscentDisplay, n_coloured: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=_colour(i), label=name)
        for i, name in enumerate(_names(display, n_coloured))
    ]
    if len(display.uncertainty) > n_coloured:
        handles.append(Line2D([], [], color=_GREY, label="others"))
    for marker, size, face, text in (
        ("o", 5, "black", "label agreed"),
        ("o", 5, "white", "label denied"),
        ("*", 11, "black", "chosen"),
    ):
        look: dict[str, Any] = {"marker": marker, "markersize": size, "markerfacecolor": face}
        handles.append(Line2D([], [], linestyle="none", color="black", label=text, **look))
    legend_above(ax, handles, min(len(handles), 4))


def draw_images(axes: np.ndarray, display: AscentDisplay, height: float) -> None:
    """Draw source, iterates and what was taken, one source a row of so many inches."""
    iterates = np.asarray(display.iterates)
    limits = image_limits(display.value_range, display.source, iterates, display.synthetic)
    uncertainty = np.asarray(display.uncertainty, dtype=float)
    agreed = np.asarray(display.label_agreement, dtype=bool)
    steps = np.asarray(display.steps)
    for i, (row, name) in enumerate(zip(axes, _names(display, len(axes)), strict=True)):
        chosen = int(display.chosen[i])
        images = np.stack([display.source[i], *iterates[i], display.synthetic[i]])
        titles = ["source", *(f"step {step}" for step in steps)]
        titles.append(f"chosen: {chosen}" if chosen >= 0 else "mended")
        values = [
            display.uncertainty_source[i],
            *uncertainty[i, steps],
            display.uncertainty_synthetic[i],
        ]
        denied = [False, *~agreed[i, steps], chosen >= 0 and not agreed[i, chosen]]
        show_images(row, channels_last(images), limits)
        for j, ax in enumerate(row):
            ax.set(xticks=[], yticks=[])
            title = f"{titles[j]}, denied" if denied[j] else titles[j]
            set_title(ax, title, warn=denied[j], pad=3)
            ax.set_xlabel(f"{values[j]:.3g} nats", fontsize="small", labelpad=2)
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


def _aside(last: int) -> float:
    """Return the distance, in steps, from the steps to what is drawn beside them."""
    return max(1.0, last / 8)
