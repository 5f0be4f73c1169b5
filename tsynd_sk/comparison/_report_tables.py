"""Tables of the report: scores, differences in all of them, images of each class."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tsynd_sk.comparison._differences import SCORES, Difference
from tsynd_sk.comparison._outcome import score_names
from tsynd_sk.comparison._summary import attack_of
from tsynd_sk.comparison._verdict import first_arm

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult

# Classes to list.
_MAX_CLASSES = 20

#: Words of the report, and what they mean.
GLOSSARY = {
    "Arm": "A way to train the same network. All arms take as many steps on as many images.",
    "Twin": "The same arm without synthetic images. The difference to it is what they bring.",
    "Run": "One training of each arm, with a seed, and where there is no test split also with "
    "test images, of its own.",
    "Better, worse": "A difference that holds after correction for all arms (Holm, 5 %). Its 95 % "
    "interval says how large it may be.",
    "ROC AUC": "The chance that an image of a class is ranked above one of another class: 0.5 is "
    "guessing, 1 is perfect. Mean over classes.",
    "Balanced accuracy": "The share of images whose class is predicted. Mean over classes.",
    "NLL": "Negative log-likelihood in nats: how far predicted probabilities are from the truth. "
    "Less is better.",
    "Corrupted": "On test images with noise, blur, other contrast and the like. Mean over all "
    "kinds.",
    "Time": "Processor time of a training, as a multiple of that of the first arm.",
    "Not converged": "The training loss still fell when training ended.",
}

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
    rows = {}
    for arm in result.arms:
        seconds = result.values(arm, "seconds")
        ratio = np.median(seconds / result.values(first, "seconds"))
        rows[arm] = {
            "values": [number(result.values(arm, score).mean()) for score in scores],
            "seconds": f"{np.median(seconds):.3g}",
            "ratio": f"{ratio:.1f}×",
        }
    masked = sum(bool(row.get("gradient_masking")) for row in result.rows)
    return {"columns": [score_label(s) for s in scores], "rows": rows, "n_masked": masked}


def difference_table(result: ComparisonResult) -> dict[str, Any]:
    """Return the differences of arms to their references in all scores but the primary one."""
    scores = [score for score in shown_scores(result) if score != result.primary]
    columns = [result.differences(score) for score in scores]
    rows = [
        {
            "arm": cells[0].arm,
            "reference": cells[0].reference,
            "cells": [
                {"mean": number(d.mean, "+"), "interval": interval(d), "word": word(d)}
                for d in cells
            ],
        }
        for cells in zip(*columns, strict=True)
    ]
    return {"columns": [score_label(score) for score in scores], "rows": rows}


def class_table(result: ComparisonResult) -> dict[str, Any]:
    """Return the images, and groups, of each class in the first run."""
    sides = result.train_rows[0], result.test_rows[0]
    n_classes = len(result.classes)
    counts = [np.bincount(result.codes[rows], minlength=n_classes).tolist() for rows in sides]
    groups = None
    if result.groups is not None:
        groups = [len(np.unique(result.groups[rows])) for rows in sides]
    rows = list(zip(map(str, result.classes), *counts, strict=True))
    return {
        "rows": rows[:_MAX_CLASSES],
        "n_more": max(n_classes - _MAX_CLASSES, 0),
        "total": [sum(each) for each in counts],
        "groups": groups,
        "largest": max(map(max, counts)),
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
