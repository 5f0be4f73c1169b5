"""
Figures of the benchmark
========================
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import benchmark_plan as plan
import numpy as np
from benchmark_results import ALL, FINE_TUNED_SETS, MAIN_PAIRS, SETS, TITLES, UNTARGETED, Results


def _figure(n_columns: int, height: float) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * n_columns, height), layout="constrained")
    return figure, figure.subplots(1, n_columns, sharey=n_columns > 1, squeeze=False)[0]


def forest(results: Results, path: Path) -> None:
    """Draw the paired differences to standard augmentation, set by set."""
    scores, pairs = (
        ("roc_auc", "balanced_accuracy", "pgd_2_accuracy"),
        (MAIN_PAIRS[0], *UNTARGETED[:1]),
    )
    places = [*SETS, *FINE_TUNED_SETS]
    figure, axes = _figure(len(scores), 1 + 0.4 * len(places))
    for ax, score in zip(axes, scores, strict=True):
        ax.axvline(0, color="0.6", linewidth=0.8)
        means, ends = [], []
        for k, pair in enumerate(pairs):
            for i, place in enumerate(places):
                d = results.compare(pair, score, place)
                if d is None:
                    continue
                label = pair.arm if i == 0 else None
                y = -i - 0.15 + 0.3 * (k == 0)
                ax.plot(d.mean, y, "os"[k], color=f"C{k}", markersize=4, label=label)
                ax.plot([d.low, d.high], [y, y], color=f"C{k}", linewidth=1)
                means.append(d.mean)
                ends += [d.low, d.high]
        # An interval of two draws can be so wide that the others would be points beside it.
        if means and np.nanmax(np.abs([*ends, 0.0])) > (reach := 4 * np.abs(means).max()):
            ax.set_xlim(-reach, reach)
        ax.set_xlabel(f"{TITLES[score]}, difference to {plan.STANDARD}", fontsize=8)
        ax.tick_params(labelsize=8)
    axes[0].set_yticks([-i for i in range(len(places))], [place.name for place in places])
    if axes[0].get_legend_handles_labels()[0]:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", fontsize=8)
    figure.savefig(path, dpi=120)


def scatter(points: dict[str, tuple[float, float]], titles: tuple[str, str], path: Path) -> None:
    """Draw a point for each arm."""
    figure, (ax,) = _figure(1, 4.0)
    figure.set_size_inches(7.5, 4.0)
    for k, (arm, (x, y)) in enumerate(points.items()):
        if not (math.isnan(x) or math.isnan(y)):
            ax.plot(x, y, "os^D"[k // 5], color=f"C{k}", label=arm)
    ax.set_xlabel(titles[0])
    ax.set_ylabel(titles[1])
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=120)


def draw(results: Results, folder: Path) -> None:
    """Draw all figures; means are over six sets with the default network."""
    forest(results, folder / "forest.png")
    arms = list(plan.ALL)
    clean, attacked = (
        {arm: results.mean(arm, score, ALL) for arm in arms}
        for score in ("roc_auc", "pgd_2_accuracy")
    )
    points = {arm: (clean[arm], attacked[arm]) for arm in arms}
    scatter(points, ("ROC AUC, clean", "accuracy, PGD 2/255"), folder / "robust_and_clean.png")
    costs = {arm: results.ratios(arm, ALL) for arm in arms}
    gains = {
        arm: (
            float(np.median(costs[arm])) if costs[arm] else math.nan,
            results.mean(arm, "balanced_accuracy", ALL)
            - results.mean("plain", "balanced_accuracy", ALL),
        )
        for arm in arms
    }
    titles = (
        "processor time / that of plain training",
        "balanced accuracy − that of plain training",
    )
    scatter(gains, titles, folder / "cost_and_gain.png")
