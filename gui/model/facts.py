"""Label-value pairs under a title: what the details panel is made of."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.gui.model.session import Pick


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: a label, its value, and what a click on it picks."""

    label: str
    value: str
    target: Pick | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A titled list of facts."""

    title: str
    facts: tuple[Fact, ...]
