"""A public measurement beside what memplan predicts for it: the row that all tables of accuracy are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

_FAR = 0.4
"""Errors beyond this are counted as far off."""


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """
    One public figure in `unit`, of a `kind` that is summed up on its own, and its prediction; `None` where memplan has
    none, and `why` says what is missing.

    `is_source` says that a constant of the model was taken from this very row, `shares_source` that one was taken from
    other rows of the same publication: only rows without either are predictions of what nobody tuned for. `left_out` is
    the prediction with constants found again without the row's publication, where that is done.
    """

    kind: str
    source: str
    chip: str
    name: str
    unit: str
    measured: float
    predicted: float | None
    is_source: bool = False
    shares_source: bool = False
    why: str = ""
    left_out: float | None = None

    @property
    def error(self) -> float | None:
        """Signed relative error."""
        return None if self.predicted is None else self.predicted / self.measured - 1


def later_set(told: Mapping[str, Any]) -> str:
    """What the kind of a row of a later set ends with, from its entry; empty of a row of none."""
    return f", set {told['set']}, {told['half']}" if "half" in told else ""


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of a row: its signed relative error, and whether what was measured is inside of its interval."""

    error: float
    inside: bool


def sums(said: Sequence[Said]) -> tuple[str, str, str, str]:
    """Median error, bias, how many are beyond 40 % and how many inside, as cells; `said` is not empty."""
    return (
        f"{median(abs(each.error) for each in said):.1%}",
        f"{median(each.error for each in said):+.1%}",
        str(sum(abs(each.error) > _FAR for each in said)),
        str(sum(each.inside for each in said)),
    )
