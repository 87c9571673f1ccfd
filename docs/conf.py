"""The docs site: Sphinx with MyST Markdown. `make docs` builds it; it needs no network and warns about nothing."""

from importlib import metadata

project = "Trackdesk delivery"
author = "The authors"
project_copyright = "the authors, Apache-2.0"
release = metadata.version("trackdesk-producer")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["generate"]

myst_heading_anchors = 3  # the anchors GitHub makes, so that a link works in both places
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"Trackdesk delivery {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
