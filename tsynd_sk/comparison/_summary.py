"""What a comparison found: a table and a verdict to read, and all of it as JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tsynd_sk import __version__
from tsynd_sk._utils._names import ATTACKS
from tsynd_sk._utils._table import format_table
from tsynd_sk.comparison._runs import SCORES

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult, Difference

_SHORT = {"roc_auc": "ROC AUC", "balanced_accuracy": "bal.\nacc.", "nll": "NLL"}

# What a gain or a loss in a score is called, before its size.
_WORDS = {
    "nll": ("better", "worse", "calibrated (NLL "),
    "balanced_accuracy": ("better", "worse", "in balanced accuracy ("),
    "roc_auc": ("better", "worse", "in ROC AUC ("),
    "perturbed_roc_auc": ("more", "less", "robust to corruption ("),
}

# With fewer test images of a class, scores say little.
_FEW = 10


def table_of(result: ComparisonResult) -> str:
    """Tabulate means, and differences to the first arm and to the twin."""
    first, name = first_arm(result), _SHORT[result.primary]
    found = {d.arm for d in result.differences() if d.is_found}
    attacked = [name for name in result.rows[0] if attack_of(name)]
    others = [score for score in _SHORT if score != result.primary]
    columns = [*others, f"perturbed_{result.primary}", *attacked]

    def against(arm: str, other: str | None) -> str:
        if other in (None, arm):
            return ""
        values, base = (result.values(each, result.primary) for each in (arm, other))
        is_marked = arm in found and other == result.references[arm]
        return f"{_mean(values - base, '+')}{'*' * is_marked}"

    lines = []
    for arm in result.arms:
        reference = result.references.get(arm)
        lines.append(
            [
                arm if _is_converged(result, arm) else f"{arm} !",
                _mean(result.values(arm, result.primary)),
                against(arm, first),
                against(arm, None if reference == first else reference),
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
    if any(line[0].endswith(" !") for line in lines):
        notes.append("!: not converged.")
    return "\n".join([format_table(headings, lines), "", *notes])


def verdict_of(result: ComparisonResult) -> str:
    paragraphs = [*findings(result), *doubts(result)]
    return "\n".join(textwrap.fill(p, 80, break_on_hyphens=False) for p in paragraphs)


def outcome_of(result: ComparisonResult) -> dict[str, Any]:
    """Return scores, differences and verdict; docs/guide/command_line.rst explains the keys."""
    scores = score_names(result)
    arms = {
        arm: {
            "reference": result.references.get(arm),
            "converged": _is_converged(result, arm),
            "seconds": float(np.median(result.values(arm, "seconds"))),
            "scores": {score: _number(result.values(arm, score).mean()) for score in scores},
        }
        for arm in result.arms
    }
    differences = [
        {
            **{k: _number(v) if isinstance(v, float) else v for k, v in vars(each).items()},
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


def recommended(result: ComparisonResult) -> str | None:
    """Return the best of the arms found better than their reference, else the first arm.

    Its interval to the first arm must be on the better side too: its reference may be a bad one.
    A targeted arm must be better than the same at random. None after a single run or without a
    score.
    """
    first, primary = first_arm(result), result.primary
    if result.n_runs == 1 or _is_missing(result, primary):
        return None
    clear = (arm for arm in _gainers(result) if _is_clear(result.difference(arm, first, primary)))
    candidates = [first, *clear]
    sign = -1 if primary == "nll" else 1
    best = max(candidates, key=lambda arm: sign * result.values(arm, primary).mean())
    rival = _at_random(result, best)
    targeting_pays = rival is None or _is_clear(result.difference(best, rival, primary))
    return best if targeting_pays or rival not in candidates else rival


def findings(result: ComparisonResult) -> Iterator[str]:
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
    for score, (better, worse, what) in _WORDS.items():
        if score != result.primary and not _is_missing(result, score):
            # Each score is corrected for all arms.
            for d in result.differences(score):
                if d.is_found:
                    words = f"{better if d.is_gain else worse} {what}{_interval(d)})"
                    by_arm.setdefault(d.arm, []).append(words)
    for arm, found in by_arm.items():
        yield f"`{arm}` is {_listed(found)} than `{result.references[arm]}`."


def _on_primary(result: ComparisonResult) -> Iterator[str]:
    over, name = f"Over {result.n_runs} seeds", f"{SCORES[result.primary]} on clean images"
    gains, losses = [], []
    for d in result.differences():
        if d.is_found and d.is_gain:
            ratio = time_ratio(result, d.arm, d.reference)
            cost = f", at {ratio:.1f} times its cost" if ratio >= 1.05 else ""
            gains.append(f"`{d.arm}` is better than `{d.reference}` by {_interval(d)}{cost}")
        elif d.is_found:
            losses.append(f"`{d.arm}` is worse than `{d.reference}` by {_interval(d)}")
    best = result.recommended
    if gains:
        yield f"{over}, in {name}, {_listed(gains)}."
    else:
        yield (
            f"{over}, no arm is significantly better than its reference in {name}: stay with "
            f"`{best}`."
        )
    if losses:
        yield f"{_listed(losses)}: do not use {'it' if len(losses) == 1 else 'them'} here."
    if gains:
        reason = "; no arm is significantly better" if best == first_arm(result) else ""
        yield f"Recommended: `{best}`{reason}."
    for arm in result.arms:
        rival = _at_random(result, arm)
        if rival in _gainers(result):
            d = result.difference(arm, rival, result.primary)
            if not _is_clear(d):
                yield (
                    f"Targeting does not pay here: `{arm}` minus `{rival}` is {_interval(d)}. "
                    "Of the two, random displacement is the better buy."
                )


def doubts(result: ComparisonResult) -> Iterator[str]:
    endless = {arm for (_, arm), losses in result.losses.items() if not np.isfinite(losses).all()}
    if diverged := [f"`{arm}`" for arm in result.arms if arm in endless]:
        yield (
            f"Diverged: {_listed(diverged)}. The training loss became infinite or nan: train with "
            "a lower learning rate."
        )
    unfinished = (arm for arm in result.arms if not _is_converged(result, arm))
    if late := [f"`{arm}`" for arm in unfinished if arm not in endless]:
        yield (
            f"Not converged: {_listed(late)}. The training loss was still falling at the end, so "
            "more steps may change the order of the arms."
        )
    same = [f"`{d.arm}`" for d in result.differences() if math.isnan(d.low) and abs(d.mean) > 0]
    if same and result.n_runs > 1:
        yield (
            f"Not tested: {_listed(same)}. All runs differ from their reference by the same, so "
            "there is no scatter to judge it by: use more test images, or another score."
        )
    if masked := sum(bool(row.get("gradient_masking")) for row in result.rows):
        yield f"Gradients seem masked in {masked} runs: attacks may be too weak there."
    n_classes = len(result.classes)
    counts = [np.bincount(result.codes[rows], minlength=n_classes) for rows in result.test_rows]
    if few := [str(result.classes[k]) for k in np.flatnonzero(np.min(counts, axis=0) < _FEW)]:
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        yield (
            f"Fewer than {_FEW} test images of {', '.join(few[:5])}{more}: a single image moves "
            "the scores visibly."
        )


def first_arm(result: ComparisonResult) -> str:
    return next(arm for arm in result.arms if arm not in result.references)


def time_ratio(result: ComparisonResult, arm: str, reference: str) -> float:
    return float(np.median(result.values(arm, "seconds") / result.values(reference, "seconds")))


def score_names(result: ComparisonResult) -> list[str]:
    """List the scores, the primary one first."""
    names = [
        name
        for name in result.rows[0]
        if name.removeprefix("perturbed_") in SCORES or name.endswith("_accuracy")
    ]
    return sorted(names, key=lambda name: name != result.primary)


def attack_of(name: str) -> tuple[str, ...]:
    """Return attack and strength of a column; () if it is none."""
    attack, *rest = name.split("_")
    return (attack, f"{rest[0]}/255") if attack in ATTACKS and rest[1:] == ["accuracy"] else ()


def _gainers(result: ComparisonResult) -> list[str]:
    """List the arms that were found better than their reference."""
    return [d.arm for d in result.differences() if d.is_found and d.is_gain]


def _at_random(result: ComparisonResult, arm: str) -> str | None:
    """Return the arm that displaces at random what `arm` targets."""
    if result.arms[arm].objective in (None, "random", "duplicate", "reconstruction"):
        return None
    wanted = replace(result.arms[arm], objective="random")
    return next((name for name, each in result.arms.items() if each == wanted), None)


def _is_clear(d: Difference) -> bool:
    """Return whether the whole interval is on the better side."""
    return d.is_gain and d.low * d.high > 0


def _is_converged(result: ComparisonResult, arm: str) -> bool:
    return bool(result.values(arm, "converged").all())


def _is_missing(result: ComparisonResult, score: str) -> bool:
    return bool(np.isnan(result.values(first_arm(result), score)).all())


def _mean(values: np.ndarray, sign: str = "") -> str:
    return "-" if np.isnan(values).all() else f"{values.mean():{sign}.3f}"


def _interval(d: Difference) -> str:
    interval = "" if math.isnan(d.low) else f" [{d.low:+.3f}, {d.high:+.3f}]"
    return f"{d.mean:+.3f}{interval}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _number(value: float) -> float | None:
    """Return a number for JSON, which does not have nan."""
    return float(value) if math.isfinite(value) else None
