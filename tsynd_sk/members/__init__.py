"""Members: several versions of a network, whose disagreement measures its uncertainty.

A member is the user's network with one fixed dropout mask (Monte Carlo dropout) or one draw of its
last layer (Laplace approximation), or one network of an ensemble. Members return log-probabilities
of shape ``(n_members, n_samples, n_classes)``, the input of `tsynd_sk.uncertainty`. They work on
private copies: the user's network keeps its mode, statistics, gradients and hooks.
"""

from tsynd_sk.members._ensemble import EnsembleMembers, JoinedMembers
from tsynd_sk.members._fixed_noise import DropoutMembers
from tsynd_sk.members._laplace import LaplaceMembers, strengthen_prior
from tsynd_sk.members._laplace_posterior import LastLayerPosterior, last_layer_posterior
from tsynd_sk.members._noises import register_stochastic
from tsynd_sk.members._tracing import is_random

__all__ = [
    "DropoutMembers",
    "EnsembleMembers",
    "JoinedMembers",
    "LaplaceMembers",
    "LastLayerPosterior",
    "last_layer_posterior",
    "register_stochastic",
]
