"""What the processes of a comparison need: progress, interruption, and one thread each."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from skorch.callbacks import Callback


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

    def _tell(self, text: str, epochs: int) -> None:
        with self.path.open("a") as file:
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
                    epochs, text = line.rstrip("\n").split(" ", 1)
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


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """Turn Ctrl-C into an exit, which skorch's training does not swallow."""

    def leave(*_):
        raise SystemExit(128 + signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, so that results do not depend on the number of processes."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
