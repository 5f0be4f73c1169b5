"""
Tables and figures of the benchmark
===================================

Made of ``benchmark.csv`` and the predictions beside it, and of nothing else: run
``python examples/benchmark.py --report``. What is missing is named, and left out. A number in bold
is a difference that was found: p < 0.05 after Holm's correction for all numbers of its column.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import benchmark_plan as plan
import numpy as np
from benchmark import missing, units
from benchmark_figures import draw
from benchmark_plan import CELLS
from benchmark_results import (
    ALL,
    FINE_TUNED,
    FINE_TUNED_SETS,
    LARGE,
    LOWER,
    MAIN_PAIRS,
    SETS,
    SMALL,
    TARGETED,
    TITLES,
    UNTARGETED,
    Pair,
    Place,
    Results,
    corrected,
    few,
    number,
    text,
)

from tsynd_sk.comparison import SCORES, Difference

MAIN = ("roc_auc", "balanced_accuracy", "nll", "perturbed_roc_auc", "pgd_2_accuracy")

# Tables whose lines are told in words, too.
SAID = (
    "summary",
    "augmentations",
    "clean",
    "robust",
    "targeting",
    "labels",
    "pretrained",
    "rivals",
)

Table = list[list[str]]


def grid(
    results: Results, lines: Sequence[tuple[str, Pair, Place]], scores: Sequence[str]
) -> Table:
    """Tabulate differences, a line each, corrected column by column."""
    columns = [
        corrected([results.compare(pair, score, place) for _, pair, place in lines])
        for score in scores
    ]
    head = ["", *(TITLES[score] for score in scores)]
    return [
        head,
        *(
            [line[0], *map(text, row)]
            for line, row in zip(lines, zip(*columns, strict=True), strict=True)
        ),
    ]


# %%
# Aims.


def aims(results: Results, *, complete: bool) -> Table:
    """Say of each aim whether it was reached, and by which numbers."""
    checked = {
        "1": list(_harm(results, SETS)),
        "2": list(_gains(results, (SMALL, LARGE), plan.CLEAN[1:])),
        "3": list(_gains(results, (SMALL, LARGE), plan.ROBUST)),
        "4": list(_targeting(results)),
        "5": list(_cost(results)),
        "6": [
            *_harm(results, FINE_TUNED_SETS),
            *_gains(results, (FINE_TUNED,), plan.ROBUST),
        ],
    }
    table = [["aim", "what", "measured", "reached"]]
    for name, rows in checked.items():
        verdicts = {row[2] for row in rows}
        if verdicts & {"no", "below"}:
            verdict = "no"
        elif "not decided" in verdicts:
            verdict = "not decided"
        else:
            # Targeting has to gain in one score at least.
            verdict = "no" if name == "4" and "above" not in verdicts else "yes"
        if verdict != "not decided" and not complete:
            verdict += ", so far"
        table += [[name, plan.AIMS[name], "", verdict], *(["", *row] for row in rows)]
    return table


def _harm(results: Results, places: Sequence[Place]) -> Iterator[list[str]]:
    for score, most in plan.HARM.items():
        tests = [(pair, place) for pair in MAIN_PAIRS for place in places]
        found = corrected([results.compare(pair, score, place) for pair, place in tests])
        for pair in MAIN_PAIRS:
            own = [
                (d, place.name)
                for d, (which, place) in zip(found, tests, strict=True)
                if which == pair
            ]
            what = f"{TITLES[score]}, {pair}: lowest of {len(own)} sets"
            if any(d is None or math.isnan(d.p) for d, _ in own):
                yield [what, "–", "not decided"]
                continue
            lowest, where = min(own, key=lambda each: each[0].mean)
            harmed = [name for d, name in own if d.mean < -most or (d.is_found and d.mean < 0)]
            measured = f"{text(lowest)} ({where}); harmed: {'; '.join(harmed) or 'none'}"
            yield [what, measured, "no" if harmed else "yes"]


def _gains(results: Results, places: Sequence[Place], scores: Sequence[str]) -> Iterator[list[str]]:
    for place in places:
        for score in scores:
            d = results.compare(MAIN_PAIRS[0], score, place)
            what = f"{TITLES[score]}, {place.name}: {MAIN_PAIRS[0]}"
            yield [what, text(d), {"": "not decided", "above": "yes"}.get(_side(d), "no")]


def _targeting(results: Results) -> Iterator[list[str]]:
    for score in ("roc_auc", "balanced_accuracy", "pgd_2_accuracy"):
        d = results.compare(TARGETED, score, ALL)
        yield [f"{TITLES[score]}, {ALL.name}: {TARGETED}", text(d), _side(d) or "not decided"]
    yield _ratio(results, TARGETED, ALL, plan.EQUAL_COST)


def _side(d: Difference | None) -> str:
    """Say on which side of zero an interval lies, the better one being above."""
    if d is None or math.isnan(d.low):
        return ""
    low, high = (-d.high, -d.low) if d.score in LOWER else (d.low, d.high)
    return "above" if low > 0 else "below" if high < 0 else "neither"


def _cost(results: Results) -> Iterator[list[str]]:
    for place in (SMALL, LARGE):
        yield _ratio(results, Pair(plan.ON_STANDARD, "plain"), place, plan.COST)


def _ratio(results: Results, pair: Pair, place: Place, most: float) -> list[str]:
    ratios = results.ratios(pair.arm, place, pair.reference)
    what = f"time, {place.name}: {pair.arm} / {pair.reference}"
    if not ratios:
        return [what, "–", "not decided"]
    median = float(np.median(ratios))
    return [what, number(median, 2), "yes" if median <= most else "no"]


# %%
# Tables, one for each question.


def tables(results: Results) -> dict[str, Table]:
    """Return all tables by name."""
    standard, trivial = MAIN_PAIRS
    rivals = [Pair(plan.TRIVIAL, plan.STANDARD), Pair(plan.PAPER_ARM, plan.STANDARD)]
    five = [rivals[0], UNTARGETED[0], rivals[1], standard, trivial]
    summary = grid(results, [(str(pair), pair, ALL) for pair in five], MAIN)
    summary[0].append("time")
    for line, pair in zip(summary[1:], five, strict=True):
        line.append(_median(results.ratios(pair.arm, ALL)))
    places = [SMALL, LARGE, *SETS]
    both = [(f"{place.name}: {pair}", pair, place) for pair in MAIN_PAIRS for place in places]
    labels = [
        Place(f"28 pixels, {n} labels", tuple(c for c in SMALL.cells if c.n_labels == n))
        for n in (50, 250)
    ]
    attacked = [
        (place.name, replace(pair, kind="autoattack"), place)
        for pair in MAIN_PAIRS
        for place in (Place(place.name, few(place.cells)) for place in (SMALL, LARGE, ALL))
    ]
    targeted = [
        TARGETED,
        Pair(plan.ON_TRIVIAL, plan.RANDOM_ON_TRIVIAL),
        Pair(plan.PAPER_ARM, plan.RANDOM_ON_STANDARD),
        Pair(plan.PAPER_ARM, plan.ENTROPY_ARM),
    ]
    others = [name for name in plan.WITH_SMOTE if name != plan.ON_STANDARD]
    augmentations = (plan.STANDARD, plan.TRIVIAL, "mixup", "smote", "adversarial")
    pretrained = [*MAIN_PAIRS, *UNTARGETED, rivals[0], Pair(plan.HEAD_ONLY, plan.STANDARD)]
    return {
        "summary": summary,
        "harm": grid(
            results,
            [(f"{p.name}: {pair}", pair, p) for pair in MAIN_PAIRS for p in SETS + FINE_TUNED_SETS],
            tuple(plan.HARM),
        ),
        "clean": grid(results, both, tuple(SCORES)),
        "robust": grid(results, both, ("perturbed_roc_auc", "pgd_2_accuracy", "pgd_4_accuracy")),
        "autoattack": grid(
            results,
            [(f"{name}: {pair}", pair, place) for name, pair, place in attacked],
            ("pgd_2_accuracy", "autoattack_2_accuracy"),
        ),
        "targeting": grid(results, [(str(pair), pair, ALL) for pair in targeted], MAIN),
        "labels": grid(
            results,
            [(f"{p.name}: {pair}", pair, p) for p in labels for pair in (standard, UNTARGETED[0])],
            MAIN,
        ),
        "rivals": grid(results, [everywhere(plan.ON_STANDARD, other) for other in others], MAIN),
        "augmentations": grid(
            results, [everywhere(augmentation, "plain") for augmentation in augmentations], MAIN
        ),
        "pretrained": grid(results, [(str(pair), pair, FINE_TUNED) for pair in pretrained], MAIN),
        "cost": _costs(results),
        "scores": _scores(results),
        "cells": _cells(results),
    }


def everywhere(arm: str, reference: str) -> tuple[str, Pair, Place]:
    """Compare two arms in all cells that have both."""
    pair = Pair(arm, reference)
    return str(pair), pair, ALL if {arm, reference} <= plan.ALL.keys() else SMALL


def in_words(head: list[str], row: list[str]) -> str:
    """Say in which scores a row of a table is better or worse, and where nothing was found."""
    lower = {TITLES[score] for score in LOWER}
    sides: dict[str, list[str]] = {
        "better in": [],
        "worse in": [],
        "no significant difference in": [],
        "not decided in": [],
    }
    for title, cell in zip(head[1:], row[1:], strict=True):
        if title not in TITLES.values():
            continue
        if "[" not in cell:
            side = "not decided in"
        elif not cell.startswith("**"):
            side = "no significant difference in"
        else:
            side = "better in" if cell.startswith("**+") != (title in lower) else "worse in"
        sides[side].append(title)
    return "; ".join(f"{side} {listed(titles)}" for side, titles in sides.items() if titles)


def listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _median(ratios: list[float]) -> str:
    return number(float(np.median(ratios)), 2) if ratios else "–"


def _costs(results: Results) -> Table:
    """Tabulate the median of processor time over plain training's (pretrained: standard's)."""
    places = (SMALL, LARGE, FINE_TUNED)
    table = [["", *(place.name for place in places)]]
    table += [
        [arm, *(_median(results.ratios(arm, place)) for place in places)]
        for arm in (*plan.WITH_SMOTE, plan.HEAD_ONLY)
    ]
    return table


def _scores(results: Results) -> Table:
    """Tabulate means of all arms, and how many of their trainings had converged."""
    table = [["", "arm", *(TITLES[score] for score in MAIN), "converged"]]
    for place in (SMALL, LARGE, FINE_TUNED):
        for arm in dict.fromkeys(arm for cell in place.cells for arm in cell.arms):
            marks = [
                row["converged"]
                for cell in place.cells
                for (name, which, _), row in results.rows.items()
                if (name, which) == (cell.name, arm)
            ]
            means = [number(results.mean(arm, score, place)) for score in MAIN]
            table.append([place.name, arm, *means, f"{marks.count('True')} of {len(marks)}"])
    return table


def _cells(results: Results) -> Table:
    """Tabulate what was trained, and how a draw of it is repeated."""
    table = [["cell", "arms", "draws", "planned", "images", "steps", "hours", "one draw anew"]]
    for cell in CELLS.values():
        rows = [row for (name, _, _), row in results.rows.items() if name == cell.name]
        steps = sorted({int(row["steps"]) for row in rows})
        seconds = sum(float(row["seconds"]) + float(row["seconds_scoring"]) for row in rows)
        table.append(
            [
                cell.name,
                str(len(cell.arms)),
                str(len({row["draw"] for row in rows})),
                str(cell.draws),
                str(plan.SETS[cell.dataset][2]),
                f"{steps[0]} to {steps[-1]}" if steps else "–",
                number(seconds / 3600, 1) if rows else "–",
                f"``python examples/benchmark.py --repeat {cell.name}``",
            ]
        )
    return table


# %%
# All of it.


def write_report(table: Path, folder: Path) -> list[str]:
    """Write tables, figures and numbers for the text; return what is missing and where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(table)
    left = missing(units(CELLS.values()), list(results.rows.values()))
    made = {**tables(results), "aims": aims(results, complete=not left)}
    for name, lines in made.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)
    draw(results, folder)
    rows = results.rows.values()
    seconds = sum(float(row["seconds"]) + float(row["seconds_scoring"]) for row in rows)
    verdicts = {row[0]: row[3] for row in made["aims"] if row[0] in plan.AIMS}
    numbers = {
        "trainings": len(rows),
        "hours": number(seconds / 3600, 1),
        "machines": "; ".join(dict.fromkeys(row["machine"] for row in rows)) or "–",
        "versions": "; ".join(dict.fromkeys(row["made_with"] for row in rows)) or "–",
        "planned": sum(len(cell.arms) * cell.draws for cell in CELLS.values()),
        "draws": max((int(row["draw"]) + 1 for row in rows), default=0),
        **{f"aim {name}": verdict for name, verdict in verdicts.items()},
        "targeting pays": {"yes": "is worth its price", "no": "is not worth its price"}.get(
            verdicts["4"].partition(",")[0], "may or may not be worth its price"
        ),
        **{
            f"{name}/{row[0]}/{title}": value
            for name in ("summary", "targeting", "rivals", "pretrained", "cost")
            for row in made[name][1:]
            for title, value in zip(made[name][0][1:], row[1:], strict=True)
        },
        **{
            f"said/{name}/{row[0]}": in_words(made[name][0], row)
            for name in SAID
            for row in made[name][1:]
        },
        **{
            f"harmed/{what}": measured.partition("harmed: ")[2]
            for _, what, measured, _ in made["aims"]
            if "harmed: " in measured
        },
    }
    lines = [".. Written by examples/benchmark.py --report; do not edit.", ""]
    lines += [f".. |{name}| replace:: {value}" for name, value in numbers.items()]
    (folder / "numbers.rst").write_text("\n".join(lines) + "\n", encoding="utf-8")
    said = [f"missing: {cell.name}, draw {draw}" for cell, draw in left]
    return [*said, f"Tables, figures and numbers: {folder}"]
