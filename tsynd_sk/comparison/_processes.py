"""What the processes of a comparison need: progress, an end in time, and one thread each."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch
from skorch.callbacks import Callback

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class EpochReport(Callback):
    """Append a line to a file after each epoch: processes have no other way to the terminal."""

    def __init__(self, path: Path, label: str):
        self.path = path
        self.label = label

    def on_epoch_end(self, net, **kwargs):
        text = f"{self.label}, epoch {len(net.history)}"
        if "synthesis_dur" in net.history[-1]:
            text += ", synthesised"
        self._tell(text, 1)

    def on_train_end(self, net, **kwargs):
        self._tell(self.label, net.max_epochs - len(net.history))

    def skip(self, epochs: int) -> None:
        """Tell of a training that was done before."""
        self._tell(self.label, epochs)

    def _tell(self, text: str, epochs: int) -> None:
        # A full disk must not cost the training that it tells about.
        with suppress(OSError), self.path.open("a") as file:
            file.write(f"{epochs} {text}\n")


@contextmanager
def relayed(path: Path, report: Callable[[str, int], None]) -> Iterator[None]:
    """Report the lines that other processes append to a file, while they do."""
    path.write_text("")
    finished = threading.Event()

    def follow():
        with path.open() as file:
            while True:
                last = finished.wait(0.2)
                for line in file:
                    epochs, _, text = line.rstrip("\n").partition(" ")
                    # A full disk ends a line anywhere.
                    if epochs.isdecimal():
                        report(text, int(epochs))
                if last:
                    return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        finished.set()
        follower.join()
        path.unlink(missing_ok=True)


class Interrupted(SystemExit):
    """Exit by a signal, which skorch's training does not swallow as it does Ctrl-C."""


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Turn Ctrl-C, and the request to end that schedulers send, into `Interrupted`."""
    last = -math.inf

    def leave(number, frame):
        nonlocal last
        # Who presses twice means it once, and must not disturb the end that has begun. Python may
        # lose an exception, though.
        if time.monotonic() - last > 5:
            last = time.monotonic()
            raise Interrupted(128 + number)

    with _handled_by(leave, *_SIGNALS):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Finish something short whatever is pressed meanwhile."""
    with _handled_by(signal.SIG_IGN, *_SIGNALS):
        yield


@contextmanager
def _handled_by(handler, *numbers: int) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored, as in a job in the background, remains so.
    before = {
        number: signal.signal(number, handler)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Start processes that leave Ctrl-C to this one: they inherit that it is ignored."""
    with _handled_by(signal.SIG_IGN, signal.SIGINT):
        yield


@cache
def leave_with(pid: int) -> None:
    """End this process soon after the one that started it, if that is `pid`, even if killed."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid != pid:
        return

    def is_gone():
        # Windows never gives a process another parent, but its handle tells.
        return not parent.is_alive() if os.name == "nt" else os.getppid() != pid

    def watch():
        while not is_gone():
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def working_for(pid: int) -> Iterator[None]:
    """Compute for a job, in its own process or in one that it has started."""
    leave_with(pid)
    with exit_on_signals(), one_thread():
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, so that results do not depend on the number of processes."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
