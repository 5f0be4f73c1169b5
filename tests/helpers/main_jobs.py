"""The main job on few images, here and in processes of its own."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tsynd_sk.datasets import load_digits_images

SIZE = ["--n-train", "24", "--epochs", "2"]


def write_npz(path):
    """Four classes of digits with few test images, in a file with MedMNIST's keys."""
    X, y, _ = load_digits_images()
    keep = np.flatnonzero(y < 4)
    X, y = (X[keep] * 255).astype(np.uint8), y[keep, None]
    np.savez(
        path,
        train_images=X[:200],
        train_labels=y[:200],
        test_images=X[200:240],
        test_labels=y[200:240],
    )
    return path


def results(out):
    """Rows of results.csv, without the seconds that each took."""
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: row[name] for name in row if not name.startswith("seconds")} for row in rows]


def runs(out):
    """Results of runs as they are on the disk, by name of their file."""
    return {path.name: path.read_bytes() for path in out.glob("runs/*.json")}


class Job:
    """``python -m tsynd_sk`` in a process, and a group of processes, of its own."""

    def __init__(self, arguments, log):
        here = str(Path(__file__).parents[2])
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": here}
        command = [sys.executable, "-m", "tsynd_sk", *arguments]
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=file, env=environment, start_new_session=True
            )
        self.pid = self._process.pid

    def wait_until(self, condition):
        """Wait until something is so or the job has ended."""
        deadline = time.monotonic() + 300
        while not condition() and self._process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self):
        """Kill it with all its processes, as a cluster does."""
        os.killpg(self.pid, signal.SIGKILL)
        return self.wait()

    def press_ctrl_c(self):
        """Interrupt all its processes, as a terminal does."""
        os.killpg(self.pid, signal.SIGINT)

    def wait(self):
        """Wait for its end and return the exit status."""
        return self._process.wait(300)
