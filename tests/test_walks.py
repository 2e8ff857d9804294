"""The walks of docs/architecture.md hold: every function stands where the page says, and mentions the next one."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
PAGE = TOP / "docs" / "architecture.md"
JUMPS = 3


def walks() -> dict[str, list[str]]:
    """Title of each walk and the dotted names of its numbered steps."""
    _, _, text = PAGE.read_text(encoding="utf-8").partition("## Any number within three jumps")
    section = re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0]
    found: dict[str, list[str]] = {}
    for part in re.split(r"^### ", section, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        found[title.strip()] = re.findall(r"^\d+\. `([\w.]+)`", body, flags=re.MULTILINE)
    return found


def definition(dotted: str) -> tuple[ast.AST, ast.Module]:
    """The function, method, class or property behind a dotted name, and its module."""
    names = dotted.split(".")
    inside = names[1] if names[1] in ("gui", "traces", "models") else None
    root, rest = (TOP / inside, names[2:]) if inside else (TOP / "memplan", names[1:])
    for cut in range(len(rest), 0, -1):
        path = root.joinpath(*rest[:cut]).with_suffix(".py")
        if path.is_file():
            module = ast.parse(path.read_text(encoding="utf-8"))
            found: ast.AST = module
            for name in rest[cut:]:
                found = next(
                    node
                    for node in ast.iter_child_nodes(found)
                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
                )
            return found, module
    raise FileNotFoundError(dotted)


def mentioned(node: ast.AST, module: ast.Module) -> set[str]:
    """Names and attributes that the code of `node` uses, by way of other functions of its file as well."""
    found: set[str] = set()
    bodies = [node]
    while bodies:
        walked = list(ast.walk(bodies.pop()))
        names = {child.id for child in walked if isinstance(child, ast.Name)}
        names |= {child.attr for child in walked if isinstance(child, ast.Attribute)}
        new = names - found
        found |= new
        bodies += [
            child
            for child in ast.walk(module)
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and child.name in new
        ]
    return found


def renamed(module: ast.Module, name: str) -> set[str]:
    """`name` and what the module imports it as."""
    imports = [alias for node in ast.walk(module) if isinstance(node, ast.ImportFrom) for alias in node.names]
    return {name, *(alias.asname for alias in imports if alias.name == name and alias.asname)}


def test_each_step_is_in_another_file() -> None:
    for steps in walks().values():
        modules = [step.rsplit(".", 2 if step.rsplit(".", 2)[1][0].isupper() else 1)[0] for step in steps]
        assert len(set(modules)) == len(modules)


def test_there_are_five_walks() -> None:
    assert len(walks()) == 5


@pytest.mark.parametrize("title", list(walks()))
def test_a_walk_takes_three_jumps_at_most(title: str) -> None:
    assert 2 <= len(walks()[title]) <= JUMPS + 1


@pytest.mark.parametrize("title", list(walks()))
def test_each_step_of_a_walk_uses_the_next(title: str) -> None:
    steps = walks()[title]
    for step, following in pairwise(steps):
        node, module = definition(step)
        name = following.rsplit(".", 1)[-1]
        assert mentioned(node, module) & renamed(module, name), f"{step} does not use {name}"
    definition(steps[-1])
