"""One thing that a profile tells of a run, what tells it, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from memplan.schema import Certainty, PlanSetting


@dataclass(frozen=True, slots=True)
class Found:
    """A value of an option with the evidence for it."""

    value: Any
    evidence: str
    certainty: Certainty


class LikeSettings:
    """
    Values of options as they are found out, each with its evidence, in order.

    What was `given` explicitly wins over what is found; where the two differ, the evidence says what the profile tells.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._found: dict[str, Found] = {}
        self.contradictions: list[str] = []

    def put(self, name: str, value: Any, evidence: str, certainty: Certainty = Certainty.FOLLOWS) -> Any:
        """
        Take `value` for the option `name` unless it was given or found before; returns what counts.

        Evidence for the same value adds up; another value is a contradiction, and the first one stays.
        """
        before = self._found.get(name)
        if before is not None and name not in self._given:
            if certainty is Certainty.ASSUMED:
                pass
            elif before.value == value:
                self._found[name] = replace(before, evidence=f"{before.evidence}; {evidence}")
            else:
                self.contradictions.append(
                    f"{shown_name(name)} is {before.value} ({before.evidence}), but {value} would follow: {evidence}"
                )
        elif name in self._given:
            given = self._given[name]
            text = "given"
            if certainty is not Certainty.ASSUMED:
                if given == value:
                    text += f", and so it is in the profile: {evidence}"
                else:
                    text += f"; the profile tells {value}: {evidence}"
                if given != value and before is None:
                    self.contradictions.append(
                        f"{shown_name(name)} {given} was given, but the profile tells {value}: {evidence}"
                    )
            self._found[name] = Found(given, text, Certainty.GIVEN)
        else:
            self._found[name] = Found(value, evidence, certainty)
        return self._found[name].value

    def correct(self, name: str, value: Any, evidence: str) -> None:
        """Let `value`, which follows from what was given, take the place of what was found, and say so."""
        before = self._found.get(name)
        if before is not None and before.value != value and before.certainty is not Certainty.ASSUMED:
            self.contradictions.append(
                f"{shown_name(name)} {value} follows from {evidence}; "
                f"the profile tells {before.value}: {before.evidence}"
            )
        self._found[name] = Found(value, evidence, Certainty.GIVEN)

    def take(self, name: str) -> Any | None:
        """The value of option `name` where it was given, which then needs no evidence; else `None`."""
        if name not in self._given:
            return None
        self._found[name] = Found(self._given[name], "given", Certainty.GIVEN)
        return self._given[name]

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def get(self, name: str) -> Any:
        """The value that counts; raises `KeyError` for what is not known."""
        return self._found[name].value

    def evidence(self, name: str) -> str:
        """What the value of `name` rests on."""
        return self._found[name].evidence

    def certainty(self, name: str) -> Certainty:
        """How sure the value of `name` is."""
        return self._found[name].certainty

    def given(self, *names: str) -> bool:
        """Whether any of the options was given."""
        return any(name in self._given for name in names)

    def values(self) -> dict[str, Any]:
        """Every option that is known, as plain values."""
        return {name: getattr(item.value, "value", item.value) for name, item in self._found.items()}

    def rows(self) -> tuple[PlanSetting, ...]:
        """All of them as a plan records them."""
        return tuple(
            PlanSetting(shown_name(name), _text(item.value), item.evidence, item.certainty)
            for name, item in self._found.items()
        )


def shown_name(name: str) -> str:
    """An option as it is called on the command line."""
    return "sequence" if name == "context" else name.replace("_", "-")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(getattr(value, "value", value))
