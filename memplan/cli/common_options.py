"""What every command takes, before or after its name: how much is said, how many workers there are, and the version."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Annotated, Any

import typer

from memplan.core.errors import InputError
from memplan.core.workers import JOBS_VARIABLE

_logger = logging.getLogger(__name__)

LEVELS = ("debug", "info", "warning", "error")
_PANEL = "Every command"
_WITH_VALUE = frozenset({"--log-level", "--jobs", "-j", "--config", "-c"})
_SAID = "memplan.level"
"""Where a context keeps that the command line, which wins over files and variables, says how much is told."""


def _chooses(context: typer.Context, parameter: typer.CallbackParam, level: str) -> None:
    """Tell from `level` on, unless a file or a variable says so and the line says otherwise."""
    source = context.get_parameter_source(parameter.name or "")
    on_line = source is not None and source.name == "COMMANDLINE"
    if on_line or not context.meta.get(_SAID):
        logging.getLogger("memplan").setLevel(level.upper())
    context.meta[_SAID] = context.meta.get(_SAID) or on_line


def _verbose(context: typer.Context, parameter: typer.CallbackParam, value: bool) -> None:
    if value:
        _chooses(context, parameter, "info")


def _quiet(context: typer.Context, parameter: typer.CallbackParam, value: bool) -> None:
    if value:
        _chooses(context, parameter, "error")


def _log_level(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> None:
    if value is None:
        return
    if value.lower() not in LEVELS:
        raise typer.BadParameter(f"{value!r:.20} is none of {', '.join(LEVELS)}")
    _chooses(context, parameter, value)


def _jobs(value: int | None) -> None:
    if value is not None:
        os.environ[JOBS_VARIABLE] = str(value)


def _config(value: str | None) -> None:
    if value is not None:
        # A file that is one is taken from the line before anything else of it is read.
        raise typer.BadParameter(f"{value!r:.60} is no file of settings: their names end with .toml")


def _version(asked: bool) -> None:
    if asked:
        import memplan

        print(f"memplan {memplan.__version__}")
        raise typer.Exit


def _common(
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", callback=_verbose, expose_value=False, rich_help_panel=_PANEL,
            help="Say what is read and chosen, and how long it takes.",
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", callback=_quiet, expose_value=False, rich_help_panel=_PANEL,
            help="Say nothing but errors and the result.",
        ),
    ] = False,
    log_level: Annotated[
        str | None,
        typer.Option(
            "--log-level", callback=_log_level, expose_value=False, rich_help_panel=_PANEL, show_default=False,
            metavar="|".join(LEVELS), autocompletion=lambda: LEVELS,
            help="The least that is said on standard error; warning by default.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", "--workers", callback=_jobs, expose_value=False, rich_help_panel=_PANEL, min=1,
            show_default=False, help="Processes or threads at work at a time; one for each processor by default.",
        ),
    ] = None,
    settings_file: Annotated[
        str | None,
        typer.Option(
            "--config", "-c", callback=_config, expose_value=False, rich_help_panel=_PANEL, show_default=False,
            metavar="FILE.toml", help="Take what the line leaves open from this file.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_version, expose_value=False, is_eager=True, rich_help_panel=_PANEL,
            help="Print the version and stop.",
        ),
    ] = False,
) -> None:  # fmt: skip
    """Never called: it is what typer makes options of."""


def add_common_options(command: Any) -> Any:
    """`command`, and all commands in it, with the options of every command; one of its own that is called so stays."""
    app = typer.Typer(add_completion=False)
    app.command()(_common)
    _add(command, [option for option in typer.main.get_command(app).params if option.name != "help"])
    return command


def _add(command: Any, options: Sequence[Any]) -> None:
    taken = {word for parameter in command.params for word in parameter.opts}
    for option in options:
        left = [word for word in option.opts if word not in taken]
        if left == option.opts:
            command.params.append(option)
        elif left:
            own = copy(option)
            own.opts = left
            command.params.append(own)
    members = getattr(command, "commands", None)
    if members is None:
        command.callback = _timed(command.name, command.callback)
    for member in (members or {}).values():
        _add(member, options)


def _timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with a word on how long it took."""

    def run(*given: Any, **named: Any) -> Any:
        began, used = time.monotonic(), _processors()
        try:
            return function(*given, **named)
        finally:
            _logger.info("%s took %.2f s, %.2f s of processors", name, time.monotonic() - began, _processors() - used)

    return run


def _processors() -> float:
    """Seconds of processors that this process and those that it waited for have used."""
    return sum(os.times()[:4])


def behind_its_name(words: Sequence[str]) -> tuple[str, ...]:
    """
    `words` with the options that stand before a command's name behind it: what is set for it is then looked up alike.

    Raises `InputError` for an option there whose value is missing.
    """
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "--":
        at += 1
        if words[at - 1] in _WITH_VALUE:
            if at == len(words):
                raise InputError(f"{words[at - 1]} needs a value", remedy="see memplan --help")
            at += 1
    return (*words[at : at + 1], *words[:at], *words[at + 1 :])
