"""Versions of all that a result depends on: Python, packages, and what computes."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from tsynd_sk import __version__

#: Packages that the library needs, and those of its extras that it imports.
REQUIRED = (
    *("torch", "scikit-learn", "skorch", "numpy", "scipy", "joblib", "threadpoolctl", "medmnist"),
    *("pillow", "tifffile", "safetensors", "filelock", "jinja2", "tqdm"),
)
OPTIONAL = (
    *("torchvision", "matplotlib", "pydicom", "imbalanced-learn"),
    "adversarial-robustness-toolbox",
)


def show_versions() -> None:
    """Print versions and computing devices, as a bug report needs them.

    See Also
    --------
    sklearn.show_versions : The same for scikit-learn.

    Examples
    --------
    >>> import tsynd_sk
    >>> tsynd_sk.show_versions()
    <BLANKLINE>
    System:
        python: ...
    """
    packages = {"tsynd_sk": __version__, **{name: installed(name) for name in REQUIRED + OPTIONAL}}
    blocks: dict[str, Mapping[str, str | None]] = {
        "System": {
            "python": sys.version.replace("\n", " "),
            "executable": sys.executable,
            "machine": platform.platform(),
        },
        "Packages": packages,
        "Computing": computing(),
    }
    for heading, lines in blocks.items():
        print(f"\n{heading}:")
        width = max(map(len, lines))
        print(*(f"  {name:>{width}}: {value}" for name, value in lines.items()), sep="\n")


def installed(package: str) -> str | None:
    """Return the version of a package, None if it is not installed; nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def computing() -> dict[str, str]:
    """Describe threads and accelerators."""
    # Takes seconds, and the rest needs none of it.
    import torch
    from threadpoolctl import threadpool_info

    accelerators = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        accelerators.append("mps")
    pools = [
        f"{pool['internal_api']} {pool['version']}".replace(" None", "")
        + f" ({pool['num_threads']})"
        for pool in threadpool_info()
    ]
    return {
        "threads of torch": str(torch.get_num_threads()),
        "thread pools": ", ".join(pools) or "none",
        "accelerators": ", ".join(accelerators) or "none",
    }
