"""Words and colours that the parts of the kernel view share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtGui import QColor

from memplan.core.units import format_change, format_duration
from memplan.gui.i18n import tr
from memplan.gui.model.palette import Palette

if TYPE_CHECKING:
    from memplan.schema import OnChipBuffer

_LIGHT_COPY = 0.42


def time_text(time: float | None) -> str:
    """A time for the eye; a dash where it is not known."""
    return "–" if time is None else format_duration(time)


def difference_text(predicted: float | None, measured: float | None) -> str:
    """`+12 %` of a measurement against a prediction; empty where one is missing or too small to compare with."""
    if predicted is None or measured is None or predicted < 1:
        return ""
    ratio = measured / predicted
    return f"×{ratio:,.1f}" if ratio >= 3 else format_change(ratio - 1, 0)


def buffer_name(buffer: OnChipBuffer) -> str:
    """What a buffer holds, in the window's language, without the number of its copy."""
    name = buffer.of or buffer.name
    word, _, number = name.rpartition(" ")
    return f"{tr(word)} {number}" if word and number.isdigit() else tr(name)


def copy_colour(palette: Palette, place: int, copy: int) -> QColor:
    """Colour of a copy of the operand at `place` of all operands: odd copies are paler, towards the ground."""
    value, ground = palette.colours[place % len(palette.colours)], palette.role("ground")
    share = _LIGHT_COPY if copy % 2 else 0.0
    parts = [round((value >> shift & 255) * (1 - share) + (ground >> shift & 255) * share) for shift in (16, 8, 0)]
    return QColor(*parts)


def ink_on(colour: QColor) -> QColor:
    """Black or white, whichever is read more easily on `colour`."""
    luminance = 0.2126 * colour.redF() ** 2.2 + 0.7152 * colour.greenF() ** 2.2 + 0.0722 * colour.blueF() ** 2.2
    return QColor("#000000" if luminance > 0.18 else "#FFFFFF")
