"""Label-value pairs under a title: what the details panel is made of."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.sentence import Sentence, Text
from memplan.gui.model.session.session import ItemRef


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: a label, its value, and what a click on it selects."""

    label: Text
    value: Text
    target: ItemRef | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A titled list of facts."""

    title: Text
    facts: tuple[Fact, ...]


def fact(label: str, value: Text, target: ItemRef | None = None) -> Fact:
    """A fact whose label is a word of the window's language, given in English."""
    return Fact(Sentence(label), value, target)
