"""Which other projects can be linked to today.

Without the network, or with ``TSYND_SK_DOCS_OFFLINE=1``, there are no inventories to link by. The
documentation is built all the same, without these links, and names of these packages go unchecked.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from sphinx.util import logging

_LOGGER = logging.getLogger(__name__)

# By the package that a name starts with.
_SITES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "sklearn": "https://scikit-learn.org/stable/",
    "skorch": "https://skorch.readthedocs.io/en/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "torchvision": "https://docs.pytorch.org/vision/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
    "imblearn": "https://imbalanced-learn.org/stable/",
    "joblib": "https://joblib.readthedocs.io/en/stable/",
}


def reachable(folder: Path) -> dict[str, tuple[str, str]]:
    """Fetch the inventories that can be had, for `intersphinx_mapping`."""
    if os.environ.get("TSYND_SK_DOCS_OFFLINE", "0") not in ("", "0"):
        _LOGGER.info("links to other projects are off: TSYND_SK_DOCS_OFFLINE is set")
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as threads:
        fetched = threads.map(lambda name: _fetch(name, folder), _SITES)
        mapping = {
            name: (_SITES[name], str(path))
            for name, path in zip(_SITES, fetched, strict=True)
            if path is not None
        }
    for name in _SITES.keys() - mapping.keys():
        _LOGGER.info("no links to %s: %s cannot be reached", name, _SITES[name])
    return mapping


def packages_without(mapping: dict) -> set[str]:
    """List packages whose names cannot be checked."""
    return _SITES.keys() - mapping.keys()


def _fetch(name: str, folder: Path) -> Path | None:
    try:
        answer = requests.get(f"{_SITES[name]}objects.inv", timeout=10)
        answer.raise_for_status()
    except requests.RequestException:
        return None
    # A portal that answers every request by a page of its own is no inventory.
    if not answer.content.startswith(b"# Sphinx inventory"):
        return None
    path = folder / f"{name}.inv"
    path.write_bytes(answer.content)
    return path
