"""The table of a comparison for the terminal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from tsynd_sk._utils._names import ATTACKS
from tsynd_sk._utils._table import format_table
from tsynd_sk.comparison._differences import SCORES

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult

_SHORT = {"roc_auc": "ROC AUC", "balanced_accuracy": "bal.\nacc.", "nll": "NLL"}


def summary_of(result: ComparisonResult) -> str:
    """Tabulate means over seeds, and differences to plain training and to the twin."""
    arms = list(result.arms)
    first = next(arm for arm in arms if arm not in result.references)
    found = {d.arm: d for d in result.differences()} if result.n_runs > 1 else {}
    attacked = [name for name in result.rows[0] if attack_of(name)]
    others = [score for score in _SHORT if score != result.primary]
    headings = [
        "",
        f"clean\n{_SHORT.get(result.primary, SCORES[result.primary])}",
        f"to\n{first}",
        "to\ntwin",
        *(f"clean\n{_SHORT[score]}" for score in others),
        f"corrupt\n{_SHORT.get(result.primary, '')}",
        *("\n".join(attack_of(name)) for name in attacked),
        "time",
    ]
    lines = []
    for arm in arms:
        primary = result.values(arm, result.primary)
        reference = result.references.get(arm)
        gain = primary - result.values(first, result.primary)
        to_first = "" if arm == first else _mean(gain, "+")
        to_twin = ""
        if reference not in (None, first):
            to_twin = _mean(primary - result.values(reference, result.primary), "+")
        if arm in found and found[arm].is_found:
            to_twin, to_first = (f"{to_twin}*", to_first) if to_twin else ("", f"{to_first}*")
        seconds = np.median(result.values(arm, "seconds") / result.values(first, "seconds"))
        converged = result.values(arm, "converged").all()
        lines.append(
            [
                arm if converged else f"{arm} !",
                _mean(primary),
                to_first,
                to_twin,
                *(_mean(result.values(arm, score)) for score in others),
                _mean(result.values(arm, f"perturbed_{result.primary}")),
                *(_mean(result.values(arm, name)) for name in attacked),
                f"{seconds:.1f}x",
            ]
        )
    over = "One seed" if result.n_runs == 1 else f"Means over {result.n_runs} seeds"
    notes = [
        f"{over}; time: processor time, as a multiple of {first}'s.",
        "*: found after correction for all arms (Holm, 5 %).",
    ]
    if masked := [row for row in result.rows if row.get("gradient_masking")]:
        notes.append(f"Gradients seem masked in {len(masked)} runs: attacks may be too weak there.")
    if any(line[0].endswith(" !") for line in lines):
        notes.append("!: not converged.")
    return "\n".join([format_table(headings, lines), "", *notes])


def attack_of(name: str) -> tuple[str, ...]:
    """Return attack and strength of a column of accuracy; an empty tuple for other columns."""
    match = re.fullmatch(rf"({'|'.join(ATTACKS)})_([^_]+)_accuracy", name)
    return (match[1], f"{match[2]}/255") if match else ()


def _mean(values: np.ndarray, sign: str = "") -> str:
    return "-" if np.isnan(values).all() else f"{values.mean():{sign}.3f}"
