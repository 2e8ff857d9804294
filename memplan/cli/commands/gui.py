"""`memplan gui [PLAN] [DIR]`: the desktop app on a plan and a profile."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.console import YES
from memplan.core.errors import InputError


def command(
    plan: Annotated[
        Path | None, typer.Argument(help="A plan, as `memplan plan -o` writes it, or a graph to plan.")
    ] = None,
    profile: Annotated[Path | None, typer.Argument(help="A profile directory.")] = None,
    chip: Annotated[str | None, typer.Option(help="Chip to plan a graph for.")] = None,
    render: Annotated[
        Path | None, typer.Option(help="Draw the window into PNG files in this folder instead of opening it.")
    ] = None,
) -> int:
    """Open the desktop app; a lone directory is taken as a profile."""
    if find_spec("PySide6") is None:
        raise InputError("the desktop app is not installed", remedy="pip install 'memplan[gui]'")
    if plan is not None and profile is None and plan.is_dir():
        plan, profile = None, plan
    for path in (plan, profile):
        if path is not None and not path.exists():
            raise InputError("no such file or folder", path=path)
    if render is None:
        from memplan.gui.application import run

        return run(plan, profile, chip)
    from memplan.gui.screenshots import render_window

    for picture in render_window(plan, profile, render, chip=chip):
        print(f"drawn: {picture}")
    return YES
