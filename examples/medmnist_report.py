"""
Tables, figures and numbers of the MedMNIST benchmark
=====================================================

Reads ``benchmark_medmnist.csv``, ``benchmark_attacks.csv`` and ``benchmark_ablations.csv`` and
nothing else, and writes what the documentation shows, so that no number is typed by hand. The
tables were made by an earlier version; what trained their networks is in the repository's history.

Arms, cells and files that are missing are left out, and named. Differences are paired by seed.
Cells of a data set are averaged seed by seed; intervals are at 95 %, by Student's t within a data
set and after Welch and Satterthwaite over several. Tests are corrected by Holm's method for all
that a question asks at once: those of a figure or table, or of one factor, arm or strength in it.

Run with ``python examples/medmnist_report.py``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import medmnist_figures as figures
import medmnist_tables as tables
from medmnist_ablations import write_ablations
from medmnist_aims import check_aims
from medmnist_plan import DATASETS, SEEDS, SIZES, seeds_of
from medmnist_statistics import Results
from medmnist_tables import (
    MAIN_METRICS,
    METRICS,
    Family,
    Pair,
    Place,
    all_labels_of,
    cells_of,
    datasets_of,
    low_of,
    places_of,
)

HERE = Path(__file__).resolve().parent
FILES = ("medmnist", "attacks", "ablations")

MI, RANDOM, ENTROPY = "standard+mutual_info", "standard+random", "standard+entropy"

# Synthesis beside standard augmentation, which every user has.
ON_STANDARD = [Pair(arm, "standard") for arm in (MI, RANDOM, ENTROPY)]
ON_RANDOM = [Pair(MI, RANDOM)]

# The strongest augmentation that costs nothing, alone and under synthesis.
TRIVIAL = "trivial_augment"
ON_TRIVIAL = [Pair(f"{TRIVIAL}+{objective}", TRIVIAL) for objective in ("mutual_info", "random")]
ON_TRIVIAL_RANDOM = [Pair(f"{TRIVIAL}+mutual_info", f"{TRIVIAL}+random")]
RIVALS = [Pair(MI, rival) for rival in (TRIVIAL, "adversarial", "mixup", "smote")]

# Synthesis alone. What was decoded literally has "reconstruction" where now there are duplicates.
SYNTHESIS = ("mutual_info", "random", "entropy", "reconstruction", "duplicate")
ON_PLAIN = [Pair(arm, "plain") for arm in SYNTHESIS]

# Whether the target matters, and which.
TARGETS = [
    Pair("mutual_info", "random"),
    Pair(MI, RANDOM),
    Pair("mutual_info", "plain"),
    Pair(MI, "plain"),
]
OBJECTIVES = [Pair("mutual_info", "entropy"), Pair(MI, ENTROPY)]

# It trains on attacks, and so is no rival where robustness to them is ranked.
TRAINED_ON_ATTACKS = "adversarial"

ATTACKS = {"pgd": "PGD", "autoattack": "AutoAttack", "square": "Square (black box)"}


class Writer:
    """Writes into one folder, and keeps the numbers that text quotes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.numbers: dict[str, Any] = {}

    def path(self, name: str) -> Path:
        return self.folder / name

    def table(self, name: str, table: tables.Table) -> None:
        """Write a table, unless there is nothing in it."""
        path = self.path(f"{name}.csv")
        path.unlink(missing_ok=True)
        if len(table) > 1 and len(table[0]) > 1:
            tables.write(path, table)

    def figure(self, name: str) -> Path:
        """Give the path of a figure, where one of an earlier report must not stay."""
        path = self.path(f"{name}.png")
        path.unlink(missing_ok=True)
        return path

    def quote(self, family: Family, prefix: str = "") -> None:
        """Keep differences as ``arm/reference/metric/place``."""
        for pair, metric, place in family.estimates:
            name = f"{prefix}{pair.arm}/{pair.reference}/{metric}/{place}"
            estimate = family.get(pair, metric, place)
            self.numbers[name] = tables.difference_text(estimate)


def write_report(csv_folder: Path, folder: Path) -> list[str]:
    """Write tables, figures and numbers.

    Parameters
    ----------
    csv_folder : Path
        Where the CSV files are.
    folder : Path
        Where everything goes; what is there already is replaced.

    Returns
    -------
    list of str
        What was missing, and where the rest is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: csv_folder / f"benchmark_{name}.csv" for name in FILES}
    results = {name: Results.read(path) for name, path in paths.items()}
    writer = Writer(folder)
    missing = [f"{path.name}: the file" for path in paths.values() if not path.exists()]
    for name, one in results.items():
        ours = name == "medmnist" and set(one.datasets) <= set(DATASETS)
        missing += [f"{paths[name].name}: {text}" for text in one.missing(SIZES if ours else ())]
        describe(writer, name, one)
    write_main(writer, results["medmnist"])
    write_attacks(writer, results["attacks"])
    write_ablations(writer, results["ablations"])
    aims = check_aims(results["medmnist"], results["attacks"])
    writer.table("aims", aims)
    writer.numbers["missing"] = "; ".join(missing) or "nothing"
    tables.write_numbers(writer.path("numbers.rst"), writer.numbers)
    return [*(f"missing: {text}" for text in missing), f"Tables, figures and numbers: {folder}"]


def describe(writer: Writer, name: str, results: Results) -> None:
    """Say what was run, and by which versions."""
    if not results.rows:
        return
    for column in ("made_with", "scored_on"):
        seen = dict.fromkeys(row[column] for row in results.rows if row.get(column))
        writer.numbers[f"{name}/{column}"] = "; ".join(seen)
    writer.numbers[f"{name}/runs"] = len(results.rows)
    seconds = sum(float(row["seconds"]) for row in results.rows if row.get("seconds"))
    writer.numbers[f"{name}/hours"] = f"{seconds / 3600:.1f}"
    rows = [["data set", "labels", "images", "epochs", "arms", "seeds", "seeds planned"]]
    for cell in results.cells:
        of_cell = [row for row in results.rows if (row["dataset"], row["size"]) == cell]
        counts = [str(len({row[column] for row in of_cell})) for column in ("arm", "seed")]
        n_train, epochs = (of_cell[0].get(column, "") for column in ("n_train", "epochs"))
        planned = str(seeds_of(cell[1], int(n_train), SEEDS[name])) if n_train else ""
        rows.append([*cell, n_train, epochs, *counts, planned])
    writer.table(f"{name}_cells", rows)


def write_main(writer: Writer, results: Results) -> None:
    """Write what the main part says."""
    low, datasets = low_of(results), datasets_of(results)
    means, places = [low, *datasets], places_of(results)
    others = [Pair(arm, "plain") for arm in results.arms if arm != "plain"]
    known = [*ON_STANDARD, *ON_RANDOM, *ON_TRIVIAL, *ON_TRIVIAL_RANDOM, *RIVALS]
    known += [*TARGETS, *OBJECTIVES]
    pairs = list(dict.fromkeys([*known, *others]))
    writer.quote(Family(results, pairs, list(METRICS), [low]))
    writer.quote(Family(results, pairs, MAIN_METRICS, datasets))
    for name, chosen in (
        ("on_standard", ON_STANDARD),
        ("on_random", ON_RANDOM),
        ("on_trivial", ON_TRIVIAL),
        ("on_plain", ON_PLAIN),
    ):
        write_forest(writer, name, results, chosen)

    for name, chosen in (
        ("on_standard_means", [*ON_STANDARD, *ON_RANDOM]),
        ("on_trivial_means", [*ON_TRIVIAL, *ON_TRIVIAL_RANDOM]),
        ("rivals", RIVALS),
        ("objectives", OBJECTIVES),
    ):
        family = Family(results, chosen, list(METRICS), [low])
        writer.table(name, tables.by_metric(family, "low"))
        for pair in family.pairs:
            writer.numbers[f"held/{pair.arm}/{pair.reference}"] = family.held(pair, "low")
    everything = all_labels_of(results)
    targeted = [ON_STANDARD[0], ON_TRIVIAL[0], ON_PLAIN[0]]
    of_all = Family(results, targeted, list(METRICS), [everything])
    writer.quote(of_all)
    writer.table("all_labels", tables.by_metric(of_all, "all") if of_all.estimates else [[]])
    # All metrics side by side would be wider than a page.
    for name, metrics in (("means", list(METRICS)[:4]), ("others", list(METRICS)[4:])):
        family = Family(results, others, metrics, [low])
        writer.table(f"on_plain_{name}", tables.by_arm(family, "low"))
    wide = Family(results, others, MAIN_METRICS, [low, *datasets])
    path = writer.figure("arms")
    if wide.estimates:
        lines = figures.lines_of(wide, low, datasets)
        label = "mean over cells with few labels, 95 % interval"
        figures.overview(path, lines, wide.metrics, "arms compared with plain", label)

    writer.table("scores", tables.scores(results, low.cells))
    balanced = tables.by_dataset(results, "balanced_accuracy", datasets)
    writer.table("balanced", balanced if results.has("balanced_accuracy") else [[]])
    writer.table("targets", tables.by_place(Family(results, TARGETS, MAIN_METRICS, means)))
    objectives = Family(results, OBJECTIVES, MAIN_METRICS, means)
    writer.table("objectives_datasets", tables.by_place(objectives))
    writer.quote(Family(results, OBJECTIVES, MAIN_METRICS, places))
    write_clean(writer, results)
    write_ranks(writer, results)
    write_seconds(writer, results)
    path = writer.figure("clean_and_attacked")
    panels = [place for place in [low, *datasets] if place.cells]
    if panels and results.has(MAIN_METRICS[2]):
        figures.scatter(path, results, panels, MAIN_METRICS[0], MAIN_METRICS[2])


def write_forest(writer: Writer, name: str, results: Results, pairs: list[Pair]) -> None:
    """Write differences in every cell as a figure, as a table and as numbers."""
    places = places_of(results)
    family = Family(results, pairs, MAIN_METRICS, places)
    writer.table(f"{name}_cells", tables.by_place(family))
    path = writer.figure(name)
    if family.estimates:
        shown = [*cells_of(results), low_of(results)]
        figures.forest(path, Family(results, pairs, MAIN_METRICS, shown))
    writer.quote(family)


def write_clean(writer: Writer, results: Results) -> None:
    """Tell where clean ROC AUC suffers, and where it gains."""
    cells = cells_of(results)
    metric = MAIN_METRICS[0]
    rows = [["arm", "data set, labels", "clean ROC AUC − plain's", "p (Holm)", "interval"]]
    for arm in ("mutual_info", MI):
        # Each arm is a question of its own.
        family = Family(results, [Pair(arm, "plain")], [metric], cells)
        counts = dict.fromkeys(("above", "below", "below_holm", "above_low", "cells", "low"), 0)
        for place in cells:
            key = Pair(arm, "plain"), metric, place.key
            if (estimate := family.get(*key)) is None:
                continue
            p, few = family.corrected[key], place.cells[0] in results.low_data
            where = "above" if estimate.is_above else "below" if estimate.is_below else ""
            counts["cells"] += 1
            counts["low"] += few
            counts["above"] += estimate.is_above
            counts["below"] += estimate.is_below
            counts["below_holm"] += estimate.mean < 0 and p < tables.ALPHA
            counts["above_low"] += estimate.is_above and few
            rows.append([arm, place.title, family.text(*key), tables.number(p), where])
        for name, count in counts.items():
            writer.numbers[f"clean/{arm}/{name}"] = count
    writer.table("clean", rows)


def write_ranks(writer: Writer, results: Results) -> None:
    """Rank arms that do not train on attacks, and all."""
    ranked = tables.ranking(results, [a for a in results.arms if a != TRAINED_ON_ATTACKS])
    everyone = tables.ranking(results, results.arms)
    path = writer.figure("ranks")
    writer.table("ranks", [[]])
    if ranked is None:
        return
    writer.table("ranks", tables.rank_table(ranked, everyone))
    figures.heat_map(path, ranked)
    writer.numbers["ranks/cells"] = len(ranked.cells)
    writer.numbers["ranks/arms"] = len(ranked.arms)
    for arm, rank in zip(ranked.arms, ranked.mean(), strict=True):
        writer.numbers[f"ranks/{arm}"] = tables.number(float(rank), 2)
    for metric in ranked.ranks:
        for arm, rank in zip(ranked.arms, ranked.mean(metric), strict=True):
            writer.numbers[f"ranks/{arm}/{metric}"] = tables.number(float(rank), 1)


def write_seconds(writer: Writer, results: Results) -> None:
    """Tell what arms cost, and their scores, as numbers."""
    low = low_of(results)
    shown = [low, *cells_of(results)]
    writer.table("seconds", tables.seconds(results, shown))
    for arm in results.arms:
        if (ratio := tables.seconds_ratio(results, arm, low.cells)) is not None:
            writer.numbers[f"seconds/{arm}/low"] = f"{ratio.mean:.1f}"
        for metric in METRICS:
            if not math.isnan(value := results.mean(arm, metric, low.cells)):
                writer.numbers[f"score/{arm}/{metric}/low"] = tables.number(value)


def attack_columns(results: Results) -> Iterator[tuple[str, dict[str, str]]]:
    """Give columns of accuracies by strength, and by attack."""
    names = dict.fromkeys(name for row in results.rows for name in row)
    strengths = [n[4:-9] for n in names if n.startswith("pgd_") and n.endswith("_accuracy")]
    for eps in [text for text in strengths if text.replace(".", "", 1).isdecimal()]:
        columns = {f"{name}_{eps}_accuracy": title for name, title in ATTACKS.items()}
        yield eps, {column: title for column, title in columns.items() if results.has(column)}


def write_attacks(writer: Writer, results: Results) -> None:
    """Tell whether what is gained against one attack is one against others."""
    pairs = [Pair("mutual_info", "plain"), Pair("mutual_info", "random")]
    pairs += [ON_STANDARD[0], *ON_RANDOM, ON_TRIVIAL[0], *ON_TRIVIAL_RANDOM]
    pairs += [Pair("adversarial", "plain")]
    panels = cells_of(results)
    places = [*panels, Place("mean", "mean", results.cells)]
    for name in ("attacks", "attacks_differences"):
        writer.table(name, [[]])
    rows: tables.Table = []
    differences: tables.Table = []
    for eps, columns in attack_columns(results):
        titles = [f"{title}, {eps}/255" for title in columns.values()]
        figures.survival(
            writer.figure(f"attacks_{eps}"), results, columns, panels, f"accuracy, {eps}/255"
        )
        for place in panels:
            for arm in results.arms:
                values = [results.mean(arm, column, place.cells) for column in columns]
                if not math.isnan(values[0]):
                    rows.append([place.title, arm, eps, *map(tables.number, values)])
        family = Family(results, pairs, list(columns), places)
        writer.quote(family, "attacks/")
        for pair in family.pairs:
            for place in places:
                texts = [family.text(pair, column, place.key) for column in columns]
                differences.append([pair.title, place.title, eps, *texts])
        head = [title.rpartition(",")[0] for title in titles]
        writer.table("attacks", [["data set, labels", "arm", "strength / 255", *head], *rows])
        head = ["", "data set, labels", "strength / 255", *head]
        writer.table("attacks_differences", [head, *differences])
    masked = sum(bool(row.get("gradient_masking")) for row in results.rows)
    writer.numbers["attacks/masked"] = masked


def main() -> None:
    parser = argparse.ArgumentParser(description="Report on the MedMNIST benchmark.")
    parser.add_argument("--csv", type=Path, default=HERE, metavar="DIR")
    default = HERE.parent / "docs" / "evidence"
    parser.add_argument("--evidence", type=Path, default=default, metavar="DIR")
    options = parser.parse_args()
    for line in write_report(options.csv, options.evidence):
        print(line)


if __name__ == "__main__":
    main()
