"""The floors of the architecture: nothing lower imports anything higher, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
FOLDERS = {"memplan": "memplan", "memplan.gui": "gui", "memplan.traces": "traces", "memplan.models": "models"}

# Each line may import the lines above it, never its own neighbours.
FLOORS = (
    {"core"},
    {"graph", "hardware", "samples", "schema", "traces"},
    {"readers"},
    {"imports"},
    {"cost", "models", "placement"},
    {"serving"},
    {"kv", "planner"},
    {"compare", "export", "runtime", "simulator"},
    {"cli", "gui"},
)
# The command line opens the app and the app may not know the command line.
ALLOWED_BESIDES = {("cli", "gui")}
QT = {"PySide6", "pyqtgraph", "shiboken6"}


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module of the package."""
    for package, folder in FOLDERS.items():
        for path in sorted((TOP / folder).rglob("*.py")):
            parts = path.relative_to(TOP / folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that `path` imports, and whether it does so at import time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        child
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node not in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for name in node.names:
                yield f"{node.module}.{name.name}", node not in inside


def part_of(module: str) -> str | None:
    """The first name below `memplan`: the package that the floors speak of."""
    names = module.split(".")
    return names[1] if names[0] == "memplan" and len(names) > 1 else None


MODULES = dict(modules())


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ("memplan", "memplan.__main__")])
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    floor = {part: level for level, parts in enumerate(FLOORS) for part in parts}
    own = part_of(module)
    assert own in floor, f"{module} is on no floor"
    for imported, _ in imports(MODULES[module]):
        other = part_of(imported)
        if other is None or other == own or other.startswith("__") or (own, other) in ALLOWED_BESIDES:
            continue
        assert other in floor, f"{module} imports {imported}, which is on no floor"
        assert floor[other] < floor[own], f"{module} imports {imported} from the same floor or a higher one"


@pytest.mark.parametrize("module", list(MODULES))
def test_qt_and_mindspore_stay_where_they_belong(module: str) -> None:
    for imported, at_import_time in imports(MODULES[module]):
        library = imported.split(".")[0]
        if library in QT:
            assert module.startswith("memplan.gui"), f"{module} imports {imported}"
        if library == "mindspore":
            assert module.startswith(("memplan.readers.mindspore.cell", "memplan.runtime", "memplan.models.samples")), module
            assert not at_import_time, f"{module} imports MindSpore outside a function"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("memplan.gui.model")])
def test_what_the_app_shows_knows_nothing_of_how_it_is_painted(module: str) -> None:
    for imported, _ in imports(MODULES[module]):
        assert imported.split(".")[0] not in QT, f"{module} imports {imported}"
        inside = not imported.startswith("memplan.gui.") or imported.startswith("memplan.gui.model")
        assert inside, f"{module} imports {imported}"
