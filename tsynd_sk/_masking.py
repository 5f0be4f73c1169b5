"""Signs that accuracy under attack owes to gradients that say nothing, and not to robustness."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

# Attacks draw at random, so that the stronger one may lose by so much without meaning it.
_SLACK = 0.02
# Share of the images whose loss is to rise along its gradient.
_RISING = 0.9


def signs_of_masking(rows: Sequence[dict], rises: float, n: int) -> list[str]:
    """Say where a stronger attack did worse than a weaker one; the first row is of clean images."""
    slack = max(_SLACK, 1 / n) + 1e-9
    accuracy = {(row["attack"], row["eps"]): row["accuracy"] for row in rows[1:]}
    signs = []
    if rises < _RISING:
        signs.append(f"the loss of only {rises:.0%} of the images rises along its gradient")

    def compare(stronger: tuple[str, float], weaker: tuple[str, float]) -> None:
        if not {stronger, weaker} <= set(accuracy):
            return
        left, expected = accuracy[stronger], accuracy[weaker]
        if left > expected + slack:
            names = [f"{attack!r} with eps={eps:.3g}" for attack, eps in (stronger, weaker)]
            signs.append(f"{names[0]} leaves accuracy {left:.3f}, {names[1]} {expected:.3f}")

    strengths = sorted({row["eps"] for row in rows[1:]})
    # A single long step may overshoot.
    for attack in ("pgd", "autoattack", "square"):
        for small, large in pairwise(strengths):
            compare((attack, large), (attack, small))
    for eps in strengths:
        compare(("pgd", eps), ("fgsm", eps))
        compare(("autoattack", eps), ("pgd", eps))
        compare(("pgd", eps), ("square", eps))
    return signs
