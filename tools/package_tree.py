#!/usr/bin/env python3
"""
Makes build/types/, a folder of links in which the package lies as it is installed, and prints its path.

gui/, traces/ and models/ stand at the top of the repository and are installed inside memplan/. Tools that look for a
package in folders (mypy, grimp, import-linter) find it whole there.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
INSIDE = ("gui", "traces", "models")
"""Folders of the top that are installed as sub-packages of memplan."""


def link_tree(top: Path = TOP) -> Path:
    """The folder of links, made or brought up to date."""
    package = top / "build" / "types" / "memplan"
    package.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in (top / "memplan").iterdir() if path.name != "__pycache__"}
    wanted |= {folder: top / folder for folder in INSIDE}
    for link in package.iterdir():
        if link.name not in wanted:
            link.unlink()
    for name, target in wanted.items():
        if not (package / name).is_symlink():
            (package / name).symlink_to(target)
    return package.parent


def see_installed(top: Path = TOP) -> None:
    """Let this interpreter find the package in the folder of links, whatever is installed."""
    sys.path.insert(0, str(link_tree(top)))
    importlib.invalidate_caches()


if __name__ == "__main__":
    print(link_tree())
