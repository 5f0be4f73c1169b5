"""
Where targeted synthesis helps, on MedMNIST
===========================================

Trains the same network in fifteen ways on few and on many labelled images, and scores it on clean,
corrupted and attacked ones. The parts are

- ``main``: all arms in all cells (data set x number of labels), on the test splits;
- ``attacks``: some arms under stronger attacks, on the test splits;
- ``ablations``: one factor after another, on the validation splits, to choose defaults;
- ``report``: tables, figures and numbers for the documentation, out of the CSV files alone.

Run with ``python examples/benchmark_medmnist.py --root FOLDER_OF_MEDMNIST_FILES``: main, attacks
and report, some hours on two cores. An interrupted run goes on where it stopped when it is started
again, and the CSV files hold what is done after each cell. What is compared, and why, is in
``medmnist_plan.py``. Packages: ``pip install "tsynd_sk[benchmark]"``.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import medmnist_plan as plan
import numpy as np
import torch
from tqdm import tqdm

from tsynd_sk import __version__
from tsynd_sk.comparison import Comparison, Settings, Splits, load_splits

HERE = Path(__file__).resolve().parent
EVIDENCE = HERE.parent / "docs" / "evidence"

# Columns before those of the comparison, and numbers with as many digits as mean anything.
LEADING = ("dataset", "size")
DIGITS = 6


@dataclass(frozen=True)
class Cell:
    """A data set and a number of labelled images."""

    dataset: str
    size: str
    comparison: Comparison

    @property
    def name(self) -> str:
        return f"{self.comparison.splits.name}-{self.size}"

    @property
    def key(self) -> tuple[str, str]:
        return self.dataset, self.size


@cache
def images(dataset: str, root: str | None, score_on: str) -> Splits:
    return load_splits(dataset, root=root, score_on=score_on)


def sizes_of(part: plan.Part, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Go through data sets and sizes, small sizes first, so that partial results are useful."""
    if part.sizes is None:
        for size in sorted(options.sizes, key=lambda s: (s == "all", int(s) if s != "all" else 0)):
            yield from ((dataset, size) for dataset in options.datasets)
    else:
        yield from ((name, part.sizes[name]) for name in options.datasets if name in part.sizes)


def cells_of(name: str, options: argparse.Namespace) -> list[Cell]:
    """Prepare the cells of a part; what is wrong with one is told before any is run."""
    part, cells = plan.PARTS[name], []
    arms = part.arms()[0]
    if options.arms:
        arms = {arm: arms[arm] for arm in arms if arm in options.arms}
    for dataset, size in sizes_of(part, options):
        splits = images(dataset, options.root, part.score_on)
        n_train = len(splits.X_train) if size == "all" else int(size)
        settings = Settings(
            n_train=n_train,
            arms=arms,
            seeds=plan.seeds_of(size, n_train, min(options.seeds, part.seeds)),
            epochs=options.epochs or plan.epochs_of(size, n_train),
            autoencoder_epochs=options.epochs or plan.AUTOENCODER_EPOCHS,
            **part.attacks,
        )
        out = options.out / name / f"{splits.name}-{size}"
        comparison = Comparison(splits, settings, out, n_jobs=options.n_jobs)
        cells.append(Cell(splits.name, size, comparison))
        check_made_alike(cells[-1])
    return cells


# %%
# Versions. A run that is resumed must go on with what it began with.


def versions() -> dict[str, str]:
    return {
        "tsynd_sk": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def check_made_alike(cell: Cell) -> None:
    """Raise if results of different versions would mix in one cell."""
    comparison = cell.comparison
    path, ours = comparison.out / "made_with.json", versions()
    if not path.exists():
        return
    theirs = json.loads(path.read_text())
    changed = [f"{n}: {theirs.get(n)} -> {v}" for n, v in ours.items() if theirs.get(n) != v]
    if changed and comparison.missing():
        raise ValueError(
            f"{comparison.out} was begun with other versions ({'; '.join(changed)}). "
            "Go on with those, or choose another --out, or remove that folder to begin it anew."
        )


def note_versions(cell: Cell) -> None:
    path = cell.comparison.out / "made_with.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(versions(), indent=2))


def made_with(cell: Cell) -> str:
    path = cell.comparison.out / "made_with.json"
    noted = json.loads(path.read_text()) if path.exists() else versions()
    return ", ".join(f"{name} {noted[name]}" for name in versions())


# %%
# Tables.


def rows_of(cell: Cell, settings: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the runs of a cell that are done."""
    noted = made_with(cell)
    for row in cell.comparison.results():
        row = {**dict.fromkeys(LEADING), **row, "size": cell.size}
        if settings:
            row["setting"] = settings[row["arm"]]
        yield {**row, "made_with": noted}


def read_table(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, cells: Sequence[Cell], settings: dict[str, str]) -> None:
    """Write what is done. Cells that this command was not asked for stay as they are."""
    asked = {cell.key for cell in cells}
    rows: list[dict[str, Any]] = [
        row for row in read_table(path) if (row["dataset"], row["size"]) not in asked
    ]
    rows += [row for cell in cells for row in rows_of(cell, settings)]
    if not rows:
        return
    columns = dict.fromkeys(name for row in rows for name in row)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: list[list[Any]] = [list(columns)]
    lines += [[_short(row.get(name)) for name in columns] for row in rows]
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    unfinished.replace(path)


def _short(value: Any) -> Any:
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else value


def replace_file(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


# %%
# The run.


def run_cell(cell: Cell) -> None:
    comparison = cell.comparison
    note_versions(cell)
    missing = comparison.missing()
    bar_options = {"smoothing": 0, "mininterval": 0.5 if sys.stderr.isatty() else 30}
    with tqdm(
        total=comparison.n_trainings(),
        unit="training",
        desc=cell.name,
        disable=not missing,
        **bar_options,
    ) as bar:

        def report(text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update()

        comparison.run(report)


def run_part(name: str, cells: Sequence[Cell], options: argparse.Namespace) -> None:
    part = plan.PARTS[name]
    path, settings = options.csv / part.table, part.arms()[1]
    for cell in cells:
        try:
            run_cell(cell)
        finally:
            # After Ctrl-C, too.
            write_table(path, cells, settings)
        print(f"{name}, {cell.name}: {len(cell.comparison.results())} runs, see {path}", flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Where targeted synthesis helps, on MedMNIST.")
    add = parser.add_argument
    known = (*plan.PARTS, "report")
    add("parts", nargs="*", metavar="PART", help=f"{', '.join(known)} (default: all but ablations)")
    add("--root", metavar="DIR", help="folder with MedMNIST's files (default: ~/.medmnist)")
    add("--datasets", nargs="+", default=list(plan.DATASETS), metavar="NAME")
    add("--sizes", nargs="+", default=list(plan.SIZES), metavar="N", help='numbers, or "all"')
    add("--seeds", type=int, default=plan.SEEDS, metavar="K", help="at most, in every cell")
    add("--out", type=Path, default=Path("benchmark_medmnist_results"), metavar="DIR")
    add("--csv", type=Path, default=HERE, metavar="DIR", help="tables (default: beside this file)")
    add("--evidence", type=Path, default=EVIDENCE, metavar="DIR", help="what the report writes")
    add("--n-jobs", type=int, default=-1, metavar="J", help="processes (default: all cores)")
    add("--arms", nargs="+", metavar="ARM", help="for a trial: these only")
    add("--epochs", type=int, metavar="E", help="for a trial: so many in every cell")
    options = parser.parse_args(argv)
    options.parts = options.parts or ["main", "attacks", "report"]
    if unknown := [part for part in options.parts if part not in known]:
        parser.error(f"there is no part {unknown[0]!r}; known: {', '.join(known)}")
    if wrong := [size for size in options.sizes if size != "all" and not size.isdecimal()]:
        parser.error(f"--sizes takes numbers of images and 'all'; got {wrong[0]!r}")
    if odd := [size for size in options.sizes if size not in plan.SIZES and not options.epochs]:
        parser.error(f"for {odd[0]} images no number of epochs is planned: give --epochs")
    if "report" in options.parts and find_spec("matplotlib") is None:
        parser.error('the report needs matplotlib: pip install "tsynd_sk[benchmark]"')
    return options


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    parts = {name: cells_of(name, options) for name in plan.PARTS if name in options.parts}
    for name, cells in parts.items():
        run_part(name, cells, options)
    if "report" in options.parts:
        from medmnist_report import write_report

        for line in write_report(options.csv, options.evidence):
            print(line)


if __name__ == "__main__":
    main()
