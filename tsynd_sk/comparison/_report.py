"""The report of a comparison: one HTML file that shows everything."""

from __future__ import annotations

import platform
import re
import warnings
from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tsynd_sk import __version__
from tsynd_sk._utils._files import write_atomically
from tsynd_sk._utils._versions import installed
from tsynd_sk.comparison._about import About
from tsynd_sk.comparison._arm_words import words_of
from tsynd_sk.comparison._report_figures import forest, loss_curves, pictures
from tsynd_sk.comparison._report_tables import GLOSSARY, class_table, difference_table, score_table
from tsynd_sk.comparison._verdict import doubts, findings, first_arm

if TYPE_CHECKING:
    from tsynd_sk.comparison._result import ComparisonResult

_MAIN_PACKAGES = ("torch", "scikit-learn", "skorch", "numpy")


def write_report(path: Path, result: ComparisonResult, about: About) -> bool:
    """Write a report.

    Parameters
    ----------
    path : Path
        HTML file, which is replaced.
    result : ComparisonResult
        What was found.
    about : About
        Images, splits, and how to repeat the comparison.

    Returns
    -------
    bool
        Whether it was written. If not, a warning says why, so that the result is not lost.
    """
    try:
        content = render(result, about).encode()
        write_atomically(path, lambda file: file.write(content))
    except Exception as error:
        warnings.warn(f"no report could be written: {error}", stacklevel=2)
        return False
    return True


def render(result: ComparisonResult, about: About) -> str:
    """Return the page of a result."""
    environment = Environment(
        loader=PackageLoader("tsynd_sk.comparison", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "name": _name}
    first = first_arm(result)
    best = result.recommended
    found = {each.arm for each in result.differences() if each.is_found}
    return environment.get_template("report.html").render(
        about=about,
        style=Markup(files("tsynd_sk.comparison").joinpath("report.css").read_text("utf-8")),
        date=_date(date.today()),
        findings=list(findings(result)),
        doubts=list(doubts(result)),
        recommended=best,
        is_better=best is not None and best in found,
        facts=_facts(result, about),
        arms={
            name: {
                "words": words_of(arm, flip=bool(result.options.get("flip", True))),
                "converged": bool(result.values(name, "converged").all()),
                "reference": result.references.get(name),
            }
            for name, arm in result.arms.items()
        },
        first=first,
        n_runs=result.n_runs,
        forest=forest(result),
        scores=score_table(result),
        differences=difference_table(result),
        classes=class_table(result),
        training=_training(result),
        curves=loss_curves(result),
        samples={arm: pictures(sample) for arm, sample in result.samples.items()},
        glossary=GLOSSARY,
        versions=_versions(),
    )


def _prose(sentence: str) -> Markup:
    """Mark names in backticks as code, write minus signs, and keep intervals on one line."""
    text = re.sub(r"(?<!\w)-(?=\d)", "−", str(escape(sentence)))
    text = re.sub(r"[+−][\d.]+ \[.+?\]", r'<span class="whole">\g<0></span>', text)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", text))


def _name(name: str) -> Markup:
    """Allow lines to break within the name of an arm."""
    return Markup("+<wbr>").join(escape(part) for part in name.split("+"))


def _date(day: date) -> str:
    # `%-d` is not known everywhere.
    return f"{day.day} {day:%B %Y}"


def _facts(result: ComparisonResult, about: About) -> dict[str, str]:
    """Return the size of a comparison, by name."""
    minutes = sum(result.values(arm, "seconds").sum() for arm in result.arms) / 60
    train, test = (
        _range([len(rows) for rows in each]) for each in (result.train_rows, result.test_rows)
    )
    return {
        "Training images": train,
        "Test images": test,
        "Images": about.images,
        "Classes": str(len(result.classes)),
        "Runs": f"{result.n_runs} × {len(result.arms)} arms",
        "Processor time": f"{minutes:.0f} min" if minutes >= 2 else f"{60 * minutes:.0f} s",
    }


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _training(result: ComparisonResult) -> dict[str, str]:
    """Describe the network and its training, by name."""
    net, row = result.base, result.rows[0]
    told = {"Network": network_text(net)} if net is not None else {}
    if "epochs" in row:
        told["Epochs"] = f"{row['epochs']}, {row['steps']} steps"
    for name, what in (("batch_size", "Batch size"), ("lr", "Learning rate"), ("device", "Device")):
        if (value := getattr(net, name, None)) is not None:
            told[what] = str(value)
    return told


def network_text(net: Any) -> str:
    """Return the module of a net, and what it was given."""
    module = getattr(net, "module", net)
    name = getattr(module, "__name__", type(module).__name__)
    given = {
        key.removeprefix("module__"): value
        for key, value in vars(net).items()
        if key.startswith("module__") and isinstance(value, str | int | float | Path)
    }
    return ", ".join([name, *(f"{key} {value}" for key, value in given.items())])


def _versions() -> Mapping[str, str | None]:
    packages = {name: installed(name) for name in _MAIN_PACKAGES}
    system = {"Python": platform.python_version(), "System": platform.platform(terse=True)}
    return {"tsynd_sk": __version__, **packages, **system}
