"""Settings as text: command lines, variables of the environment, YAML, TOML, JSON and `key = value` files."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from memplan.core.version import MEMPLAN_VERSION
from memplan.core.visible_text import visible_text
from memplan.export.settings import ConsumerSetting, ConsumerSettings, SettingsFile

_WIDTH = 116


def settings_text(settings: ConsumerSettings, file: SettingsFile) -> str:
    """`file` of `settings`, with comments that say for which version it is and why each value is what it is."""
    return _FORMS[file.form](settings, file)


def consumer_document(settings: ConsumerSettings) -> dict[str, Any]:
    """All of `settings` as JSON values: by file the words or the keys, then each setting with reason and source."""
    files: dict[str, Any] = {}
    for file in settings.files:
        own = settings.of(file)
        if file.form in ("command", "environment"):
            arguments = argument_words(own)
            files[file.name] = {
                "environment": environment(own),
                "arguments": arguments,
                "command_line": shlex.join(arguments),
            }
        else:
            files[file.name] = nested(own)
    return {
        "consumer": settings.consumer,
        "version": settings.version,
        "memplan_version": MEMPLAN_VERSION,
        "about": list(settings.about),
        "files": files,
        "settings": [
            {"file": item.file, "name": item.name, "value": item.value, "reason": item.reason, "source": item.source}
            for item in settings.settings
        ],
        "figures": dict(settings.figures),
        "notes": list(settings.notes),
    }


def environment(settings: Iterable[ConsumerSetting]) -> dict[str, str]:
    """The variables among `settings`."""
    return {item.name[1:]: setting_word(item.value) for item in settings if item.name.startswith("$")}


def argument_words(settings: Iterable[ConsumerSetting]) -> list[str]:
    """
    The words of a command line that say `settings`.

    Keys of one argument (`--argument[key.below]`) become one JSON object, values that are `false` nothing.
    """
    by_flag: dict[str, Any] = {}
    for item in settings:
        if not item.name.startswith("-"):
            continue
        flag, _, path = item.name.removesuffix("]").partition("[")
        if path:
            _put(by_flag.setdefault(flag, {}), path, item.value)
        else:
            by_flag[flag] = item.value
    words: list[str] = []
    for flag, value in by_flag.items():
        if value is False:
            continue
        words.append(flag)
        if value is True:
            continue
        words += [setting_word(part) for part in value] if isinstance(value, list) else [setting_word(value)]
    return words


def nested(settings: Iterable[ConsumerSetting]) -> dict[str, Any]:
    """`settings` as an object, their dots as its levels; `name[0]` is the first of a list."""
    document: dict[str, Any] = {}
    for item in settings:
        _put(document, item.name, item.value)
    return document


def _put(document: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    for name in above:
        plain = name.removesuffix("[0]")
        below = document.setdefault(plain, {} if plain == name else [{}])
        document = below if plain == name else below[0]
    document[last] = value


def setting_word(value: Any) -> str:
    """`value` as one word of a command line."""
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _head(settings: ConsumerSettings) -> list[str]:
    lines = [f"For {settings.title}, by memplan {MEMPLAN_VERSION}.", *settings.about]
    lines += [f"{name.replace('_', ' ')}: {value:,}" for name, value in settings.figures.items()]
    lines += [f"Note: {note}" for note in settings.notes]
    return lines


def _commented(lines: Iterable[str]) -> list[str]:
    return [
        f"# {part}"
        for line in lines
        for part in textwrap.wrap(visible_text(line), _WIDTH, subsequent_indent="  ") or [""]
    ]


def _why(item: ConsumerSetting) -> str:
    return visible_text(f"{item.reason} [{item.source}]")


def _command(settings: ConsumerSettings, file: SettingsFile) -> str:
    own = settings.of(file)
    reasons = [f"{item.name} {setting_word(item.value)}: {_why(item)}" for item in own]
    lines = ["#!/bin/sh", *_commented([*_head(settings), "", *reasons])]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment(own).items()]
    words = argument_words(own)
    if file.command:
        # `$NAME` in the words of a table is for the shell to fill in.
        lines.append(" ".join(word if word.startswith('"') else shlex.quote(word) for word in file.command) + " \\")
    lines += [f"    {part} \\" for part in _by_flag(words)]
    lines.append('    "$@"')
    return "\n".join(lines) + "\n"


def _by_flag(words: Sequence[str]) -> list[str]:
    """A line for each flag, with what follows it."""
    lines: list[str] = []
    for word in words:
        if word.startswith("--") or not lines:
            lines.append(shlex.quote(word))
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return lines


def _environment(settings: ConsumerSettings, file: SettingsFile) -> str:
    lines = _commented(_head(settings))
    for item in settings.of(file):
        lines += _commented([_why(item)])
        lines.append(f"export {item.name[1:]}={shlex.quote(setting_word(item.value))}")
    return "\n".join(lines) + "\n"


def _yaml(settings: ConsumerSettings, file: SettingsFile) -> str:
    """Blocks for objects, JSON for what is in them, which YAML reads as it is; a comment behind each setting."""
    lines = _commented(_head(settings))
    reasons = {item.name: _why(item) for item in settings.of(file)}

    def write(document: Mapping[str, Any], path: str, indent: str) -> None:
        for key, value in document.items():
            own = f"{path}{key}"
            if own not in reasons and isinstance(value, Mapping):
                lines.append(f"{indent}{key}:")
                write(value, f"{own}.", indent + "  ")
            elif own not in reasons and isinstance(value, list):
                lines.append(f"{indent}{key}:")
                lines.append(f"{indent}  -")
                write(value[0], f"{own}[0].", indent + "    ")
            else:
                told = json.dumps(value, ensure_ascii=False)
                lines.append(f"{indent}{key}: {told}  # {reasons.get(own, '')}")

    write(nested(settings.of(file)), "", "")
    return "\n".join(lines) + "\n"


def _toml(settings: ConsumerSettings, file: SettingsFile) -> str:
    lines = _commented(_head(settings))
    reasons = {item.name: _why(item) for item in settings.of(file)}
    for section, values in nested(settings.of(file)).items():
        lines += ["", f"[{section}]"]
        for key, value in values.items():
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}  # {reasons[f'{section}.{key}']}")
    return "\n".join(lines) + "\n"


def _json(settings: ConsumerSettings, file: SettingsFile) -> str:
    return json.dumps(nested(settings.of(file)), indent=2, ensure_ascii=False) + "\n"


def _conf(settings: ConsumerSettings, file: SettingsFile) -> str:
    lines = _commented(_head(settings))
    for item in settings.of(file):
        lines += [*_commented([_why(item)]), f"{item.name} = {setting_word(item.value)}"]
    return "\n".join(lines) + "\n"


def side_text(settings: ConsumerSettings, file: SettingsFile) -> str:
    """What stands beside a file that can't hold comments."""
    reasons = [f"{item.name} = {setting_word(item.value)}: {_why(item)}" for item in settings.of(file)]
    return "\n".join(map(visible_text, [*_head(settings), "", *reasons])) + "\n"


_FORMS: Mapping[str, Callable[[ConsumerSettings, SettingsFile], str]] = {
    "command": _command,
    "environment": _environment,
    "yaml": _yaml,
    "toml": _toml,
    "json": _json,
    "conf": _conf,
}
