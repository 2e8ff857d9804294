"""The `memplan` command: its sub-commands and the one place where their errors are shown."""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from memplan.cli.common_options import add_common_options, behind_its_name
from memplan.cli.console import BAD_INPUT, NO, YES, keep_standard_output, messages_shown
from memplan.cli.engine_words import counted_value, plain_words
from memplan.cli.settings import CommandSettings, command_settings
from memplan.core.errors import CancelledError, InputError, MemplanError
from memplan.core.workers import JOBS_VARIABLE

# Typer carries its own copy of click in some releases and imports it in others; this is the base of its usage errors
# in all of them.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]

_LONGEST = 500
"""Letters of what is said of wrong usage."""

_logger = logging.getLogger("memplan")

_COMMANDS = {
    "plan": "plan.command",
    "show": "show.command",
    "pack": "pack.command",
    "graph": "graph.command",
    "import": "import_plan.command",
    "profile": "profile.command",
    "ranks": "ranks.command",
    "compare": "compare.command",
    "diagnose": "diagnose.command",
    "diff": "diff.command",
    "job": "job.command",
    "export": "export.command",
    "simulate": "simulate.command",
    "chips": "chips.command",
    "kv": "kv.command",
    "fit": "fit.command",
    "step": "step.command",
    "train-memory": "train_memory.command",
    "calibrate": "calibrate.command",
    "gui": "gui.command",
    "mcp": "mcp.command",
    "kernel": "kernel.command",
    "op": "op.op_app",
    "cache": "cache.cache_app",
}
"""Each command in the order of the help, with its module and its name there: a function, or further commands."""


def command_app(words: Sequence[str] = ()) -> typer.Typer:
    """The application for the command line `words`: the command that it names alone, else all of them."""
    app = typer.Typer(
        name="memplan",
        help="Plan the memory hierarchy of Ascend NPUs and compare the plan with CANN profiles.",
        epilog=f"Exit code {YES}: yes; {NO}: no (does not fit, deviates); {BAD_INPUT}: the input can't be used.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=_all_commands,
    )
    # Loading all commands takes longer than many of them run.
    for name in words[:1] if words and words[0] in _COMMANDS else _COMMANDS:
        module, _, what = _COMMANDS[name].partition(".")
        command = getattr(importlib.import_module(f"memplan.cli.commands.{module}"), what)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _all_commands() -> None:
    """Keeps a command loaded alone a command by its name."""


def _root(words: Sequence[str] = ()) -> Any:
    """The command of the line `words`, with the options that all have."""
    return add_common_options(typer.main.get_command(command_app(words)))


def _command(error: Any) -> list[str]:
    """Words of the command whose usage was wrong."""
    return error.ctx.command_path.split()[1:] if error.ctx is not None else []


def _settings(words: Sequence[str], root: Any) -> CommandSettings:
    """What files and variables set for the command that `words` name."""

    def others() -> Mapping[str, Any]:
        found: Mapping[str, Any] = _root().commands
        return found

    return command_settings(words, root.commands.get(words[0]) if words else None, _COMMANDS, others, counted_value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Errors end here as one line on standard error."""
    # A command makes many objects and frees few before it ends: looking for cycles is a tenth of its time.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)  # nor is anything looked through when all of it goes
    if arguments is None:
        keep_standard_output()
    jobs = os.environ.get(JOBS_VARIABLE)
    try:
        with messages_shown():
            return _run(sys.argv[1:] if arguments is None else arguments)
    finally:
        # A program that calls this is left as it was.
        os.environ.pop(JOBS_VARIABLE, None)
        os.environ.update({} if jobs is None else {JOBS_VARIABLE: jobs})


def _run(words: Sequence[str]) -> int:
    settings = CommandSettings(())
    try:
        asked = plain_words(behind_its_name(words))
        if asked.words[:1] == ("job",) and "--" not in asked.words and not {"-h", "--help"} & {*asked.words}:
            # Which of the options behind the first word are the job's, nobody could tell.
            raise InputError("the job's command stands behind --", remedy="write memplan job [options] -- COMMAND")
        if asked.left:
            _logger.warning("no meaning for %s is known of %s: left out", asked.about, ", ".join(asked.left))
        root = _root(asked.words)
        settings = _settings(asked.words, root)
        given = {asked.words[0]: settings.values} if settings.values else {}
        code = root.main(args=list(settings.words), prog_name="memplan", standalone_mode=False, default_map=given)
        for name, source in settings.places.items():
            _logger.info("%s was taken from %s", name, source)
    except typer.Exit as stop:
        return stop.exit_code
    except _UsageError as error:
        place = settings.places.get(getattr(getattr(error, "param", None), "name", None) or "")
        said = f"{place}: {error.format_message()}" if place else error.format_message()
        # What was given stands in it, however long that is.
        said = said.rstrip(".") if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."
        _logger.error("%s; see `%s`", said, " ".join(["memplan", *_command(error), "--help"]))
        return BAD_INPUT
    except (typer.Abort, KeyboardInterrupt, CancelledError):
        _logger.error("stopped; nothing was written")
        return 130
    except BrokenPipeError:
        # The reader of our output (`head`, a pager) is gone: nothing left to say, and nobody to say it to.
        sys.stderr.close()
        return YES
    except MemplanError as error:
        _logger.error("%s", error)
        return BAD_INPUT
    return code if isinstance(code, int) else YES
