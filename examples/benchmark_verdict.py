"""
Whether verdicts are right where the answer is known
====================================================

Images are made so that mirroring them left to right must help, must harm, or can do neither:

- *helps*: a class is a shape, which points to the left in nine of ten training images, and to
  either side in the images of the test split;
- *harms*: a class is the side on which the shape lies;
- *nothing*: the "augmentation" returns the image as it is.

`compare` sets mirroring against plain training over five seeds, in many repetitions with images of
their own. The table counts the verdicts; a wrong one says that something helps where it cannot, or
does not say what must be seen.

.. code-block:: console

   $ python examples/benchmark_verdict.py run
   $ python examples/benchmark_verdict.py report --table docs/guide/verdicts.csv
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import PredefinedSplit

from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.comparison import Arm, compare

CSV = Path(__file__).with_suffix(".csv")
SIDE, N_TRAIN, N_TEST = 12, 60, 120


def mirror(x: torch.Tensor) -> torch.Tensor:
    """Mirror every second image, by chance."""
    return x.flip(-1) if torch.rand(()) < 0.5 else x


def itself(x: torch.Tensor) -> torch.Tensor:
    # The draw alone makes another training of it: other batches, other dropout.
    torch.rand(())
    return x


def images(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make noisy images of two classes, their labels, and -1 for those to train on."""
    rng = np.random.default_rng(seed)
    n = N_TRAIN + N_TEST
    X, y = rng.normal(0, 0.35, (n, SIDE, SIDE)), rng.permutation(np.arange(n) % 2)
    is_test = np.arange(n) >= N_TRAIN
    for i in range(n):
        top = rng.integers(1, SIDE - 5)
        if kind == "harms":
            left = 1 if y[i] else SIDE - 5
            X[i, top : top + 4, left : left + 4] += 0.6
            continue
        # A hook: a column with a bar at its top or, in the other class, at its foot.
        left = rng.integers(1, SIDE - 5)
        shape = np.zeros((4, 4))
        shape[:, 0] = 1
        shape[0 if y[i] else 3, :] = 1
        mirrored = rng.random() < (0.5 if is_test[i] else 0.1)
        X[i, top : top + 4, left : left + 4] += shape[:, ::-1] if mirrored else shape
    return X.astype(np.float32), y, np.where(is_test, 0, -1)


SETS = {"helps": mirror, "harms": mirror, "nothing": itself}


def run_one(kind: str, repetition: int) -> dict[str, object]:
    """Compare on one set, and read the verdict."""
    X, y, fold = images(kind, repetition)
    net = NetClassifier(module__width=8, max_epochs=40)
    arms = {"plain": Arm(), "mine": Arm(augmentation=SETS[kind])}
    result = compare(net, X, y, arms=arms, cv=PredefinedSplit(fold), random_state=repetition)
    (found,) = result.differences()
    verdict = "nothing"
    if found.is_found:
        verdict = "helps" if found.is_gain else "harms"
    return {
        "set": kind,
        "repetition": repetition,
        "verdict": verdict,
        "difference": round(found.mean, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
    }


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(options: argparse.Namespace) -> None:
    """Run what is missing, and append a row for each repetition."""
    done = {(row["set"], int(row["repetition"])) for row in read(options.out)}
    for repetition in range(options.repetitions):
        for kind in SETS:
            if (kind, repetition) in done:
                continue
            row = run_one(kind, repetition)
            is_new = not options.out.exists()
            with options.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                if is_new:
                    writer.writeheader()
                writer.writerow(row)
            print(*row.values(), flush=True)


def lines(rows: list[dict[str, str]]) -> Iterator[tuple[str, ...]]:
    """Count the verdicts on each set."""
    yield "Mirroring", "Sets", *(f'"{verdict}"' for verdict in SETS), "Mean difference in ROC AUC"
    truths = ("helps", "harms", "does nothing")
    for kind, truth in zip(SETS, truths, strict=True):
        own = [row for row in rows if row["set"] == kind]
        if own:
            counts = [str(sum(row["verdict"] == verdict for row in own)) for verdict in SETS]
            mean = np.mean([float(row["difference"]) for row in own])
            yield truth, str(len(own)), *counts, f"{mean:+.3f}"


def report(options: argparse.Namespace) -> None:
    """Print how many verdicts on each set say what, and write the table of the guide."""
    table = list(lines(read(options.out)))
    for line in table:
        print("  ".join(f"{text:12}" for text in line))
    if options.table:
        with options.table.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether verdicts are right.")
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--table", type=Path, help="where report writes the table of the guide")
    parser.add_argument("--out", type=Path, default=CSV, help=f"table (default: {CSV.name})")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"run": run, "report": report}[options.what](options)


if __name__ == "__main__":
    main()
