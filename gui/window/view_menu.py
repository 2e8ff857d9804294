"""Commands of the View menu: docks, side by side, keyboard focus, tiers, colours, language and layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDockWidget, QWidget

from memplan.gui.commands import Command
from memplan.gui.i18n import LANGUAGES, tr
from memplan.gui.model.palette import Palette, load_palette, theme_names
from memplan.gui.model.session.open_documents import OpenDocuments
from memplan.gui.model.session.session import Session
from memplan.gui.views.view import PageSpec
from memplan.gui.window.page_switcher import PageSwitcher, page_offered
from memplan.gui.window.rank_switcher import RankSwitcher
from memplan.gui.window.side_by_side_controller import SideBySideController
from memplan.gui.window.view_docks import ViewDocks
from memplan.schema import Tier


class Appearance(Protocol):
    """What looks as the user chose: colours, language and the arrangement of docks."""

    colours: Palette

    def set_colours(self, palette: Palette) -> None:
        """Draw with other colours."""

    def set_language(self, code: str) -> None:
        """Speak another language."""

    def reset_layout(self) -> None:
        """Put every dock back where it was in the first place."""


def view_commands(
    documents: OpenDocuments,
    docks: ViewDocks,
    pages: PageSwitcher,
    side_by_side: SideBySideController,
    appearance: Appearance,
    ranks: RankSwitcher,
    *,
    language: Callable[[], str],
    show_tier: Callable[[Session, Tier], object],
    say: Callable[[str], object],
    choose_colours: Callable[[], object],
) -> list[Command]:
    """The View menu; `language` is the one that is spoken, `say` shows a line, `choose_colours` asks for own ones."""
    eager = [(name, dock) for name, dock in docks.items() if name in docks.specs and not docks.specs[name].lazy]
    return [
        *(_page(pages, page, number, documents) for number, page in enumerate(pages.pages.values(), 1)),
        *(_dock(docks, name, dock, first=name == eager[0][0]) for name, dock in eager),
        Command(
            "side-by-side",
            "View",
            "Side by side …",
            side_by_side.toggle,
            ("Ctrl+B",),
            checked=lambda: side_by_side.on,
            enabled=lambda: not documents.current.session.document.empty,
            separated=True,
        ),
        Command(
            "own-clock",
            "View",
            "The plan on its own clock",
            ranks.turn_clock,
            ("O",),
            checked=lambda: ranks.own_clock,
            enabled=lambda: ranks.clocks,
        ),
        Command("next-view", "View", "Keyboard to the next view", lambda: _focus(docks, say, 1), ("F6",)),
        Command("previous-view", "View", "Keyboard to the view before", lambda: _focus(docks, say, -1), ("Shift+F6",)),
        *(
            Command(spec.name, "View", f"{spec.title} …", partial(docks.show, spec.name), spec.keys)
            for spec in docks.specs.values()
            if spec.lazy and spec.keys
        ),
        Command(
            "next-tier",
            "View",
            "Memory of the next tier",
            lambda: _next_tier(documents.current.session, show_tier),
            ("Ctrl+T",),
            enabled=lambda: len(documents.current.session.tiers) > 1,
        ),
        *(_theme(appearance, theme) for theme in theme_names()),
        Command("colours", "View", "Colours …", choose_colours),
        *(_language(appearance, code, language) for code in LANGUAGES),
        Command("reset-layout", "View", "Reset the layout", appearance.reset_layout, separated=True),
    ]


def _page(pages: PageSwitcher, page: PageSpec, number: int, documents: OpenDocuments) -> Command:
    return Command(
        f"page-{page.name}",
        "View",
        page.title,
        lambda: pages.go(page.name),
        (f"Ctrl+{number}",),
        checked=lambda: pages.current == page.name,
        enabled=lambda: page_offered(page, documents.current.session.document),
    )


def _dock(docks: ViewDocks, name: str, dock: QDockWidget, *, first: bool) -> Command:
    def turn() -> None:
        """Close a view that is in front, bring any other one there."""
        if dock.isVisible() and not dock.visibleRegion().isEmpty():
            dock.hide()
        else:
            docks.bring(name)

    return Command(f"dock-{name}", "View", docks.titles[name], turn, checked=dock.isVisible, separated=first)


def _focus(docks: ViewDocks, say: Callable[[str], object], places: int) -> None:
    """Give the keyboard to the next of the views that can be seen, to none where all are closed."""
    widgets = docks.widgets()
    shown = [name for name, view in widgets.items() if not view.visibleRegion().isEmpty()]
    if not shown:
        return
    now = docks.active()
    at = shown.index(now) if now in shown else 0
    name = shown[(at + places) % len(shown)]
    widget = widgets[name]
    inside = (child for child in widget.findChildren(QWidget) if child.isVisible())
    keyed = (part for part in (widget, *inside) if part.focusPolicy() & Qt.FocusPolicy.TabFocus)
    next(keyed, widget).setFocus(Qt.FocusReason.ShortcutFocusReason)
    say(tr(docks.titles[name]))


def _next_tier(session: Session, show_tier: Callable[[Session, Tier], object]) -> None:
    if session.tiers:
        at = session.tiers.index(session.tier) if session.tier in session.tiers else -1
        show_tier(session, session.tiers[(at + 1) % len(session.tiers)])


def _theme(appearance: Appearance, theme: str) -> Command:
    def choose() -> None:
        appearance.set_colours(load_palette(theme, appearance.colours.name, appearance.colours.overrides))

    return Command(
        f"theme-{theme}",
        "View",
        f"{theme.capitalize()} theme",
        choose,
        checked=lambda: appearance.colours.theme == theme,
        separated=theme == theme_names()[0],
    )


def _language(appearance: Appearance, code: str, language: Callable[[], str]) -> Command:
    return Command(
        f"language-{code}",
        "View",
        LANGUAGES[code],
        lambda: appearance.set_language(code),
        checked=lambda: language() == code,
        separated=code == next(iter(LANGUAGES)),
    )
