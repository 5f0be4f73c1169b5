"""The options of the command line, printed when the documentation is built."""

import os
from pathlib import Path
from unittest import mock

from sphinx.application import Sphinx

from tsynd_sk._utils._arguments import build_parser


def _write_if_changed(app: Sphinx) -> None:
    path = Path(app.srcdir, "_generated", "help.txt")
    # argparse breaks lines at the width of the terminal.
    with mock.patch.dict(os.environ, COLUMNS="82", NO_COLOR="1"):
        text = build_parser().format_help()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict:
    app.connect("builder-inited", _write_if_changed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
