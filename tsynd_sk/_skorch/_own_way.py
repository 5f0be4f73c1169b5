"""Whether a net gives its module the images as they are, on which members call the module."""

from __future__ import annotations

from dataclasses import is_dataclass
from operator import attrgetter
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset, Subset, default_collate

from tsynd_sk._skorch._nets import bare_module
from tsynd_sk._skorch._seeding import scoped_seed

# Rows that are compared.
_N_ROWS = 8


class DrawnRows(Dataset):
    """First rows of a data set, drawn once: what is random in them stays as it was drawn."""

    def __init__(self, dataset: Any):
        self.rows = [dataset[i] for i in range(min(len(dataset), _N_ROWS))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return self.rows[i]


class OwnWayCheck(Callback):
    """Raise ValueError if a net prepares images on the way to its module, when it will train."""

    def __init__(self, x: Any):
        self.x = x[:_N_ROWS]

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Check the way of some images."""
        check_own_way(net, self.x)


def check_own_way(net: NeuralNet, rows: Any) -> None:
    """Raise ValueError if a net prepares images on the way to its module, or changes its output.

    Parameters
    ----------
    net : skorch classifier
        Initialised; it need not be trained.
    rows : array of shape (n, ...), or DrawnRows
        What the net is given: images, or rows of its data set.
    """
    drawn = isinstance(rows, DrawnRows)
    x = default_collate(rows.rows)[0] if drawn else torch.from_numpy(rows[:_N_ROWS])
    calls, output = _recorded(net, rows if drawn else x.numpy())
    name = type(net).__name__
    if len(calls) != 1:
        raise ValueError(
            f"{name} calls its module {len(calls)} times for a batch, where members call it once: "
            "let its infer return what a single call of module_ returns"
        )
    args, kwargs, returned = calls[0]
    seen = args[0] if len(args) == 1 and not kwargs and isinstance(args[0], Tensor) else None
    if seen is None or not _same(seen, x[: len(seen)]):
        got = f"{len(args) + len(kwargs)} arguments" if seen is None else _described(seen)
        raise ValueError(
            f"{name} prepares images on the way to its module, by its infer, its dataset or the "
            f"collate function of its iterator_valid: of {_described(x)}, the module gets {got}. "
            "Members call the module itself, and would see images that are not prepared. Prepare "
            "them in the first layer of the module (torchvision's v2.Normalize is one), or before "
            "fit."
        )
    inside, outside = _tensors(returned), _tensors(output)
    if len(inside) != len(outside) or not all(map(_same, inside, outside)):
        raise ValueError(
            f"{name}.infer changes what its module returns, which members would not see: let the "
            "module do so itself, or predict_nonlinearity"
        )


def _recorded(net: Any, rows: Any) -> tuple[list, Any]:
    """Predict for rows in the net's way; return the calls of its module, and its output."""
    wrapped, module = net.module_, bare_module(net)
    parts = list(wrapped.modules())
    modes = list(map(attrgetter("training"), parts))
    calls: list[tuple] = []

    def record(_, args, kwargs, output):
        calls.append((args, kwargs, output))

    handle = module.register_forward_hook(record, with_kwargs=True)
    vars(net)["module_"] = module
    try:
        with scoped_seed(None), torch.no_grad():
            dataset = net.get_dataset(rows)
            dataset = Subset(dataset, range(len(rows)))
            batch = next(iter(net.get_iterator(dataset, training=False)))
            return calls, net.evaluation_step(batch, training=False)
    finally:
        handle.remove()
        vars(net)["module_"] = wrapped
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


def _tensors(output: Any) -> list[Tensor]:
    """Return, flat, what a net predicts from, of all that a module returns."""
    while isinstance(output, list | tuple) and output:
        output = output[0]
    parts = vars(output) if is_dataclass(output) else output
    return [leaf.reshape(-1) for leaf in tree_leaves(parts) if isinstance(leaf, Tensor)]


def _same(one: Tensor, other: Tensor) -> bool:
    # Lower precisions of the same values are the same.
    one, other = one.detach().cpu().double(), other.detach().cpu().double()
    return one.shape == other.shape and bool(
        torch.allclose(one, other, rtol=1e-2, atol=1e-2 * float(other.abs().max()), equal_nan=True)
    )


def _described(x: Tensor) -> str:
    return f"shape {tuple(x.shape[1:])} with values from {x.min():.3g} to {x.max():.3g}"
