"""Order of the gallery, what each example starts from, and which objects its text is about."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx_gallery.directives import imgsgnode

# The page of the gallery, which lists the lessons in groups.
_INDEX = Path(__file__).parents[2] / "examples" / "index.rst"
_ORDER = re.findall(r"^ +(\w+)$", _INDEX.read_text(encoding="utf-8"), re.MULTILINE)


def place(filename: str) -> int:
    """Return the place of a lesson among all lessons, by which lists of lessons are sorted."""
    return _ORDER.index(Path(filename).stem)


def reset_torch(gallery_conf: dict, filename: str) -> None:
    """Start each example from the same random numbers, on one thread, whatever ran before."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)


def _find_roles_only(app: Sphinx) -> None:
    """Let pages of objects list the examples whose text names them by :class:, :func: or :obj:."""
    # Where single backticks have a role, sphinx-gallery pairs them with those of literals, and
    # misses all that is named after the first literal.
    app.config.sphinx_gallery_conf["default_role"] = ""


def _describe_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Say in the alternative text of figures which lesson they belong to, and where in it."""
    # Left alone, sphinx-gallery takes the name of the file, or all titles in a figure.
    if app.env.docname.startswith("auto_examples/"):
        figures = list(doctree.findall(imgsgnode))
        for i, figure in enumerate(figures):
            lesson = doctree.next_node(nodes.title).astext()
            figure["alt"] = f"Figure {i + 1} of {len(figures)} of the lesson “{lesson}”"


def setup(app: Sphinx) -> dict:
    # After sphinx-gallery has read the configuration, before it reads the examples.
    app.connect("builder-inited", _find_roles_only, priority=20)
    app.connect("doctree-read", _describe_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
