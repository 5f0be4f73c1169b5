"""Parameters of parts that are None, and stand for a default that a fit makes."""

from __future__ import annotations

from sklearn.base import BaseEstimator


class EstimatorOfParts(BaseEstimator):
    """Estimator whose parts may be None."""

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
        for name, example in self._examples.items():
            inner = [key for key in params if key.startswith(f"{name}__")]
            if inner and params.get(name, getattr(self, name)) is None:
                raise ValueError(
                    f"{inner[0]} cannot be set while {name} is None: give {name}={example} to "
                    f"{type(self).__name__} first"
                )
        return super().set_params(**params)
