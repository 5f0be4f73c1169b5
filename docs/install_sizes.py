"""Measure what an installation takes on disk, for the page on it.

``python docs/install_sizes.py`` reads what each extra requires from ``pyproject.toml``, adds up the
files of these packages and of all that they require in turn, as they are installed in the
environment that runs it, and writes ``docs/install_sizes.csv``. What PyTorch or the package without
extras brings is not counted again.
"""

import csv
import platform
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).parent
BRINGS = {
    "plot": "pictures: all displays",
    "networks": "torchvision, for ``--net resnet18``; it is there already",
    "dicom": "DICOM files in folders of images",
    "robustness": "attacks: ``--eps``, `adversarial_scores`",
    "benchmark": "attacks, pictures, and the arm ``smote``",
}


def closure(requirements: list[str], found: set[str]) -> set[str]:
    """Add the names of packages, and of all that they require here, to those found so far."""
    for text in requirements:
        wanted = Requirement(text)
        name = wanted.name.lower().replace("_", "-")
        if name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        try:
            requires = distribution(name).requires
        except PackageNotFoundError:
            extras = ",".join(BRINGS)
            raise SystemExit(f"{name} is missing: python -m pip install '.[{extras}]'") from None
        found.add(name)
        closure(requires or [], found)
    return found


def megabytes(names: set[str]) -> float:
    """Sum the sizes of the files of packages."""
    files = [file for name in names for file in distribution(name).files or []]
    return sum(file.locate().stat().st_size for file in files if file.locate().is_file()) / 1e6


def main() -> None:
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    torch = closure(["torch"], set())
    base = closure(project["dependencies"], set(torch))
    gpus = any(name.startswith("nvidia-") for name in torch)
    rows = [
        (
            f"torch {distribution('torch').version}",
            "networks" + (", and NVIDIA's libraries for its GPUs" if gpus else ", without GPUs"),
            f"{megabytes(torch):,.0f}",
        ),
        (
            "no extra",
            "scikit-learn, skorch, and medmnist, which brings torchvision",
            f"{megabytes(base - torch):,.0f}",
        ),
    ]
    for extra, brings in BRINGS.items():
        found = closure(project["optional-dependencies"][extra], set(base))
        rows.append((f"``[{extra}]``", brings, f"{megabytes(found - base):,.0f}"))
    with (HERE / "install_sizes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("What", "Brings", f"MB on {platform.system()}, {platform.machine()}"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
