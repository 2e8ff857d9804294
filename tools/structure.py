#!/usr/bin/env python3
"""
Says where the project's names, files, imports and folders break the limits that keep it easy to find one's way in.

usage: tools/structure.py [--report]     (run by `make lint`; --report says it all and never fails)

- A public name of a module (function, class, constant or alias without a leading underscore) that several modules
  define: at most 8 such names.
- A file name that occurs in several folders, `__init__.py` aside: at most 12.
- A circle of imports, wherever they stand (in functions and under TYPE_CHECKING as well): none. Circles between
  packages are a contract in pyproject.toml, checked by tools/layers.py.
- A folder with more than 25 modules: none.
- A function, class or method that only tests use, or nothing at all: none (by name, see tools/unused.py).
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grimp
import networkx as nx
from package_tree import INSIDE, TOP, see_installed
from unused import unused

FOLDERS = ("memplan", *INSIDE)


@dataclass(frozen=True)
class Check:
    """Findings of one kind, one line each, and how many may stay."""

    title: str
    limit: int
    findings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether there are no more findings than allowed."""
        return len(self.findings) <= self.limit


def sources(top: Path, folders: Iterable[str] = FOLDERS) -> list[Path]:
    """Every Python file of the package, in order of path."""
    return sorted(path for folder in folders for path in (top / folder).rglob("*.py"))


def public_names(tree: ast.Module) -> set[str]:
    """Names without a leading underscore that a module itself defines at its top level, imports not counted."""
    return {name for name in _bound(tree.body) if not name.startswith("_")}


def _bound(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (
                name.id
                for target in targets
                for name in ast.walk(target)
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
            )
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for block in ("body", "orelse", "finalbody"):
                yield from _bound(getattr(node, block, ()))
            for handler in getattr(node, "handlers", ()):
                yield from _bound(handler.body)


def _several(places: Mapping[str, list[str]]) -> tuple[str, ...]:
    return tuple(f"{name}: {', '.join(found)}" for name, found in sorted(places.items()) if len(found) > 1)


def repeated_names(top: Path = TOP, folders: Iterable[str] = FOLDERS) -> Check:
    """Public names that several modules define, with the files."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources(top, folders):
        for name in public_names(ast.parse(path.read_text(encoding="utf-8"))):
            places[name].append(str(path.relative_to(top)))
    return Check("public names defined more than once", 8, _several(places))


def repeated_files(top: Path = TOP, folders: Iterable[str] = FOLDERS) -> Check:
    """File names that occur more than once, with the folders."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources(top, folders):
        if path.stem != "__init__":
            places[path.name].append(str(path.parent.relative_to(top)))
    return Check("file names that occur more than once", 12, _several(places))


def large_folders(top: Path = TOP, folders: Iterable[str] = FOLDERS) -> Check:
    """Folders with more than 25 modules, `__init__.py` counted."""
    sizes: dict[str, int] = defaultdict(int)
    for path in sources(top, folders):
        sizes[str(path.parent.relative_to(top))] += 1
    found = tuple(f"{folder}: {size} modules" for folder, size in sorted(sizes.items()) if size > 25)
    return Check("folders with more than 25 modules", 0, found)


def circles(imports: nx.DiGraph) -> Check:
    """Circles of imports between modules, a package's `__init__` being a module like any other."""
    rings = (ring for ring in nx.strongly_connected_components(imports) if len(ring) > 1)
    return Check("circles of imports", 0, tuple(sorted(", ".join(sorted(ring)) for ring in rings)))


def only_tested(top: Path = TOP, folders: Iterable[str] = FOLDERS) -> Check:
    """What neither the package nor a benchmark or tool uses, with its place."""
    others = [
        path
        for folder in ("benchmarks", "tools")
        for path in sorted((top / folder).glob("*"))
        if path.suffix in ("", ".py")
    ]
    found = unused(sources(top, folders), (path for path in others if path.is_file()))
    return Check(
        "functions, classes and methods that only tests use",
        0,
        tuple(f"{item.name}: {item.path.relative_to(top)}:{item.first}" for item in found),
    )


def import_graph() -> nx.DiGraph:
    """Every import between modules of memplan, those in functions and under TYPE_CHECKING included."""
    found = grimp.build_graph("memplan", cache_dir=None)
    edges = ((module, other) for module in found.modules for other in found.find_modules_directly_imported_by(module))
    return nx.DiGraph(edges)


def main() -> int:
    """Print every check with its findings; 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="say what there is and end with 0 in any case")
    options = parser.parse_args()
    see_installed()
    checks = (repeated_names(), repeated_files(), circles(import_graph()), large_folders(), only_tested())
    for check in checks:
        if options.report or not check.passed:
            mark = "ok" if check.passed else "TOO MANY"
            print(f"{check.title}: {len(check.findings)}, at most {check.limit}: {mark}")
            print("".join(f"  {line}\n" for line in check.findings), end="")
    return 0 if options.report or all(check.passed for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
