"""A report on robustness as a table of pandas, as text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsynd_sk.robustness import RobustnessReport

# Blue and black, which all kinds of colour vision tell apart; the shape of markers tells, too.
_BLUE, _BLACK = "#0072B2", "black"
_TITLES = {
    "roc_auc": ("ROC AUC", "(0.5: chance, 1: perfect)"),
    "balanced_accuracy": ("balanced accuracy", "(share of images)"),
    "accuracy": ("accuracy", "(share of images)"),
    "expected_calibration_error": ("calibration error", "(probability, 0: perfect)"),
}
_MAX_NAME = 32


def frame(rows: Sequence[dict[str, Any]], columns: list[str]):
    """Make a DataFrame, of no rows too."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("a table needs pandas: pip install pandas") from error
    return pd.DataFrame(rows, columns=columns)


def table(report: RobustnessReport) -> str:
    """Write scores in columns, with a star where they differ from the reference."""
    metrics = list(dict.fromkeys(row["metric"] for row in report.scores))
    cells: dict[tuple[str, str], list[str]] = {}
    stars = _differing(report)
    for row in report.scores:
        place = row["condition"], row["estimator"]
        star = "*" if (*place, row["metric"]) in stars else " "
        cell = f"{row['score']:.3f}{star} [{row['low']:.3f}, {row['high']:.3f}]"
        cells.setdefault(place, []).append(cell)
    names = list(dict.fromkeys(name for _, name in cells))
    first = max(len(_named(report, name)) + 2 for name in names)
    first = max(first, *(len(condition) for condition, _ in cells))
    titles = [_TITLES[metric][0] for metric in metrics]
    widths = [max(len(title), len("0.000* [0.000, 0.000]")) for title in titles]
    header = "  ".join(title.ljust(width) for title, width in zip(titles, widths, strict=True))
    lines = [_headline(report), "", f"{'':{first}}  {header}".rstrip()]
    for condition in dict.fromkeys(condition for condition, _ in cells):
        lines.append(condition)
        for name in names:
            row_of = zip(cells[condition, name], widths, strict=True)
            values = "  ".join(cell.ljust(width) for cell, width in row_of)
            lines.append(f"  {_named(report, name):{first - 2}}  {values}".rstrip())
    lines += ["", *([_star_line(report)] if report.comparisons else []), *report.notes]
    return "\n".join(lines).rstrip()


def _headline(report: RobustnessReport) -> str:
    seeds = f"{report.n_seeds} seeds" if report.n_seeds > 1 else "1 seed"
    what = "images and seeds" if report.n_seeds > 1 else "images alone"
    return (
        f"{report.n_images} images, {seeds}; {100 * report.confidence_level:.4g} % intervals by "
        f"{report.n_resamples} resamples of {what}"
    )


def _star_line(report: RobustnessReport) -> str:
    alpha = 1 - report.confidence_level
    return f"* differs from {report.reference!r} (Holm-corrected p < {alpha:.2g})"


def _named(report: RobustnessReport, name: str) -> str:
    return f"{name} (reference)" if name == report.reference and report.comparisons else name


def _differing(report: RobustnessReport) -> set[tuple[str, str, str]]:
    alpha = 1 - report.confidence_level
    return {
        (row["condition"], row["estimator"], row["metric"])
        for row in report.comparisons
        if row["p_holm"] < alpha
    }


def draw_forest(report: RobustnessReport, metric: str, figure: Any):
    """Draw a row for each estimator, under a heading for each condition."""
    try:
        import matplotlib.pyplot as plt
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError(
            'RobustnessReport.plot needs matplotlib: pip install "tsynd_sk[plot]"'
        ) from error

    places = _places(report, metric)
    n_panels = 2 if report.comparisons else 1
    if figure is None:
        height = 1.5 + 0.24 * len(places)
        figure = plt.figure(figsize=(4.2 + 2.6 * (n_panels - 1), height), layout="constrained")
    axes = figure.subplots(1, n_panels, sharey=True, squeeze=False)[0]
    stars = _differing(report)

    def show(ax, row: dict[str, Any], value: str) -> None:
        y = places[row["condition"], row["estimator"]]
        reference = row["estimator"] == report.reference
        colour = _BLACK if reference else _BLUE
        filled = (row["condition"], row["estimator"], metric) in stars
        ax.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.5)
        ax.plot(
            row[value],
            y,
            marker="s" if reference else "o",
            markersize=6,
            color=colour,
            markerfacecolor=colour if filled else "white",
            linestyle="none",
        )

    for row in report.scores:
        if row["metric"] == metric:
            show(axes[0], row, "score")
    axes[0].set_xlabel("\n".join(_TITLES[metric]))
    for row in report.comparisons:
        if row["metric"] == metric:
            show(axes[1], row, "difference")
    if n_panels == 2:
        axes[1].axvline(0, color=_BLACK, linewidth=0.8)
        axes[1].set_xlabel(f"difference of {_TITLES[metric][0]}\nto {_shortened(report.reference)}")
        alpha = 1 - report.confidence_level
        markers = [("s", _BLACK, "white", "reference")]
        markers += [
            ("o", _BLUE, _BLUE, f"differs (Holm p < {alpha:.2g})"),
            ("o", _BLUE, "white", "does not"),
        ]
        handles = [
            Line2D([], [], marker=m, color=c, markerfacecolor=f, linestyle="none", label=text)
            for m, c, f, text in markers
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    for ax in axes:
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.grid(axis="x", color="0.9")
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.spines[["left", "right", "top"]].set_visible(False)
    axes[0].set_yticks(list(places.values()), [_row_label(*place) for place in places])
    for label, (_, name) in zip(axes[0].get_yticklabels(), places, strict=True):
        label.set_fontweight("bold" if name is None else "normal")
    axes[0].set_ylim(max(places.values()) + 0.7, -0.7)
    return figure


def _places(report: RobustnessReport, metric: str) -> dict[tuple[str, str | None], float]:
    """Heights, downwards, of headings (of no estimator) and of the rows below them."""
    places: dict[tuple[str, str | None], float] = {}
    y = 0.0
    for row in report.scores:
        if row["metric"] != metric:
            continue
        if (row["condition"], None) not in places:
            # A little air between conditions.
            y += 0.4 if places else 0
            places[row["condition"], None] = y
            y += 1
        places[row["condition"], row["estimator"]] = y
        y += 1
    return places


def _row_label(condition: str, name: str | None) -> str:
    return condition if name is None else _shortened(name)


def _shortened(name: str) -> str:
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
