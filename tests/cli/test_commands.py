"""Commands answer with an exit code, and with one line where the input can't be used."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import memplan
from memplan.cli import main
from memplan.schema import load_plan

SAMPLES = Path(__file__).resolve().parents[2] / "memplan" / "samples"
TRAINING = SAMPLES / "llama_train.mindir"


def test_planning_the_bundled_graph_fits_and_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "plan.json"
    assert main(["plan", str(TRAINING), "--chip", "910B3", "-o", str(target)]) == 0
    shown = capsys.readouterr().out
    assert "lower bound" in shown
    assert "gap" in shown
    assert load_plan(target).fits


def test_json_is_the_plan_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "plan.json"
    assert main(["plan", str(TRAINING), "--json", "-o", str(target)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(target.read_text())


def test_too_little_hbm_moves_tensors_to_the_host(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    assert main(["plan", str(TRAINING), "--hbm", "2MiB", "-o", str(target)]) == 0
    plan = load_plan(target)
    assert plan.transfers
    assert any(op.stalled_ns for op in plan.ops)


def test_hopelessly_little_hbm_is_answered_with_no(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(TRAINING), "--hbm", "100KiB"]) == 1
    assert "missing" in capsys.readouterr().out


def _truncated(path: Path) -> None:
    path.write_bytes(TRAINING.read_bytes()[: TRAINING.stat().st_size // 3])


def _empty(path: Path) -> None:
    path.touch()


def _random(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(100_000))


def _encrypted(path: Path) -> None:
    """What AES makes of a file can't be told from noise, so noise with the size of a real graph stands for it."""
    path.write_bytes(random.Random(2).randbytes(TRAINING.stat().st_size))


@pytest.mark.parametrize("spoil", [_truncated, _empty, _random, _encrypted])
def test_a_spoiled_graph_gives_one_line_that_names_it(
    spoil: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.mindir"
    spoil(path)
    assert main(["plan", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert str(path) in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "missing.mindir"],
        ["plan", "."],
        ["plan", str(TRAINING), "--chip", "911"],
        ["plan", str(TRAINING), "--hbm", "much"],
        ["plan", str(TRAINING), "--shape", "x=a,b"],
        ["plan", str(TRAINING), "-o", "no/such/folder/plan.json"],
        ["plan"],
        ["chips", "911"],
        ["profile", "."],
        ["profile", "missing"],
        ["show", "missing.json"],
        ["show", str(TRAINING)],
        ["compare", str(TRAINING), "."],
        ["export", "missing.json", "--to", "csv"],
        ["simulate", "missing.json", "out"],
        ["kv", "missing.json"],
        ["gui", "missing.json", "--render", "out"],
        ["unknown"],
        ["op", "matmul", "--m", "9" * 5000],
    ],
)
def test_unusable_arguments_give_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("memplan: ")
    assert len(said.err) < 1000
    assert list(tmp_path.iterdir()) == []


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    from memplan.cli.app import command_app

    names = [command.name for command in command_app().registered_commands]
    assert {"plan", "show", "profile", "compare", "chips", "gui", "kv", "export", "simulate"} <= set(names)
    for name in names:
        assert main([str(name), "--help"]) == 0
        assert str(name) in capsys.readouterr().out


def test_a_command_loads_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    from memplan.cli.app import command_app

    assert [command.name for command in command_app(["diagnose", "DIR"]).registered_commands] == ["diagnose"]
    assert [group.name for group in command_app(["op"]).registered_groups] == ["op"]
    assert len(command_app(["--help", "diagnose"]).registered_commands) > 15
    assert main(["diagnos"]) == 2
    assert "diagnose" in capsys.readouterr().err


def test_importing_memplan_is_quick_and_light() -> None:
    """Under 0.3 s in a fresh interpreter, without Qt, MindSpore or anything heavy; the best of three counts."""
    code = (
        "import sys, time; begin = time.perf_counter(); import memplan; took = time.perf_counter() - begin;"
        "print(took, *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(run.stdout.split()[0]) for run in runs) < 0.3
    loaded = set(runs[0].stdout.split()[1:])
    assert not loaded & {"PySide6", "pyqtgraph", "mindspore", "numpy", "pyarrow", "numba", "networkx"}


def test_a_command_that_reads_a_table_imports_no_numpy() -> None:
    """Went wrong once: one command's types brought numpy and the schema of plans to all of them."""
    code = "import sys; from memplan.cli import main; main(['chips', '910B3']); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "memplan.schema"} & set(run.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_asked_for_in_both_spellings(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([option]) == 0
    assert capsys.readouterr().out.split() == ["memplan", memplan.__version__]


@pytest.mark.parametrize("option", ["-o", "--report"])
def test_where_nothing_can_be_written_is_said_before_any_work(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Went wrong once: a step was planned for minutes, and then the folder that its plan should go to was not there."""
    target = tmp_path / "none" / "plan.json"
    assert main(["plan", "missing.mindir", option, str(target)]) == 2
    assert f"{target}: can't be written: No such file or directory" in capsys.readouterr().err
    assert main(["plan", "missing.mindir", option, str(tmp_path)]) == 2
    assert f"{tmp_path}: can't be written: Is a directory" in capsys.readouterr().err
