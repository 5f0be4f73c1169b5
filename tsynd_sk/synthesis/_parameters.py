"""What parameters may be: those of `TargetedSynthesizer`, and those of parts that are None."""

from __future__ import annotations

from numbers import Integral, Real

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from tsynd_sk._utils._names import OBJECTIVE_NAMES
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


class EstimatorOfParts(BaseEstimator):
    """Estimator whose parts may be None, which stands for a default that a fit makes."""

    #: What to give in place of None, by the name of the part.
    _examples: dict[str, str] = {}

    def set_params(self, **params):
        """Set parameters, also of parts, such as ``autoencoder__max_epochs``.

        Parameters
        ----------
        **params : dict
            Parameters by their names.

        Returns
        -------
        self : object
            This estimator.

        Raises
        ------
        ValueError
            If there is no such parameter, or it is that of a part which is None.
        """
        for key in params:
            name, of_part, _ = key.partition("__")
            if of_part and name in self._examples and params.get(name, getattr(self, name)) is None:
                raise ValueError(
                    f"{key} cannot be set while {name} is None: give {name}="
                    f"{self._examples[name]} to {type(self).__name__} first"
                )
        return super().set_params(**params)
