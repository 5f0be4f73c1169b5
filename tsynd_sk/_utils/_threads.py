"""One thread for computations whose results must not depend on the number of cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

_thread_pools = cache(ThreadpoolController)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Compute with one core in this thread, where ``torch.set_num_threads`` holds in all.

    Kernels sum in another order when they share their work among more threads.
    """
    # Torch sets the number of a new thread at its first use, which would undo the limit.
    torch.get_num_threads()
    with _thread_pools().limit(limits=1, user_api="openmp"):
        yield
