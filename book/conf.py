"""Sphinx's settings for the book that `make book` builds; its order is in `_toc.yml`."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

project = html_title = "Colorizing grey images through a CNN"
author = "The colorlib authors"
extensions = ["myst_nb", "sphinx_external_toc"]
external_toc_path = "book/_toc.yml"
exclude_patterns = [".*", "build", "colorlib", "tests", "benchmarks", "app", "book", "figures"]

nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "sphinx_book_theme"
html_theme_options = {"show_toc_level": 2, "navbar_persistent": []}
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_show_sphinx = html_show_copyright = False
html_use_index = False
html_math_renderer = "mathml"


def write_math(writer, node):
    """Write a formula as MathML, which browsers draw; MathJax would come from the web."""
    display = "block" if node.tagname == "math_block" else "inline"
    writer.body.append(convert(node.astext(), display=display))
    raise SkipNode


def setup(app):
    """Tell Sphinx how formulas are written."""
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
