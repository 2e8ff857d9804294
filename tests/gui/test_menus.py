"""Menus are worked by Alt and letters, in every language, and the program has a picture of its own."""

from __future__ import annotations

import re

import pytest
from PySide6.QtGui import QKeySequence

from memplan.gui.commands import with_alt_key
from memplan.gui.window.main_window import MainWindow

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_menu_and_entry_has_an_alt_key_of_its_own(window: MainWindow, language: str) -> None:
    """Went wrong once: the menus could not be opened from the keyboard."""
    window.set_language(language)
    for texts in (
        [menu.title() for menu in window.commands.menus.values()],
        *(
            [action.text() for action in menu.actions() if not action.isSeparator()]
            for menu in window.commands.menus.values()
        ),
    ):
        keys = [QKeySequence.mnemonic(text).toString() for text in texts]
        given = [key for key in keys if key]
        assert len(given) == len(set(given)), "no letter means two things"
        assert len(given) >= min(0.85 * len(texts), 20)
    if language == "zh":
        assert all(re.search(r"\(&[A-Z]\)", menu.title()) for menu in window.commands.menus.values())
    window.set_language("en")
    assert window.commands.menus["File"].title() == "&File"
    assert all("&" not in action.toolTip() for action in window.commands.actions.values())


def test_first_letters_of_words_are_taken_first() -> None:
    taken: set[str] = set()
    assert with_alt_key("Save the view", taken) == "&Save the view"
    assert with_alt_key("Save this place …", taken) == "Save &this place …"
    assert with_alt_key("Save that", taken) == "S&ave that"
    assert taken == {"s", "t", "a"}


def test_the_program_has_its_picture(window: MainWindow) -> None:
    icon = window.windowIcon()
    assert {size.width() for size in icon.availableSizes()} >= {16, 32, 64, 256}
    image = icon.pixmap(64).toImage()
    assert len({image.pixelColor(x, y).name() for x in range(64) for y in range(64)}) >= 5
