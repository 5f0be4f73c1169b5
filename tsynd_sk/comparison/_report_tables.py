"""Tables of the report: scores, differences in all of them, images of each class."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tsynd_sk.comparison._differences import SCORES, Difference
from tsynd_sk.comparison._outcome import score_names
from tsynd_sk.comparison._summary import attack_of
from tsynd_sk.comparison._verdict import first_arm, time_ratio

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult

# Classes to list.
_MAX_CLASSES = 20

_SHORT = {**SCORES, "balanced_accuracy": "Balanced accuracy"}


def score_label(score: str) -> tuple[str, str]:
    """Return the name of a score, and the kind of images that it is for."""
    if attack := attack_of(score):
        return "Accuracy", " ".join(attack)
    clean = score.removeprefix("perturbed_")
    return _SHORT[clean], "clean" if clean == score else "corrupted"


def shown_scores(result: ComparisonResult) -> list[str]:
    """List the scores that a report shows, the primary one first."""
    primary = result.primary
    wanted = [*(s for s in SCORES if s != "expected_calibration_error"), f"perturbed_{primary}"]
    return [name for name in score_names(result) if name in wanted or attack_of(name)]


def score_table(result: ComparisonResult) -> dict[str, Any]:
    """Return the means over runs of all arms."""
    scores, first = shown_scores(result), first_arm(result)
    rows = {
        arm: {
            "values": [result.values(arm, score).mean() for score in scores],
            "seconds": f"{np.median(result.values(arm, 'seconds')):.3g}",
            "ratio": f"{time_ratio(result, arm, first):.1f}×",
        }
        for arm in result.arms
    }
    masked = sum(bool(row.get("gradient_masking")) for row in result.rows)
    return {"columns": [score_label(s) for s in scores], "rows": rows, "n_masked": masked}


def difference_table(result: ComparisonResult) -> dict[str, Any]:
    """Return the differences of arms to their references in all scores but the primary one."""
    scores = [score for score in shown_scores(result) if score != result.primary]
    rows = list(zip(*(result.differences(score) for score in scores), strict=True))
    return {"columns": [score_label(score) for score in scores], "rows": rows}


def class_table(result: ComparisonResult) -> dict[str, Any]:
    """Return the images, and groups, of each class in the first run."""
    sides, n_classes = (result.train_rows[0], result.test_rows[0]), len(result.classes)
    counts = [np.bincount(result.codes[rows], minlength=n_classes) for rows in sides]
    groups = result.groups
    return {
        "rows": list(zip(map(str, result.classes), *counts, strict=True))[:_MAX_CLASSES],
        "n_more": max(n_classes - _MAX_CLASSES, 0),
        "total": [len(rows) for rows in sides],
        "groups": None if groups is None else [len(np.unique(groups[rows])) for rows in sides],
    }


def number(value: float, sign: str = "") -> str:
    """Return a number with three decimals and a proper minus; a dash for nan."""
    # Adding zero removes the minus of a negative zero.
    return "–" if math.isnan(value) else f"{round(value, 3) + 0.0:{sign}.3f}".replace("-", "−")


def interval(difference: Difference) -> str:
    """Return the interval of a difference, "" if there is none."""
    low, high = difference.low, difference.high
    return "" if math.isnan(low) else f"{number(low, '+')} to {number(high, '+')}"


def word(difference: Difference) -> str:
    """Return what was found."""
    if not difference.is_found:
        return ""
    return "better" if difference.is_gain else "worse"
