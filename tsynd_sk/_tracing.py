"""Random sites of a network: found in one forward pass, and answered in the following ones."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tsynd_sk._watch import Randomness, Watch
from tsynd_sk.randomness import Noise, noise_of

_FUNCTIONS = {
    F.dropout: nn.Dropout,
    F.dropout1d: nn.Dropout1d,
    F.dropout2d: nn.Dropout2d,
    F.dropout3d: nn.Dropout3d,
    F.alpha_dropout: nn.AlphaDropout,
    F.feature_alpha_dropout: nn.FeatureAlphaDropout,
}


class Site(NamedTuple):
    """A place in the forward pass where something random happens, with one row of its inputs."""

    layer_name: str
    layer: nn.Module
    noise: Noise
    inputs: tuple
    kwargs: dict

    def draw(self, generator: torch.Generator) -> Any:
        """Draw the noise of one member."""
        return self.noise.draw(self.layer, generator, *self.inputs, **self.kwargs)


#: Answers the visit of a site, given its key, layer, noise, inputs and keyword arguments.
Visitor = Callable[[str, nn.Module, Noise, tuple, dict], Any]


class _Pass:
    """State of one forward pass in one thread."""

    def __init__(self, visitor: Visitor):
        self.visitor = visitor
        self.calls: Counter[str] = Counter()
        self.inside = False

    def visit(self, name: str, layer: nn.Module, noise: Noise, inputs: tuple, kwargs: dict) -> Any:
        # A layer that is used twice in a pass has noise of its own in each place.
        key = f"{name}#{self.calls[name]}"
        self.calls[name] += 1
        self.inside = True
        try:
            return self.visitor(key, layer, noise, inputs, kwargs)
        finally:
            self.inside = False


_PASS: ContextVar[_Pass] = ContextVar("_PASS")


@contextmanager
def visiting(visitor: Visitor, *, functions: bool) -> Iterator[None]:
    """Answer the visits of all random sites, those of dropout functions among them or not."""
    token = _PASS.set(_Pass(visitor))
    try:
        with _DropoutFunctions() if functions else nullcontext():
            yield
    finally:
        _PASS.reset(token)


def _no_hook(module: nn.Module, args: tuple, output: Any) -> None:
    pass


class FrozenLayer(nn.Module):
    """Stands where a random layer stood, and asks the present pass for its output."""

    def __init__(self, name: str, layer: nn.Module, noise: Noise):
        super().__init__()
        self.name, self.layer, self.noise = name, layer, noise
        # torch.nn.TransformerEncoderLayer has a fast path that passes over its dropout layers,
        # but not when hooks are attached to them.
        self.register_forward_hook(_no_hook)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Visit the site."""
        if kwargs:
            # Draws and applications name their arguments as they like.
            bound = inspect.signature(self.layer.forward).bind(*inputs, **kwargs)
            inputs, kwargs = bound.args, bound.kwargs
        return _PASS.get().visit(self.name, self.layer, self.noise, inputs, kwargs)


@lru_cache(maxsize=64)
def _layer_of_function(function: Callable, p: float) -> nn.Module:
    return _FUNCTIONS[function](p).eval()


class _DropoutFunctions(TorchFunctionMode):
    """Takes calls of torch.nn.functional's dropout for visits of random sites."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        current = _PASS.get()
        if func not in _FUNCTIONS or current.inside:
            return func(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        p = float(args[1] if len(args) > 1 else kwargs.get("p", 0.5))
        if p == 0:
            return x
        # Whatever `training` says: it is false because the whole network is evaluated.
        layer = _layer_of_function(func, p)
        noise = noise_of(layer)
        assert noise is not None
        # Functions have no names of their own, so that each call counts as a layer.
        name = f"functional.{func.__name__}"
        current.calls[name] += 1
        return current.visit(f"{name}.{current.calls[name] - 1}", layer, noise, (x,), {})


def frozen(module: nn.Module) -> nn.Module:
    """Exchange every random layer of a private copy; the result runs inside `visiting` only."""
    replaced: dict[nn.Module, FrozenLayer] = {}
    root = nn.Sequential(module)
    for path, parent in list(root.named_modules()):
        # Not named_children, which passes over the second name of a layer.
        for name, child in parent._modules.items():
            noise = None if child is None else noise_of(child)
            if child is None or noise is None:
                continue
            if child not in replaced:
                full_name = f"{path}.{name}".lstrip(".").removeprefix("0").lstrip(".")
                replaced[child] = FrozenLayer(full_name or type(child).__name__, child, noise)
            parent._modules[name] = replaced[child]
    return root[0]


def frozen_layer(module: nn.Module, name: str, noise: Noise) -> nn.Module:
    """Exchange the layer of a name in a private copy."""
    root = nn.Sequential(module)
    parent_name, _, child_name = f"0.{name}".rstrip(".").rpartition(".")
    parent = root.get_submodule(parent_name)
    layer = parent._modules[child_name]
    assert layer is not None
    parent._modules[child_name] = FrozenLayer(name or type(layer).__name__, layer, noise)
    return root[0]


def evaluated(key: str, layer: nn.Module, noise: Noise, inputs: tuple, kwargs: dict) -> Any:
    """Answer a visit as evaluation mode does."""
    return layer(*inputs, **kwargs)


def trace(module: nn.Module, x: Tensor) -> dict[str, Site]:
    """Find the random sites of a frozen network, in the order of its forward pass.

    Parameters
    ----------
    module : Module
        Result of `frozen`.
    x : Tensor of shape (1, ...)
        One row of what the network takes.

    Raises
    ------
    ValueError
        If something draws random numbers that cannot be frozen.
    """
    sites: dict[str, Site] = {}
    generator = torch.Generator().manual_seed(0)
    watch = Watch(module)

    def record(key, layer, noise, inputs, kwargs):
        with watch.looking_away():
            site = Site(key.rpartition("#")[0], layer, noise, inputs, kwargs)
            sites[key] = site
            try:
                return noise.apply(layer, site.draw(generator), *inputs, **kwargs)
            except NotImplementedError as error:
                raise ValueError(f"layer {site.layer_name!r}: {error}") from None

    try:
        with torch.no_grad(), visiting(record, functions=True), watch:
            module(x)
    except Randomness as randomness:
        raise ValueError(
            f"{randomness} of {type(module).__name__} draws random numbers when it predicts, in a "
            "way that cannot be frozen, so that members cannot hold still. Tell how it draws by "
            "tsynd_sk.randomness.register_stochastic, or use torch.nn.Dropout in its place."
        ) from None
    return sites


def find_training_noise(module: nn.Module, x: Tensor) -> str | None:
    """Name a part that draws random numbers in training, but is not known and so stays off.

    Parameters
    ----------
    module : Module
        Result of `frozen`; it is left in training mode.
    x : Tensor of shape (1, ...)
        One row of what the network takes.
    """
    for part in module.modules():
        # Batch statistics of one row are none, and running ones are not to be moved.
        part.training = not isinstance(part, nn.modules.batchnorm._NormBase)
    watch = Watch(module)
    generator = torch.Generator().manual_seed(0)

    def answer(key, layer, noise, inputs, kwargs):
        with watch.looking_away():
            layer.eval()
            return noise.apply(
                layer, noise.draw(layer, generator, *inputs, **kwargs), *inputs, **kwargs
            )

    try:
        with torch.no_grad(), visiting(answer, functions=True), watch:
            module(x)
    except Randomness as randomness:
        return str(randomness)
    except Exception:
        # In training mode a network may want other inputs; then there is nothing to be known.
        return None
    return None
