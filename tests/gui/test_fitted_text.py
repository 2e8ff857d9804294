"""Names are cut to the room they have, by the widths of their own letters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtGui import QFont, QFontMetricsF

from memplan.gui.application import application
from memplan.gui.views.fitted_text import FittedText
from memplan.gui.views.timeline.track_names import fitting_name

pytestmark = pytest.mark.gui

LETTERS = st.text(alphabet="WMil.EVENT_wait 算子", min_size=1, max_size=60)


def metrics() -> QFontMetricsF:
    """Those of the small font that names are written in."""
    application()
    font = QFont()
    font.setPixelSize(11)
    return QFontMetricsF(font)


@settings(max_examples=100)
@given(text=LETTERS, room=st.floats(0, 500), tail=st.booleans())
def test_a_cut_text_fits_and_one_letter_more_would_not(text: str, room: float, tail: bool) -> None:
    width = metrics()
    cut = FittedText(width).text(text, room, tail=tail)
    assert sum(width.horizontalAdvance(letter) for letter in cut) <= room + 1e-6
    if cut == text:
        return
    kept = len(cut) - 1 if cut else 0
    assert not cut or cut == (("…" + text[-kept:]) if tail else (text[:kept] + "…"))
    longer = "…" + (text[-kept - 1 :] if tail else text[: kept + 1])
    assert kept + 1 >= len(text) or sum(width.horizontalAdvance(letter) for letter in longer) > room - 1e-6


def test_wide_capitals_do_not_reach_beyond_their_room() -> None:
    width = metrics()
    name = "EVENT_WAIT_MMMMMMMM"
    assert width.horizontalAdvance(FittedText(width).text(name, 60.0)) <= 60.0


def test_a_name_of_a_million_letters_is_cut_as_quickly_as_another() -> None:
    fitted = FittedText(metrics())
    name = "x" * 1_000_000
    assert len(fitted.text(name, 300.0)) < 200
    assert len(fitted.text(name, 300.0, tail=True)) < 200
    assert fitted.text("", 10.0) == ""


def test_names_of_tracks_lose_nothing_that_tells_them_apart() -> None:
    application()
    fonts = (QFont(), QFont())
    for font, pixels in zip(fonts, (12, 11), strict=True):
        font.setPixelSize(pixels)
    font, name = fitting_name("Communication(Not Overlapped)", fonts)
    assert (font.pixelSize(), name) == (11, "Communication(Not Overlapped)")
    assert fitting_name("Communication", fonts) == (fonts[0], "Communication")
    font, name = fitting_name("Group group_name_115 of the pipeline, send and receive", fonts)
    assert font is fonts[1]
    assert "…" in name
