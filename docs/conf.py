"""
The site of the documentation, built by Sphinx: `make docs`.

The project's folder is the source, so that README, CONTRIBUTING and the benchmarks are pages as they stand.
"""

from __future__ import annotations

import json
from pathlib import Path

from sphinx.application import Sphinx

from memplan.core.version import MEMPLAN_VERSION

GROUPS = json.loads((Path(__file__).parent / "navigation.json").read_text(encoding="utf-8"))

project = "memplan"
release = MEMPLAN_VERSION
root_doc = "README"
include_patterns = [f"{page}.*" for page in ("README", *(page for group in GROUPS for page in group["pages"]))]
exclude_patterns = ["**/*.py", "**/*.json", "**/*.toml"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

myst_heading_anchors = 4
default_role = "literal"  # single backticks in docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = f"memplan {MEMPLAN_VERSION}"
html_extra_path = ["site"]  # index.html, which leads to the README
html_copy_source = False


def with_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the groups of `navigation.json` behind the README, whose own text has no place for them."""
    if page != app.config.root_doc:
        return
    for group in GROUPS:
        pages = "\n".join(f"/{name}" for name in group["pages"])
        glob = ":glob:\n" if "*" in pages else ""
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {group['caption']}\n{glob}\n{pages}\n```\n"


def setup(app: Sphinx) -> None:
    """Sphinx's entry."""
    app.connect("source-read", with_navigation)
