"""Formulas without the network: MathJax is part of the built site.

The package ``sphinx-mathjax-offline`` carries its files. Only what pages ask for is copied: the
script and the fonts, 3 MB of 24.
"""

from importlib.util import find_spec
from pathlib import Path
from shutil import copytree

from sphinx.application import Sphinx

_FILES = ("tex-chtml.js", "output/chtml/fonts/woff-v2")


def _copy(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    source = _static() / "mathjax"
    target = Path(app.outdir, "_static", "mathjax")
    for name in _FILES:
        file, copy = source / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            copytree(file, copy, dirs_exist_ok=True)
        else:
            copy.write_bytes(file.read_bytes())


def _static() -> Path:
    # Its name has hyphens, so that it cannot be imported by a statement; nor need it be imported.
    found = find_spec("sphinx-mathjax-offline")
    if found is None or found.origin is None:
        raise ImportError("formulas need the package sphinx-mathjax-offline, see docs in pyproject")
    return Path(found.origin).parent / "static"


def setup(app: Sphinx) -> dict:
    _static()
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("build-finished", _copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
