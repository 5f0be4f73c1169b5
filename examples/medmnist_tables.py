"""Tables of the MedMNIST benchmark for the documentation, and the numbers that its text quotes."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from medmnist_statistics import Cell, Estimate, Results, holm

#: What is compared, and what it is called.
METRICS = {
    "roc_auc": "clean ROC AUC",
    "perturbed_roc_auc": "corrupted ROC AUC",
    "pgd_2_accuracy": "accuracy, PGD 2/255",
    "pgd_4_accuracy": "accuracy, PGD 4/255",
    "balanced_accuracy": "clean balanced accuracy",
    "perturbed_balanced_accuracy": "corrupted balanced accuracy",
    "pgd_2_balanced_accuracy": "balanced accuracy, PGD 2/255",
    "pgd_4_balanced_accuracy": "balanced accuracy, PGD 4/255",
    "expected_calibration_error": "calibration error (lower is better)",
}

#: Those that figures show.
MAIN_METRICS = tuple(METRICS)[:3]

ALPHA = 0.05
NOTHING = "–"


class Pair(NamedTuple):
    """An arm, and what it is compared with."""

    arm: str
    reference: str

    @property
    def title(self) -> str:
        return f"{self.arm} − {self.reference}"


class Place(NamedTuple):
    """Where arms are compared: a cell, or several in mean."""

    key: str
    title: str
    cells: list[Cell]


def places_of(results: Results) -> list[Place]:
    """Give all cells, data sets with few labels, and the mean of all cells with few labels."""
    return [*cells_of(results), *datasets_of(results), low_of(results)]


def cells_of(results: Results) -> list[Place]:
    return [Place(f"{d}-{size}", f"{d}, {size}", [(d, size)]) for d, size in results.cells]


def datasets_of(results: Results) -> list[Place]:
    return [
        Place(name, f"{name}, few labels", [cell for cell in results.low_data if cell[0] == name])
        for name in results.datasets
    ]


def low_of(results: Results) -> Place:
    return Place("low", "mean, few labels", results.low_data)


def all_labels_of(results: Results) -> Place:
    cells = [cell for cell in results.cells if cell[1] == "all"]
    return Place("all", "mean, all labels", cells)


@dataclass
class Family:
    """Comparisons whose tests are corrected together.

    Parameters
    ----------
    results : Results
        What is compared.
    pairs : sequence of Pair
        Arms. Those that are missing are left out.
    metrics : sequence of str
        Columns. Those that are missing are left out.
    places : sequence of Place
        Where.
    """

    results: Results
    pairs: Sequence[Pair]
    metrics: Sequence[str]
    places: Sequence[Place]
    estimates: dict[tuple[Pair, str, str], Estimate] = field(init=False)
    corrected: dict[tuple[Pair, str, str], float] = field(init=False)

    def __post_init__(self):
        known = set(self.results.arms)
        self.pairs = [pair for pair in self.pairs if set(pair) <= known]
        self.metrics = [metric for metric in self.metrics if self.results.has(metric)]
        self.estimates = {}
        for place in self.places:
            for pair in self.pairs:
                for metric in self.metrics:
                    estimate = self.results.compare(*pair, metric, place.cells)
                    if estimate is not None:
                        self.estimates[pair, metric, place.key] = estimate
        p = holm([estimate.p for estimate in self.estimates.values()])
        self.corrected = dict(zip(self.estimates, p, strict=True))

    def get(self, pair: Pair, metric: str, place: str) -> Estimate | None:
        return self.estimates.get((pair, metric, place))

    def text(self, pair: Pair, metric: str, place: str) -> str:
        """Write a difference; in bold type if it is one after correction."""
        return difference_text(
            self.get(pair, metric, place), bold=self.differs(pair, metric, place)
        )

    def differs(self, pair: Pair, metric: str, place: str) -> bool:
        return self.corrected.get((pair, metric, place), math.nan) < ALPHA

    def held(self, pair: Pair, place: str) -> str:
        """Name the metrics that differ after correction."""
        names = [METRICS[m] for m in self.metrics if self.differs(pair, m, place)]
        return "; ".join(names) or "none"


def difference_text(estimate: Estimate | None, *, bold: bool = False) -> str:
    if estimate is None:
        return NOTHING
    mean = f"**{signed(estimate.mean)}**" if bold else signed(estimate.mean)
    if math.isnan(estimate.low):
        return mean
    return f"{mean} [{signed(estimate.low)}, {signed(estimate.high)}]"


def signed(value: float) -> str:
    """Write a difference with three digits; zero has no sign."""
    text = f"{value:+.3f}"
    if float(text) == 0:
        return "0.000"
    # A hyphen would begin a list of options in reStructuredText.
    return text.replace("-", "−")


def number(value: float, digits: int = 3) -> str:
    return NOTHING if math.isnan(value) else f"{value:.{digits}f}"


def ratio_text(estimate: Estimate | None) -> str:
    if estimate is None:
        return NOTHING
    if math.isnan(estimate.low):
        return f"{estimate.mean:.2f}"
    return f"{estimate.mean:.2f} [{max(estimate.low, 0):.2f}, {estimate.high:.2f}]"


def seconds_ratio(results: Results, arm: str, cells: Iterable[Cell]) -> Estimate | None:
    """Compare an arm's seconds with those of plain training."""
    return results.compare(arm, "plain", "seconds", cells, how=np.divide)


Table = list[list[str]]


def by_metric(family: Family, place: str) -> Table:
    """Tabulate metrics as rows and pairs of arms as columns."""
    head = ["", *(pair.title for pair in family.pairs)]
    rows = [
        [METRICS[metric], *(family.text(pair, metric, place) for pair in family.pairs)]
        for metric in family.metrics
    ]
    return [head, *rows]


def by_arm(family: Family, place: str) -> Table:
    """Tabulate arms as rows and metrics as columns."""
    head = ["arm", *(METRICS[metric] for metric in family.metrics)]
    rows = [
        [pair.arm, *(family.text(pair, metric, place) for metric in family.metrics)]
        for pair in family.pairs
    ]
    return [head, *rows]


def by_place(family: Family) -> Table:
    """Tabulate pairs and places as rows, and metrics as columns."""
    head = ["", "data set, labels", *(METRICS[metric] for metric in family.metrics)]
    rows = []
    for pair in family.pairs:
        for place in family.places:
            texts = [family.text(pair, metric, place.key) for metric in family.metrics]
            if set(texts) - {NOTHING}:
                rows.append([pair.title, place.title, *texts])
    return [head, *rows]


def scores(results: Results, cells: list[Cell]) -> Table:
    """Tabulate the arms' own scores, in mean over cells, and what they cost."""
    metrics = [metric for metric in METRICS if results.has(metric)]
    head = ["arm", *(METRICS[metric] for metric in metrics), "seconds, times plain's"]
    rows = [
        [
            arm,
            *(number(results.mean(arm, metric, cells)) for metric in metrics),
            ratio_text(seconds_ratio(results, arm, cells)),
        ]
        for arm in results.arms
    ]
    return [head, *rows]


def by_dataset(results: Results, metric: str, places: Sequence[Place]) -> Table:
    """Tabulate one score of all arms, in mean over the cells of each place."""
    places = [place for place in places if place.cells]
    head = ["arm", *(place.title for place in places)]
    rows = [
        [arm, *(number(results.mean(arm, metric, place.cells)) for place in places)]
        for arm in results.arms
    ]
    return [head, *rows]


def seconds(results: Results, places: Sequence[Place]) -> Table:
    """Tabulate the seconds of arms, as multiples of plain training's."""
    places = [place for place in places if place.cells]
    head = ["arm", *(place.title for place in places)]
    rows = []
    for arm in results.arms:
        ratios = [seconds_ratio(results, arm, place.cells) for place in places]
        rows.append([arm, *(NOTHING if r is None else f"{r.mean:.2f}" for r in ratios)])
    return [head, *rows]


class Ranking(NamedTuple):
    """Ranks of arms in the cells that have them all."""

    arms: list[str]
    cells: list[Cell]
    #: By metric, of shape (n_arms, n_cells).
    ranks: dict[str, np.ndarray]

    def mean(self, metric: str | None = None) -> np.ndarray:
        """Give mean ranks over cells, of one metric or in mean over all."""
        by_metric = {name: ranks.mean(axis=1) for name, ranks in self.ranks.items()}
        return np.mean(list(by_metric.values()), axis=0) if metric is None else by_metric[metric]

    def order(self) -> np.ndarray:
        """Sort arms, the best first."""
        return np.argsort(self.mean(), kind="stable")


def ranking(results: Results, arms: Sequence[str]) -> Ranking | None:
    """Rank arms in each of the main metrics.

    Returns
    -------
    Ranking or None
        None if no cell has all arms and metrics.
    """
    arms = [arm for arm in arms if arm in results.arms]
    metrics = [metric for metric in MAIN_METRICS if results.has(metric)]
    found = {metric: results.ranks(arms, metric) for metric in metrics}
    cells = [cell for cell in results.cells if found and all(cell in r for r in found.values())]
    if not cells:
        return None
    ranks = {metric: np.array([r[cell] for cell in cells]).T for metric, r in found.items()}
    return Ranking(arms, cells, ranks)


def rank_table(ranked: Ranking, beside: Ranking | None) -> Table:
    """Tabulate mean ranks, and beside them those among more arms."""
    head = ["arm", *(METRICS[metric] for metric in ranked.ranks), "mean of the three"]
    head += ["mean, among all arms"] if beside else []
    rows = []
    wide = dict(zip(beside.arms, beside.mean(), strict=True)) if beside else {}
    for i in ranked.order():
        row = [ranked.arms[i], *(number(ranked.mean(m)[i], 1) for m in ranked.ranks)]
        row += [number(ranked.mean()[i], 2)]
        rows.append(row + ([number(wide.pop(ranked.arms[i]), 2)] if beside else []))
    if beside:
        rows += [[arm, *[NOTHING] * (len(head) - 2), number(r, 2)] for arm, r in wide.items()]
    return [head, *rows]


def write(path: Path, table: Table) -> None:
    """Write a table for Sphinx's ``csv-table``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(table)


def write_numbers(path: Path, numbers: dict[str, Any]) -> None:
    """Write substitutions for the text."""
    lines = [".. Written by examples/medmnist_report.py; do not edit.", ""]
    lines += [f".. |{name}| replace:: {value}" for name, value in numbers.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
