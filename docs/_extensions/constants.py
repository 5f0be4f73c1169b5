"""What pages of constants say: the ``#:`` comments above the places that define them.

Sphinx reads those of the module that a page names, which often only imports the constant, and
falls back to what Python says of a tuple.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def comment_on(name: str) -> list[str]:
    """Find the lines of the comment on a constant, wherever it is imported from."""
    module, _, constant = name.rpartition(".")
    source = inspect.getsource(importlib.import_module(module))
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom):
            if node.module and any(alias.name == constant for alias in node.names):
                return comment_on(f"{node.module}.{constant}")
            continue
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == constant for target in targets):
            above = source.splitlines()[: node.lineno - 1]
            n_lines = next(n for n, line in enumerate([*above[::-1], ""]) if line[:2] != "#:")
            return [line[2:].removeprefix(" ") for line in above[len(above) - n_lines :]]
    return []


def _describe(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what == "data":
        lines[:] = comment_on(name)


def setup(app: Sphinx) -> dict:
    # Before numpydoc, to which these are docstrings like all others.
    app.connect("autodoc-process-docstring", _describe, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
