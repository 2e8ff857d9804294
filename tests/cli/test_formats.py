"""Every command says what it found in every format, to the terminal or into a file, and answers as it did."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import memplan
from memplan.cli import main

SAMPLES = Path(memplan.__file__).parent / "samples"
CONFIG = str(SAMPLES / "example_config.json")
PLAN, PROFILE = str(SAMPLES / "llama_train.plan.json"), str(SAMPLES / "llama_train_profile")
COMMANDS = {
    "plan": ["plan", str(SAMPLES / "cnn.mindir")],
    "show": ["show", PLAN],
    "diff of plans": ["diff", PLAN, PLAN],
    "graph": ["graph", str(SAMPLES / "cnn.mindir")],
    "profile": ["profile", PROFILE],
    "ranks": ["ranks", PROFILE, "--workers", "1"],
    "compare": ["compare", PLAN, PROFILE, "--limit", "3"],
    "chips": ["chips"],
    "chip": ["chips", "910C"],
    "kv": ["kv", CONFIG, "--context", "8192", "--batch", "2", "--host-memory", "64GiB"],
    "fit": ["fit", CONFIG, "--npus", "2", "--context", "4096", "--timed", "0"],
    "step": ["step", CONFIG, "--context", "1024"],
    "train-memory": ["train-memory", CONFIG, "--sequence", "1024", "--tp", "8"],
    "matmul": ["op", "matmul", "--m", "64", "--n", "64", "--k", "64"],
    "attention": ["op", "attention", "--q-len", "1", "--kv-len", "64", "--heads", "8"],
    "sweep": ["op", "matmul", "--m", "64", "--n", "64", "--k", "64", "--sweep", "m=16:64"],
    "cache": ["cache", "list"],
}
BEGINS: dict[str, str | tuple[str, ...]] = {"html": "<!DOCTYPE html>", "md": "# ", "json": ("{", "[")}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMPLAN_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_all_formats_of_a_command(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = set()
    for form in ("table", "html", "md", "csv", "json"):
        target = tmp_path / f"report.{form if form != 'table' else 'txt'}"
        codes.add(main([*arguments, "--report", str(target)]))
        assert capsys.readouterr().out == f"written to {target}\n"
        text = target.read_text(encoding="utf-8")
        assert text.startswith(BEGINS.get(form, ""))
        if form == "json":
            json.loads(text)
            codes.add(main([*arguments, "--json"]))
            assert capsys.readouterr().out == text
    assert len(codes) == 1
    assert codes <= {0, 1}


@pytest.mark.parametrize("name", ["compare", "chips", "sweep"])
def test_tables_in_files_are_whole_numbers_of_one_unit(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([*COMMANDS[name], "--format", "csv"])
    rows = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert not any(cell.endswith((" GiB", " µs", "%")) for row in rows for cell in row)


def test_a_comparison_says_how_many_differences_there_are_in_all(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", PLAN, PROFILE, "--limit", "100000", "--json"])
    everything = json.loads(capsys.readouterr().out)
    main([*COMMANDS["compare"], "--json"])
    few = json.loads(capsys.readouterr().out)
    total = len(everything["deviations"])
    assert len(few["deviations"]) == 3 < total
    assert few["deviations_total"] == everything["deviations_total"] == total
    for form in ("table", "md", "html"):
        main([*COMMANDS["compare"], "--format", form])
        assert f"3 of {total} rows" in capsys.readouterr().out


def test_what_a_command_writes_besides_keeps_its_own_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, page = tmp_path / "plan.json", tmp_path / "plan.html"
    assert main([*COMMANDS["plan"], "-o", str(plan), "--report", str(page)]) == 0
    assert capsys.readouterr().out == f"written to {plan}\nwritten to {page}\n"
    assert json.loads(plan.read_text())["tiers"]
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "pdf"], "--format 'pdf' is not known"),
        (["--json", "--format", "html"], "--json and --format"),
        (["-o", "no/such/folder/report.html"], "can't be written"),
    ],
)
def test_a_report_that_can_not_be_made_is_one_line(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", PLAN, *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_told_whatever_names_hold_and_the_output_can_show(tmp_path: Path) -> None:
    """Went wrong once: a name that is no UTF-8, or an output in ASCII, ended a command with a traceback."""
    config = tmp_path / "config\udcff.json"
    try:
        shutil.copy(CONFIG, config)
    except OSError as error:
        pytest.skip(f"this system has no such names: {error}")

    def said(*asked: str) -> str:
        command = [sys.executable, "-m", "memplan", "kv", str(config), "--context", "4096", *asked]
        ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
        run = subprocess.run(command, env=ascii_only, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stderr) == (0, "")
        return run.stdout

    assert "config? on Ascend910B3" in said()
    assert json.loads(said("--json"))["model"] == config.stem
    said("-o", str(tmp_path / "report.json"))
    assert json.loads((tmp_path / "report.json").read_bytes())["model"] == config.stem
