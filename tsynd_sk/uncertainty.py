"""Members of a network, and how much they disagree: epistemic uncertainty in plain torch.

A *member* is one deterministic network drawn from the distribution over networks that the data
leave plausible: the user's network under one frozen dropout mask (Monte Carlo dropout), or one
network of an ensemble. All members see the same images and answer with log-probabilities of
shape ``(n_members, n_samples, n_classes)``, from which the measures below are computed in nats.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

__all__ = [
    "DropoutMembers",
    "EnsembleMembers",
    "FrozenDropout",
    "has_dropout",
    "mean_log_proba",
    "mutual_information",
    "predictive_entropy",
]

_ELEMENTWISE = (nn.Dropout, nn.AlphaDropout)
_CHANNELWISE = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout)
_ALPHA = (nn.AlphaDropout, nn.FeatureAlphaDropout)
_DROPOUT = _ELEMENTWISE + _CHANNELWISE

# The value at which SELU saturates: what alpha dropout writes in place of a dropped unit.
_SELU_FLOOR = -1.7580993408473766


def safe_log(p: Tensor) -> Tensor:
    """Take the logarithm of probabilities, finite at zero."""
    # The floor keeps log and its gradient finite at p = 0, where the factor p makes the product 0.
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()


def mean_log_proba(log_probs: Tensor) -> Tensor:
    """Logarithm of the members' mean prediction.

    Parameters
    ----------
    log_probs : Tensor of shape (n_members, n_samples, n_classes)
        Log-probabilities of each member.

    Returns
    -------
    Tensor of shape (n_samples, n_classes)
        ``log(mean_k p_k)``, at least the logarithm of the smallest normal number.
    """
    return safe_log(log_probs.exp().mean(0))


def predictive_entropy(log_probs: Tensor) -> Tensor:
    """Entropy of the members' mean prediction: total uncertainty, in nats.

    Parameters
    ----------
    log_probs : Tensor of shape (n_members, n_samples, n_classes)
        Log-probabilities of each member. Minus infinity (a probability of zero) is allowed.

    Returns
    -------
    Tensor of shape (n_samples,)
        ``H(mean_k p_k)``, between 0 and ``log(n_classes)`` nats. Differentiable.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.uncertainty import predictive_entropy
    >>> p = torch.tensor([[[0.5, 0.5]], [[0.5, 0.5]]])
    >>> predictive_entropy(p.log())
    tensor([0.6931])
    """
    p = log_probs.exp().mean(0)
    return -(p * safe_log(p)).sum(-1)


def mutual_information(log_probs: Tensor) -> Tensor:
    """Mutual information between prediction and member: epistemic uncertainty, in nats.

    ``H(mean_k p_k) - mean_k H(p_k)``, known as BALD [1]_, written as the mean Kullback-Leibler
    divergence of the members from their mean, which loses fewer digits where members agree.

    Parameters
    ----------
    log_probs : Tensor of shape (n_members, n_samples, n_classes)
        Log-probabilities of each member. Minus infinity (a probability of zero) is allowed.

    Returns
    -------
    Tensor of shape (n_samples,)
        Between 0 and ``log(min(n_members, n_classes))`` nats, up to rounding. Differentiable.

    References
    ----------
    .. [1] N. Houlsby, F. Huszár, Z. Ghahramani, M. Lengyel, "Bayesian Active Learning for
       Classification and Preference Learning", arXiv:1112.5745, 2011.

    Examples
    --------
    Two members that are certain of different classes disagree by log(2) nats:

    >>> import torch
    >>> from tsynd_sk.uncertainty import mutual_information
    >>> p = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> mutual_information(p.log())
    tensor([0.6931])
    """
    p = log_probs.exp()
    floor = math.log(torch.finfo(log_probs.dtype).tiny)
    divergence = p * (log_probs.clamp_min(floor) - safe_log(p.mean(0)))
    return divergence.sum(-1).mean(0)


def _no_hook(module: nn.Module, args: tuple, output: Tensor) -> None:
    pass


class FrozenDropout(nn.Module):
    """A dropout layer whose masks are drawn once and then held.

    Masks are shared by the rows of a batch. They are drawn at the first pass after ``reset``, for
    all members at once, and stored as buffers ``scale_0, shift_0, scale_1, ...``, one pair for
    each time that the layer is called within a forward pass, with the members in front.

    Parameters
    ----------
    layer : Module
        ``Dropout``, ``Dropout1d/2d/3d``, ``AlphaDropout`` or ``FeatureAlphaDropout``.
    n_members : int
        Number of masks.
    generator : torch.Generator
        Source of the masks, on the CPU, so that every device gets the same ones.
    """

    def __init__(self, layer: nn.Module, n_members: int, generator: torch.Generator):
        super().__init__()
        self.p = float(layer.p)  # type: ignore[arg-type]
        self.channelwise = isinstance(layer, _CHANNELWISE)
        self.alpha = isinstance(layer, _ALPHA)
        self.n_members = n_members
        self.generator = generator
        self.calls = 0
        self.drawing = True
        # torch.nn.TransformerEncoderLayer has a fast path that passes over its dropout layers,
        # but not when hooks are attached to them.
        self.register_forward_hook(_no_hook)

    def _draw(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        shape = [self.n_members, 1, *x.shape[1:]]
        if self.channelwise:
            shape[3:] = [1] * len(shape[3:])
        kept = (torch.rand(shape, generator=self.generator) >= self.p).to(x)
        if not self.alpha:
            return kept / (1 - self.p) if self.p < 1 else kept, None
        # Klambauer et al. (2017): an affine map restores mean 0 and variance 1 after dropping.
        a = ((1 - self.p) * (1 + self.p * _SELU_FLOOR**2)) ** -0.5 if self.p < 1 else 0.0
        return a * kept, a * _SELU_FLOOR * ((1 - kept) - self.p)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the masks of the present call, or draw them."""
        call = self.calls
        self.calls += 1
        if self.drawing:
            scale, shift = self._draw(x)
            self.register_buffer(f"scale_{call}", scale, persistent=False)
            self.register_buffer(f"shift_{call}", shift, persistent=False)
            # While drawing, the pass goes on without dropping, as in evaluation mode.
            return x
        scale, shift = getattr(self, f"scale_{call}"), getattr(self, f"shift_{call}")
        return x * scale if shift is None else x * scale + shift


def _drops(layer: nn.Module) -> bool:
    return isinstance(layer, _DROPOUT) and float(layer.p) > 0


def has_dropout(module: nn.Module) -> bool:
    """Tell whether a network has a dropout layer that drops anything."""
    return any(_drops(part) for part in module.modules())


def check_has_dropout(module: nn.Module) -> None:
    """Refuse a network in which nothing is stochastic, and name the ways out."""
    if not has_dropout(module):
        raise ValueError(
            f"{type(module).__name__} has no dropout layer with p > 0, so that its predictions "
            "carry no epistemic uncertainty. Either add torch.nn.Dropout before its last layers "
            "(functional dropout is not seen), or give a list of several classifiers, which then "
            "form an ensemble."
        )


def private_copy(module: nn.Module, device: torch.device | None = None) -> nn.Module:
    """Copy a network for inference: evaluation mode, weights held, the original untouched."""
    # Tensors left behind by a training step (kept activations, weights under spectral_norm) hang
    # on its graph and cannot be copied with it.
    kept = (value for part in module.modules() for value in vars(part).values())
    memo = {id(v): v.detach().clone() for v in kept if isinstance(v, Tensor) and not v.is_leaf}
    duplicate = copy.deepcopy(module, memo).eval().requires_grad_(False)
    return duplicate if device is None else duplicate.to(device)


def _freeze(module: nn.Module, n_members: int, generator: torch.Generator) -> nn.Module:
    """Exchange every active dropout layer, a layer used in two places for one and the same."""
    replaced: dict[nn.Module, FrozenDropout] = {}
    root = nn.Sequential(module)
    for parent in list(root.modules()):
        # Not named_children, which passes over the second name of a layer.
        for name, child in parent._modules.items():
            if child is not None and _drops(child):
                if child not in replaced:
                    replaced[child] = FrozenDropout(child, n_members, generator)
                parent._modules[name] = replaced[child]
    return root[0]


class DropoutMembers:
    """Members of one network by frozen dropout masks (Monte Carlo dropout [1]_).

    Works on a private copy of the network: the original keeps its mode, statistics, gradients
    and hooks. Everything before the first dropout layer is computed once for all members; the
    rest is mapped over the masks by ``torch.func.vmap``, or, for networks that cannot be mapped,
    computed member by member with the same result.

    Parameters
    ----------
    module : Module
        Network with at least one dropout layer.
    to_log_proba : callable
        Turns the output of the network into log-probabilities of shape (n_samples, n_classes).
    n_members : int, default=16
        Number of masks.
    seed : int, default=0
        Seed of the masks. Equal seeds give equal masks, whatever the batch and the device.
    device : torch.device or None, default=None
        Where to predict; by default where the network is.

    Raises
    ------
    ValueError
        If nothing in the network is stochastic.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.uncertainty import DropoutMembers, mutual_information
    >>> net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))
    >>> members = DropoutMembers(net, lambda logits: logits.log_softmax(-1), n_members=4)
    >>> log_probs = members(torch.ones(5, 8))
    >>> log_probs.shape
    torch.Size([4, 5, 3])
    >>> bool((mutual_information(log_probs) > 0).all())
    True
    """

    def __init__(
        self,
        module: nn.Module,
        to_log_proba: Callable[[Tensor], Tensor],
        *,
        n_members: int = 16,
        seed: int = 0,
        device: torch.device | None = None,
    ):
        check_has_dropout(module)
        generator = torch.Generator().manual_seed(seed)
        self.n_members = n_members
        self._to_log_proba = to_log_proba
        self._module = _freeze(private_copy(module, device), n_members, generator)
        self._masks: dict[str, Tensor] = {}
        self._mapped = True

    def _frozen_layers(self) -> Iterator[tuple[str, FrozenDropout]]:
        for name, part in self._module.named_modules():
            if isinstance(part, FrozenDropout):
                yield name, part

    def _draw_masks(self, x: Tensor) -> None:
        with torch.no_grad():
            self._rewound_output({}, x[:1])
        if not any(layer.calls for _, layer in self._frozen_layers()):
            raise ValueError(
                f"{type(self._module).__name__} has dropout layers, but its forward does not call "
                "them in evaluation mode, so that its predictions carry no epistemic uncertainty. "
                "Either let the images pass through them, or give a list of several classifiers, "
                "which then form an ensemble."
            )
        for name, layer in self._frozen_layers():
            layer.drawing = False
            for key, buffer in layer.named_buffers():
                self._masks[f"{name}.{key}" if name else key] = buffer

    def _rewound_output(self, masks: dict[str, Tensor], x: Tensor) -> Tensor:
        for _, layer in self._frozen_layers():
            layer.calls = 0
        return self._to_log_proba(functional_call(self._module, masks, (x,)))

    def _one_by_one(self, x: Tensor) -> Tensor:
        outputs = [
            self._rewound_output({name: mask[k] for name, mask in self._masks.items()}, x)
            for k in range(self.n_members)
        ]
        return torch.stack(outputs)

    def __call__(self, x: Tensor) -> Tensor:
        """Predict with every member.

        Parameters
        ----------
        x : Tensor of shape (n_samples, ...)
            What the network takes.

        Returns
        -------
        Tensor of shape (n_members, n_samples, n_classes)
            Log-probabilities, differentiable in ``x``.
        """
        if not self._masks:
            self._draw_masks(x)
        if self._mapped:
            try:
                return vmap(self._rewound_output, in_dims=(0, None))(self._masks, x)
            except RuntimeError:
                # Recurrent kernels and some in-place operations have no batching rule. An error
                # with another cause comes back from the loop below.
                output = self._one_by_one(x)
                self._mapped = False
                return output
        return self._one_by_one(x)


class EnsembleMembers:
    """Members that are networks of their own, with their dropout switched off.

    Parameters
    ----------
    modules : sequence of Module
        At least two networks.
    to_log_probas : sequence of callables
        For each network, what turns its output into log-probabilities.
    device : torch.device or None, default=None
        Where to predict; by default where each network is.

    Raises
    ------
    ValueError
        If there are fewer than two networks.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        to_log_probas: Sequence[Callable[[Tensor], Tensor]],
        *,
        device: torch.device | None = None,
    ):
        if len(modules) < 2:
            raise ValueError(f"an ensemble needs at least two networks, got {len(modules)}")
        self.n_members = len(modules)
        self._modules = [private_copy(module, device) for module in modules]
        self._to_log_probas = list(to_log_probas)

    def __call__(self, x: Tensor) -> Tensor:
        """Predict with every network; see `DropoutMembers.__call__`."""
        pairs = zip(self._to_log_probas, self._modules, strict=True)
        return torch.stack([to_log_proba(module(x)) for to_log_proba, module in pairs])
