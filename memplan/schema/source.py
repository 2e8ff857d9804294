"""Where figures come from; every report has some, and most have no plan."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """Where a number comes from: a data sheet, a file, a formula, a calibration."""

    value: str
    note: str = ""
