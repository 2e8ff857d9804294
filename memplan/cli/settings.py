"""
Settings: what options are where the command line leaves them out, from variables, a project's file and the user's.

An option of the line wins over a variable of the environment (`MEMPLAN_KV_TP`, or `MEMPLAN_TP` for every command), that
over the project's file, and that over the user's. A project's file is the one that `-c` names, else the nearest
`memplan.toml` or `pyproject.toml` with a table `[tool.memplan]` in the working folder or above.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError

_MOST_FILE = 2**20
_WRITES = frozenset({"output", "report_file", "folder", "export_to"})
"""Parameters that name what is written: the line says them, or a file that it names."""
_MODELS = frozenset({"config", "source"})
"""Parameters that `model` stands for where it is said for all commands."""
_HELP = frozenset({"-h", "--help", "-V", "--version"})
_LINE_ONLY = frozenset({"help", "version", "settings_file"})
"""Parameters that only the command line says."""
_ONE_OF = frozenset({"verbose", "quiet", "log_level"})
"""Parameters of which the one that is said last counts."""


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """
    `values` of a command's parameters by name, of a command of commands for each; `places` says where each stands.

    `words` are those of the line, without the file that it names.
    """

    words: tuple[str, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)


def named_file(words: Sequence[str]) -> tuple[tuple[str, ...], Path | None]:
    """`words` without `-c FILE.toml`, and the file; what stands behind `--` is another program's."""
    end = words.index("--") if "--" in words else len(words)
    kept: list[str] = []
    found: Path | None = None
    named = False
    for word in words[:end]:
        name, equals, value = word.partition("=")
        if named and word.endswith(".toml"):
            kept.pop()
            found = Path(word)
        elif equals and name in ("-c", "--config") and word.endswith(".toml"):
            found = Path(value)
        else:
            kept.append(word)
        named = word in ("-c", "--config")
    return (*kept, *words[end:]), found


def command_settings(
    words: Sequence[str],
    command: Any,
    commands: Collection[str],
    others: Callable[[], Mapping[str, Any]],
    counted: Callable[[str, str], str],
) -> CommandSettings:
    """
    What is set for `command`, the one that `words` begin with, where the line leaves it open.

    `commands` are the names of all; `others` loads them, for keys that this one lacks; `counted` writes out the value
    of an option such as `32k`. Raises `InputError` for a file that can't be read and for a key that means nothing.
    """
    line, named = named_file(words)
    if command is None or _HELP & set(line[: line.index("--")] if "--" in line else line):
        return CommandSettings(line)
    name = line[0]
    members: Mapping[str, Any] = getattr(command, "commands", {})
    # A command of commands keeps what is set for each of them.
    by_member: dict[str, dict[str, Any]] = {member: {} for member in members}
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for source in (*_files(named, name, commands), _variables(name, command)):
        for key, given, own, trusted in source.items():
            known = False
            for member, part in (members or {"": command}).items():
                match = _parameter(part, key, own)
                if match is None:
                    continue
                known = True
                parameter, negated = match
                if parameter.name in _WRITES and not trusted:
                    raise InputError(
                        "names what is written, which only the command line does", path=source.path, place=key
                    )
                target = by_member[member] if members else values
                for other in _ONE_OF - {parameter.name} if parameter.name in _ONE_OF else ():
                    target.pop(other, None)
                target[parameter.name] = _value(parameter, given, negated, counted, source.path, key)
                places[parameter.name] = source.told(key)
            if not known and (own or not any(_known(part, key) for part in others().values())):
                where = f"memplan {name}" if own else "memplan"
                raise InputError(f"{where} has no such option", path=source.path, place=key, remedy="see --help")
    return CommandSettings(
        line, {key: value for key, value in by_member.items() if value} if members else values, places
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """Keys with their values, whether they stand in the command's own table, and whether the line names the file."""

    path: Path | None
    plain: Mapping[str, Any]
    own: Mapping[str, Any]
    trusted: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    def items(self) -> Iterator[tuple[str, Any, bool, bool]]:
        for given, own in ((self.plain, False), (self.own, True)):
            for key, value in given.items():
                yield key, value, own, self.trusted

    def told(self, key: str) -> str:
        return self.names.get(key, f"{self.path}: {key}")


def _parameters(command: Any) -> Iterator[Any]:
    """The parameters of a command, and of those inside it."""
    yield from command.params
    for inner in getattr(command, "commands", {}).values():
        yield from _parameters(inner)


def _known(command: Any, key: str) -> bool:
    return key == "model" or any(_fits(parameter, key) is not None for parameter in _parameters(command))


def _fits(parameter: Any, key: str) -> bool | None:
    """Whether `key` says the contrary of an option; `None` where it is another's."""
    flag = "--" + key.replace("_", "-")
    if parameter.name in _LINE_ONLY:
        return None
    if flag in (word.replace("_", "-") for word in parameter.opts):
        return False
    return True if flag in (word.replace("_", "-") for word in parameter.secondary_opts) else None


def _parameter(command: Any, key: str, own: bool) -> tuple[Any, bool] | None:
    """The parameter of `command` that `key` sets, and whether it takes it back."""
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            if key == "model" and parameter.nargs == 1 and (own or parameter.name in _MODELS):
                return parameter, False
        elif (negated := _fits(parameter, key)) is not None:
            return parameter, negated
    return None


def _value(
    parameter: Any, given: Any, negated: bool, counted: Callable[[str, str], str], path: Path | None, key: str
) -> Any:
    """`given` as the command line would have it."""
    if isinstance(given, bool):
        return given != negated
    many = bool(getattr(parameter, "multiple", False))
    items = given if isinstance(given, list) else [given]
    if not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
        raise InputError("is neither a text, a number, a list of them nor true or false", path=path, place=key)
    flag = "--" + key.replace("_", "-")
    texts = [counted(flag, str(item)) for item in items]
    return texts if many else ",".join(texts)


def _variables(name: str, command: Any) -> _Source:
    """What variables of the environment say of options; those of what is written are left alone."""
    plain: dict[str, str] = {}
    own: dict[str, str] = {}
    names: dict[str, str] = {}
    for parameter in _parameters(command):
        if parameter.param_type_name == "argument" or parameter.name in _WRITES | _LINE_ONLY:
            continue
        for flag in (word[2:] for word in parameter.opts if word.startswith("--")):
            said = flag.replace("-", "_").upper()
            for target, variable in (
                (plain, f"MEMPLAN_{said}"),
                (own, f"MEMPLAN_{name.replace('-', '_').upper()}_{said}"),
            ):
                if variable in os.environ:
                    target[flag] = os.environ[variable]
                    names[flag] = f"the variable {variable}"
    return _Source(None, plain, own, names=names)


def _files(named: Path | None, name: str, commands: Collection[str]) -> Iterator[_Source]:
    """The user's file and the project's, the one that wins last."""
    user = _user_file()
    if user is not None:
        yield _source(user, _read(user), name, commands)
    if named is not None:
        yield _source(named, _read(named), name, commands, trusted=True)
        return
    found = _project_file()
    if found is not None:
        yield _source(*found, name, commands)


def _source(
    path: Path, document: Mapping[str, Any], name: str, commands: Collection[str], *, trusted: bool = False
) -> _Source:
    inner = document.get(name, {})
    # A key of the same name as a command (`export`) is an option of others.
    own = inner if isinstance(inner, Mapping) else {}
    plain = {}
    for key, value in document.items():
        if not isinstance(value, Mapping):
            plain[key] = value
        elif key not in commands:
            raise InputError("there is no such command", path=path, place=f"[{key}]", remedy="see memplan --help")
    return _Source(path, plain, own, trusted)


def _user_file() -> Path | None:
    import platformdirs  # not before a command runs

    path = platformdirs.user_config_path("memplan", appauthor=False) / "memplan.toml"
    return path if path.is_file() else None


def _project_file() -> tuple[Path, Mapping[str, Any]] | None:
    """The nearest file of settings in the working folder or above, with what it says."""
    try:
        here = Path.cwd()
    except OSError:  # the working folder is gone
        return None
    for folder in (here, *here.parents):
        path = folder / "memplan.toml"
        if path.is_file():
            return path, _read(path)
        path = folder / "pyproject.toml"
        # Read only where it says something of this: a Python project without is none of ours, broken or not.
        if path.is_file() and "tool.memplan" in _text(path, must=False):
            tools = _read(path).get("tool", {})
            if isinstance(tools, Mapping) and isinstance(tools.get("memplan"), Mapping):
                return path, tools["memplan"]
    return None


def _text(path: Path, *, must: bool = True) -> str:
    try:
        if path.stat().st_size > _MOST_FILE:
            if not must:
                return ""
            raise InputError("this is too large for a file of options", path=path)
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if not must:
            return ""
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"can't be read: {said}", path=path) from error


def _read(path: Path) -> Mapping[str, Any]:
    name = next((name for name in ("tomllib", "tomli") if importlib.util.find_spec(name) is not None), None)
    if name is None:
        raise InputError("files of options need Python 3.11", path=path, remedy="or install tomli")
    try:
        found: Mapping[str, Any] = importlib.import_module(name).loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"this is no TOML: {error}", path=path) from None
    return found
