"""What the window asks before it can go on. Each is one small dialog; `None` is for a user who gave up."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtWidgets import QInputDialog, QLineEdit, QWidget

from memplan.core.errors import UnboundShapeError
from memplan.core.units import parse_shape
from memplan.gui.i18n import tr


def ask_item(parent: QWidget, title: str, label: str, names: Sequence[str], chosen: str) -> str | None:
    """One of `names`."""
    at = names.index(chosen) if chosen in names else 0
    found, sure = QInputDialog.getItem(parent, title, label, list(names), at, False)
    return found if sure else None


def ask_chip(parent: QWidget) -> str | None:
    """The chip that a graph is to be planned for."""
    from memplan.hardware import chips  # read from files: a window starts without

    names = [item.name.removeprefix("Ascend") for item in chips() if item.hbm_bytes is not None]
    return ask_item(parent, tr("Plan a graph"), tr("Chip to plan it for"), names, "910B3")


def ask_shape(parent: QWidget, error: UnboundShapeError) -> tuple[str, tuple[int, ...]] | None:
    """The shape of an input that leaves it open; raises `InputError` for an answer that is none."""
    text, sure = QInputDialog.getText(
        parent, tr("Plan a graph"), str(error), QLineEdit.EchoMode.Normal, error.suggestion
    )
    return parse_shape(text) if sure else None
