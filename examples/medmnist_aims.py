"""What was aimed at before the MedMNIST benchmark was run, and whether it was reached."""

from __future__ import annotations

import math
from collections.abc import Iterator

from medmnist_plan import LATER_ARMS
from medmnist_statistics import Cell, Estimate, Results, holm
from medmnist_tables import ALPHA, MAIN_METRICS, METRICS, Table, difference_text, number, ranking

MI, RANDOM, ENTROPY = "standard+mutual_info", "standard+random", "standard+entropy"
CLEAN, CORRUPTED, ATTACKED = MAIN_METRICS

# With a hundred labels, of two data sets: how far above plain and above random displacement.
MARGINS = {"plain": 0.25, "random": 0.15}
MARGIN_CELLS: tuple[Cell, ...] = (("breastmnist", "100"), ("pneumoniamnist", "100"))
SURVIVED = {"autoattack": "AutoAttack", "square": "Square"}

Row = list[str]


def check_aims(main: Results, attacks: Results) -> Table:
    """Tabulate aims, what was measured, and whether it is what was aimed at."""
    head = ["aim", "what", "measured", "reached"]
    rows = [*_robustness(main), *_survival(attacks), *_rank(main), *_rival(main)]
    return [head, *rows, *_clean(main), *_corrupted(main), *_objective(main)]


def _row(aim: str, what: str, estimate: Estimate | None, least: float = 0.0) -> Row:
    if estimate is None:
        return [aim, what, difference_text(None), "not measured"]
    reached = estimate.mean >= least and estimate.is_above
    return [aim, what, difference_text(estimate), "yes" if reached else "no"]


def _robustness(results: Results) -> Iterator[Row]:
    for cell in MARGIN_CELLS:
        for reference, margin in MARGINS.items():
            what = f"{METRICS[ATTACKED]}, {cell[0]} {cell[1]}: mutual_info − {reference} ≥ {margin}"
            estimate = results.compare("mutual_info", reference, ATTACKED, [cell])
            yield _row("1", what, estimate, margin)


def _survival(results: Results) -> Iterator[Row]:
    for cell in MARGIN_CELLS:
        for attack, title in SURVIVED.items():
            for reference in MARGINS:
                what = (
                    f"accuracy, {title} 2/255, {cell[0]} {cell[1]}: mutual_info − {reference} > 0"
                )
                column = f"{attack}_2_accuracy"
                yield _row("1", what, results.compare("mutual_info", reference, column, [cell]))


def _rank(results: Results) -> Iterator[Row]:
    arms = [arm for arm in results.arms if arm not in ("adversarial", *LATER_ARMS)]
    ranked = ranking(results, arms)
    what = "best mean rank among the planned arms that do not train on attacks"
    if ranked is None:
        yield ["1", what, difference_text(None), "not measured"]
        return
    for label, metric in ((METRICS[ATTACKED], ATTACKED), ("mean of the three metrics", None)):
        ranks = ranked.mean(metric)
        best = ranked.arms[int(ranks.argmin())]
        text = f"{best} ({number(float(ranks.min()), 2)}, {len(ranked.cells)} cells)"
        yield ["1", f"{what}: {label}", text, "yes" if "mutual_info" in best else "no"]


def _rival(results: Results) -> Iterator[Row]:
    for reference in ("standard", RANDOM):
        estimates = [results.compare(MI, reference, m, results.low_data) for m in MAIN_METRICS]
        for metric, estimate in zip(MAIN_METRICS, estimates, strict=True):
            yield _row("2", f"{METRICS[metric]}, few labels: {MI} − {reference} > 0", estimate)
        n_above = sum(e is not None and e.is_above for e in estimates)
        needed = 3 if reference == "standard" else 2
        measured = "not measured" if None in estimates else "yes" if n_above >= needed else "no"
        yield ["2", f"above {reference} in at least {needed} of 3", f"{n_above} of 3", measured]


def _clean(results: Results) -> Iterator[Row]:
    for arm in ("mutual_info", MI):
        found = {cell: results.compare(arm, "plain", CLEAN, [cell]) for cell in results.cells}
        # A single seed has no interval.
        told = {c: e for c, e in found.items() if e is not None and not math.isnan(e.low)}
        low = [estimate for cell, estimate in told.items() if cell in results.low_data]
        below = [estimate.is_below for estimate in told.values()]
        corrected = holm([estimate.p for estimate in told.values()])
        n_held = sum(b and p < ALPHA for b, p in zip(below, corrected, strict=True))
        n_silent = sum(estimate is not None for estimate in found.values()) - len(told)
        text = f"{sum(below)} of {len(told)} cells, {n_held} after Holm's correction"
        verdict = "no" if any(below) else "yes" if told else "not measured"
        if n_silent:
            text += f"; {n_silent} more have a single seed"
            verdict = "not known" if verdict == "yes" else verdict
        what = f"{METRICS[CLEAN]}, {arm} below plain, interval below zero: in no cell"
        yield ["3", what, text, verdict]
        n_above = sum(estimate.is_above for estimate in low)
        verdict = ("yes" if 2 * n_above >= len(low) else "no") if low else "not measured"
        what = "above plain, interval above zero: in half of the cells with few labels"
        yield ["3", f"{METRICS[CLEAN]}, {arm} {what}", f"{n_above} of {len(low)} cells", verdict]


def _corrupted(results: Results) -> Iterator[Row]:
    # Each arm against what it would be without synthesis of any kind, and without a target.
    for arm, random in (("mutual_info", "random"), (MI, RANDOM)):
        for reference, least in (("plain", 2), (random, None)):
            estimates = []
            for name in results.datasets:
                cells = [cell for cell in results.low_data if cell[0] == name]
                estimates.append(results.compare(arm, reference, CORRUPTED, cells))
                what = f"{METRICS[CORRUPTED]}, {name}, few labels: {arm} − {reference} > 0"
                yield _row("4", what, estimates[-1])
            if least is not None:
                n = sum(e is not None and e.is_above for e in estimates)
                verdict = ("yes" if n >= least else "no") if estimates else "not measured"
                what = f"{arm} above {reference} in at least {least} data sets"
                yield ["4", what, f"{n} of {len(estimates)}", verdict]


def _objective(results: Results) -> Iterator[Row]:
    for metric in MAIN_METRICS:
        what = f"{METRICS[metric]}, few labels: {MI} − {ENTROPY} > 0"
        yield _row("5", what, results.compare(MI, ENTROPY, metric, results.low_data))
