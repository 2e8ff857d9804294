"""Tables beside code: read once, and what is wrong with one is said with its file and line."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.core.resources import table


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of its own, called `tabled`, into which a test writes tables."""
    folder = tmp_path / "tabled"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tabled", raising=False)
    table.cache_clear()
    return folder


def test_a_table_is_read_once_and_shared(package: Path) -> None:
    (package / "t.json").write_text('{"a": [1]}')
    first = table("tabled", "t.json")
    (package / "t.json").unlink()
    assert table("tabled", "t.json") is first
    assert first["a"] == [1]


def test_a_table_may_lie_in_a_folder_of_the_package(package: Path) -> None:
    (package / "data").mkdir()
    (package / "data" / "t.json").write_text('{"a": 1}')
    assert table("tabled", "data/t.json")["a"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n"a": 1,\n}', "t.json: line 3, column 1: is no JSON"),
        ('{"a": 1, "b": 2, "a": 3}', "t.json: gives 'a' twice"),
        ("[1]", "t.json: holds no object"),
    ],
)
def test_what_is_wrong_with_an_edited_table_is_said_with_its_place(package: Path, text: str, said: str) -> None:
    (package / "t.json").write_text(text)
    with pytest.raises(InputError, match=said):
        table("tabled", "t.json")


def test_a_missing_table_is_named(package: Path) -> None:
    with pytest.raises(InputError, match=r"t\.json"):
        table("tabled", "t.json")


def test_no_module_reads_its_tables_by_itself() -> None:
    top = Path(__file__).resolve().parents[1]
    readers = [
        path.relative_to(top).as_posix()
        for folder in ("memplan", "gui", "traces", "models")
        for path in sorted((top / folder).rglob("*.py"))
        if {"json.loads(", "resources.files("} <= set(re.findall(r"\w+\.\w+\(", path.read_text(encoding="utf-8")))
        and path.name != "resources.py"
    ]
    assert readers == []
