"""
Whether synthesis harms
=======================

The default network is trained on 100 labelled images, with as many gradient steps in every arm,
and scored on the training images that the draw of labels leaves over: hundreds to thousands, more
than validation splits have. No test split is looked at. The arms are standard augmentation, and on
top of it

- copies of the real images ("duplicate"): what more rows alone do;
- images displaced at random, and towards mutual information, with what the autoencoder loses handed
  back;
- the last again with what the decoder alone makes, which teaches its blur.

Each run is a row of a CSV file, written the moment it is known; a benchmark that was interrupted
goes on with the rows that are missing. The report has differences to standard augmentation, pair by
pair of equal labels and initial weights.

.. code-block:: console

   $ python examples/benchmark_harm.py run --root FOLDER_OF_NPZ_FILES
   $ python examples/benchmark_harm.py report --table docs/guide/harm.csv

The folder has ``breastmnist.npz`` and ``pneumoniamnist.npz`` of MedMNIST, and ``textures64.npz``
and ``chest64.npz`` in the same format: surface defects of steel (NEU-DET) and chest X-rays of
children (Kermany, 2018), 64 pixels wide.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
from joblib import Parallel, delayed
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from tsynd_sk.comparison import ARMS, load_splits
from tsynd_sk.datasets import subsample
from tsynd_sk.evaluation import classification_scores

Row = dict[str, str | int | float]

SETS = ("textures64", "chest64", "breastmnist", "pneumoniamnist")
N_LABELS = 100
# About 1,000 gradient steps: seven an epoch in the warm-up, eleven after it.
EPOCHS = 100
REFERENCE = "standard"
LITERAL = "standard+mutual_info, literal decoder"
HARM = {
    REFERENCE: ARMS[REFERENCE],
    "standard+duplicate": ARMS["standard+duplicate"],
    "standard+random": ARMS["standard+random"],
    "standard+mutual_info": ARMS["standard+mutual_info"],
    LITERAL: replace(ARMS["standard+mutual_info"], synthesizer={"keep_detail": False}),
}
SCORES = ("balanced_accuracy", "roc_auc", "nll")
CSV = Path(__file__).with_suffix(".csv")


# %%
# A run: one arm of one draw of labels.


def run_one(root: Path, name: str, arm: str, seed: int) -> Row:
    """Train an arm and score it on what the draw of labels leaves over."""
    # Of the splits, that for training alone.
    splits = load_splits(str(root / f"{name}.npz"), score_on="val")
    [(train, _)] = splits.divisions(1)
    X, y = splits.X[train], splits.y[train]
    drawn = subsample(y, N_LABELS, random_state=seed)
    left = np.setdiff1d(np.arange(len(y)), drawn)
    X_labelled, y_labelled = X[drawn], y[drawn]
    classifier = HARM[arm].make_classifier(
        n_classes=len(splits.class_names), max_epochs=EPOCHS, random_state=seed
    )
    with threadpool_limits(1):
        start = process_time()
        classifier.fit(X_labelled, y_labelled)
        seconds = process_time() - start
        proba = classifier.predict_proba(X[left])
    scores = classification_scores(y[left], proba, classifier.classes_)
    # In float32 they sum to one up to rounding, of which scikit-learn warns.
    proba = proba.astype(float)
    proba /= proba.sum(1, keepdims=True)
    return {
        "set": name,
        "arm": arm,
        "seed": seed,
        "balanced_accuracy": scores["balanced_accuracy"],
        "roc_auc": scores["roc_auc"],
        "nll": log_loss(y[left], proba, labels=classifier.classes_),
        "steps": sum(len(epoch["batches"]) for epoch in classifier.history_),
        "seconds": seconds,
    }


def key_of(row: Row) -> tuple[str, str, int]:
    return str(row["set"]), str(row["arm"]), int(row["seed"])


def read(path: Path) -> list[Row]:
    """Read the rows of earlier runs."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {name: float(text) if name in SCORES else text for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


def run(options: argparse.Namespace) -> None:
    """Run what is missing, and append a row for each run."""
    done = {key_of(row) for row in read(options.out)}
    # Seed by seed, so that what an interrupted benchmark leaves is even.
    wanted = [(n, a, s) for s in range(options.seeds) for n in options.sets for a in HARM]
    run_missing(run_one, wanted, [key for key in wanted if key not in done], options)


def run_missing(
    function: Callable[..., Row], wanted: list, missing: list, options: argparse.Namespace
) -> None:
    """Run a function of the folder and of each key that is missing, and append its rows."""
    print(f"{len(missing)} of {len(wanted)} runs are missing")
    parallel = Parallel(options.n_jobs, return_as="generator_unordered", batch_size=1)
    with closing(parallel(delayed(function)(options.root, *key) for key in missing)) as finished:
        for row in finished:
            is_new = not options.out.exists()
            with options.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                if is_new:
                    writer.writeheader()
                texts = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()}
                writer.writerow(texts)
            print(*row.values(), flush=True)


# %%
# The report: differences within pairs, with standard errors over seeds; over all sets, the mean of
# their means, whose standard error comes from theirs.


def differences(rows: list[Row], arm: str, score: str) -> dict[str, np.ndarray]:
    """Give the differences to standard augmentation, seed by seed, of each set."""
    values = {key_of(row): row[score] for row in rows}
    found: dict[str, list[float]] = {}
    for (name, which, seed), value in values.items():
        if which == arm and (name, REFERENCE, seed) in values:
            found.setdefault(name, []).append(value - values[name, REFERENCE, seed])
    return {name: np.array(found[name]) for name in SETS if name in found}


def lines(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """Give the rows of the table."""
    for arm in list(HARM)[1:]:
        parts = {score: differences(rows, arm, score) for score in SCORES}
        means, errors = [], []
        for name in parts[SCORES[0]]:
            found = np.array([parts[score][name] for score in SCORES])
            n = found.shape[1]
            means.append(found.mean(1))
            errors.append(found.std(1, ddof=1) / n**0.5 if n > 1 else np.full(len(found), np.nan))
            yield arm, name, str(n), *map(_text, means[-1], errors[-1])
        if means:
            error = np.square(errors).sum(0) ** 0.5 / len(errors)
            yield arm, "all", "", *map(_text, np.mean(means, axis=0), error)


def _text(mean: float, error: float) -> str:
    return f"{mean:+.3f} ± {error:.3f}"


def print_table(table: list[tuple[str, ...]]) -> None:
    """Print lines with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)))


def report(options: argparse.Namespace) -> None:
    """Print the differences to standard augmentation, and what the arms take."""
    rows = read(options.out)
    heads = ("difference to standard", "set", "seeds", "balanced accuracy", "AUC", "NLL")
    print_table([heads, *lines(rows)])
    print()
    for arm in HARM:
        of_arm = [row for row in rows if row["arm"] == arm]
        if of_arm:
            seconds = np.mean([float(row["seconds"]) for row in of_arm])
            steps = sorted({int(row["steps"]) for row in of_arm})
            print(f"{arm}: {seconds:.0f} processor seconds on average, {steps} gradient steps")
    if options.table:
        write_table(rows, options.table)


def write_table(rows: list[Row], path: Path) -> None:
    """Write the differences over all sets, and the time, for the guide."""
    seconds = {
        arm: np.mean([float(row["seconds"]) for row in rows if row["arm"] == arm]) for arm in HARM
    }
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("Arm", "Balanced accuracy", "ROC AUC", "NLL", "Time"))
        for arm, name, _, *texts in lines(rows):
            if name == "all":
                writer.writerow((arm, *texts, f"{seconds[arm] / seconds[REFERENCE]:.1f}"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether synthesis harms.")
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--root", type=Path, default=Path(), help="folder of the .npz files")
    parser.add_argument("--out", type=Path, default=CSV, help=f"table (default: {CSV.name})")
    parser.add_argument("--table", type=Path, help="where report writes the table of the guide")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=5, help="draws of labels (default: 5)")
    parser.add_argument("--n-jobs", type=int, default=2, help="processes, one thread each")
    options = parser.parse_args()
    {"run": run, "report": report}[options.what](options)


if __name__ == "__main__":
    main()
