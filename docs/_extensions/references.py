"""Names in single backticks: links to what they name, and checked.

Docstrings put parameters and objects alike in single backticks. An object is written without its
module, ``AugmentedClassifier`` or ``TargetedSynthesizer.sample``, and is found wherever it is
documented. A name in lower case that is no function here is a parameter, and is shown as code.
Everything else has to be found, here or at another project, or the build warns.
"""

import builtins
import re
import sys

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

# `X` and `X_test` are parameters; `Bunch` and `ARMS` are not.
_PARAMETER = re.compile(r"[a-z_]\w*|[A-Z](_\w*)?")


def _resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Node | None:
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    objects = env.domains.python_domain.objects
    found = {
        (entry.docname, entry.node_id): name
        for name, entry in objects.items()
        if name.endswith(f".{target}")
        and not entry.aliased
        and ("." in target or entry.objtype != "method")
    }
    if len(found) > 1:
        here = node.get("py:module")
        found = {k: name for k, name in found.items() if name == f"{here}.{target}"} or found
    if len(found) == 1:
        ((docname, node_id),) = found
        uri = app.builder.get_relative_uri(node["refdoc"], docname) + "#" + node_id
        return nodes.reference("", "", content, refuri=uri, internal=True)
    if found:
        return None
    root = target.partition(".")[0]
    if target in vars(builtins):
        root = "python"
    elif _PARAMETER.fullmatch(target):
        return content
    known = app.config.unreachable_packages
    return content if root in known or _of_python(root, known) else None


def _of_python(root: str, unreachable: set[str]) -> bool:
    return "python" in unreachable and root in sys.stdlib_module_names


def _leave_docstrings_to_pytest(app: Sphinx, doctree: nodes.document) -> None:
    """Drop examples of docstrings from what the doctest builder runs; pytest has run them."""
    if app.builder.name == "doctest" and app.env.docname.startswith("api/"):
        for block in list(doctree.findall(nodes.doctest_block)):
            block.parent.remove(block)


def setup(app: Sphinx) -> dict:
    app.add_config_value("unreachable_packages", set(), "env", [set])
    # Before intersphinx.
    app.connect("missing-reference", _resolve, priority=400)
    app.connect("doctree-read", _leave_docstrings_to_pytest)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
