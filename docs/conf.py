"""The manual: ``make docs`` builds it into ``docs/_build``; a warning is an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from reference_pages import write_pages

import facefocus

project = "facefocus"
author = copyright = "The facefocus developers"
release = version = facefocus.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb", "sphinx_design"]
exclude_patterns = ["_build", "images"]
html_theme = "furo"
html_title = f"facefocus {version}"
html_theme_options = {"top_of_page_buttons": []}
html_static_path = ["manual.css"]
html_css_files = ["manual.css"]
# A page that is opened from disk may not read others: what would be shown of them cannot be had.
html_show_search_summary = False

# Links of GitHub's kind, to headings and to files of the repository, work on both sides.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "attrs_inline"]
suppress_warnings = [
    "myst.header",  # a page of results may begin below its first level
]

# Tutorials are run at every build, in a folder of their own.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
# Of a library of a library, about a progress bar that nobody shows.
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"

# What is quoted, and options with two dashes, may be typed.
smartquotes = False

# Docstrings name code by single backticks.
default_role = "literal"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_ivar = True

write_pages(Path(__file__).parent / "_generated")
