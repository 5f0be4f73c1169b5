"""Check that an ascent can work, by a step of it on a few rows, before anything trains for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tsynd_sk._utils._names import UNMOVED
from tsynd_sk.ascent import ascend


@torch.inference_mode(False)
def check_ascent(members: Callable[[Tensor], Tensor], x: Tensor, objective: Any, name: str) -> None:
    """Raise ValueError if members, or the objective, let no gradient through to some images.

    `name` is what messages call the network; `objective` is that of `TargetedSynthesizer`.
    """
    if objective == "random" or objective in UNMOVED:
        return
    x = x[:2].detach().clone()
    slope, cause = None, None
    reason = (
        "its forward, or what a net does before and after it, computes something under "
        "torch.no_grad, detaches it, or leaves torch. To freeze a part of a network, let gradients "
        "through and set requires_grad_(False) on its parameters, as "
        "tsynd_sk.classifiers.Pretrained does with freeze=True."
    )
    try:
        with torch.enable_grad():
            images = x.clone().requires_grad_()
            log_probs = members(images)
            if log_probs.requires_grad:
                (slope,) = torch.autograd.grad(log_probs.sum(), images, allow_unused=True)
    except RuntimeError as error:
        cause = error
        reason = f"{str(error).splitlines()[0]} Functions of torch keep gradients."
    if slope is None:
        raise ValueError(
            f"the predictions of {name} have no gradient with respect to its images, by which "
            f"images are synthesised: {reason} Or use objective='random', which needs no gradients."
        ) from cause
    if callable(objective):
        y = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        ascend(members, lambda z: z, x, y, objective=objective, max_iter=1)
