"""The site: `sphinx-build -W --keep-going -n -b html docs build/site`. Nothing is fetched while it is built or read."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # site_files, the extension beside this file
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = PROJECT["name"]
release = version = PROJECT["version"]
copyright = "the otel-steps authors, Apache-2.0"  # noqa: A001 - Sphinx's name
extensions = ["myst_parser", "sphinx_copybutton", "site_files"]

source_suffix = {".md": "markdown"}
exclude_patterns = ["images"]
suppress_warnings = ["misc.highlighting_failure"]  # Pygments knows no command that is quoted over several lines
nitpicky = True

myst_enable_extensions = ["attrs_block", "colon_fence"]
myst_heading_anchors = 6  # as on GitHub, where the same pages are read

html_theme = "furo"
html_title = "otel-steps"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_permalinks_icon = "#"
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {"color-brand-primary": "#0b6e4f", "color-brand-content": "#0b6e4f"},
    "dark_css_variables": {"color-brand-primary": "#5fd3a6", "color-brand-content": "#5fd3a6"},
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"

# What is copied from a console block is the commands: neither their `$` nor what they print.
copybutton_prompt_text = r"\$ |> "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
copybutton_line_continuation_character = "\\"
