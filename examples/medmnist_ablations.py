"""Ablations of the MedMNIST benchmark: a figure and rows of a table for each factor."""

from __future__ import annotations

from typing import Any, NamedTuple

import medmnist_figures as figures
import medmnist_tables as tables
from medmnist_statistics import Results
from medmnist_tables import MAIN_METRICS, Family, Pair, Place, cells_of

BASE = "standard+mutual_info"

# Not a difference to the base: what the smaller radius does under the label policy of now.
RADII_UNDER_KEEP = Pair("defaults=keep, radius 0.25", "label_policy=keep")

# What factors are called, with units.
TITLES = {
    "radius": "radius of the trust region (latent standard deviations)",
    "random_start": "start of ascents (share of the radius)",
    "label_policy": "label policy",
    "n_members": "number of members",
    "max_iter": "steps of ascent",
    "refresh_every": "epochs between refreshes",
    "warm_up": "warm-up (share of the epochs)",
    "synthetic_ratio": "synthetic rows per real one (changes the budget)",
    "latent_size": "channels of the latent code",
    "autoencoder": "images that the autoencoder learns from",
    "batches": "real and synthetic rows in batches",
    "members": "members",
    "members_entropy": "members, under entropy",
    "defaults": "label policy and radius together: before and now",
    "defaults_entropy": "label policy and radius together, under entropy",
    "arm": "arm",
}


class Factor(NamedTuple):
    """What was varied: the arm of each value, in the order of the values."""

    name: str
    arms: dict[str, str]
    base: str


def factors_of(results: Results) -> list[Factor]:
    """Find factors, values and base arms in the table's column ``setting``."""
    found: dict[str, dict[str, str]] = {}
    bases: dict[str, str] = {}
    varied = dict.fromkeys((row["arm"], row.get("setting") or "") for row in results.rows)
    for arm, setting in varied:
        for text in filter(None, setting.split("; ")):
            factor, _, value = text.partition("=")
            found.setdefault(factor, {})[value] = arm
            if arm != text:
                bases[factor] = arm
    # Arms that are no value of anything are what the base arm is made of and compared with.
    arms = {arm: arm for arm, setting in varied if setting == "" or "; " in setting or arm == BASE}
    arms |= {base: base for base in bases.values()}
    if BASE in arms and len(arms) > 1:
        found["arm"] = {arm: arm for arm in results.arms if arm in arms}
        bases["arm"] = BASE
    factors = [Factor(name, _sorted(arms), bases.get(name, BASE)) for name, arms in found.items()]
    return sorted(factors, key=lambda factor: list(TITLES).index(factor.name))


def _sorted(arms: dict[str, str]) -> dict[str, str]:
    try:
        return dict(sorted(arms.items(), key=lambda item: float(item[0])))
    except ValueError:
        return arms


def write_ablations(writer: Any, results: Results) -> None:
    """Write figures, a table and numbers."""
    mean = Place("mean", "mean", results.cells)
    groups = cells_of(results)
    head: list[str] | None = None
    rows: tables.Table = []
    for factor in factors_of(results):
        path = writer.figure(f"ablation_{factor.name}")
        pairs = [Pair(arm, factor.base) for arm in factor.arms.values() if arm != factor.base]
        family = Family(results, pairs, MAIN_METRICS, [mean])
        everywhere = Family(results, pairs, MAIN_METRICS, [mean, *groups])
        if not family.estimates:
            continue
        writer.quote(family, "ablations/")
        head = ["factor", "value", *(tables.METRICS[m] for m in family.metrics), "seconds"]
        title = TITLES[factor.name]
        lines = []
        for value, arm in factor.arms.items():
            pair = Pair(arm, factor.base)
            if arm == factor.base:
                texts = ["base"] * len(family.metrics)
                lines.append(figures.Line(value, {}, {}, is_reference=True))
            elif pair in family.pairs:
                texts = [family.text(pair, metric, mean.key) for metric in family.metrics]
                lines += [
                    line._replace(label=value)
                    for line in figures.lines_of(everywhere, mean, groups)
                    if line.label == arm
                ]
            else:
                continue
            ratio = results.compare(arm, factor.base, "seconds", mean.cells, how=_ratio)
            rows.append([title, value, *texts, "1" if arm == factor.base else _times(ratio)])
        label = "mean over data sets, 95 % interval"
        figures.overview(path, lines, family.metrics, f"{title}: difference to the base", label)
    writer.table("ablations", [head, *rows] if head else [[]])
    writer.quote(Family(results, [RADII_UNDER_KEEP], MAIN_METRICS, [mean]), "ablations/")
    write_members(writer, results, mean)


def _ratio(ours: Any, theirs: Any) -> Any:
    return ours / theirs


def _times(ratio: Any) -> str:
    return tables.NOTHING if ratio is None else f"{ratio.mean:.2f}"


def objective_pairs(results: Results) -> dict[Pair, str]:
    """Pair what was varied under both objectives; the base of several factors comes once."""
    factors = {factor.name: factor for factor in factors_of(results)}
    pairs: dict[Pair, str] = {}
    for name, ours in factors.items():
        if theirs := factors.get(f"{name}_entropy"):
            for value, arm in ours.arms.items():
                if value in theirs.arms:
                    pairs.setdefault(Pair(arm, theirs.arms[value]), value)
    return pairs


def write_members(writer: Any, results: Results, mean: Place) -> None:
    """Compare mutual information with entropy, where all else is the same."""
    pairs = objective_pairs(results)
    writer.table("members", [[]])
    if not pairs:
        return
    family = Family(results, list(pairs), MAIN_METRICS, [mean])
    rows = [["under", *(tables.METRICS[metric] for metric in family.metrics)]]
    for pair, value in pairs.items():
        rows.append([value, *(family.text(pair, metric, mean.key) for metric in family.metrics)])
        for metric in family.metrics:
            estimate = family.get(pair, metric, mean.key)
            writer.numbers[f"members/{value}/{metric}"] = tables.difference_text(estimate)
    writer.table("members", rows)
