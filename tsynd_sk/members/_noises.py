"""Kinds of random layers, and how to draw and apply their noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["register_stochastic"]

# The value at which SELU saturates, to which alpha dropout sets dropped units.
_SELU_FLOOR = -1.7580993408473766


class Noise(NamedTuple):
    """How layers of one type are random; see `register_stochastic`."""

    draw: Callable[..., Any]
    # None if layers at rest return their input, and noise multiplies it: a factor, or a factor and
    # what is added then.
    apply: Callable[..., Tensor] | None
    active: Callable[[Any], object]


NOISES: dict[type | str, Noise] = {}


def register_stochastic(
    layer_type: type | str,
    *,
    draw: Callable[..., Any],
    apply: Callable[..., Tensor],
    active: Callable[[nn.Module], object] | None = None,
) -> None:
    """Register a type of random layer, so that its noise can be drawn once for each member.

    Parameters
    ----------
    layer_type : type or str
        A subclass of Module, or its qualified name (``"package.module.Class"``). Subclasses of
        `layer_type` are not included.
    draw : callable
        ``draw(layer, generator, x)`` returns the noise of one member, a tensor or a tuple of
        tensors that broadcast against any number of rows, with all random numbers from `generator`,
        a `torch.Generator` on the CPU. `x`, and more arguments if there are any, are the inputs of
        ``layer.forward`` for one row; use only their shape, dtype and device.
    apply : callable
        ``apply(layer, noise, x)`` returns the layer's output with that noise, differentiably.
    active : callable or None, default=None
        ``active(layer)`` says whether a layer is random; by default all are.

    Raises
    ------
    TypeError
        If `layer_type` is neither a type nor a name with its module.

    See Also
    --------
    DropoutMembers : Fixes the noise of random layers.

    Notes
    -----
    Members keep these functions. If they are lambdas, only cloudpickle can pickle the members
    (joblib's loky and dask use it).

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.members import DropoutMembers, register_stochastic
    >>> class Jitter(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x + torch.randn_like(x) if self.training else x
    >>> register_stochastic(
    ...     Jitter,
    ...     draw=lambda layer, generator, x: torch.randn(1, *x.shape[1:], generator=generator),
    ...     apply=lambda layer, noise, x: x + noise,
    ... )
    >>> net = torch.nn.Sequential(Jitter(), torch.nn.Linear(4, 3))
    >>> members = DropoutMembers(net, lambda logits: logits.log_softmax(-1), n_members=8)
    >>> members(torch.ones(5, 4)).shape
    torch.Size([8, 5, 3])
    """
    if not (isinstance(layer_type, type) or (isinstance(layer_type, str) and "." in layer_type)):
        raise TypeError(
            "layer_type must be a subclass of torch.nn.Module, or its qualified name such as "
            f"'package.module.Class'; got {layer_type!r}"
        )
    NOISES[layer_type] = Noise(draw, apply, active or _always)


def _always(layer: nn.Module) -> bool:
    """Return that a layer is random: it was registered as such."""
    return True


# --- known kinds of noise -------------------------------------------------------------------------


def _draw(layer, generator, x, key=None, *args, rate, n_axes, **kwargs):
    """Draw zeros as often as the layer drops, otherwise ones, scaled so that their mean is one.

    They are drawn along the first axes of a row, `n_axes` or all.
    """
    p, shape = float(rate(layer)), [1, *x.shape[1:][:n_axes]]
    if isinstance(layer, nn.MultiheadAttention):
        rows = 1 if layer.batch_first else 0
        shape = [1, layer.num_heads, x.shape[rows], key.shape[rows]]
    shape += [1] * (x.ndim - len(shape))
    kept = (torch.rand(shape, generator=generator) >= p).to(x)
    if isinstance(layer, nn.AlphaDropout | nn.FeatureAlphaDropout):
        # Klambauer et al. (2017): an affine map restores mean 0 and variance 1 after dropping.
        a = ((1 - p) * (1 + p * _SELU_FLOOR**2)) ** -0.5 if p < 1 else 0.0
        return a * kept, a * _SELU_FLOOR * ((1 - kept) - p)
    return kept / (1 - p) if p < 1 and getattr(layer, "scale_by_keep", True) else kept


def _masked_attention(
    layer,
    noise,
    query,
    key,
    value,
    key_padding_mask=None,
    need_weights=True,
    attn_mask=None,
    average_attn_weights=True,
    is_causal=False,
):
    if layer.bias_k is not None or layer.add_zero_attn or query.ndim != 3:
        raise NotImplementedError(
            "the dropout of a MultiheadAttention with add_bias_kv, add_zero_attn or unbatched "
            "input cannot be fixed: set its dropout to 0, or use members='laplace'"
        )
    if layer.batch_first:
        query, key, value = (part.transpose(0, 1) for part in (query, key, value))
    # Not the layer itself, which has a fast path without gradients.
    attend: Any = F.multi_head_attention_forward
    _, weights = attend(
        *(query, key, value, layer.embed_dim, layer.num_heads),
        *(layer.in_proj_weight, layer.in_proj_bias, None, None, False, 0.0),
        *(layer.out_proj.weight, layer.out_proj.bias),
        training=False,
        key_padding_mask=key_padding_mask,
        attn_mask=attn_mask,
        use_separate_proj_weight=layer.in_proj_weight is None,
        q_proj_weight=layer.q_proj_weight,
        k_proj_weight=layer.k_proj_weight,
        v_proj_weight=layer.v_proj_weight,
        average_attn_weights=False,
        is_causal=is_causal,
    )
    dropped, own = weights * noise, slice(2 * layer.embed_dim, None)
    matrix = layer.v_proj_weight if layer.in_proj_weight is None else layer.in_proj_weight[own]
    bias = None if layer.in_proj_bias is None else layer.in_proj_bias[own]
    heads = F.linear(value, matrix, bias).unflatten(-1, (layer.num_heads, layer.head_dim))
    output = layer.out_proj((dropped @ heads.permute(1, 2, 0, 3)).transpose(1, 2).flatten(2))
    output = output if layer.batch_first else output.transpose(0, 1)
    return output, (dropped.mean(1) if average_attn_weights else dropped) if need_weights else None


for _layer_type, _rate, _n_axes, _apply in (
    (nn.Dropout, "p", None, None),
    (nn.Dropout1d, "p", 1, None),
    (nn.Dropout2d, "p", 1, None),
    (nn.Dropout3d, "p", 1, None),
    (nn.AlphaDropout, "p", None, None),
    (nn.FeatureAlphaDropout, "p", 1, None),
    ("torchvision.ops.stochastic_depth.StochasticDepth", "p", 0, None),
    ("timm.layers.drop.DropPath", "drop_prob", 0, None),
    ("timm.models.layers.drop.DropPath", "drop_prob", 0, None),
    (nn.MultiheadAttention, "dropout", None, _masked_attention),
):
    _active = attrgetter(_rate)
    NOISES[_layer_type] = Noise(partial(_draw, rate=_active, n_axes=_n_axes), _apply, _active)
