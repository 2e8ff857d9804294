"""Words of a command line that name a member of an enumeration, or are a list of numbers or names."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence

_Named = TypeVar("_Named", bound=Enum)


def numbers_of(value: str, name: str) -> tuple[int, ...]:
    """The numbers of a list as `61,62,63`, which option `name` was given; raises `InputError` for anything else."""
    try:
        return tuple(int(item) for item in value.split(",") if item.strip())
    except ValueError:
        raise InputError("{} {!r:.40} is no list of numbers", name, value, remedy="write it as 61,62,63") from None


def names_of(value: str, name: str) -> tuple[str, ...]:
    """
    The names of a list as `q_proj,v_proj`, or with spaces between, empty where none is given; raises `InputError` for
    one of no names.
    """
    found = tuple(value.replace(",", " ").split())
    if value and not found:
        raise InputError("{} {!r:.40} is no list of names", name, value, remedy="write it as q_proj,v_proj")
    return found


def member_named(kind: type[_Named], value: str, what: str) -> _Named:
    """The member of `kind` with that value; raises `InputError`, which lists them, where there is none such `what`."""
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(item.value) for item in kind)
        named = Sentence("known: {}", (known,))
        raise InputError("no {} is called {!r:.40}", Sentence(what), value, remedy=named) from None
