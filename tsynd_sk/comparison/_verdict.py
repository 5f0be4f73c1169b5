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

# Words for a gain and a loss in each score.
_WORDS = {
    "nll": ("better calibrated", "worse calibrated"),
    "balanced_accuracy": ("better in balanced accuracy", "worse in balanced accuracy"),
    "roc_auc": ("better in ROC AUC", "worse in ROC AUC"),
    "perturbed_roc_auc": ("more robust to corruption", "less robust to corruption"),
}


def verdict_of(result: ComparisonResult) -> str:
    """Return findings and doubts, in lines of 80 columns."""
    paragraphs = [*findings(result), *doubts(result)]
    return "\n".join(textwrap.fill(p, 80, break_on_hyphens=False) for p in paragraphs)


def findings(result: ComparisonResult) -> Iterator[str]:
    """Yield sentences on the primary score, with costs, and on other scores."""
    if result.n_runs == 1:
        yield (
            "One seed decides nothing: differences of one run are mostly chance. Compare over "
            "five seeds or more."
        )
    else:
        yield from _on_primary(result)
        yield from _on_others(result)


def first_arm(result: ComparisonResult) -> str:
    """Return the first arm without a reference, with which others are compared."""
    return next(arm for arm in result.arms if arm not in result.references)


def recommended(result: ComparisonResult) -> str | None:
    """Return the arm with the best primary score among those found better than their reference.

    The interval of its difference to the first arm must be on the better side as well, because its
    reference may be a bad one. If there is no such arm, the first arm; None after a single run or
    without a score.
    """
    simple = first_arm(result)
    if result.n_runs == 1 or np.isnan(result.values(simple, result.primary)).all():
        return None
    gains = []
    for each in result.differences():
        if each.is_found and each.is_gain:
            whole = result.difference(each.arm, simple, result.primary)
            gains += [each.arm] if whole.is_gain and whole.low * whole.high > 0 else []
    sign = -1 if result.primary == "nll" else 1

    def score(arm: str) -> float:
        return sign * float(result.values(arm, result.primary).mean())

    return max([simple, *gains], key=lambda arm: (score(arm), arm == simple))


def _on_primary(result: ComparisonResult) -> Iterator[str]:
    name, n = SCORES[result.primary], result.n_runs
    if np.isnan(result.values(next(iter(result.arms)), result.primary)).all():
        yield f"There is no {name}, for the test images are of one class: choose another score."
        return
    differences = result.differences()
    gains = [d for d in differences if d.is_found and d.is_gain]
    losses = [d for d in differences if d.is_found and not d.is_gain]
    if not gains:
        yield (
            f"Over {n} seeds nothing is found better than its reference in {name} on clean images: "
            f"keep to `{result.recommended}`."
        )
    else:
        parts = [
            f"`{d.arm}` is better than `{d.reference}` by {_number(d)}{_cost(result, d.arm)}"
            for d in gains
        ]
        yield f"Over {n} seeds, in {name} on clean images, {_listed(parts)}."
    if losses:
        parts = [f"`{d.arm}` is worse than `{d.reference}` by {_number(d)}" for d in losses]
        yield f"{_capital(_listed(parts))}: do not use {'it' if len(losses) == 1 else 'them'} here."
    if gains:
        best = result.recommended
        reason = "; nothing is found better than it" if best == first_arm(result) else ""
        yield f"Recommended: `{best}`{reason}."


def _on_others(result: ComparisonResult) -> Iterator[str]:
    """Yield findings in other scores by arm, each score corrected for all arms."""
    by_arm: dict[str, list[str]] = {}
    for score, (better, worse) in _WORDS.items():
        if score == result.primary or np.isnan(result.values(next(iter(result.arms)), score)).all():
            continue
        label = {"nll": "NLL "}.get(score, "")
        for d in result.differences(score):
            if d.is_found:
                words = better if d.is_gain else worse
                by_arm.setdefault(d.arm, []).append(f"{words} ({label}{_number(d)})")
    for arm, found in by_arm.items():
        yield f"`{arm}` is {_listed(found)} than `{result.references[arm]}`."


def _cost(result: ComparisonResult, arm: str) -> str:
    """Return what an arm costs, as a multiple of its reference in the same run."""
    reference = result.references.get(arm)
    if reference is None:
        return ""
    ratio = np.median(result.values(arm, "seconds") / result.values(reference, "seconds"))
    return f", at {ratio:.1f} times its cost" if ratio >= 1.05 else ""


def doubts(result: ComparisonResult) -> Iterator[str]:
    """Yield reasons to doubt the findings."""
    late = [arm for arm in result.arms if not result.values(arm, "converged").all()]
    if late:
        yield (
            f"Not converged: {_listed([f'`{arm}`' for arm in late])}; the training loss still "
            "fell when training ended, so that more steps may change the order of the arms."
        )
    counts = [
        np.bincount(result.codes[rows], minlength=len(result.classes)) for rows in result.test_rows
    ]
    fewest = np.min(counts, axis=0)
    few = [f"{result.classes[k]}" for k in np.flatnonzero(fewest < _FEW)]
    if few:
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        yield (
            f"Few test images (fewer than {_FEW}) of {', '.join(few[:5])}{more}: one image moves "
            "the scores visibly."
        )


def _number(d: Difference) -> str:
    return f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
