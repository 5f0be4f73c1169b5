"""The verdict of a comparison, in sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tsynd_sk.comparison._differences import SCORES, Difference

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult

# With fewer test images of a class, scores say little.
_FEW = 10

# A gain and a loss in each score, and the name of the score where these do not tell it.
_WORDS = {
    "nll": ("better calibrated", "worse calibrated", "NLL "),
    "balanced_accuracy": ("better in balanced accuracy", "worse in balanced accuracy", ""),
    "roc_auc": ("better in ROC AUC", "worse in ROC AUC", ""),
    "perturbed_roc_auc": ("more robust to corruption", "less robust to corruption", ""),
}


def verdict_of(result: ComparisonResult) -> str:
    """Return findings and doubts, in lines of 80 columns."""
    paragraphs = [*findings(result), *doubts(result)]
    return "\n".join(textwrap.fill(p, 80, break_on_hyphens=False) for p in paragraphs)


def first_arm(result: ComparisonResult) -> str:
    """Return the first arm without a reference, with which others are compared."""
    return next(arm for arm in result.arms if arm not in result.references)


def time_ratio(result: ComparisonResult, arm: str, reference: str) -> float:
    """Return the processor time of an arm, as a multiple of another one's in the same run."""
    return float(np.median(result.values(arm, "seconds") / result.values(reference, "seconds")))


def recommended(result: ComparisonResult) -> str | None:
    """Return the arm with the best primary score among those found better than their reference.

    The interval of its difference to the first arm must be on the better side as well, because its
    reference may be a bad one. If there is no such arm, the first arm; None after a single run or
    without a score.
    """
    simple = first_arm(result)
    if result.n_runs == 1 or _is_missing(result, result.primary):
        return None
    gains = []
    for each in result.differences():
        if each.is_found and each.is_gain:
            whole = result.difference(each.arm, simple, result.primary)
            gains += [each.arm] if whole.is_gain and whole.low * whole.high > 0 else []
    sign = -1 if result.primary == "nll" else 1
    score = {arm: sign * result.values(arm, result.primary).mean() for arm in [simple, *gains]}
    return max(score, key=score.__getitem__)


def findings(result: ComparisonResult) -> Iterator[str]:
    """Yield sentences on the primary score, with costs, and on other scores."""
    if result.n_runs == 1:
        yield (
            "One seed decides nothing: differences in a single run are mostly chance. Use five "
            "seeds or more."
        )
        return
    if _is_missing(result, result.primary):
        yield (
            f"There is no {SCORES[result.primary]}, because all test images are of one class: "
            "choose another score."
        )
    else:
        yield from _on_primary(result)
    by_arm: dict[str, list[str]] = {}
    for score, (better, worse, label) in _WORDS.items():
        if score == result.primary or _is_missing(result, score):
            continue
        # Each score is corrected for all arms.
        for d in result.differences(score):
            if d.is_found:
                words = better if d.is_gain else worse
                by_arm.setdefault(d.arm, []).append(f"{words} ({label}{_number(d)})")
    for arm, found in by_arm.items():
        yield f"`{arm}` is {_listed(found)} than `{result.references[arm]}`."


def _on_primary(result: ComparisonResult) -> Iterator[str]:
    over, name = f"Over {result.n_runs} seeds", f"{SCORES[result.primary]} on clean images"
    gains, losses = [], []
    for d in result.differences():
        if d.is_found and d.is_gain:
            ratio = time_ratio(result, d.arm, d.reference)
            cost = f", at {ratio:.1f} times its cost" if ratio >= 1.05 else ""
            gains.append(f"`{d.arm}` is better than `{d.reference}` by {_number(d)}{cost}")
        elif d.is_found:
            losses.append(f"`{d.arm}` is worse than `{d.reference}` by {_number(d)}")
    if gains:
        yield f"{over}, in {name}, {_listed(gains)}."
    else:
        yield (
            f"{over}, no arm is significantly better than its reference in {name}: stay with "
            f"`{result.recommended}`."
        )
    if losses:
        yield f"{_listed(losses)}: do not use {'it' if len(losses) == 1 else 'them'} here."
    if gains:
        best = result.recommended
        reason = "; no arm is significantly better" if best == first_arm(result) else ""
        yield f"Recommended: `{best}`{reason}."


def doubts(result: ComparisonResult) -> Iterator[str]:
    """Yield reasons to doubt the findings."""
    late = [f"`{arm}`" for arm in result.arms if not result.values(arm, "converged").all()]
    if late:
        yield (
            f"Not converged: {_listed(late)}. The training loss was still falling at the end, so "
            "more steps may change the order of the arms."
        )
    n_classes = len(result.classes)
    counts = [np.bincount(result.codes[rows], minlength=n_classes) for rows in result.test_rows]
    few = [str(result.classes[k]) for k in np.flatnonzero(np.min(counts, axis=0) < _FEW)]
    if few:
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        yield (
            f"Fewer than {_FEW} test images of {', '.join(few[:5])}{more}: a single image moves "
            "the scores visibly."
        )


def _is_missing(result: ComparisonResult, score: str) -> bool:
    return bool(np.isnan(result.values(first_arm(result), score)).all())


def _number(d: Difference) -> str:
    return f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
