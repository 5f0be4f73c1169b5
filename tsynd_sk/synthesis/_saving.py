"""`save_params` and `load_params`: what an estimator has learned, in a file without any code."""

from __future__ import annotations


class SavingMixin:
    """To be written."""
