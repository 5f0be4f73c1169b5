"""Versions of all that a result depends on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from tsynd_sk import __version__

#: Packages that the library needs, and those of its extras.
REQUIRED = (
    *("torch", "scikit-learn", "skorch", "numpy", "scipy", "joblib", "threadpoolctl", "medmnist"),
    *("pillow", "tifffile", "safetensors", "filelock", "jinja2", "tqdm"),
)
OPTIONAL = (
    *("torchvision", "matplotlib", "pydicom", "imbalanced-learn"),
    "adversarial-robustness-toolbox",
)


def show_versions() -> None:
    """Print versions and computing devices for a bug report.

    See Also
    --------
    sklearn.show_versions : What is printed first.

    Examples
    --------
    >>> import tsynd_sk
    >>> tsynd_sk.show_versions()
    <BLANKLINE>
    System:
        python: ...
    """
    # They take seconds to import.
    import torch
    from sklearn import show_versions as show_those_of_sklearn

    show_those_of_sklearn()
    accelerators = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    accelerators += ["mps"] if torch.backends.mps.is_available() else []
    lines = {
        "tsynd_sk": __version__,
        **{name: installed(name) for name in REQUIRED + OPTIONAL},
        "threads of torch": torch.get_num_threads(),
        "accelerators": ", ".join(accelerators) or "none",
    }
    print("\ntsynd_sk and what it uses:")
    print(*(f"{name:>30}: {value}" for name, value in lines.items()), sep="\n")


def installed(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
