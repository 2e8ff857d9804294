#!/usr/bin/env python3
"""
Checks the import contracts of pyproject.toml: who may import whom, no circles, where Qt and MindSpore stay.

usage: tools/layers.py [CONTRACT ...]     the ids of the contracts to check, all by default
"""

from __future__ import annotations

import os
import sys

from importlinter.cli import lint_imports
from package_tree import TOP, link_tree

if __name__ == "__main__":
    os.chdir(link_tree())  # import-linter looks for the package in the current folder first
    config = str(TOP / "pyproject.toml")
    sys.exit(lint_imports(config_filename=config, limit_to_contracts=tuple(sys.argv[1:]), no_cache=True))
