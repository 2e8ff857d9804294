"""The recipes of jobs name commands and options that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from memplan.cli.app import command_app

JOBS = Path(__file__).resolve().parents[1] / "examples" / "jobs"
RECIPES = sorted(JOBS.iterdir())


def known_options() -> set[str]:
    app = typer.main.get_command(command_app(["job"]))
    assert isinstance(app, TyperGroup)
    command = app.commands["job"]
    return {flag for parameter in command.params for flag in parameter.opts}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_starts_jobs_with_options_that_there_are(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    own = re.split(r"(?:^|[\s\"])--(?=[\s\",]|$)", "\n".join(lines))[0]
    own = own[own.index("memplan") :]
    options = re.findall(r"(?<![\w-])--[a-z][a-z-]+", own[own.index("job") :])
    assert options
    assert set(options) <= known_options()


@pytest.mark.parametrize("script", [path for path in RECIPES if path.suffix == ".sh"], ids=lambda path: path.name)
def test_a_script_is_one_that_the_shell_reads(script: Path) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    assert subprocess.run([shell, "-n", str(script)], check=False, capture_output=True).returncode == 0
