"""What tools/structure.py counts: names, files, circles, folders."""

from __future__ import annotations

import ast
from pathlib import Path

import networkx as nx
import structure
from package_tree import link_tree


def write(top: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_public_names_are_what_a_module_defines_at_its_top() -> None:
    text = """
from elsewhere import Imported
import os as system
__all__ = ["Thing"]
LIMIT: int = 3
FIRST, (SECOND, *_rest) = 1, (2, 3)
_hidden = 1
Alias = dict[str, int]
class Thing:
    inner = 1
    def method(self): local = 1
async def fetch(): pass
if LIMIT:
    BRANCH = 1
else:
    OTHER = 2
try:
    import fast
except ImportError:
    fast_missing = True
Thing.attribute = 5
"""
    expected = {"LIMIT", "FIRST", "SECOND", "Alias", "Thing", "fetch", "BRANCH", "OTHER", "fast_missing"}
    assert structure.public_names(ast.parse(text)) == expected


def test_a_name_counts_once_however_often_one_module_defines_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"a/x.py": "if 1:\n    A = 1\nelse:\n    A = 2\nB = 1\n", "a/y.py": "def B(): ...\n", "b/z.py": "_B = 1\n"},
    )
    check = structure.repeated_names(tmp_path, ["a", "b"])
    assert check.findings == ("B: a/x.py, a/y.py",)
    assert check.passed


def test_file_names_repeat_across_folders(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.py": "", "a/__init__.py": "", "b/__init__.py": "", "b/c/x.py": "", "b/y.py": ""})
    assert structure.repeated_files(tmp_path, ["a", "b"]).findings == ("x.py: a, b/c",)


def test_a_folder_may_hold_25_modules(tmp_path: Path) -> None:
    write(tmp_path, {f"a/m{index}.py": "" for index in range(25)})
    assert structure.large_folders(tmp_path, ["a"]).passed
    write(tmp_path, {"a/one_more.py": ""})
    assert structure.large_folders(tmp_path, ["a"]).findings == ("a: 26 modules",)


def test_circles_are_found_however_long() -> None:
    straight = nx.DiGraph([("a", "b"), ("b", "c"), ("a", "c")])
    assert structure.circles(straight).passed
    straight.add_edge("c", "a")
    assert structure.circles(straight).findings == ("a, b, c",)
    assert not structure.circles(straight).passed


def test_too_many_findings_fail() -> None:
    assert structure.Check("names", 2, ("a", "b")).passed
    assert not structure.Check("names", 2, ("a", "b", "c")).passed


def test_the_tree_of_links_follows_the_folders(tmp_path: Path) -> None:
    write(tmp_path, {"memplan/a/x.py": "", "gui/g.py": "", "traces/t.py": "", "models/m.py": ""})
    tree = link_tree(tmp_path)
    assert (tree / "memplan" / "gui" / "g.py").is_file()
    assert (tree / "memplan" / "a" / "x.py").is_file()
    (tmp_path / "memplan" / "a").rename(tmp_path / "memplan" / "b")
    assert {path.name for path in (link_tree(tmp_path) / "memplan").iterdir()} == {"b", "gui", "traces", "models"}


def test_what_only_tests_use_is_named_with_its_place(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a/__init__.py": "from a.x import lonely, used\n__all__ = ['lonely', 'used']\n",
            "a/x.py": (
                "def lonely():\n    return lonely()\n"
                "def used():\n    return 1\n"
                "def measured(): ...\n"
                "class Made:\n"
                "    def __init__(self): ...\n"
                "    def asked(self): ...\n"
                "    def never(self): ...\n"
                "    def paintEvent(self): ...\n"
                "@app.command()\ndef registered(): ...\n"
            ),
            "a/y.py": "from a.x import used\nSPEC = 'a.x:Made'\nprint(used().asked)\n",
            "benchmarks/b.py": "from a.x import measured\n",
            "tests/test_x.py": "from a.x import lonely\n",
        },
    )
    check = structure.only_tested(tmp_path, ["a"])
    assert check.findings == ("lonely: a/x.py:1", "never: a/x.py:9")
    assert not check.passed
