"""Configuration of the documentation; ``docs/contributing.rst`` says how to build it."""

import doctest
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

# Examples draw without a screen, and one thread is as fast as many for nets of this size.
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import inventories
import pages

from tsynd_sk import __version__

project = "tsynd_sk"
author = "the tsynd_sk developers"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    # In `_extensions`.
    "gallery",
    "help_text",
    "constants",
    "offline_mathjax",
    "parameter_groups",
    "references",
    "start_picture",
]
# Numbers are included in pages; they are none themselves.
exclude_patterns = ["_build", "**/numbers.rst"]
templates_path = ["_templates"]
nitpicky = True
default_role = "py:obj"
# Quotes and options such as --arms stay as they are typed.
smartquotes = False

# -- The API reference -----------------------------------------------------------------------------

autosummary_generate = True
autosummary_context = pages.CONTEXT
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
# numpydoc tells the types, in words that fit users better than annotations.
autodoc_typehints = "none"
# Templates list the members, with a description each.
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = pages.TYPES

# -- Other projects --------------------------------------------------------------------------------

intersphinx_mapping = inventories.reachable(HERE / "_build" / "inventories")
# Names of these packages cannot be checked today; all others are.
unreachable_packages = inventories.packages_without(intersphinx_mapping)
intersphinx_disabled_reftypes = ["std:*"]

# -- The gallery -----------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    # What is run. `breast_ultrasound.py` is shown as it is: it needs a download and some minutes.
    "filename_pattern": r"/plot_",
    # Other scripts are benchmarks and counts.
    "ignore_pattern": r"^(?!plot_|breast_ultrasound)",
    # The gallery's page, with its groups, is `examples/index.rst`.
    "copyfile_regex": r"index\.rst$",
    "within_subsection_order": "gallery.place",
    "minigallery_sort_order": "gallery.place",
    "backreferences_dir": "_generated/backreferences",
    "doc_module": ("tsynd_sk",),
    "inspect_global_variables": True,
    "remove_config_comments": True,
    "show_memory": False,
    "download_all_examples": False,
    "abort_on_example_error": False,
    "reset_modules": ("matplotlib", "gallery.reset_torch"),
    "plot_gallery": "True",
    "min_reported_time": 1e9,
    "write_computation_times": False,
}

# -- Examples in the guide -------------------------------------------------------------------------

doctest_global_setup = """
import numpy as np
import torch

torch.set_num_threads(1)
torch.manual_seed(0)
np.random.seed(0)
"""
# As in pyproject.toml for the docstrings, which pytest runs.
doctest_default_flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
trim_doctest_flags = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# -- Links -----------------------------------------------------------------------------------------

linkcheck_timeout = 20
linkcheck_anchors = False

# -- Pages -----------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = f"tsynd_sk {release}"
html_short_title = "tsynd_sk"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_theme_options = {
    "logo": {"text": "tsynd_sk"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "back_to_top_button": False,
    # The start page is one screen; it needs no list of its sections.
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
}
# Pages without pages below them need no list of these.
html_sidebars = dict.fromkeys(
    (
        *("index", "install", "evidence", "troubleshooting", "compared", "glossary", "changelog"),
        *("contributing", "cite"),
    ),
    (),
)
html_show_sourcelink = False
