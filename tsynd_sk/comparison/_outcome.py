"""The result of a comparison for scripts, as JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tsynd_sk import __version__
from tsynd_sk.comparison._differences import SCORES
from tsynd_sk.comparison._verdict import doubts, findings

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult


def outcome_of(result: ComparisonResult) -> dict[str, Any]:
    """Return scores, differences and verdict; docs/guide/command_line.rst explains the keys."""
    scores = score_names(result)
    numbers = ("mean", "low", "high", "p", "p_corrected")
    arms = {
        arm: {
            "reference": result.references.get(arm),
            "converged": bool(result.values(arm, "converged").all()),
            "seconds": float(np.median(result.values(arm, "seconds"))),
            "scores": {score: _number(result.values(arm, score).mean()) for score in scores},
        }
        for arm in result.arms
    }
    differences = [
        {
            **vars(each),
            **{name: _number(getattr(each, name)) for name in numbers},
            "is_found": each.is_found,
            "is_gain": each.is_gain,
        }
        for score in scores
        for each in result.differences(score)
    ]
    return {
        "version": __version__,
        "primary": result.primary,
        "n_runs": result.n_runs,
        "recommended": result.recommended,
        "verdict": list(findings(result)),
        "doubts": list(doubts(result)),
        "arms": arms,
        "differences": differences,
    }


def score_names(result: ComparisonResult) -> list[str]:
    """List the scores of runs, the primary one first."""
    names = [
        name
        for name in result.rows[0]
        if name.removeprefix("perturbed_") in SCORES or name.endswith("_accuracy")
    ]
    return sorted(names, key=lambda name: name != result.primary)


def _number(value: float) -> float | None:
    """Return a number, None for nan, which JSON does not have."""
    return float(value) if math.isfinite(value) else None
