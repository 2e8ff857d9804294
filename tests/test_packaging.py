"""What `pip install` installs is what the repository holds."""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

TOP = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
SOURCES: dict[str, str] = SETUPTOOLS["package-dir"]
IGNORED = {"__pycache__"}


def packages() -> dict[str, Path]:
    """Every folder of the sources that holds Python, by its dotted name."""
    found = {}
    for package, folder in SOURCES.items():
        for init in (TOP / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(TOP / folder).parts
            found[".".join((package, *parts))] = init.parent
    return found


def test_every_package_is_listed() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(packages())


def test_every_data_file_is_shipped() -> None:
    patterns: dict[str, list[str]] = SETUPTOOLS["package-data"]
    inside = {path: name for name, path in packages().items()}
    for folder in SOURCES.values():
        for path in (TOP / folder).rglob("*"):
            if path.is_dir() or path.suffix == ".py" or IGNORED & set(path.parts) or path.suffix in (".nbi", ".nbc"):
                continue
            home = next(parent for parent in path.parents if parent in inside)
            relative = path.relative_to(home).as_posix()
            allowed = [*patterns.get("*", ()), *patterns.get(inside[home], ())]
            assert any(fnmatch.fnmatch(relative, pattern) or (pattern == "**/*") for pattern in allowed), (
                f"{inside[home]}: {relative} would be left out of an installed memplan"
            )
