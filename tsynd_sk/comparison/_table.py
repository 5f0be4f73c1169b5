"""Results of a comparison as a table for the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tsynd_sk._utils._names import ATTACKS
from tsynd_sk._utils._table import format_table
from tsynd_sk.comparison._scoring import SCORES

_SPLITS = {"test": "test images", "val": "validation images"}
_HEADINGS = [
    f"{images}\n{metric}"
    for images in ("clean", "perturbed")
    for metric in ("ROC AUC", "bal. accuracy")
]


def format_results(rows: Sequence[dict]) -> str:
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
    attacked = [
        match
        for name in rows[0]
        if (match := re.fullmatch(rf"({'|'.join(ATTACKS)})_([^_]+)_accuracy", name))
    ]
    metrics = [*SCORES, *(match[0] for match in attacked)]
    headings = [
        _SPLITS.get(rows[0].get("scored_on", ""), ""),
        *_HEADINGS,
        *(f"under {match[1]}\n{match[2]}/255" for match in attacked),
        "seconds",
    ]
    by_arm = {arm: {row["seed"]: row for row in rows if row["arm"] == arm} for arm in arms}
    plain = by_arm.get("plain", {})
    lines: list[list[str]] = []
    for arm, runs in by_arm.items():
        cells = [_mean([run[metric] for run in runs.values()]) for metric in metrics]
        seconds = np.mean([run["seconds"] for run in runs.values()])
        lines.append([arm, *cells, f"{seconds:.0f}"])
        if plain and arm != "plain":
            pairs = [(run, plain[seed]) for seed, run in runs.items() if seed in plain]
            cells = [_mean([ours[m] - theirs[m] for ours, theirs in pairs], "+") for m in metrics]
            lines.append(["  difference to plain", *cells])
    return format_table(headings, lines)


def _mean(values: Sequence[float], sign: str = "") -> str:
    if not values:
        return "-"
    if np.isnan(values).any():
        return "one class"  # by which images cannot be ranked: there is no ROC AUC
    mean = f"{np.mean(values):{sign}.3f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}"
