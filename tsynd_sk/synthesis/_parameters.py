"""What parameters of `TargetedSynthesizer` may be, one by one and together."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from tsynd_sk._utils._names import OBJECTIVE_NAMES, UNMOVED
from tsynd_sk.synthesis._member_scheme import KINDS
from tsynd_sk.synthesis._resampling import STRATEGIES

_COUNT = Interval(Integral, 1, None, closed="left")
_RATIO = Interval(Real, 0, 1, closed="right")

CONSTRAINTS: dict = {
    "classifier": "no_validation",
    "autoencoder": "no_validation",
    "objective": [StrOptions(set(OBJECTIVE_NAMES)), callable],
    "keep_detail": ["boolean"],
    "members": [StrOptions(set(KINDS))],
    "n_members": [Interval(Integral, 2, None, closed="left")],
    "restrict": [StrOptions({"last"}), _COUNT, list, tuple, None],
    "radius": [Interval(Real, 0, None, closed="neither")],
    "random_start": [Interval(Real, 0, 1, closed="both")],
    "max_iter": [_COUNT],
    "label_policy": [StrOptions({"keep", "constrain"})],
    "sampling_strategy": [StrOptions(set(STRATEGIES)), _RATIO, dict, callable],
    "image_shape": [tuple, list, None],
    "batch_size": [_COUNT, StrOptions({"auto"})],
    "device": [str, torch.device, None],
    "n_jobs": [_COUNT, Interval(Integral, None, -1, closed="right"), None],
    "verbose": ["verbose"],
    "random_state": ["random_state"],
}


def check_control(objective: Any, keep_detail: bool) -> None:
    """Raise ValueError for the control, without displacement, of the other way to decode."""
    control = UNMOVED[not keep_detail]
    if objective in UNMOVED and objective != control:
        raise ValueError(
            f"objective={objective!r} does not go with keep_detail={keep_detail}: give "
            f"objective={control!r}, or keep_detail={not keep_detail}"
        )
