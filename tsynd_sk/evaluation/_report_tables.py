"""A report on robustness as a table of pandas and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsynd_sk.evaluation._robustness_report import RobustnessReport

#: What metrics are called, and what their numbers mean.
TITLES = {
    "roc_auc": ("ROC AUC", "(0.5: chance, 1: perfect)"),
    "balanced_accuracy": ("balanced accuracy", "(share of images)"),
    "accuracy": ("accuracy", "(share of images)"),
    "expected_calibration_error": ("calibration error", "(probability, 0: perfect)"),
}


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
    titles = [TITLES[metric][0] for metric in metrics]
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
