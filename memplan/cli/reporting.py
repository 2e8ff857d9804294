"""What all commands share: the options of their reports, options that come as one request, and how reports are said."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from memplan.cli.console import NO, YES
from memplan.core.errors import InputError
from memplan.core.files import check_writable, replacing_file
from memplan.core.options import OptionSpec, check_finite, check_numbers, options_of
from memplan.reports.report import Report

_PANEL = "Report"
_GIVEN_BY = frozenset({"COMMANDLINE", "DEFAULT_MAP"})
_GIVEN = "given"
"""The field of a request that is told which of its options were given."""
_CONTEXT = "context_of_command"
_JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.", rich_help_panel=_PANEL)]
_FORMAT = Annotated[
    str | None,
    typer.Option(
        "--format", help="table, json, html, md or csv; by default what FILE ends with.", rich_help_panel=_PANEL,
        show_default=False,
    ),
]  # fmt: skip


def _writable(path: Path | None) -> Path | None:
    if path is not None:
        check_writable(path)
    return path


def new_file(about: str, *flags: str, **more: Any) -> Any:
    """An option of a file to write, which is refused before any work where nothing can be written there."""
    return typer.Option(*flags, help=about, callback=_writable, **{"show_default": False, **more})


def _file_option(*flags: str) -> Any:
    option = new_file("Write the report here instead of printing it.", *flags, rich_help_panel=_PANEL, metavar="FILE")
    return Annotated[Path | None, option]


def reporting(function: Callable[..., Report]) -> Callable[..., int]:
    """
    A command of a function that returns its report: prints or writes it, and answers with its exit code.

    The command gets the options `--json`, `--format`, and `--report FILE`, which is `-o` too unless the function
    writes a file of its own there. A parameter that is a dataclass of options becomes one option for each field.
    """
    signature = inspect.signature(function, eval_str=True)
    taken = {flag for parameter in signature.parameters.values() for flag in _flags(parameter.annotation)}
    flags = ("--report",) if "-o" in taken else ("--output", "-o", "--report")
    requests: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if dataclasses.is_dataclass(parameter.annotation)
    }
    aware = {name for name, kind in requests.items() if any(item.name == _GIVEN for item in dataclasses.fields(kind))}
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        asked = {item.name: item for item in parameters}
        for item in _expanded(requests[name]) if name in requests else [_by_name(parameter)]:
            # Two requests may ask the same thing: one option answers both.
            if item.name not in asked:
                parameters.append(item)
            elif not _same(asked[item.name], item):
                raise TypeError(f"{function.__module__}: two different options are called {item.name}")
    if aware:
        parameters.append(_option(_CONTEXT, typer.Context, inspect.Parameter.empty))
    parameters += [
        _option("as_json", _JSON, False),
        _option("report_format", _FORMAT, None),
        _option("report_file", _file_option(*flags), None),
    ]

    def command(**given: Any) -> int:
        form = _chosen(given.pop("as_json"), given.pop("report_format"), given["report_file"])
        target: Path | None = given.pop("report_file")
        said = _said(given.pop(_CONTEXT)) if aware else frozenset()
        asked = {}
        for name, kind in requests.items():
            values = {field.name: given[field.name] for field, _ in options_of(kind)}
            check_numbers(kind, values)
            asked[name] = kind(**values, **({_GIVEN: said & values.keys()} if name in aware else {}))
        own = {name: value for name, value in given.items() if name in signature.parameters}
        for name, value in own.items():
            check_finite(name, value)
        report = function(**own, **asked)
        deliver(report, form, target)
        return YES if report.answer else NO

    # What typer reads: the help of the function, and the signature with all options.
    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    command.__dict__["__signature__"] = inspect.Signature(parameters, return_annotation=int)
    command.__annotations__ = {item.name: item.annotation for item in parameters} | {"return": int}
    return command


def _said(context: typer.Context) -> frozenset[str]:
    """Parameters that the command line, a variable or a file says, those left at their defaults not among them."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, source in sources.items() if source is not None and source.name in _GIVEN_BY)


def _flags(annotation: Any) -> tuple[str, ...]:
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, typer.models.OptionInfo):
            return tuple(extra.param_decls or ())
    return ()


def _same(one: inspect.Parameter, other: inspect.Parameter) -> bool:
    return _flags(one.annotation) == _flags(other.annotation) and one.default == other.default


def _by_name(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _expanded(request: Any) -> list[inspect.Parameter]:
    """A parameter for each option of a request."""
    kinds = typing.get_type_hints(request)
    return [
        _option(
            field.name,
            Annotated[kinds[field.name], _typer_parameter(spec)],
            inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
        )
        for field, spec in options_of(request)
    ]


def _typer_parameter(spec: OptionSpec) -> Any:
    if not spec.flags:
        return typer.Argument(help=spec.help, show_default=False)
    return typer.Option(*spec.flags, help=spec.help, rich_help_panel=spec.panel or None, min=spec.least, max=spec.most)


def _chosen(as_json: bool, form: str | None, target: Path | None) -> str:
    """The format to render; unknown ones are refused before any work is done."""
    from memplan.reports.renderers.render import REPORT_FORMATS, format_of

    if as_json and form not in (None, "json"):
        raise InputError(f"--json and --format {form!r:.20} are two things", remedy="give one of them")
    if form is not None and form not in REPORT_FORMATS:
        raise InputError(f"--format {form!r:.20} is not known", remedy=f"write {', '.join(REPORT_FORMATS)}")
    if as_json:
        return "json"
    return form or ("table" if target is None else format_of(target))


def deliver(report: Report, form: str, target: Path | None) -> None:
    """Write `report` in format `form` into `target`, in one step, or print it where that is `None`."""
    from memplan.reports.renderers.render import render_report
    from memplan.reports.renderers.render_console import print_report

    if target is not None:
        with replacing_file(target) as file:
            file.write(render_report(report, form))
        for path in (*report.written, target):
            print(f"written to {path}")
    elif form == "table":
        print_report(report)
    else:
        sys.stdout.write(render_report(report, form))
    # A reader that has gone away is told of here, where commands can still end as they should.
    sys.stdout.flush()
