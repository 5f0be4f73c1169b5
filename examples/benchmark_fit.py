"""
What a fit costs
================

Ratios of the processor time of whole fits, of their autoencoder, of telling uncertainty and of
synthesis to that of what one would do without this library, measured in one run on one thread,
interleaved, as medians of three; and the peak of memory. Plain training, which is 1, takes as many
gradient steps on as many rows: copies of real ones are in the place of synthetic ones. Images are
random textures, for only the cost is measured. The results go, with a description of the machine,
to a CSV file, case by case; cases that are there already are not measured again.

Run with ``python examples/benchmark_fit.py`` (within an hour), or name the cases, as in
``--cases fit-28 uncertainty``, which measures them again. ``python examples/benchmark_fit.py
report --table docs/guide/fit_costs.csv --durations docs/guide/durations.csv`` compares with what is
asked for, and writes the tables of the guide: what was measured, and how long trainings with
default settings take at this speed.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from benchmark_ascent import K, Row, machine, stochastic_passes
from sklearn.frozen import FrozenEstimator
from torch import nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, DataLoader, Subset

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.classifiers import ConvNet, NetClassifier
from tsynd_sk.uncertainty import mutual_information

HERE = Path(__file__).parent
N_CLASSES = 4
# The defaults of `AugmentedClassifier`.
RATIO, WARM_UP = 0.5, 0.25


# %%
# Images and networks.


def textures(shape: tuple[int, ...], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw noise that is coarser the higher its class is."""
    rng, y = np.random.default_rng(0), np.arange(n) % N_CLASSES
    X = rng.random((n, *shape), dtype=np.float32)
    for label in range(1, N_CLASSES):
        rows = torch.from_numpy(X[y == label])
        X[y == label] = F.avg_pool2d(rows, 2 * label + 1, 1, label).numpy()
    return X, y


def resnet_with_dropout() -> nn.Module:
    from torchvision.models import resnet18

    net = resnet18(num_classes=N_CLASSES)
    net.fc = nn.Sequential(nn.Dropout(0.3), nn.Linear(512, N_CLASSES))
    return net


def resnet_without_dropout() -> nn.Module:
    from torchvision.models import resnet18

    return resnet18(num_classes=N_CLASSES)


def large_resnet() -> nn.Module:
    from torchvision.models import resnet50

    return resnet50(num_classes=N_CLASSES)


def large_frozen_resnet() -> nn.Module:
    """Build what ``--net resnet50 --freeze`` trains: a new last layer on fixed features."""
    net = large_resnet().requires_grad_(False)
    for parameter in net.fc.parameters():
        parameter.requires_grad_(True)
    return net


NETWORKS: dict[str, Any] = {
    "default": ConvNet,
    "ResNet-18, dropout": resnet_with_dropout,
    "ResNet-18, Laplace": resnet_without_dropout,
    "ResNet-50, Laplace": large_resnet,
    "ResNet-50, --freeze": large_frozen_resnet,
}


def epochs_before_synthesis(n_epochs: int) -> int:
    return -(-n_epochs // int(1 / WARM_UP))


class WithCopies:
    """Loader of as many rows as with synthesis, a copy of a real row for each synthetic one."""

    def __init__(self, dataset: Any, max_epochs: int, **kwargs: Any):
        copies = Subset(dataset, [i % len(dataset) for i in range(round(RATIO * len(dataset)))])
        parts = dataset, ConcatDataset([dataset, copies])
        self.loaders = [DataLoader(part, shuffle=True, **kwargs) for part in parts]
        self.n_plain, self.epoch = epochs_before_synthesis(max_epochs), 0

    def __iter__(self) -> Iterator:
        self.epoch += 1
        return iter(self.loaders[self.epoch > self.n_plain])


# %%
# What is timed, in turns.


def medians(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Processor seconds of each run."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}


class Fit(NamedTuple):
    """Whole fits of a network."""

    shape: tuple[int, int, int]
    n: int
    network: str
    epochs: int
    repeats: int = 3


FITS = {
    "fit-28": Fit((1, 28, 28), 100, "default", 60),
    "fit-64": Fit((3, 64, 64), 100, "default", 30),
    "fit-224": Fit((1, 224, 224), 100, "default", 10),
    "fit-resnet": Fit((3, 64, 64), 100, "ResNet-18, dropout", 30),
    "fit-laplace": Fit((3, 64, 64), 100, "ResNet-18, Laplace", 30),
    # A refresh in seven epochs, the share of the longer trainings.
    "growth-100": Fit((1, 28, 28), 100, "default", 7),
    "growth-1000": Fit((1, 28, 28), 1_000, "default", 7),
    "growth-10000": Fit((1, 28, 28), 10_000, "default", 7, repeats=1),
    # What people have. Few images and epochs, for minutes in place of hours.
    "resnet50-224": Fit((3, 224, 224), 32, "ResNet-50, Laplace", 4, repeats=1),
    "resnet50-frozen-224": Fit((3, 224, 224), 32, "ResNet-50, --freeze", 4, repeats=1),
}


def steps(net: Any) -> list[list[int]]:
    """Rows of each batch of each epoch."""
    return [
        sorted(net.history[i, "batches", :, "train_batch_size"]) for i in range(len(net.history))
    ]


def measure_fit(case: str) -> list[Row]:
    shape, n, network, epochs, repeats = FITS[case]
    X, y = textures(shape, n)
    net = NetClassifier(NETWORKS[network], max_epochs=epochs)
    plain = NetClassifier(
        NETWORKS[network],
        max_epochs=epochs,
        iterator_train=WithCopies,
        iterator_train__max_epochs=epochs,
    )
    augmented = AugmentedClassifier(net, random_state=0)
    fitted: dict[str, Any] = {}

    def fit_plain() -> None:
        torch.manual_seed(0)
        fitted["plain"] = plain.fit(X, y)

    def fit_augmented() -> None:
        fitted["augmented"] = augmented.fit(X, y)

    def fit_autoencoder() -> None:
        frozen = FrozenEstimator(fitted["augmented"].estimator_)
        TargetedSynthesizer(frozen, random_state=0).fit(X, y)

    runs = {"plain": fit_plain, "augmented": fit_augmented, "autoencoder": fit_autoencoder}
    seconds = medians(runs, repeats)
    assert steps(fitted["plain"]) == steps(fitted["augmented"].estimator_)
    one = seconds["plain"]
    return [
        (case, "plain training", one, "s"),
        (case, "AugmentedClassifier.fit / plain training", seconds["augmented"] / one, "ratio"),
        (case, "fit of the autoencoder / plain training", seconds["autoencoder"] / one, "ratio"),
    ]


def measure_uncertainty(case: str) -> list[Row]:
    rows: list[Row] = []
    for side in (28, 224):
        X, y = textures((1, side, side), 20)
        classifier = AugmentedClassifier(NetClassifier(max_epochs=2), random_state=0).fit(X, y)
        copies = np.repeat(X[:1], K, 0)
        classifier.uncertainty(X[:1])
        runs = {
            "uncertainty": lambda c=classifier, X=X: c.uncertainty(X[:1]),
            "proba": lambda c=classifier, X=copies: c.predict_proba(X),
        }
        seconds = medians(runs, 31)
        ratio = seconds["uncertainty"] / seconds["proba"]
        rows += [
            (case, f"predict_proba of {K} copies, {side} px", 1e3 * seconds["proba"], "ms"),
            (case, f"uncertainty of one image / predict_proba, {side} px", ratio, "ratio"),
        ]
    return rows


def by_hand(synthesizer: Any, X: np.ndarray) -> Callable[[], torch.Tensor]:
    """Latent ascent on mutual information, as one would write it with stochastic passes."""
    net, decoder = synthesizer.classifier_.module_.eval(), synthesizer.autoencoder_.module_.eval()
    predict, scale = stochastic_passes(net), torch.as_tensor(synthesizer.latent_scale_)
    x, radius, n_steps = torch.from_numpy(X), synthesizer.radius, synthesizer.max_iter
    low, high = float(X.min()), float(X.max())

    def length(d: torch.Tensor) -> torch.Tensor:
        return d.flatten(1).square().mean(1).sqrt()[:, None, None, None]

    def run() -> torch.Tensor:
        with torch.no_grad():
            z_0 = decoder.encode(x)
            detail = x - decoder.decode(z_0)
            u = torch.randn_like(z_0)
            u *= radius / length(u)
        best, best_images = torch.full((len(x),), -1.0), x
        for step in range(n_steps + 1):
            u.requires_grad_()
            images = (decoder.decode(z_0 + u * scale) + detail).clamp(low, high)
            value = mutual_information(predict(images))
            better = value > best
            best = torch.where(better, value, best).detach()
            best_images = torch.where(better[:, None, None, None], images, best_images).detach()
            if step < n_steps:
                (slope,) = torch.autograd.grad(value.sum(), u)
                u = u.detach() + 2 * radius / n_steps * slope / length(slope).clamp_min(1e-12)
                u *= (radius / length(u)).clamp_max(1)
        return best_images

    return run


def measure_synthesis(case: str) -> list[Row]:
    rows: list[Row] = []
    for network, shape, n in (
        ("default", (1, 28, 28), 64),
        ("ResNet-18, dropout", (3, 64, 64), 16),
    ):
        X, y = textures(shape, n)
        net = NetClassifier(NETWORKS[network], max_epochs=1).fit(X, y)
        synthesizer = TargetedSynthesizer(FrozenEstimator(net), random_state=0).fit(X, y)
        net.module_.requires_grad_(False)
        synthesizer.synthesize(X, y)
        runs: dict[str, Callable[[], object]] = {
            "library": lambda s=synthesizer, X=X, y=y: s.synthesize(X, y),
            "by hand": by_hand(synthesizer, X),
        }
        seconds = medians(runs, 3)
        ratio = seconds["by hand"] / seconds["library"]
        rows += [
            (case, f"{n} images, {network}", seconds["library"], "s"),
            (case, f"written by hand / library, {network}", ratio, "ratio"),
        ]
    return rows


# %%
# Memory, in processes of their own.


def work(kind: str, side: int, n: int) -> None:
    """Train, and print the peak of memory in MiB; a process of its own does it."""
    X, y = textures((1, side, side), n)
    net = NetClassifier(max_epochs=2)
    fit = net.fit if kind == "plain" else AugmentedClassifier(net, random_state=0).fit
    fit(X, y)
    print(own_peak())


def own_peak() -> float:
    """Largest resident set of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which a process inherits from the one that started it.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure_memory(case: str) -> list[Row]:
    rows: list[Row] = []
    for side, n in ((224, 100), (512, 20)):
        peaks = {}
        for kind in ("plain", "augmented"):
            command = [sys.executable, __file__, "--work", kind, str(side), str(n)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peaks[kind] = float(output)
        rows += [
            (case, f"peak of plain training, {side} px", peaks["plain"], "MiB"),
            (case, f"peak of AugmentedClassifier.fit, {side} px", peaks["augmented"], "MiB"),
            (case, f"beyond plain, {side} px", peaks["augmented"] - peaks["plain"], "MiB"),
        ]
    return rows


CASES: dict[str, Callable[[str], list[Row]]] = {
    **dict.fromkeys(FITS, measure_fit),
    "uncertainty": measure_uncertainty,
    "synthesis": measure_synthesis,
    "memory": measure_memory,
}

# %%
# What is asked for: by case and beginning of the quantity, the lowest and highest value.

_FIT, _AUTOENCODER = "AugmentedClassifier.fit / plain", "fit of the autoencoder / plain"
ASKED: list[tuple[str, str, float, float]] = [
    ("fit-28", _FIT, 0, 1.6),
    ("fit-64", _FIT, 0, 1.5),
    ("fit-224", _FIT, 0, 1.5),
    ("fit-resnet", _FIT, 0, 1.5),
    ("fit-laplace", _FIT, 0, 1.7),
    *((case, _AUTOENCODER, 0, 0.2) for case in FITS if case.startswith("fit")),
    ("uncertainty", "uncertainty of one image", 0, 2),
    ("synthesis", "written by hand", 12, float("inf")),
    ("memory", "beyond plain, 224", 0, 1300),
    ("memory", "peak of AugmentedClassifier.fit, 512", 0, 4096),
]


def report(rows: list[list[str]], table: Path | None) -> None:
    """Print what is measured beside what is asked for, and write the table of the guide."""
    for case, quantity, low, high in ASKED:
        for row in rows:
            if row[0] == case and row[1].startswith(quantity):
                verdict = "holds" if low <= float(row[2]) <= high else "FAILS"
                bound = f">= {low:g}" if low else f"<= {high:g}"
                print(f"{case:12s} {row[1]:58s} {row[2]:>8s} {row[3]:5s} {bound:8s} {verdict}")
    ratios = {row[0]: float(row[2]) for row in rows if row[1].startswith(_FIT)}
    growth = [ratios[case] for case in FITS if case.startswith("growth") and case in ratios]
    if growth:
        # Less than the spread of repeated runs is no rise.
        falls = all(b <= 1.05 * a for a, b in pairwise(growth))
        print("growth      ", *growth, "falls or stays", "holds" if falls else "FAILS")
    if table is not None:
        by_name = {(row[0], row[1]): row[2] for row in rows}
        with table.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                ("Image", "Labels", "Network", "Epochs", "Plain training, s", "Fit", "Autoencoder")
            )
            for case, fit in FITS.items():
                if case not in ratios:
                    continue
                values = [
                    next(v for (c, q), v in by_name.items() if c == case and q.startswith(name))
                    for name in ("plain training", _FIT, _AUTOENCODER)
                ]
                image = f"{fit.shape[1]} px, " + ("grey" if fit.shape[0] == 1 else "colour")
                writer.writerow((image, f"{fit.n:,}", fit.network, fit.epochs, *values))


# %%
# How long trainings take at the measured speed: as many images pass through the network as its
# epochs have rows, and each takes as long as it took here. The autoencoder is fitted once.

# `NetClassifier(max_epochs="auto")` makes about as many gradient steps, in as many epochs at least.
N_STEPS, LEAST_EPOCHS, BATCH_SIZE = 600, 10, 16
N_IMAGES = (100, 1_000, 10_000)
# The default arms of a comparison that synthesise nothing, those that do, and its seeds.
N_PLAIN, N_SYNTHESISING, N_SEEDS = 3, 2, 3


def n_passes(n: int, epochs: int) -> float:
    """Count rows that a training passes through its network, copies or synthetic ones included."""
    return n * (epochs + RATIO * (epochs - epochs_before_synthesis(epochs)))


def durations(rows: list[list[str]]) -> Iterator[tuple[str, ...]]:
    """Yield the lines of the table of durations, three for each network and size of images."""
    values = {(row[0], row[1]): float(row[2]) for row in rows if row[0] in FITS}
    for case, fit in FITS.items():
        if case.startswith("growth") or (case, "plain training") not in values:
            continue
        measured = values[case, "plain training"]
        once = values[case, "fit of the autoencoder / plain training"]
        ratio = values[case, "AugmentedClassifier.fit / plain training"] - once
        plain, synthesis = [], []
        for n in N_IMAGES:
            epochs = max(round(N_STEPS / -(-n // BATCH_SIZE)), LEAST_EPOCHS)
            plain.append(measured * n_passes(n, epochs) / n_passes(fit.n, fit.epochs))
            synthesis.append(ratio * plain[-1] + once * measured * n / fit.n)
        whole = [
            N_SEEDS * (N_PLAIN * p + N_SYNTHESISING * s)
            for p, s in zip(plain, synthesis, strict=True)
        ]
        image = f"{fit.shape[1]} px, " + ("grey" if fit.shape[0] == 1 else "colour")
        arms = {"plain": plain, "with synthesis": synthesis, "comparison": whole}
        for arm, seconds in arms.items():
            yield image, fit.network, arm, *map(duration, seconds)


def duration(seconds: float) -> str:
    """Write a time by two digits, in the unit that suits it."""
    units = {"s": 1, "min": 60, "h": 3600, "days": 24 * 3600}
    unit = next((u for u, size in reversed(units.items()) if seconds >= 1.5 * size), "s")
    return f"{float(f'{seconds / units[unit]:.2g}'):g} {unit}"


def read(path: Path) -> list[list[str]]:
    """Read what an earlier run has measured."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def write(path: Path, rows: list[list[str]]) -> None:
    order = ["machine", *CASES]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("case", "quantity", "value", "unit"))
        writer.writerows(sorted(rows, key=lambda row: order.index(row[0])))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a fit costs.")
    parser.add_argument("command", nargs="?", choices=("run", "report"), default="run")
    parser.add_argument("--cases", nargs="+", choices=CASES, help="measured also where they are")
    parser.add_argument("--output", type=Path, default=HERE / "benchmark_fit.csv")
    parser.add_argument("--table", type=Path, help="where report writes the table of the guide")
    parser.add_argument("--durations", type=Path, help="where report writes how long all takes")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.work:
        kind, *numbers = options.work
        work(kind, *map(int, numbers))
        return
    rows = read(options.output)
    if options.command == "report":
        report(rows, options.table)
        if options.durations:
            with options.durations.open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                heads = [f"{n:,} images" for n in N_IMAGES]
                writer.writerow(("Image", "Network", "Training", *heads))
                writer.writerows(durations(rows))
        return
    done = {row[0] for row in rows}
    for case in ("machine", *(options.cases or [case for case in CASES if case not in done])):
        measured = machine() if case == "machine" else CASES[case](case)
        texts = [
            [f"{part:.4g}" if isinstance(part, float) else part for part in row] for row in measured
        ]
        for row in texts:
            print(*row, sep=" | ", flush=True)
        # What is measured is not lost if a later case fails.
        rows = [row for row in rows if row[0] != case] + texts
        write(options.output, rows)


if __name__ == "__main__":
    main()
