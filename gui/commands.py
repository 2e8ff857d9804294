"""What the user can do, each thing once: menus, keys and the command palette are made from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QMainWindow, QMenu

from memplan.gui.i18n import tr
from memplan.gui.icons import icon, icon_names
from memplan.gui.model.palette import Palette


@dataclass(frozen=True, slots=True)
class Command:
    """
    One thing to do. `name` identifies it, `menu` and `text` are English and shown translated.

    `checked` returns the state of a command that is on or off; `enabled` whether it can be done now.
    """

    name: str
    menu: str
    text: str
    run: Callable[[], object]
    keys: tuple[str, ...] = ()
    checked: Callable[[], bool] | None = None
    enabled: Callable[[], bool] | None = None
    separated: bool = False

    @property
    def title(self) -> str:
        """Menu and text, as the command palette shows them."""
        return f"{tr(self.menu)}: {tr(self.text)}"


def with_alt_key(text: str, taken: set[str]) -> str:
    """
    `text`, English, in the window's language with the letter that Alt chooses it by: one that is not `taken` yet.

    The first letters of words are tried before others. In a language without these letters it stands in brackets, as is
    usual there.
    """
    words = [word[0] for word in text.split() if word[0].isalpha()]
    letter = next((one for one in [*words, *filter(str.isalpha, text)] if one.casefold() not in taken), None)
    said = tr(text).replace("&", "&&")
    if letter is None or not letter.isascii():
        return said
    taken.add(letter.casefold())
    if said == text:
        place = next(
            (at for at in range(len(text)) if text[at] == letter and (at == 0 or text[at - 1] == " ")),
            text.index(letter),
        )
        return f"{said[:place]}&{said[place:]}"
    stem, dots = (said[: -len(" …")], " …") if said.endswith(" …") else (said, "")
    return f"{stem}(&{letter.upper()}){dots}"


def _with_key(text: str, keys: Sequence[str]) -> str:
    """`text` with the key that does the same, as the platform writes it."""
    return f"{text} ({QKeySequence(keys[0]).toString(QKeySequence.SequenceFormat.NativeText)})" if keys else text


class Commands:
    """The commands of a window and the actions made from them."""

    def __init__(self, window: QMainWindow, commands: Sequence[Command]) -> None:
        self.commands = tuple(commands)
        self._window = window
        self.actions: dict[str, QAction] = {}
        self.menus: dict[str, QMenu] = {}
        bar = window.menuBar()
        letters: dict[str, set[str]] = {"": set()}
        for command in self.commands:
            if command.menu not in self.menus:
                self.menus[command.menu] = bar.addMenu(with_alt_key(command.menu, letters[""]))
                self.menus[command.menu].aboutToShow.connect(self.refresh)
                letters[command.menu] = set()
            menu = self.menus[command.menu]
            if command.separated:
                menu.addSeparator()
            action = QAction(with_alt_key(command.text, letters[command.menu]), window)
            action.setToolTip(_with_key(tr(command.text), command.keys))
            action.setObjectName(command.name)
            action.setShortcuts([QKeySequence(key) for key in command.keys])
            action.setCheckable(command.checked is not None)
            action.triggered.connect(lambda *_, run=command.run: run())
            menu.addAction(action)
            window.addAction(action)
            self.actions[command.name] = action
        self.refresh()

    def set_palette(self, palette: Palette) -> None:
        """Give the commands that have an icon one in the colours of `palette`."""
        for name in self.actions.keys() & set(icon_names()):
            self.actions[name].setIcon(icon(name, palette.css("text")))

    def remove(self) -> None:
        """Take all actions and menus out of the window."""
        self._window.menuBar().clear()
        for action in self.actions.values():
            self._window.removeAction(action)
            action.deleteLater()
        for menu in self.menus.values():
            menu.deleteLater()

    def refresh(self) -> None:
        """Bring check marks and greyed entries up to date."""
        for command in self.commands:
            action = self.actions[command.name]
            if command.checked is not None:
                action.setChecked(command.checked())
            if command.enabled is not None:
                action.setEnabled(command.enabled())

    def run(self, name: str) -> None:
        """Do the command called `name`; raises `KeyError`."""
        self.refresh()
        self.actions[name].trigger()
