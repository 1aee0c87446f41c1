"""Settings of Sphinx (tools/build_docs.sh): the site is all the repository's pages, and asrkit's docstrings."""

from asrkit import __version__

project = "asrkit"
author = "asrkit developers"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# The source directory is the repository's root, so that pages link to each other as they do in a browser of files.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "examples/*.md", "recipes/*/*.md"]
exclude_patterns = [".*", "build", "asrkit", "tests", "tools", "recipes/*/corpus", "recipes/*/data", "recipes/*/exp"]

myst_heading_anchors = 4
napoleon_use_ivar = True  # a field has one entry: the dataclass's, not also that of "Attributes:"
default_role = "code"  # what docstrings have between single backticks

autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

html_theme = "alabaster"
html_title = f"asrkit {release}"
html_theme_options = {
    "description": "Phoneme recognition with recurrent networks and CTC",
    "fixed_sidebar": True,
    "page_width": "1100px",
    "sidebar_width": "280px",
}
html_show_sourcelink = False
html_copy_source = False
