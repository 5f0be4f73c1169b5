"""The picture of the start page, drawn when the documentation is built: no image is kept in git."""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

import tsynd_sk

_LOGGER = logging.getLogger(__name__)


def draw(path: Path) -> None:
    """Draw digits, what is synthesised from them, and what that does to their uncertainty."""
    import torch
    from matplotlib import style
    from matplotlib.figure import Figure

    from tsynd_sk import TargetedSynthesizer
    from tsynd_sk.datasets import load_digits_images
    from tsynd_sk.inspection import SynthesisDisplay

    torch.set_num_threads(1)
    X, y, _ = load_digits_images()
    synthesizer = TargetedSynthesizer(random_state=0).fit(X[:100], y[:100])
    display = SynthesisDisplay.from_estimator(synthesizer, X[:100], n_samples=4, random_state=0)
    with style.context("default"):
        figure = Figure(figsize=(5.4, 4.1), layout="compressed")
        display.plot(figure=figure)
        figure.savefig(path, dpi=200)


def _draw_if_older(app: Sphinx) -> None:
    path = Path(app.srcdir, "_generated", "start.png")
    sources = [Path(__file__), *Path(tsynd_sk.__file__).parent.rglob("*.py")]
    newest = max(source.stat().st_mtime for source in sources)
    if not path.exists() or path.stat().st_mtime < newest:
        _LOGGER.info("drawing the picture of the start page...")
        path.parent.mkdir(exist_ok=True)
        draw(path)


def setup(app: Sphinx) -> dict:
    app.connect("builder-inited", _draw_if_older)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
