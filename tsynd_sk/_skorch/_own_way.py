"""Check that members get the same inputs as their net, and predict the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.dataset import Dataset as SkorchDataset
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from tsynd_sk._skorch._nets import bare_module, device_of, scoped_seed, variant
from tsynd_sk._skorch._prediction import log_proba_head, network_of
from tsynd_sk._utils._inference import modes_kept
from tsynd_sk._utils._tensors import detached_copy

# Rows to compare.
_N_ROWS = 8

# Methods between images and predictions, and whose of them members follow.
_METHODS = (
    "predict_proba",
    "forward_iter",
    "evaluation_step",
    "infer",
    "get_dataset",
    "get_iterator",
    "get_params_for",
    "_get_predict_nonlinearity",
)
_WRITTEN_IN = attrgetter(*(f"{name}.__module__" for name in _METHODS))
_FOLLOWED = {"skorch.net", "skorch.classifier", "tsynd_sk.classifiers._default"}

_WAYS_OUT = (
    "Prepare images in its infer or in iterator_valid__collate_fn, by functions of torch; in the "
    "first layer of the module (torchvision's v2.Normalize is one); or before fit."
)


def drawn_rows(dataset: Any) -> Subset:
    """Draw the first rows of a data set once, so that random transforms are applied once."""
    rows: Any = list(map(dataset.__getitem__, range(min(len(dataset), _N_ROWS))))
    return Subset(rows, range(len(rows)))


def check_own_way(net: NeuralNet, rows: Any) -> None:
    """Raise ValueError if the members' inputs or predictions would differ from those of the net.

    Where all code on the way is skorch's they do not, and nothing is computed. The second time, the
    module returns what it returned the first time, so that noise in it does not matter.

    The net is initialised; it need not be trained. Rows are its input: images, or `drawn_rows`.
    """
    drawn = isinstance(rows, Dataset)
    given = rows if drawn else rows[:_N_ROWS]
    x = default_collate(list(rows))[0] if drawn else torch.tensor(given)
    if (
        _FOLLOWED.issuperset(_WRITTEN_IN(type(net)))
        and vars(net).keys().isdisjoint(_METHODS)
        and net.dataset is SkorchDataset
        and net.iterator_valid is DataLoader
        and not (net.get_params_for("dataset") or net.get_params_for("iterator_valid"))
        and len(net._criteria) == 1
        and x.dtype == torch.float32
    ):
        return
    x, module, name = x.float(), bare_module(net), type(net).__name__
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
