"""The dialog in which the user sets colours: a theme, a set of colours, and own ones by kind and category."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap
from PySide6.QtWidgets import (
    QColorDialog,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from memplan.gui.i18n import say, tr
from memplan.gui.model.amount_names import kind_text
from memplan.gui.model.palette import Palette, kind_names, load_palette, overlap_names, palette_names, theme_names

_SWATCH_PX = 16


class ColoursDialog(QDialog):
    """Every change is shown at once through `apply`; a double click or Enter on a name asks for its colour."""

    def __init__(
        self,
        palette: Palette,
        categories: Sequence[str],
        apply: Callable[[Palette], object],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.colours = palette
        self._apply = apply
        self.setWindowTitle(tr("Colours"))
        self.resize(420, 520)
        self.theme = QComboBox(self)
        for name in theme_names():
            self.theme.addItem(tr(f"{name.capitalize()} theme"), name)
        self.theme.setCurrentIndex(theme_names().index(palette.theme))
        self.set = QComboBox(self)
        for name in palette_names():
            self.set.addItem(name, name)
        self.set.setCurrentIndex(palette_names().index(palette.name))
        self.filter = QLineEdit(self)
        self.filter.setPlaceholderText(tr("Find a name"))
        self.names = QListWidget(self)
        kinds = kind_names()
        others = (name for name in dict.fromkeys((*overlap_names(), *categories)) if name not in kinds)
        for name in [*kinds, *others]:
            item = QListWidgetItem(say(kind_text(name)) if name in kinds else name)
            item.setData(Qt.ItemDataRole.UserRole, name)
            self.names.addItem(item)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        self.change = self.buttons.addButton(tr("Change …"), QDialogButtonBox.ButtonRole.ActionRole)
        self.reset = self.buttons.addButton(tr("Forget own colours"), QDialogButtonBox.ButtonRole.ResetRole)
        form = QFormLayout()
        form.addRow(tr("Theme"), self.theme)
        form.addRow(tr("Set of colours"), self.set)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.filter)
        layout.addWidget(self.names)
        layout.addWidget(self.buttons)
        self.theme.currentIndexChanged.connect(self._chosen)
        self.set.currentIndexChanged.connect(self._chosen)
        self.filter.textChanged.connect(self._filter)
        self.names.itemActivated.connect(lambda _: self.ask_colour())
        self.change.clicked.connect(self.ask_colour)
        self.reset.clicked.connect(lambda: self.show_palette(replace(self.colours, overrides={})))
        self.buttons.rejected.connect(self.reject)
        self.names.setCurrentRow(0)
        self._swatches()

    def _chosen(self) -> None:
        theme, name = str(self.theme.currentData()), str(self.set.currentData())
        self.show_palette(load_palette(theme, name, self.colours.overrides))

    def _filter(self, text: str) -> None:
        for row in range(self.names.count()):
            item = self.names.item(row)
            item.setHidden(text.casefold() not in item.text().casefold())

    def ask_colour(self) -> None:
        """Ask for the colour of the marked name."""
        item = self.names.currentItem()
        if item is None:
            return
        name = str(item.data(Qt.ItemDataRole.UserRole))
        chosen = QColorDialog.getColor(self._colour(name), self, item.text())
        if chosen.isValid():
            self.show_palette(replace(self.colours, overrides={**self.colours.overrides, name: chosen.name()}))

    def show_palette(self, palette: Palette) -> None:
        """Use other colours everywhere."""
        self.colours = palette
        self._swatches()
        self._apply(palette)

    def _colour(self, name: str) -> QColor:
        return QColor.fromRgb(self.colours.kind(name))

    def _swatches(self) -> None:
        for row in range(self.names.count()):
            item = self.names.item(row)
            swatch = QPixmap(_SWATCH_PX, _SWATCH_PX)
            swatch.fill(self._colour(str(item.data(Qt.ItemDataRole.UserRole))))
            icon = QIcon(swatch)
            icon.addPixmap(self._framed(swatch), QIcon.Mode.Selected)
            item.setIcon(icon)

    def _framed(self, swatch: QPixmap) -> QPixmap:
        """For the row that is selected: untinted, and told from a ground that may have its very colour."""
        framed = QPixmap(swatch)
        with QPainter(framed) as painter:
            painter.setPen(QColor(self.colours.css("accent_text")))
            painter.drawRect(framed.rect().adjusted(0, 0, -1, -1))
        return framed
