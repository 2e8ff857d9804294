"""Options of every command: how much is said, how many workers there are, and where they may stand."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from memplan.cli.app import main
from memplan.cli.common_options import behind_its_name
from memplan.core.progress import silent
from memplan.core.workers import most_workers
from memplan.traces.notes import Notebook
from memplan.traces.scan.threads import scan_events

PROFILE = str(resources.files("memplan.samples") / "llama_train_profile")


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("MEMPLAN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 0
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("diagnose", PROFILE), ""),
        (("-v", "diagnose", PROFILE), "info"),
        (("diagnose", PROFILE, "--verbose"), "info"),
        (("--log-level", "debug", "diagnose", PROFILE), "debug"),
        (("diagnose", "--log-level=DEBUG", PROFILE), "debug"),
        (("-v", "diagnose", PROFILE, "-q"), ""),
        (("-q", "-v", "diagnose", PROFILE), "info"),
        (("-v", "op", "matmul", "--m", "16", "--n", "16", "--k", "16"), "took"),
        (("op", "-v", "matmul", "--m", "16", "--n", "16", "--k", "16"), "took"),
    ],
)
def test_how_much_is_said_is_asked_before_the_name_or_behind_it(
    words: tuple[str, ...], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, *words)
    assert (" took " in text) == bool(shown)
    assert (f"reading {PROFILE}: a profile of torch_npu, 1 ranks" in text) == (shown in ("info", "debug"))
    assert ("kernel_details.csv" in text and "rank 0: KERNELS" in text) == (shown == "debug")
    assert all(line.startswith("memplan: ") for line in text.splitlines())


def test_errors_and_the_result_are_said_whatever_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", "chips", "910B3"]) == 0
    assert "910B3" in capsys.readouterr().out
    assert main(["-q", "chips", "no such chip"]) == 2
    assert "no such chip" in capsys.readouterr().err


def test_what_is_logged_stays_a_line_whatever_a_name_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forged = tmp_path / "a\nmemplan: all is well\x1b[2J"
    assert main(["-v", "show", str(forged)]) == 2
    text = capsys.readouterr().err
    assert not any(line.startswith("memplan: all is well") for line in text.splitlines())
    assert "\x1b" not in text


def test_settings_say_how_much_is_told_and_the_line_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tomllib")
    words = ("chips", "910B3")
    (tmp_path / "memplan.toml").write_text("verbose = true\n")
    text = said(capsys, *words)
    assert "chips took" in text
    assert "verbose was taken from" in text
    assert said(capsys, "-q", *words) == said(capsys, *words, "--log-level", "warning") == ""
    monkeypatch.setenv("MEMPLAN_QUIET", "1")
    assert said(capsys, *words) == ""
    assert "chips took" in said(capsys, *words, "-v")


def test_settings_count_for_a_command_behind_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Went wrong once: the first word of the line was taken for the command."""
    pytest.importorskip("tomllib")
    (tmp_path / "other.toml").write_text("[chips]\njson = true\n")
    assert main(["-q", "-c", "other.toml", "-j", "2", "chips", "910B3"]) == 0
    assert capsys.readouterr().out.startswith("{")
    (tmp_path / "memplan.toml").write_text('[chips]\nlog-level = "loud"\n')
    assert main(["chips"]) == 2
    assert "memplan.toml: log-level: Invalid value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-q", "plan", "a"), ("plan", "-q", "a")),
        (("-j", "4", "-c", "x.toml", "ranks", "d"), ("ranks", "-j", "4", "-c", "x.toml", "d")),
        (("-j4", "--log-level=info", "kv", "--", "vllm", "-q"), ("kv", "-j4", "--log-level=info", "--", "vllm", "-q")),
        (("-V",), ("-V",)),
        (("--", "plan"), ("--", "plan")),
        ((), ()),
    ],
)
def test_options_before_the_name_go_behind_it(words: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert behind_its_name(words) == expected


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("--log-level",), "--log-level needs a value"),
        (("--log-level", "loud", "chips"), "none of debug, info, warning, error"),
        (("-j", "0", "chips"), "0 is not in the range"),
        (("-c", "settings.json", "chips"), "no file of settings"),
        (("-q",), "Missing command"),
        (("job", "python", "train.py", "-v"), "the job's command stands behind --"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    words: tuple[str, ...], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    text = capsys.readouterr().err
    assert shown in text
    assert text.count("\n") == 1


def test_so_many_workers_as_asked_and_the_caller_is_left_as_it_was(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int | None] = []

    def noted(path: str, *, workers: int | None = None, **_: object) -> list[object]:
        used.append(workers or most_workers())
        return []

    monkeypatch.setattr("memplan.traces.summaries.summarise_ranks", noted)
    monkeypatch.setattr("memplan.reports.ranks_report.ranks_report", lambda *_: _Empty())
    monkeypatch.setattr("memplan.cli.reporting.deliver", lambda *_: None)
    for words in (("-j", "3", "ranks", "d"), ("ranks", "d", "--jobs=5"), ("ranks", "d", "--workers", "7")):
        main(words)
    assert used == [3, 5, 7]
    assert "MEMPLAN_JOBS" not in os.environ
    log = logging.getLogger("memplan")
    assert (log.level, log.propagate, log.handlers) == (logging.NOTSET, True, [])


class _Empty:
    answer = True


def test_a_large_trace_is_read_by_so_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "memplan.traces.scan.threads._read_all", lambda _scan, _path, _told, workers: asked.append(workers)
    )
    (tmp_path / "trace_view.json").write_text("[]")
    monkeypatch.setenv("MEMPLAN_JOBS", "3")
    scan_events(tmp_path / "trace_view.json", Notebook(tmp_path), silent)
    assert asked == [3]


def test_completion_knows_them() -> None:
    asked = {**os.environ, "_MEMPLAN_COMPLETE": "complete_bash"}
    for words, place, found in (("memplan --ver", 1, "--verbose"), ("memplan chips --log-level ", 3, "debug")):
        run = subprocess.run(
            [sys.executable, "-c", "import sys; from memplan.cli import main; sys.exit(main([]))"],
            env={**asked, "COMP_WORDS": words, "COMP_CWORD": str(place)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert found in run.stdout.split()
