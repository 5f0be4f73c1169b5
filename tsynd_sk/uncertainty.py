"""How much the members of a network disagree: epistemic uncertainty, in nats.

See `tsynd_sk.members` for what a member is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["mean_log_proba", "mutual_information", "predictive_entropy"]


def _check_members(log_probs: Tensor) -> None:
    shape = log_probs.shape
    if len(shape) != 3 or not log_probs.is_floating_point() or 0 in (shape[0], shape[2]):
        raise ValueError(
            "log_probs must be log-probabilities of shape (n_members, n_samples, n_classes); got "
            f"shape {tuple(shape)} and dtype {log_probs.dtype}"
        )


def safe_log(p: Tensor) -> Tensor:
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

    Raises
    ------
    ValueError
        If `log_probs` has another shape or no floats.

    See Also
    --------
    predictive_entropy : Entropy of that prediction.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.uncertainty import mean_log_proba
    >>> p = torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]])
    >>> mean_log_proba(p.log()).exp()
    tensor([[0.7500, 0.2500]])
    """
    _check_members(log_probs)
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

    Raises
    ------
    ValueError
        If `log_probs` has another shape or no floats.

    See Also
    --------
    mutual_information : The part of it on which members disagree.
    mean_log_proba : The prediction whose entropy it is.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.uncertainty import predictive_entropy
    >>> p = torch.tensor([[[0.5, 0.5]], [[0.5, 0.5]]])
    >>> predictive_entropy(p.log())
    tensor([0.6931])
    """
    _check_members(log_probs)
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
        Between 0 and ``log(min(n_members, n_classes))`` nats. Differentiable.

    Raises
    ------
    ValueError
        If `log_probs` has another shape or no floats.

    See Also
    --------
    predictive_entropy : Total uncertainty, of which this is a part.
    tsynd_sk.inspection.UncertaintyDisplay : Draws it for test images.

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
    _check_members(log_probs)
    p = log_probs.exp()
    floor = math.log(torch.finfo(log_probs.dtype).tiny)
    divergence = p * (log_probs.clamp_min(floor) - safe_log(p.mean(0)))
    value = divergence.sum(-1).mean(0)
    # Rounding can leave the bounds; the gradient is that of the value without them.
    n_members, _, n_classes = log_probs.shape
    return value + (value.clamp(0, math.log(min(n_members, n_classes))) - value).detach()
