"""Check that members get the same inputs as their net, and predict the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset, default_collate

from tsynd_sk._skorch._nets import bare_module, device_of, variant
from tsynd_sk._skorch._prediction import log_proba_head, network_of
from tsynd_sk._skorch._seeding import scoped_seed
from tsynd_sk._utils._inference import modes_kept
from tsynd_sk._utils._tensors import detached_copy

# Rows to compare.
_N_ROWS = 8

_WAYS_OUT = (
    "Prepare images in its infer or in iterator_valid__collate_fn, by functions of torch; in the "
    "first layer of the module (torchvision's v2.Normalize is one); or before fit."
)


class DrawnRows(Dataset):
    """First rows of a data set, drawn once, so that random transforms are applied once."""

    def __init__(self, dataset: Any):
        self.rows = [dataset[i] for i in range(min(len(dataset), _N_ROWS))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return self.rows[i]


class OwnWayCheck(Callback):
    """Raise ValueError when training begins if members would not get the inputs of the net."""

    def __init__(self, x: Any):
        self.x = x[:_N_ROWS]

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Check some rows."""
        check_own_way(net, self.x)


def check_own_way(net: NeuralNet, rows: Any) -> None:
    """Raise ValueError if the members' inputs or predictions would differ from those of the net.

    The second time, the module returns what it returned the first time, so that noise in it does
    not matter.

    The net is initialised; it need not be trained. Rows are its input: images, or `DrawnRows`.
    """
    drawn = isinstance(rows, DrawnRows)
    given = rows if drawn else rows[:_N_ROWS]
    x = default_collate(rows.rows)[0].float() if drawn else torch.tensor(given)
    module, name = bare_module(net), type(net).__name__
    parts = [value for value in vars(net).values() if isinstance(value, nn.Module)]
    probe = variant(net, module_=module, iterator_valid__batch_size=len(given))
    with modes_kept(*parts), scoped_seed(None), torch.no_grad():
        with _recorded(module) as (calls, outputs):
            expected = torch.from_numpy(np.asarray(probe.predict_proba(given)))
        with _recorded(module, outputs) as (calls_of_members, _):
            try:
                output = network_of(net)(x.to(device_of(net)))
            except Exception as error:
                raise ValueError(
                    f"the infer or the collate function of {name} fails for members, which "
                    "call it with float32 tensors, and with the modules and settings of the "
                    f"net, but without its callbacks and history: {error}. {_WAYS_OUT}"
                ) from error
    own, others = tree_leaves(calls), tree_leaves(calls_of_members)
    if len(own) != len(others) or not all(map(_same, own, others)):
        raise ValueError(
            f"{name} prepares images on the way to its module where members cannot follow, in its "
            f"dataset or its loader: from {_described([x])}, the net makes {_described(own)}, "
            f"but members {_described(others)}. {_WAYS_OUT}"
        )
    if not _same(log_proba_head(net)(output).exp(), expected):
        raise ValueError(
            f"the probabilities that {name} predicts are not those of its infer, which members "
            "use: move the code of its predict_proba or evaluation_step to infer, to the module or "
            "to predict_nonlinearity"
        )


@contextmanager
def _recorded(module: nn.Module, answers: Sequence[Any] = ()) -> Iterator[tuple[list, list]]:
    """Record the inputs and outputs of a module; let it return the given answers first."""
    calls: list[tuple] = []
    outputs: list[Any] = []
    # Copies, because networks may change their inputs.

    def enter(_: nn.Module, args: tuple, kwargs: dict) -> None:
        calls.append(detached_copy((args, kwargs)))

    def leave(_: nn.Module, args: tuple, output: Any) -> Any:
        outputs.append(detached_copy(output))
        return answers[len(outputs) - 1] if len(outputs) <= len(answers) else output

    hooks = [
        module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True),
        module.register_forward_hook(leave),
    ]
    try:
        yield calls, outputs
    finally:
        for hook in hooks:
            hook.remove()


def _same(one: Any, other: Any) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return type(one) is type(other)
    # Values may be rounded to a lower precision.
    one, other = one.detach().cpu().double(), other.detach().cpu().double()
    atol = 1e-2 * float(other.nan_to_num().abs().max())
    return one.shape == other.shape and torch.allclose(
        one, other, rtol=1e-2, atol=atol, equal_nan=True
    )


def _described(inputs: Sequence[Any]) -> str:
    x = next((leaf for leaf in inputs if isinstance(leaf, Tensor)), None)
    if x is None:
        return "no tensor"
    return f"shape {tuple(x.shape[1:])} with values from {x.min():.3g} to {x.max():.3g}"
