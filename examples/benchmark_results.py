"""
Rows of the benchmark, and differences between arms over cells and data sets
============================================================================

For one cell they are those of `ComparisonResult.difference`; this joins several.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import benchmark_plan as plan
import numpy as np
from benchmark import probabilities_of, read
from benchmark_plan import CELLS, Cell

from tsynd_sk.comparison import SCORES, Difference

# What joins data sets stands here until the library can do it.
from tsynd_sk.comparison._result import resampled_images
from tsynd_sk.comparison._runs import predicted_scores
from tsynd_sk.evaluation import holm, t_interval

TITLES = {
    "roc_auc": "ROC AUC",
    "balanced_accuracy": "balanced accuracy",
    "nll": "NLL",
    "expected_calibration_error": "calibration error",
    "perturbed_roc_auc": "corrupted ROC AUC",
    "pgd_2_accuracy": "PGD 2/255",
    "pgd_4_accuracy": "PGD 4/255",
    "autoattack_2_accuracy": "AutoAttack 2/255",
}
# Of these, less is more.
LOWER = ("nll", "expected_calibration_error")


@dataclass(frozen=True)
class Pair:
    """An arm and its reference, in cells of a kind."""

    arm: str
    reference: str
    kind: str = "main"

    def __str__(self) -> str:
        return f"{self.arm} − {self.reference}"


@dataclass(frozen=True)
class Place:
    """Cells that are taken together."""

    name: str
    cells: tuple[Cell, ...]


class Results:
    """Rows of a table, and differences between arms."""

    def __init__(self, table: Path):
        self.rows = {(r["cell"], r["arm"], int(r["draw"])): r for r in read(table)}
        self._by_arm: dict[tuple[str, str], dict[int, dict[str, str]]] = {}
        for (cell, arm, draw), row in self.rows.items():
            self._by_arm.setdefault((cell, arm), {})[draw] = row
        self._probabilities = probabilities_of(table)

    @cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        return dict(np.load(self._probabilities, allow_pickle=False))

    def values(self, cell: str, arm: str, column: str) -> dict[int, float]:
        """Return a column by draw."""
        rows = self._by_arm.get((cell, arm), {})
        return {draw: float(row[column]) for draw, row in rows.items() if row.get(column)}

    def mean(self, arm: str, column: str, place: Place) -> float:
        """Average draws, then cells of a data set, then data sets; nan if there are none."""
        sets: dict[str, list[float]] = {}
        for cell in place.cells:
            if values := self.values(cell.name, arm, column):
                sets.setdefault(cell.dataset, []).append(float(np.mean(list(values.values()))))
        return float(np.mean([np.mean(each) for each in sets.values()])) if sets else math.nan

    def ratios(self, arm: str, place: Place, reference: str = "") -> list[float]:
        """Return an arm's time over that of another one (plain, or standard) in the same draw."""
        found = []
        for cell in place.cells:
            other = reference or next(n for n in ("plain", plan.STANDARD) if n in cell.arms)
            base = self.values(cell.name, other, "seconds")
            own = self.values(cell.name, arm, "seconds")
            found += [own[draw] / base[draw] for draw in sorted(own.keys() & base.keys())]
        return found

    def compare(self, pair: Pair, score: str, place: Place) -> Difference | None:
        """Average paired differences over draws and cells within data sets, then over these.

        For one cell it is `ComparisonResult.difference`. Data sets are independent: variances of
        their means add, and so do Satterthwaite's terms. None if there is nothing to compare.
        """
        sets: dict[str, list[Cell]] = {}
        for cell in place.cells:
            if self._draws(pair, score, cell):
                sets.setdefault(cell.dataset, []).append(cell)
        parts = [part for cells in sets.values() if (part := self._of_set(pair, score, cells))]
        if not parts:
            return None
        means, of_seeds, of_images, n = map(np.array, zip(*parts, strict=True))
        found: tuple[float, ...] = (float(means.mean()), math.nan, math.nan, math.nan)
        if (n > 1).all():
            variance, spread = (of_seeds + of_images).sum(), (of_seeds**2 / (n - 1)).sum()
            freedom = variance**2 / spread if spread else np.inf
            found = t_interval(found[0], variance / len(parts) ** 2, freedom)
        return Difference(pair.arm, pair.reference, score, *found)

    def _draws(self, pair: Pair, score: str, cell: Cell) -> dict[int, float]:
        name = replace(cell, kind=pair.kind).name
        arm, reference = (self.values(name, a, score) for a in (pair.arm, pair.reference))
        return {draw: arm[draw] - reference[draw] for draw in arm.keys() & reference.keys()}

    def _of_set(
        self, pair: Pair, score: str, cells: Sequence[Cell]
    ) -> tuple[float, float, float, int] | None:
        """Return mean, variance of it over draws, that over test images, and number of draws."""
        each = [self._draws(pair, score, cell) for cell in cells]
        draws = sorted(set.intersection(*(set(one) for one in each)))
        if not draws:
            return None
        differences = np.mean([[one[draw] for draw in draws] for one in each], axis=0)
        of_images = 0.0
        if score in SCORES:
            names = [
                (replace(cell, kind=pair.kind).name, arm, draw, sign)
                for cell in cells
                for draw in draws
                for arm, sign in ((pair.arm, 1), (pair.reference, -1))
            ]
            sums = sum(s * self._resampled(*name)[score] for *name, s in names)
            of_images = float(np.nanvar(sums / (len(cells) * len(draws)), ddof=1))
        n = len(draws)
        of_seeds = float(differences.var(ddof=1)) / n if n > 1 else math.nan
        return float(differences.mean()), of_seeds, of_images, n

    @cache  # noqa: B019 - as long as the report
    def _resampled(self, cell: str, arm: str, draw: int) -> dict[str, np.ndarray]:
        proba = self.predictions[f"{cell}/{draw}/{arm}"].astype(np.float64)
        dataset = CELLS[cell].dataset
        return predicted_scores(self._labels(dataset), proba, self._weights(dataset))

    def _labels(self, dataset: str) -> np.ndarray:
        return self.predictions[f"{dataset}/labels"].astype(np.int64)

    @cache  # noqa: B019
    def _weights(self, dataset: str) -> np.ndarray:
        return resampled_images(self._labels(dataset), None, seed=0)


def corrected(found: Sequence[Difference | None]) -> list[Difference | None]:
    """Correct p-values for all differences at once."""
    known = [each is not None and not math.isnan(each.p) for each in found]
    values = iter(holm(np.array([d.p for d, ok in zip(found, known, strict=True) if d and ok])))
    return [
        replace(d, p_corrected=float(next(values))) if d and ok else d
        for d, ok in zip(found, known, strict=True)
    ]


# %%
# Cells that are taken together, pairs that are compared, and text.


def main_cells(net: str = plan.DEFAULT_NET, size: int | None = None) -> tuple[Cell, ...]:
    return tuple(
        cell
        for cell in CELLS.values()
        if cell.kind == "main" and cell.net == net and size in (None, cell.size)
    )


def of_set(dataset: str, net: str = plan.DEFAULT_NET) -> Place:
    name = dataset if net == plan.DEFAULT_NET else f"{dataset}, pretrained"
    return Place(name, tuple(cell for cell in main_cells(net) if cell.dataset == dataset))


def few(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Choose the cells that have the fewest labels of their set."""
    return tuple(cell for cell in cells if cell.n_labels == plan.FEW[cell.size])


SMALL, LARGE = (Place(f"{size} pixels", main_cells(size=size)) for size in (28, 64))
ALL = Place("all six sets", main_cells())
FINE_TUNED = Place("64 pixels, pretrained", main_cells(plan.PRETRAINED))
SETS = [of_set(name) for name in plan.SETS]
FINE_TUNED_SETS = [of_set(name, plan.PRETRAINED) for name in plan.LARGE]

MAIN_PAIRS = [Pair(*pair) for pair in plan.MAIN_PAIRS.items()]
UNTARGETED = [
    Pair(plan.RANDOM_ON_STANDARD, plan.STANDARD),
    Pair(plan.RANDOM_ON_TRIVIAL, plan.TRIVIAL),
]
TARGETED = Pair(plan.ON_STANDARD, plan.RANDOM_ON_STANDARD)


def number(value: float, digits: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def text(d: Difference | None) -> str:
    if d is None:
        return "–"
    mean = f"{d.mean:+.3f}".replace("-", "−")
    mean = f"**{mean}**" if d.is_found else mean
    if math.isnan(d.low):
        return mean
    # An interval stays in one line.
    return f"{mean} [{d.low:+.3f},\N{NO-BREAK SPACE}{d.high:+.3f}]".replace("-", "−")
