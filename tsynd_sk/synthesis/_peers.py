"""Peers: further nets that form an ensemble with one that trains."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet
from skorch.callbacks import LoadInitState

from tsynd_sk import _skorch
from tsynd_sk._skorch._net_checks import check_alike
from tsynd_sk._skorch._progress import EpochBar
from tsynd_sk._skorch._training import fit_classifier
from tsynd_sk.synthesis._member_scheme import MemberScheme


def with_peers(net: NeuralNet, peers: Sequence[FrozenEstimator]) -> Any:
    """Give what a synthesizer takes for the classifier: a net, or its ensemble with others."""
    return [FrozenEstimator(net), *peers] if peers else FrozenEstimator(net)


def train_peers(
    estimator: NeuralNet,
    x: Any,
    y: np.ndarray,
    seeds: Sequence[int],
    *,
    device: Any,
    check: Callable[[NeuralNet], object],
    verbose: bool,
) -> list[FrozenEstimator]:
    """Train a net once for each seed, on real rows alone.

    Parameters
    ----------
    estimator : skorch classifier
        Unfitted.
    x, y, device
        As for `fit_classifier`.
    seeds : sequence of int
        Seeds of the trainings.
    check : callable
        Called with an untrained net, to refuse before any training what the one that is to have
        these peers would be refused for.
    verbose : bool
        Whether to draw progress bars.
    """
    peers = []
    for i, seed in enumerate(seeds):
        bars = [EpochBar(f"peer {i + 1} of {len(seeds)}")] if verbose else []
        with warnings.catch_warnings():
            # The net that is to have these peers is made alike, and warned of when it trains.
            warnings.simplefilter("ignore", UserWarning)
            peer = fit_classifier(
                estimator, x, y, seed=seed, device=device, guests=bars, check=check, role="peer"
            )
        peers.append(FrozenEstimator(peer))
    return peers


def refuse_common_start(net: NeuralNet) -> None:
    """Refuse nets that would all begin at, and so end near, the same weights."""
    if any(isinstance(callback, LoadInitState) for _, callback in net.callbacks_):
        raise ValueError(
            "the net has the callback LoadInitState, by which each of its n_peers would go on from "
            "the weights of the one before: leave it out, or use n_peers=0"
        )


def check_frozen(peers: Sequence[Any]) -> None:
    """Refuse peers that are no fitted classifiers."""
    for i, peer in enumerate(peers):
        if not _skorch.is_frozen(peer):
            raise TypeError(
                f"peers[{i}] must be a fitted skorch classifier in sklearn.frozen.FrozenEstimator, "
                f"for it is used as it is; got {type(peer).__name__}"
            )
        _skorch.check_classifier(peer, f"peers[{i}]")


def check_fitting(
    peers: Sequence[FrozenEstimator], net: NeuralNet, x: np.ndarray, scheme: MemberScheme
) -> None:
    """Refuse peers that cannot judge a net's rows together with it.

    Parameters
    ----------
    peers : sequence of FrozenEstimator
        Fitted classifiers.
    net : skorch classifier
        The one that is to train.
    x : ndarray of shape (n, ...), float32
        Some of its rows.
    scheme : MemberScheme
        How members are made of all of them.
    """
    for i, peer in enumerate(peers):
        try:
            check_alike(peer.estimator, net, x)
            scheme.resolve_kind(peer.estimator, torch.from_numpy(x[:1]))
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"peers[{i}] cannot be one of an ensemble with the net that trains: {error}"
            ) from error
