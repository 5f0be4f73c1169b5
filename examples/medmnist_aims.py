"""What was aimed at before the MedMNIST benchmark was run, and whether it was reached."""

from __future__ import annotations

from collections.abc import Iterator

from medmnist_statistics import Cell, Estimate, Results
from medmnist_tables import MAIN_METRICS, METRICS, Table, difference_text, number, ranking

MI, RANDOM = "standard+mutual_info", "standard+random"
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
    return [head, *rows, *_clean(main), *_corrupted(main)]


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
    ranked = ranking(results, [arm for arm in results.arms if arm != "adversarial"])
    what = "best mean rank among arms that do not train on attacks"
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
        measured = {cell: one for cell, one in found.items() if one is not None}
        low = [one for cell, one in measured.items() if cell in results.low_data]
        n_below, n_above = sum(e.is_below for e in measured.values()), sum(e.is_above for e in low)
        for what, n, of, reached in (
            ("below plain, interval below zero: in no cell", n_below, len(measured), n_below == 0),
            (
                "above plain, interval above zero: in half of the cells with few labels",
                n_above,
                len(low),
                2 * n_above >= len(low),
            ),
        ):
            verdict = ("yes" if reached else "no") if of else "not measured"
            yield ["3", f"{METRICS[CLEAN]}, {arm} {what}", f"{n} of {of} cells", verdict]


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
