"""What MindSpore's ops write is what MindSpore itself says of them, so that ops added later are caught."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from memplan.readers.mindir.op_table import op_table

WITHOUT_TENSORS = frozenset(
    {
        # Order of side effects only, copies with an output of their own, and tables that are no tensors.
        "Barrier", "CopyToDevice", "CopyToHost", "Detach", "DistCommIsend", "GetData", "InnerCommIrecv",
        "InnerCommIsend", "MapTensorErase", "MapTensorGet", "MapTensorGetData", "MapTensorGetGrad",
        "MapTensorGetKeys", "MapTensorGetValues", "MapTensorPut", "Morph",
        # The class behind ScatterUpdate and its kin.
        "_ScatterOp", "_ScatterOpDynamic",
    }
)  # fmt: skip


def primitives() -> dict[str, tuple[list[str], set[str], bool]]:
    """By op: the arguments of its signature, those marked RW_WRITE, and whether it has side effects on memory."""
    found = importlib.util.find_spec("mindspore")
    if found is None or found.origin is None:
        pytest.skip("MindSpore is not installed")
    folder = Path(found.origin).parent / "ops"
    ops: dict[str, tuple[list[str], set[str], bool]] = {}
    for path in [folder / "auto_generate" / "gen_ops_prim.py", *sorted((folder / "operations").glob("*.py"))]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                names, written = _signature(node)
                text = ast.unparse(node)
                memory = "'side_effect_mem', True" in text
                if written or memory:
                    ops[node.name] = names, written, memory
    return ops


def _signature(node: ast.ClassDef) -> tuple[list[str], set[str]]:
    names: list[str] = []
    written: set[str] = set()
    for statement in node.body:
        if not (isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Tuple)):
            continue
        if not any(isinstance(t, ast.Name) and t.id == "__mindspore_signature__" for t in statement.targets):
            continue
        for call in statement.value.elts:
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
                names.append(str(call.args[0].value))
                if "RW_WRITE" in ast.unparse(call):
                    written.add(names[-1])
    return names, written


@pytest.mark.mindspore
def test_every_argument_that_mindspore_marks_as_written_is_in_the_table() -> None:
    table = op_table()
    missing = []
    for op, (names, written, _) in primitives().items():
        if op in WITHOUT_TENSORS:
            continue
        entry = table.in_place.get(op)
        for position, name in enumerate(names):
            # MindSpore's two kinds of definition spell some arguments differently; the table has one name for each.
            ours = table.argument(op, position)
            if name in written and (entry is None or not {name, ours} & set(entry.writes)):
                missing.append(f"{op}.{name}")
    assert not missing


@pytest.mark.mindspore
def test_every_op_with_side_effects_on_memory_is_in_the_table() -> None:
    table = op_table()
    known = table.in_place.keys() | table.views | WITHOUT_TENSORS
    assert sorted(op for op, (_, _, memory) in primitives().items() if memory and op not in known) == []


def test_every_written_argument_of_the_table_has_a_place() -> None:
    table = op_table()
    for op, entry in table.in_place.items():
        assert set(entry.writes) <= set(table.arguments[op]), op
        assert {name for name in entry.outputs if name} <= set(entry.writes), op
