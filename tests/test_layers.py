"""The import contracts of pyproject.toml hold, and MindSpore is imported only when it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for folder in ("memplan", "gui", "traces", "models") for path in (TOP / folder).rglob("*.py"))


@pytest.mark.parametrize("contract", ["floors", "circles", "qt", "model", "model-qt", "mindspore"])
def test_the_import_contract_is_kept(contract: str) -> None:
    command = [sys.executable, str(TOP / "tools" / "layers.py"), contract]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout[answer.stdout.find("Broken contracts") :] + answer.stderr


def test_mindspore_is_imported_inside_functions_only() -> None:
    early = [place for path in SOURCES for place in _imports_at_import_time(path, "mindspore")]
    assert not early, early


def _imports_at_import_time(path: Path, library: str) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {node for function in functions for node in ast.walk(function)}
    found = []
    for node in ast.walk(tree):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if node not in inside and any(name.split(".")[0] == library for name in names):
            found.append(f"{path.relative_to(TOP)}:{getattr(node, 'lineno', 0)}")
    return found
