"""Order of the gallery, what each example starts from, and which objects its text is about."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx_gallery.directives import imgsgnode

# From the first steps to special cases; examples that are not named here come last.
_ORDER = (
    "plot_quick_start",
    "plot_own_images",
    "plot_grid_search",
    "plot_imbalance",
    "plot_ascent",
    "plot_triage",
    "plot_robustness",
    "plot_compare_arms",
    "plot_samples",
    "plot_saliency",
    "plot_unlabelled",
    "plot_own_objective",
    "plot_own_autoencoder",
    "plot_deep_ensemble",
    "plot_callback",
    "plot_torch_core",
    "plot_cluster",
    "plot_saving",
    "breast_ultrasound",
)


class TeachingOrder:
    """Key by which examples are sorted."""

    def __init__(self, folder: str):
        pass

    def __call__(self, filename: str) -> tuple[int, str]:
        """Place of an example."""
        name = Path(filename).stem
        return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


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
