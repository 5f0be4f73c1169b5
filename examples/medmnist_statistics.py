"""Paired differences between arms of the MedMNIST benchmark, their intervals and tests.

Runs of the same seed have the same training images, first weights and test images, so that arms are
compared seed by seed. Intervals are about seeds: another draw of labelled images and weights, on
these data sets.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95

# Sizes at which labels are few.
LOW_DATA = ("50", "100", "250")

#: A data set and a number of labelled images.
Cell = tuple[str, str]


class Estimate(NamedTuple):
    """A mean difference, its interval, and the probability of one so large by chance."""

    mean: float
    low: float
    high: float
    p: float
    n_samples: int

    @property
    def is_above(self) -> bool:
        return self.low > 0

    @property
    def is_below(self) -> bool:
        return self.high < 0


def mean_of_samples(samples: Iterable[np.ndarray]) -> Estimate | None:
    """Estimate the mean of the means of independent samples.

    Parameters
    ----------
    samples : iterable of ndarray of shape (n_seeds,)
        Differences. Samples without any are left out; so are those with a single one, which says
        nothing about its spread, where others have more.

    Returns
    -------
    Estimate or None
        With the interval of Welch and Satterthwaite, for a single sample that of Student. None if
        there are no differences; without an interval if no sample has two.
    """
    filled = [sample for sample in samples if len(sample)]
    if not filled:
        return None
    repeated = [sample for sample in filled if len(sample) > 1]
    used = repeated or filled
    mean = float(np.mean([sample.mean() for sample in used]))
    if not repeated:
        return Estimate(mean, math.nan, math.nan, math.nan, len(used))
    squares = np.array([sample.var(ddof=1) / len(sample) for sample in used])
    freedoms = np.array([len(sample) - 1 for sample in used])
    error = math.sqrt(squares.sum()) / len(used)
    if error == 0:
        return Estimate(mean, mean, mean, float(mean == 0), len(used))
    freedom = squares.sum() ** 2 / (squares**2 / freedoms).sum()
    width = error * stats.t.isf((1 - LEVEL) / 2, freedom)
    p = 2 * stats.t.sf(abs(mean) / error, freedom)
    return Estimate(mean, mean - float(width), mean + float(width), float(p), len(used))


def holm(p: Sequence[float]) -> list[float]:
    """Correct the p-values of a family of tests (Holm, 1979); those that are no numbers stay so."""
    corrected, largest = [math.nan] * len(p), 0.0
    order = sorted((i for i in range(len(p)) if not math.isnan(p[i])), key=lambda i: p[i])
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * p[i]))
        corrected[i] = largest
    return corrected


class Results:
    """Rows of one table of the benchmark.

    Parameters
    ----------
    rows : sequence of dict
        With the columns "dataset", "size", "seed" and "arm", and a column for each metric.
    """

    def __init__(self, rows: Sequence[dict[str, Any]]):
        self.rows = rows
        self.arms = list(dict.fromkeys(row["arm"] for row in rows))
        found = dict.fromkeys(map(_cell, rows))
        datasets = list(dict.fromkeys(dataset for dataset, _ in found))
        self.cells: list[Cell] = sorted(found, key=lambda c: (datasets.index(c[0]), _number(c[1])))
        self.datasets = datasets
        self._values: dict[tuple[Cell, str, str], dict[int, float]] = {}
        for row in rows:
            for name, value in row.items():
                number = _float(value)
                if number is not None and name != "seed":
                    place = _cell(row), row["arm"], name
                    self._values.setdefault(place, {})[int(row["seed"])] = number

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a table; of a missing one, nothing."""
        if not path.exists():
            return cls([])
        with path.open(newline="", encoding="utf-8") as file:
            return cls(list(csv.DictReader(file)))

    @property
    def low_data(self) -> list[Cell]:
        return [cell for cell in self.cells if cell[1] in LOW_DATA]

    def has(self, metric: str) -> bool:
        return any(name == metric for _, _, name in self._values)

    def values(self, cell: Cell, arm: str, metric: str) -> dict[int, float]:
        """Give values by seed."""
        return self._values.get((cell, arm, metric), {})

    def paired(
        self,
        cell: Cell,
        arm: str,
        reference: str,
        metric: str,
        how: Callable[[Any, Any], Any] = np.subtract,
    ) -> dict[int, float]:
        """Compare two arms in the seeds that both have."""
        ours, theirs = (self.values(cell, name, metric) for name in (arm, reference))
        return {s: float(how(ours[s], theirs[s])) for s in sorted(ours.keys() & theirs.keys())}

    def compare(
        self, arm: str, reference: str, metric: str, cells: Iterable[Cell], **how: Any
    ) -> Estimate | None:
        """Estimate the difference between two arms, in mean over cells.

        Within a data set, the cells of a seed share training images: the larger ones contain the
        smaller. So they are averaged seed by seed, and only then is the spread of seeds looked at.
        """
        by_dataset: dict[str, list[dict[int, float]]] = {}
        for cell in cells:
            if paired := self.paired(cell, arm, reference, metric, **how):
                by_dataset.setdefault(cell[0], []).append(paired)
        return mean_of_samples(map(_mean_by_seed, by_dataset.values()))

    def mean(self, arm: str, metric: str, cells: Iterable[Cell]) -> float:
        """Give the mean of an arm's cell means; no number if it lacks a cell."""
        found = [list(self.values(cell, arm, metric).values()) for cell in cells]
        if not found or not all(found):
            return math.nan
        return float(np.mean([np.mean(values) for values in found]))

    def ranks(self, arms: Sequence[str], metric: str) -> dict[Cell, np.ndarray]:
        """Rank arms in each cell that has them all, by their means over the seeds that all have.

        The best has rank 1; equal ones share the mean of their ranks.
        """
        ranks = {}
        for cell in self.cells:
            values = [self.values(cell, arm, metric) for arm in arms]
            seeds = set.intersection(*map(set, values)) if values else set()
            if seeds:
                means = [np.mean([one[seed] for seed in sorted(seeds)]) for one in values]
                ranks[cell] = stats.rankdata(-np.round(means, 12))
        return ranks

    def missing(self, planned: Iterable[str] = ()) -> list[str]:
        """Say what would be there if all data sets had all sizes, and cells all runs.

        Parameters
        ----------
        planned : iterable of str
            Sizes that are to be there, besides those that are.
        """
        done = {
            cell: {(r["arm"], r["seed"]) for r in self.rows if _cell(r) == cell}
            for cell in self.cells
        }
        seeds = {cell: {seed for _, seed in runs} for cell, runs in done.items()}
        # With few labels all cells have as many seeds; with all of them, as many as time allows.
        common = set().union(*(seeds[cell] for cell in self.low_data))
        said = []
        for cell in self._planned_cells(planned):
            of_cell = common if cell[1] in LOW_DATA else seeds.get(cell, set())
            n_planned = len(self.arms) * len(of_cell)
            n_missing = n_planned - len(done.get(cell, ()))
            if cell not in done:
                said.append(f"{cell[0]} {cell[1]}: all runs")
            elif n_missing:
                said.append(f"{cell[0]} {cell[1]}: {n_missing} of {n_planned} runs")
        return said

    def _planned_cells(self, planned: Iterable[str]) -> list[Cell]:
        sizes = sorted({size for _, size in self.cells} | set(planned), key=_number)
        # Where each data set has a size of its own, none is missing.
        is_grid = len(self.cells) > len(self.datasets)
        return [(d, s) for d in self.datasets for s in sizes] if is_grid else self.cells


def _mean_by_seed(cells: Sequence[dict[int, float]]) -> np.ndarray:
    """Average over cells, in the seeds that all of them have."""
    seeds = sorted(set.intersection(*map(set, cells)))
    return np.array([np.mean([cell[seed] for cell in cells]) for seed in seeds])


def _cell(row: dict[str, Any]) -> Cell:
    return row["dataset"], row["size"]


def _number(size: str) -> float:
    return math.inf if size == "all" else float(size)


def _float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
