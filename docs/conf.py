"""Sphinx configuration."""

import logging
import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

import sklearn_ncae

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# Examples fit many networks in one process, which TensorFlow takes for a loop that should be
# faster.
logging.getLogger("tensorflow").setLevel(logging.ERROR)
sys.path.insert(0, str(Path(__file__).parent))  # for gallery_order

project = "sklearn-ncae"
author = "The sklearn-ncae developers"
copyright = "2026, the sklearn-ncae developers"
version = release = installed_version("sklearn-ncae")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "examples", "sg_execution_times.rst"]

# One page per module with everything public in it; numpydoc's own list of members would repeat it.
autosummary_generate = True
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # Made by scikit-learn for every estimator, with references into its own user guide.
    "exclude-members": ", ".join(
        f"set_{method}_request"
        for method in ("fit", "partial_fit", "predict", "score", "transform")
    ),
}
autodoc_typehints = "none"
numpydoc_show_class_members = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# The gallery appears with its first example.
if any(Path(__file__).parent.glob("examples/plot_*.py")):
    extensions.append("sphinx_gallery.gen_gallery")
    sphinx_gallery_conf = {
        "examples_dirs": "examples",
        "gallery_dirs": "gallery",
        "within_subsection_order": "gallery_order.by_reading",
        "download_all_examples": False,
        "show_memory": False,
    }

html_theme = "pydata_sphinx_theme"
html_title = "sklearn-ncae"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
# No empty sidebar beside pages that stand alone.
html_sidebars = {
    page: [] for page in ("index", "quickstart", "coming_from", "article", "architecture")
}
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}


def resolve_short_name(app, env, node, contnode):
    """Link sklearn_ncae.NCAEDetector to its page, which is that of the module that defines it."""
    domain, target = node.get("refdomain"), node.get("reftarget", "")
    module, _, name = target.rpartition(".")
    if domain != "py" or module != "sklearn_ncae" or name not in sklearn_ncae.__all__:
        return None
    full_name = f"{getattr(sklearn_ncae, name).__module__}.{name}"
    return env.get_domain("py").resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], full_name, node, contnode
    )


def setup(app):
    """Connect what Sphinx calls."""
    app.connect("missing-reference", resolve_short_name)
