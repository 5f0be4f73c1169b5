"""Results of a comparison as a table for the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from tsynd_sk.comparison._scoring import METRICS
from tsynd_sk.evaluation import ATTACKS

_HEADINGS = ("ROC AUC", "bal. accuracy", "ROC AUC", "bal. accuracy")
_SPLITS = {"test": "test images", "val": "validation images"}
_CELL, _SECONDS = 15, 8


def format_table(rows: Sequence[dict]) -> str:
    """Tabulate results: arms as rows, means and standard errors over seeds, differences to plain.

    Parameters
    ----------
    rows : sequence of dict
        Results of `Comparison.results`.

    Returns
    -------
    str
    """
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    strengths = _strengths(rows[0])
    metrics = (*METRICS, *strengths)
    values = {
        (arm, metric): {row["seed"]: row[metric] for row in rows if row["arm"] == arm}
        for arm in arms
        for metric in (*metrics, "seconds")
    }
    width = 2 + max(len(arm) for arm in [*arms, "difference to plain"])
    lines = [f"{line:<{width}}" for line in (_SPLITS.get(rows[0].get("scored_on", ""), ""), "")]
    for group in ("clean", "perturbed"):
        lines[0] += f"{group:^{2 * _CELL}}"
    for attack, columns in groupby(strengths.values(), key=lambda found: found[0]):
        lines[0] += f"{f'under {attack}':^{_CELL * len(list(columns))}}"
    headings = (*_HEADINGS, *(f"{eps}/255" for _, eps in strengths.values()))
    lines[1] += "".join(f"{heading:>{_CELL}}" for heading in headings)
    lines[1] += f"{'seconds':>{_SECONDS}}"
    for arm in arms:
        cells = [_mean(list(values[arm, metric].values())) for metric in metrics]
        seconds = np.mean(list(values[arm, "seconds"].values()))
        lines.append(f"{arm:<{width}}{_joined(cells)}{seconds:>{_SECONDS}.0f}")
        if arm != "plain" and "plain" in arms:
            cells = [_mean(_paired(values, arm, metric), sign="+") for metric in metrics]
            lines.append(f"{'  difference to plain':<{width}}{_joined(cells)}")
    return "\n".join(line.rstrip() for line in lines)


def _strengths(row: dict) -> dict[str, tuple[str, str]]:
    """Columns of accuracies under attack: which attack, and how strong."""
    found = {name: re.fullmatch(rf"({'|'.join(ATTACKS)})_([^_]+)_accuracy", name) for name in row}
    return {name: (match[1], match[2]) for name, match in found.items() if match}


def _joined(cells: list[str]) -> str:
    return "".join(f"{cell:>{_CELL}}" for cell in cells)


def _paired(values: dict, arm: str, metric: str) -> list[float]:
    plain, other = values["plain", metric], values[arm, metric]
    return [other[seed] - plain[seed] for seed in sorted(plain.keys() & other.keys())]


def _mean(values: Sequence[float], sign: str = "") -> str:
    if not values:
        return "-"
    mean = f"{np.mean(values):{sign}.3f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}"
