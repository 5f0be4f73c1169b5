"""Ways to compute all members of a network at once, and the choice between them.

Three plans give the same values. "fold" repeats the activations for every member at the first
random site, along the batch, and goes on with one large batch (or starts with one, if it must);
"vmap" leaves it to
``torch.func.vmap`` to tell what depends on the members, so that also networks with connections
around their random layers compute what is common only once; "loop" runs one member after another.

The choice is made by the work that each plan causes on the real shapes: operations, bytes and
floating-point operations of a forward and a backward pass, counted while a few rows pass, and
weighed by what they cost on the kind of device. It is not made by the clock, for equal seeds are to
give equal bits in every process, and the plans round differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

PLANS = ("fold", "vmap", "loop")

# Where a connection passes the first random site by, one batch can be made of the members all the
# same if the images themselves are repeated.
WAYS = {
    "auto": ("fold", "vmap", "repeat", "loop"),
    "fold": ("fold", "repeat"),
    "vmap": ("vmap",),
    "loop": ("loop",),
}
PLAN_OF = {"repeat": "fold"}


@dataclass(frozen=True)
class Prices:
    """Rough costs of work, in seconds; only their ratios matter.

    Attributes
    ----------
    operation, mapped_operation : float
        Launch of an operation, and of one that ``torch.func.vmap`` has to translate.
    byte, far_byte : float
        Reading or writing a byte of a tensor that fits in the cache, and of one that does not.
    flop : float
        One floating-point operation of a convolution or matrix product.
    cache : float
        Bytes that fit in the cache.
    """

    operation: float
    mapped_operation: float
    byte: float
    far_byte: float
    flop: float
    cache: float


# Orders of magnitude of one core at 3 GHz with 32 MiB of cache, and of a data-centre accelerator.
_PROCESSOR = Prices(5e-6, 25e-6, 1e-10, 4e-10, 2e-11, 32 * 2**20)
_ACCELERATOR = Prices(1e-5, 4e-5, 1e-12, 1e-12, 5e-14, float("inf"))


def prices_of(device: torch.device) -> Prices:
    """Costs on a kind of device."""
    return _PROCESSOR if device.type == "cpu" else _ACCELERATOR


@dataclass
class Work:
    """What a forward and a backward pass did, operation by operation.

    Attributes
    ----------
    n_rows : int
        Rows that passed.
    operations : list of (int, int, int)
        For each: bytes of all its tensors, bytes of its largest tensor, floating-point operations.
    reads_values : bool
        Whether what happened may depend on values, as after ``if x.sum() > 0``.
    """

    n_rows: int
    operations: list[tuple[int, int, int]] = field(default_factory=list)
    reads_values: bool = False

    def seconds(self, n_rows: int, prices: Prices, *, mapped: bool) -> float:
        """Estimate the time for another number of rows."""
        growth = n_rows / self.n_rows
        launch = prices.mapped_operation if mapped else prices.operation
        total = 0.0
        for moved, largest, flops in self.operations:
            byte = prices.byte if largest * growth <= prices.cache else prices.far_byte
            total += launch + growth * max(moved * byte, flops * prices.flop)
        return total


class _Counter(TorchDispatchMode):
    """Counts the work of operations; views are free."""

    def __init__(self, work: Work):
        super().__init__()
        self.work = work

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # To skip it would import it, which takes seconds.
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        self.work.reads_values |= torch.Tag.data_dependent_output in func.tags
        if not func.is_view:
            sizes = [
                leaf.numel() * leaf.element_size()
                for leaf in tree_leaves((args, kwargs, output))
                if isinstance(leaf, Tensor)
            ]
            count = flop_registry.get(func.overloadpacket)
            flops = count(*args, **kwargs, out_val=output) if count else 0
            self.work.operations.append((sum(sizes), max(sizes, default=0), int(flops)))
        return output


def count_work(predict: Callable[[Tensor], Tensor], x: Tensor) -> Work:
    """Count the work of predicting and of the gradient with respect to `x`."""
    work = Work(len(x))
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        with _Counter(work):
            output = predict(x).sum()
            # Also a network without gradients can tell uncertainty.
            if output.requires_grad:
                output.backward()
    return work


def cheapest(works: dict[str, Work], n_rows: int, prices: Prices) -> str:
    """Name the plan with the least work for a number of rows; the earlier one of equals."""
    return min(
        works,
        key=lambda way: works[way].seconds(n_rows, prices, mapped=way == "vmap"),
    )


def rounding(x: Tensor) -> float:
    """How far two plans may be apart for the sake of rounding."""
    # Accelerators may round what they multiply to 10 bits, as TensorFloat-32 does.
    exact = x.device.type == "cpu" or x.dtype == torch.float64
    return torch.finfo(x.dtype).eps ** 0.5 if exact else 2**-8


def same_values(one: Tensor, other: Tensor, rounding: float) -> bool:
    """Tell whether two plans agree, up to rounding."""
    return one.shape == other.shape and torch.allclose(
        one, other, rtol=rounding, atol=rounding, equal_nan=True
    )
