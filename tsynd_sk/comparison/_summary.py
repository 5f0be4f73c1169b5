"""The result of a comparison for the terminal, as a table, and for scripts, as JSON."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tsynd_sk import __version__
from tsynd_sk._utils._names import ATTACKS
from tsynd_sk._utils._table import format_table
from tsynd_sk.comparison._differences import SCORES
from tsynd_sk.comparison._verdict import doubts, findings, first_arm, time_ratio

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult

_SHORT = {"roc_auc": "ROC AUC", "balanced_accuracy": "bal.\nacc.", "nll": "NLL"}


def summary_of(result: ComparisonResult) -> str:
    """Tabulate means over seeds, and differences to plain training and to the twin."""
    first, name = first_arm(result), _SHORT[result.primary]
    found = {d.arm for d in result.differences() if d.is_found}
    attacked = [name for name in result.rows[0] if attack_of(name)]
    others = [score for score in _SHORT if score != result.primary]
    lines = []
    for arm in result.arms:
        primary = result.values(arm, result.primary)
        reference = result.references.get(arm)
        to_first = to_twin = ""
        if arm != first:
            to_first = _mean(primary - result.values(first, result.primary), "+")
        if reference not in (None, first):
            to_twin = _mean(primary - result.values(reference, result.primary), "+")
        if arm in found:
            to_twin, to_first = (f"{to_twin}*", to_first) if to_twin else ("", f"{to_first}*")
        columns = [*others, f"perturbed_{result.primary}", *attacked]
        lines.append(
            [
                arm if result.values(arm, "converged").all() else f"{arm} !",
                _mean(primary),
                to_first,
                to_twin,
                *(_mean(result.values(arm, column)) for column in columns),
                f"{time_ratio(result, arm, first):.1f}x",
            ]
        )
    headings = ["", f"clean\n{name}", f"to\n{first}", "to\ntwin"]
    headings += [f"clean\n{_SHORT[score]}" for score in others]
    headings += [f"corrupt\n{name}", *("\n".join(attack_of(name)) for name in attacked), "time"]
    over = "One seed" if result.n_runs == 1 else f"Means over {result.n_runs} seeds"
    notes = [
        f"{over}; time: processor time, as a multiple of {first}'s.",
        "*: significant at 5 %, corrected for all arms (Holm).",
    ]
    if masked := sum(bool(row.get("gradient_masking")) for row in result.rows):
        notes.append(f"Gradients seem masked in {masked} runs: attacks may be too weak there.")
    if any(line[0].endswith(" !") for line in lines):
        notes.append("!: not converged.")
    return "\n".join([format_table(headings, lines), "", *notes])


def attack_of(name: str) -> tuple[str, ...]:
    """Return attack and strength of a column of accuracy; an empty tuple for other columns."""
    match = re.fullmatch(rf"({'|'.join(ATTACKS)})_([^_]+)_accuracy", name)
    return (match[1], f"{match[2]}/255") if match else ()


def _mean(values: np.ndarray, sign: str = "") -> str:
    return "-" if np.isnan(values).all() else f"{values.mean():{sign}.3f}"


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
