"""Settings of the line, the environment, a project and a user: who wins, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.cli.app import main
from tests.cli.test_engine_words import CONFIG


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder inside a project, a model in it, and a home of the user beside it."""
    pytest.importorskip("tomllib")
    inner = tmp_path / "project" / "inner"
    inner.mkdir(parents=True)
    (inner / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "memplan").mkdir(parents=True)
    monkeypatch.chdir(inner)
    return inner.parent


def tensor_parallel(capsys: pytest.CaptureFixture[str], *words: str) -> int:
    assert main(["kv", "config.json", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return int(found["layout"]["tensor"])


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_the_line_wins_over_the_environment_the_project_and_the_user(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tensor_parallel(capsys) == 1
    user = project.parent / "home" / "memplan" / "memplan.toml"
    user.write_text("[kv]\ntp = 2\n")
    assert tensor_parallel(capsys) == 2
    (project / "pyproject.toml").write_text("[tool.memplan.kv]\ntensor-parallel-size = 4\n")
    assert tensor_parallel(capsys) == 4
    (project / "inner" / "other.toml").write_text("[kv]\ntp = 1\n")
    assert tensor_parallel(capsys, "-c", "other.toml") == 1
    monkeypatch.setenv("MEMPLAN_TP", "8")
    assert tensor_parallel(capsys) == 8
    assert tensor_parallel(capsys, "-c", "other.toml") == 8
    monkeypatch.setenv("MEMPLAN_KV_TP", "2")
    assert tensor_parallel(capsys) == 2
    assert tensor_parallel(capsys, "--tp", "4") == 4


def test_the_nearest_file_counts_and_a_pyproject_without_a_table_does_not(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "memplan.toml").write_text("tp = 4\n")
    (project / "inner" / "pyproject.toml").write_text("[project]\nname = 3 = 4  # broken, and none of ours\n")
    assert tensor_parallel(capsys) == 4
    (project / "inner" / "memplan.toml").write_text("tp = 2\n")
    assert tensor_parallel(capsys) == 2


def test_an_option_of_other_commands_may_stand_for_all(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "memplan.toml").write_text('max_slowdown = "5%"\ntp = 4\n[plan]\ncurve = true\n')
    assert tensor_parallel(capsys) == 4
    assert main(["chips"]) == 0


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("tpp = 2", ("kv", "config.json"), "memplan.toml: tpp: memplan has no such option"),
        ("[kv]\ncurve = true", ("kv", "config.json"), "memplan.toml: curve: memplan kv has no such option"),
        ("[kvs]\ntp = 2", ("kv", "config.json"), "memplan.toml: [kvs]: there is no such command"),
        ('[kv]\ntp = "many"', ("kv", "config.json"), "memplan.toml: tp: Invalid value"),
        ("[kv]\ntp = 2024-01-01", ("kv", "config.json"), "tp: is neither a text"),
        ('[kv]\nreport = "made.md"', ("kv", "config.json"), "report: names what is written"),
        ("tp = ", ("chips",), "this is no TOML"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(
    text: str, words: tuple[str, ...], said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "memplan.toml").write_text(text)
    assert said in refused(capsys, *words)
    assert not list(project.rglob("made.md"))


def test_help_is_given_whatever_files_say(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "memplan.toml").write_text("tp = ")
    assert main(["kv", "--help"]) == 0


def test_a_file_may_name_what_is_written_if_the_line_names_the_file(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "inner" / "mine.toml").write_text('[kv]\nreport = "made.md"\nmodel = "config.json"\n')
    assert main(["kv", "-c", "mine.toml"]) == 0
    assert (project / "inner" / "made.md").read_text()


def test_shapes_of_a_file_are_a_list(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "memplan.toml").write_text('[plan]\nshape = ["x=1,2", "y=3"]\n')
    assert main(["plan", "none.mindir"]) == 2
    assert "none.mindir" in capsys.readouterr().err


def test_commands_inside_commands_take_theirs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "memplan.toml").write_text('[op]\nchip = "910C"\n')
    assert main(["op", "matmul", "--m", "64", "--n", "64", "--k", "64", "--json"]) == 0
    assert "910_93" in capsys.readouterr().out


def test_the_file_of_the_documentation_does_what_it_says(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text("utf-8")
    (project / "memplan.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    assert main(["kv", "config.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["layout"]["tensor"], found["context"], found["chip"]) == (8, 32_768, "Ascend910_9382")
