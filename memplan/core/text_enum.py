"""Enumerations whose members are shown as the words that they stand for."""

from __future__ import annotations

from enum import Enum


class TextEnum(str, Enum):
    """Members whose `str()` is their text, the same in every version of Python."""

    __str__ = str.__str__
