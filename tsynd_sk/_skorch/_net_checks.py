"""Check before a net trains that its parts fit together, and that members predict as it does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import Dataset as SkorchDataset
from skorch.utils import to_device
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from tsynd_sk._skorch._nets import bare_module, device_of, scoped_seed, variant
from tsynd_sk._skorch._prediction import collated, log_proba_head, network_of, unreadable
from tsynd_sk._utils._inference import modes_kept
from tsynd_sk._utils._tensors import are_probabilities, detached_copy

# Rows to check a net by.
_N_ROWS = 8

# Names of autograd's nodes whose values are those of another.
_VIEWS = ("View", "Reshape", "Unsafe", "Alias", "Squeeze", "Unsqueeze", "Select", "Slice", "ToCopy")

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
    "Prepare images in its infer or iterator_valid__collate_fn, by functions of torch; in the "
    "first layer of the module, such as torchvision's v2.Normalize; or before fit."
)


class NetCheck(Callback):
    """Raise if a net could not learn, and warn if it would learn badly, by some rows of input.

    It checks when training begins, because other callbacks may size the module by the data before.
    With `n_classes` of None any number of columns is fine; with `own_way` the net is also to pass
    `check_own_way`.
    """

    def __init__(self, x: Any, n_classes: int | None, own_way: bool = False):
        self.x = x[:_N_ROWS]
        self.n_classes = n_classes
        self.own_way = own_way

    def on_train_begin(self, net, **kwargs):
        """Check what the net predicts."""
        with torch.enable_grad():
            output, _ = _predict(net, self.x, self.n_classes)
        criterion, remedy = bare_module(net, "criterion_"), None
        if not isinstance(output, Tensor):
            pass
        elif isinstance(criterion, nn.CrossEntropyLoss):
            remedy = "NLLLoss" if output.ndim == 2 and are_probabilities(output) else None
        elif isinstance(criterion, nn.BCEWithLogitsLoss):
            remedy = "BCELoss" if _last_operation(output).startswith("Sigmoid") else None
        if remedy is not None:
            warnings.warn(
                f"the module of the {type(net).__name__} returns probabilities, but its criterion "
                f"{type(criterion).__name__} expects logits and squashes them again: return "
                f"logits, or use criterion=torch.nn.{remedy}",
                UserWarning,
                stacklevel=2,
            )
        if self.own_way:
            check_own_way(net, self.x)


def classes_of_frozen(net: NeuralNet, x: Any, y: np.ndarray) -> np.ndarray:
    """Return the labels of the columns that a fitted net predicts, given labels of some images.

    skorch uses integer labels as column numbers, unless its ``classes`` says otherwise.
    """
    present, named = np.unique(y), getattr(net, "classes", None)
    with torch.no_grad():
        n_columns = _predict(net, x[:_N_ROWS], None)[1].shape[1]
    if named is not None and len(named) == n_columns and set(present) <= set(named):
        return np.asarray(named)
    if present.dtype.kind in "iu" and present[0] >= 0 and present[-1] < n_columns:
        return np.arange(n_columns, dtype=present.dtype)
    if len(present) == n_columns:
        return present
    raise ValueError(
        f"y has the {len(present)} classes {present.tolist()[:20]}, but the frozen classifier "
        f"predicts {n_columns} columns: use labels between 0 and {n_columns - 1} that number "
        "them, or name them by its parameter classes"
    )


def _predict(net: NeuralNet, x: Any, n_classes: int | None) -> tuple[Any, Tensor]:
    """Return output and probabilities for rows; raise if they are none, or of other classes.

    The bare module is evaluated, because compiled or distributed ones are for training. Afterwards
    the net is as before, unlike after ``predict_proba``.
    """
    wrapped, own_batches = net.module_, hasattr(net, "iterator_valid__collate_fn")
    x = to_device(collated(net, x) if own_batches else torch.from_numpy(x), device_of(net))
    with modes_kept(wrapped):
        vars(net)["module_"] = bare_module(net).eval()
        try:
            output = net.infer(x)
        except RuntimeError as error:
            if "channels, but got" not in str(error) or not isinstance(x, Tensor):
                raise
            hint = (
                "NetClassifier(Pretrained, module__net=function) of tsynd_sk.classifiers repeats "
                "grey images; function(n_channels, n_classes) makes the network"
                if "got 1 channels" in str(error)
                else "build it for the channels of the images"
            )
            raise ValueError(
                f"the module does not take images of shape {tuple(x.shape[1:])}: {hint} ({error})"
            ) from error
        finally:
            vars(net)["module_"] = wrapped
    nonlinearity = net._get_predict_nonlinearity()
    try:
        # As skorch does before it reads predictions.
        read = output.detach() if isinstance(output, Tensor) else to_device(output, "cpu")
        proba = nonlinearity(read[0] if isinstance(read, tuple) else read)
    except Exception as error:
        if isinstance(output, Tensor):
            raise
        # skorch's own cannot read it, and a user's may fail in any way.
        reason = str(error).partition("\n")[0]
        raise unreadable(output, f" ({type(error).__name__}: {reason})") from error
    if not isinstance(proba, Tensor):
        raise unreadable(output)
    if proba.dtype == torch.bfloat16:
        raise TypeError(
            f"the {type(net).__name__} predicts bfloat16, which numpy does not know: let forward "
            "return output.float()"
        )
    proba = proba.detach().float()
    fits = proba.ndim == 2 and n_classes in (None, proba.shape[1])
    if not fits or not are_probabilities(proba):
        raise _misfit(net, proba, n_classes)
    output = output[0] if isinstance(output, tuple) else output
    return output.float() if isinstance(output, Tensor) else output, proba


def _misfit(net: NeuralNet, proba: Tensor, n_classes: int | None) -> ValueError:
    """Return the error for predictions that are no probabilities of so many classes."""
    name = type(net).__name__
    if proba.ndim != 2 or n_classes not in (None, proba.shape[1]):
        return ValueError(
            f"the module of the {name} predicts an array of shape {tuple(proba.shape)} for "
            f"{len(proba)} rows; expected ({len(proba)}, {n_classes or 'n_classes'}), one column "
            "for each of the classes in y"
        )
    if proba.isnan().any():
        return ValueError(
            f"the {name} predicts NaN for training images: its training has diverged, or its "
            "module cannot take their values. Scale the images, to between 0 and 1 for instance, "
            "or lower its lr."
        )
    sums, criterion = proba.sum(1), bare_module(net, "criterion_")
    return ValueError(
        f"the predictions of the {name} with criterion {type(criterion).__name__} are not "
        f"probabilities: they lie between {proba.min():.3g} and {proba.max():.3g}, and sums of "
        f"rows between {sums.min():.3g} and {sums.max():.3g}. If its module returns logits, use "
        "criterion=torch.nn.CrossEntropyLoss (torch.nn.BCEWithLogitsLoss for a "
        "NeuralNetBinaryClassifier); for torch.nn.NLLLoss it must end in a softmax, not in its "
        "logarithm; for other criteria set predict_nonlinearity."
    )


def _last_operation(output: Tensor) -> str:
    """Name the operation that computed a tensor, apart from views and copies; "" if unknown."""
    node = output.grad_fn
    while node is not None and type(node).__name__.startswith(_VIEWS) and node.next_functions:
        node = node.next_functions[0][0]
    return "" if node is None else type(node).__name__


def drawn_rows(dataset: Any) -> Subset:
    """Draw the first rows of a data set once, so that random transforms are applied once."""
    rows: Any = list(map(dataset.__getitem__, range(min(len(dataset), _N_ROWS))))
    return Subset(rows, range(len(rows)))


def check_own_way(net: NeuralNet, rows: Any) -> None:
    """Raise if the members' inputs or predictions would differ from those of an initialised net.

    Where all code on the way is skorch's they do not, and nothing is computed. The second time, the
    module returns what it returned the first time, so that noise in it does not matter. Rows are
    images, or `drawn_rows`.
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
                    f"the infer or the collate function of {name} fails for members, which call it "
                    "with float32 tensors, and without its callbacks and history: "
                    f"{error}. {_WAYS_OUT}"
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
