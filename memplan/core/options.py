"""
Options of commands as fields of frozen dataclasses: one table to parse a command line with and to print it from.

A request such as the one of `memplan kv` declares each of its fields with `option(...)`. The command line makes its
options of them, and `words` turns a request back into the words that ask for the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence

_KEY = "option"
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """
    One option: its flags, the one to print first, its help, the heading it stands under, the least and most it may be.

    Without flags it is an argument. `always` ones are part of every printed command line, even where they are as by
    default.
    """

    flags: tuple[str, ...]
    help: str
    panel: str = ""
    least: int | None = None
    most: int | None = None
    always: bool = False


def option(
    *flags: str, default: Any, about: str, panel: str = "", least: int | None = None, most: int | None = None,
    always: bool = False,
) -> Any:  # fmt: skip
    """A field of a request that the command line gives as `flags`."""
    spec = OptionSpec(flags, about, panel, least, most, always)
    return dataclasses.field(default=default, metadata={_KEY: spec})


def argument(about: str) -> dict[str, OptionSpec]:
    """Metadata of a field of a request that has to be given, without a flag."""
    return {_KEY: OptionSpec((), about)}


def options_of(request: Any) -> Iterator[tuple[dataclasses.Field[Any], OptionSpec]]:
    """Every field of a request (or of its class) that is an option, in order."""
    for field in dataclasses.fields(request):
        if _KEY in field.metadata:
            yield field, field.metadata[_KEY]


def check_numbers(kind: Any, given: Mapping[str, Any]) -> None:
    """Raise `InputError` for a number in `given` that its option of `kind` can't be, and for one past 64 bits."""
    for field, spec in options_of(kind):
        value = given.get(field.name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        check_finite(field.name, value)
        least = -_LARGEST if spec.least is None else spec.least
        most = _LARGEST if spec.most is None else spec.most
        if not least <= value <= most:
            if value < least:
                raise InputError("option {} must be at least {}, found {}", field.name, f"{least:,}", _short(value))
            raise InputError("option {} must be at most {}, found {}", field.name, f"{most:,}", _short(value))


def check_finite(name: str, value: object) -> None:
    """Raise `InputError` for a `value` of option `name` that is infinite or not a number."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError("option {} must be a finite number, found {}", name, str(value))


def _short(value: float) -> str | Sentence:
    return str(value) if abs(value) <= _LARGEST else Sentence("a number of more than 64 bits")


def given_option(kind: Any, given: Collection[str]) -> str | None:
    """The flag of the first option of `kind` whose field is among those `given`; `None` where none is."""
    return next((spec.flags[0] for field, spec in options_of(kind) if field.name in given), None)


def words(request: Any) -> list[str]:
    """The words that ask for `request`: arguments, options that are not as by default, and those always given."""
    found = [str(getattr(request, field.name)) for field, spec in options_of(request) if not spec.flags]
    for field, spec in options_of(request):
        value = getattr(request, field.name)
        if not spec.flags or value is None or (value == field.default and not spec.always):
            continue
        if isinstance(value, bool):
            # A flag that has a default of its own is written with the one that takes it back: --a/--no-a.
            given, _, taken_back = spec.flags[0].partition("/")
            found += [given] if value else [taken_back] if taken_back else []
        else:
            found += [spec.flags[0], str(value)]
    return found
