"""The main job in processes of its own, which start at once: all is imported already."""

import csv
import multiprocessing
import os
import signal
import stat
import sys
import time
from pathlib import Path

import numpy as np
import torch

from tsynd_sk.__main__ import main
from tsynd_sk.datasets._loaders import load_digits_images

SIZE = ["--n-train", "24", "--epochs", "2", "--autoencoder-epochs", "1"]


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


class Job:
    """A job that has been started.

    Parameters
    ----------
    arguments : list of str
        Its command line.
    log : Path
        File for what it writes to the terminal.
    fatal_sync : int or None, default=None
        The first, second... time that something is to be made safe on the disk, half of it is
        lost instead, and the process killed.
    """

    def __init__(self, arguments, log, fatal_sync=None):
        self.log = log
        self._process = _context().Process(target=_run, args=(arguments, log, fatal_sync))
        self._process.start()
        self.pid = self._process.pid

    def kill(self, after):
        """Kill it, without its workers, unless it ends in time, and give the exit status."""
        self._process.join(after)
        self._process.kill()
        return self.wait()

    def press_ctrl_c(self):
        """Interrupt all its processes, as a terminal does."""
        os.killpg(self.pid, signal.SIGINT)

    def wait(self):
        """Wait for its end and give the exit status."""
        self._process.join(300)
        return self._process.exitcode


def wait_until(condition):
    """Wait, but not forever."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _context():
    context = multiprocessing.get_context("forkserver")
    # pytest is what these processes take for their main module.
    context.set_forkserver_preload(["pytest", "helpers.main_jobs_warm"])
    here = str(Path(__file__).parents[1])
    if here not in os.environ.get("PYTHONPATH", ""):
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, [here, os.environ.get("PYTHONPATH")])
        )
    return context


def _run(arguments, log, fatal_sync):
    os.setsid()
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    torch.set_num_threads(1)
    if fatal_sync is not None:
        _kill_at(fatal_sync)
    status = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # multiprocessing would wait for joblib's idle workers.
    os._exit(status)


def _kill_at(number):
    synchronised = 0

    def fsync(descriptor):
        nonlocal synchronised
        synchronised += 1
        if synchronised == number:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                os.ftruncate(descriptor, status.st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync
