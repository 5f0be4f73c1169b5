"""
How much memory images on disk take
===================================

Both estimators are fitted on 200,000 images of a `numpy.memmap`, and on 2,000, and on the same
200,000 in memory, each time in a process of its own. Nets are tiny and learn next to nothing: what
is measured is the peak of memory over what the process took before. On Linux that is anonymous
memory, asked for every few milliseconds from outside; pages of files do not count, for the system
takes them back when it needs them. Elsewhere it is the largest resident set, pages of files
included. The results go, with a description of the machine, to a CSV file.

Run with ``OMP_NUM_THREADS=1 python examples/benchmark_memory.py`` (about 10 minutes).
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import sklearn
import skorch
import torch

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer, __version__
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier

Row = tuple[str, str, float | str, str]

SIDE, N_CLASSES = 28, 10
ON_LINUX = sys.platform == "linux"
SECONDS_BETWEEN_LOOKS = 0.002


# %%
# Images: a blurred square for each class, under noise.


def make_images(path: Path, n: int) -> np.ndarray:
    """Write images to a file, and give their labels."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % N_CLASSES
    squares = np.zeros((N_CLASSES, SIDE, SIDE), np.uint8)
    for label in range(N_CLASSES):
        squares[label, 2 * label : 2 * label + 8, 4:24] = 150
    X = np.lib.format.open_memmap(path, "w+", np.uint8, (n, SIDE, SIDE))
    for first in range(0, n, 10_000):
        labels = y[first : first + 10_000]
        noise = rng.integers(0, 100, (len(labels), SIDE, SIDE), dtype=np.uint8)
        X[first : first + 10_000] = squares[labels] + noise
    return y


# %%
# What is measured: steps of a child process, which names each on its output.


def classifier() -> NetClassifier:
    return NetClassifier(module__width=2, max_epochs=2, batch_size=256)


def synthesizer(net: NetClassifier | None) -> TargetedSynthesizer:
    autoencoder = AutoencoderNet(module__width=4, max_epochs=2, epoch_size=2000)
    return TargetedSynthesizer(
        net, autoencoder, n_members=2, max_iter=1, batch_size=512, random_state=0
    )


def say(*words: object) -> None:
    print(*words, sep="\t", flush=True)


def work(path: Path, kept: str) -> None:
    """Go through the steps, on images that stay in their file or not."""
    torch.set_num_threads(1)
    say("before", own_peak())
    X = np.load(path, mmap_mode="r" if kept == "on disk" else None)
    y = np.arange(len(X)) % N_CLASSES
    # In the middle of its two epochs the net gets a synthetic image for each real one.
    augmented = AugmentedClassifier(
        classifier(), synthesizer(None), warm_up=0.5, synthetic_ratio=1.0, random_state=0
    )
    targeted = synthesizer(classifier())
    for name, step in {
        "TargetedSynthesizer.fit": lambda: targeted.fit(X, y),
        "TargetedSynthesizer.sample(2000)": lambda: targeted.sample(2000),
        "TargetedSynthesizer.uncertainty": lambda: targeted.uncertainty(X),
        "AugmentedClassifier.fit": lambda: augmented.fit(X, y),
        "AugmentedClassifier.predict": lambda: augmented.predict(X),
    }.items():
        say("begin", name)
        step()
        say("end", own_peak())


def own_peak() -> float:
    """Largest resident set of this process so far, in MiB, where nothing better is known."""
    if ON_LINUX or sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


# %%
# Who measures: this process, for a thread of the child's would have to wait for its turn.


def anonymous_memory(pid: int) -> float:
    """Anonymous memory of a process now, in MiB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) / 2**10 if lines else 0.0


class Watch:
    """Largest anonymous memory of a process since it was last asked for."""

    def __init__(self, pid: int):
        self.pid, self.peak = pid, 0.0

    def look(self) -> None:
        self.peak = max(self.peak, anonymous_memory(self.pid))

    def taken(self) -> float:
        self.look()
        peak, self.peak = self.peak, 0.0
        return peak


@contextmanager
def watched(pid: int) -> Iterator[Watch]:
    watch, over = Watch(pid), threading.Event()

    def look_again() -> None:
        while ON_LINUX and not over.wait(SECONDS_BETWEEN_LOOKS):
            watch.look()

    thread = threading.Thread(target=look_again)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def measure(path: Path, kept: str, n: int) -> list[Row]:
    case = f"{n:,} images {kept}"
    rows: list[Row] = []
    command = [sys.executable, __file__, "--work", str(path), kept]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child,
        watched(child.pid) as watch,
    ):
        assert child.stdout is not None
        before, name, highest = 0.0, "", 0.0
        for line in child.stdout:
            word, *values = line.rstrip("\n").split("\t")
            if word == "begin":
                name = values[0]
                watch.taken()
                continue
            peak = watch.taken() if ON_LINUX else float(values[-1])
            if word == "before":
                before = anonymous_memory(child.pid) if ON_LINUX else peak
                continue
            highest = max(highest, peak - before)
            rows.append((case, name, peak - before, "MiB"))
            print(case, name, f"{peak - before:.0f} MiB", sep=" | ", flush=True)
    if child.returncode:
        raise RuntimeError(f"the process with {case} ended with status {child.returncode}")
    return [*rows, (case, "all steps", highest, "MiB")]


def machine() -> list[Row]:
    """Describe the machine."""
    values = {
        "system": platform.system(),
        "measured": "anonymous memory" if ON_LINUX else "largest resident set",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "skorch": skorch.__version__,
        "tsynd_sk": __version__,
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }
    return [("machine", name, value, "") for name, value in values.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the memory that images on disk take.")
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--output", type=Path, default=Path("benchmark_memory.csv"))
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(Path(options.work[0]), options.work[1])
        return
    few, many = 2000, options.images
    results = machine()
    with tempfile.TemporaryDirectory() as folder:
        paths = {n: Path(folder) / f"{n}.npy" for n in (few, many)}
        for n, path in paths.items():
            make_images(path, n)
        for n, kept in ((few, "on disk"), (many, "on disk"), (many, "in memory")):
            results += measure(paths[n], kept, n)
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "quantity", "value", "unit"))
        writer.writerows(
            [f"{part:.4g}" if isinstance(part, float) else part for part in row] for row in results
        )


if __name__ == "__main__":
    main()
