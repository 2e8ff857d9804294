"""The pool of a KV budget: the sequences wanted in it, what one of them takes, and what is in a block of each group."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QColor, QFont, QFontMetricsF, QHelpEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QToolTip, QWidget

from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes, format_share
from memplan.gui.i18n import say, tr
from memplan.gui.model.kv.kv_colours import cache_colour, group_colours, mixed
from memplan.gui.model.kv.kv_pools import UNPAGED, BlockShare, Parts, PoolPicture
from memplan.gui.model.palette import Palette
from memplan.gui.theme import qt_colour

KIND_NAMES = {
    "full": "full attention",
    "latent": "latent attention",
    "sliding": "sliding window",
    "sliding_latent": "sliding window, latent",
    "chunked": "chunked attention",
    "state": "recurrent state",
}
_PATTERNS = {
    "content": Qt.BrushStyle.SolidPattern,
    "unfilled": Qt.BrushStyle.BDiagPattern,
    "padding": Qt.BrushStyle.DiagCrossPattern,
    "absent": Qt.BrushStyle.Dense6Pattern,
}
PART_NAMES = {"content": "content", "unfilled": "unfilled", "padding": "padding", "absent": "no cache"}
_MARGIN, _BAR, _GAP = 8.0, 22.0, 8.0
_SEQUENCE_PX = 9.0
"""Sequences at least so wide are drawn one by one."""
_BLOCK_SHARE = 0.6
"""Part of the width that a block is drawn in; its filling is beside it."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A place of the picture and what it says under the mouse."""

    box: QRectF
    text: str


class PoolView(QWidget):
    """Three pictures to scale under each other; what holds no content is hatched, by why."""

    def __init__(self, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colours = palette
        self.picture: PoolPicture | None = None
        self.spots: list[Spot] = []
        self.setMinimumWidth(300)
        self.setAccessibleName(tr("Pool of KV blocks"))

    def show_pool(self, picture: PoolPicture | None) -> None:
        """Draw another pool."""
        self.picture = picture
        self.setFixedHeight(self.sizeHint().height())
        described = [] if picture is None else [self.pool_text(picture), self.sequence_text(picture)]
        if picture is not None:
            described += [f"{share_name(share)}: {share_figures(share)}" for share in picture.shares]
        self.setAccessibleDescription("; ".join(described))
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Room for what wraps at another width."""
        self.setFixedHeight(self.sizeHint().height())
        super().resizeEvent(event)

    @property
    def _line(self) -> float:
        return QFontMetricsF(self.font()).height() + 1

    def sizeHint(self) -> QSize:
        """As high as everything under each other."""
        if self.picture is None:
            return QSize(500, 60)
        line = self._line
        height = 2 + (2 * line + _BAR + 4 + _GAP) + (line + 2 + _BAR + _GAP)
        if self.picture.shares:
            height += line + len(self.picture.shares) * (2 * line + _BAR + _GAP - 1)
            height += max(row for row, _, _, _ in self._legend()) * line
        else:
            height += len(UNPAGED) * line
        return QSize(560, int(height + line + 4))

    def event(self, event: QEvent) -> bool:
        """Say what is under the mouse."""
        if isinstance(event, QHelpEvent):
            place = QPointF(event.pos())
            spot = next((spot for spot in self.spots if spot.box.contains(place)), None)
            if spot is not None:
                QToolTip.showText(event.globalPos(), spot.text, self)
                return True
            QToolTip.hideText()
        return super().event(event)

    # -- texts ---------------------------------------------------------------------------------------------------

    def pool_text(self, picture: PoolPicture) -> str:
        """How much room there is and who fits."""
        if not picture.shares:
            room = format_bytes(picture.blocks), f"{picture.fit:,}"
            return say(Sentence("Pool: {}; {} [sequence fits|sequences fit]", room))
        text = "Pool: {} [block|blocks] of {}; {} [sequence fits|sequences fit]"
        values = f"{picture.blocks:,}", format_bytes(picture.block_bytes), f"{picture.fit:,}"
        return say(Sentence(text, values))

    def wanted_text(self, picture: PoolPicture) -> str:
        """What the sequences wanted leave, or what is missing for them."""
        spare = picture.missing or picture.free
        text = tr("{} wanted need {}: {} too few") if picture.missing else tr("{} wanted take {}, {} stay free")
        return text.format(f"{picture.batch:,}", *(_amount(picture, size) for size in (picture.needed, spare)))

    def sequence_text(self, picture: PoolPicture) -> str:
        """What one sequence takes."""
        parts = picture.sequence
        size = format_bytes(parts.total)
        if not picture.shares:
            return tr("Sequence: {}").format(size)
        share = parts.content / parts.total if parts.total else 0.0
        values = f"{picture.blocks_per_sequence:,}", size, format_share(share)
        return say(Sentence("Sequence: {} [block|blocks], {}, {} content", values))

    # -- painting ------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        """Pool, sequence, groups, and what the hatching means."""
        painter = QPainter(self)
        self.spots = []
        if self.picture is not None:
            y = self._paint_pool(painter, self.picture, 2.0)
            y = self._paint_sequence(painter, self.picture, y)
            y = self._paint_groups(painter, self.picture, y)
            if self.picture.shares:
                self._paint_legend(painter, y)
        painter.end()

    @property
    def _room(self) -> float:
        return self.width() - 2 * _MARGIN

    def _text(self, painter: QPainter, y: float, text: str, role: str = "text", *, bold: bool = False) -> float:
        """One line of text under `y`, cut where it is too long; the place under it."""
        font = QFont(self.font())
        font.setBold(bold)
        metrics = QFontMetricsF(font)
        painter.setFont(font)
        painter.setPen(QColor(self.colours.css(role)))
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, self._room)
        painter.drawText(QPointF(_MARGIN, y + metrics.ascent()), shown)
        if shown != text:
            self.spots.append(Spot(QRectF(_MARGIN, y, self._room, self._line), text))
        return y + self._line

    def _fill(self, painter: QPainter, box: QRectF, colour: int, part: str = "content") -> None:
        """A rectangle in a colour, hatched by what it is; thin ones keep at least a hair of width."""
        if box.width() <= 0:
            return
        painter.setPen(Qt.PenStyle.NoPen)
        if part != "content":
            painter.setBrush(qt_colour(mixed(colour, self.colours.role("ground"), 0.82)))
            painter.drawRect(box)
        painter.setBrush(QBrush(qt_colour(colour), _PATTERNS[part]))
        painter.drawRect(box)

    def _frame(self, painter: QPainter, box: QRectF, role: str = "faint", width: float = 1.0) -> None:
        painter.setPen(QPen(QColor(self.colours.css(role)), width))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(box)

    def _paint_parts(self, painter: QPainter, box: QRectF, parts: Parts, colour: int) -> None:
        """`box` divided by what is in its bytes."""
        x = box.left()
        for name in _PATTERNS:
            size = getattr(parts, name)
            width = box.width() * size / max(parts.total, 1)
            piece = QRectF(x, box.top(), width, box.height())
            self._fill(painter, piece, colour, name)
            if width >= 2:
                text = f"{tr(PART_NAMES[name])}: {format_bytes(size)} ({format_share(size / max(parts.total, 1))})"
                self.spots.append(Spot(piece, text))
            x += width

    def _paint_pool(self, painter: QPainter, picture: PoolPicture, y: float) -> float:
        """All blocks, those wanted, and where the pool ends."""
        y = self._text(painter, y, self.pool_text(picture), bold=True)
        scale = self._room / max(picture.blocks, picture.needed, 1)
        colour = cache_colour(self.colours)
        y += 2
        pool = QRectF(_MARGIN, y, picture.blocks * scale, _BAR)
        self._fill(painter, pool, mixed(colour, self.colours.role("ground"), 0.6))
        x = _MARGIN + picture.null_blocks * scale
        width = picture.blocks_per_sequence * scale
        fit = min(picture.batch, picture.fit)
        parts = picture.sequence
        if width >= _SEQUENCE_PX:
            for place in range(fit):
                box = QRectF(x + place * width, y, width, _BAR)
                self._paint_parts(painter, box, parts, colour)
                self._frame(painter, box, "ground")
        else:
            self._paint_parts(painter, QRectF(x, y, fit * width, _BAR), parts.times(fit), colour)
        if picture.missing:
            over = QRectF(x + fit * width, y, (picture.batch - fit) * width, _BAR)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QBrush(QColor(self.colours.css("warning")), Qt.BrushStyle.BDiagPattern))
            painter.drawRect(over)
            self._frame(painter, over, "warning")
        self._frame(painter, pool, "text", 1.5 if picture.missing else 1.0)
        y = self._text(painter, y + _BAR + 2, self.wanted_text(picture), "warning" if picture.missing else "faint")
        return y + _GAP

    def _paint_sequence(self, painter: QPainter, picture: PoolPicture, y: float) -> float:
        """The blocks of one sequence by group."""
        y = self._text(painter, y, self.sequence_text(picture), bold=True) + 2
        total = max(picture.sequence.total, 1)
        x = _MARGIN
        if picture.shares:
            pieces = [(share.sequence, share_name(share)) for share in picture.shares]
        else:
            pieces = [(Parts(size, 0, 0, 0), tr(name)) for size, name in zip(picture.unpaged, UNPAGED, strict=True)]
        for (parts, name), colour in zip(pieces, group_colours(self.colours, len(pieces)), strict=True):
            box = QRectF(x, y, self._room * parts.total / total, _BAR)
            self._paint_parts(painter, box, parts, colour)
            self._frame(painter, box, "ground")
            if box.width() >= 2:
                self.spots.insert(0, Spot(QRectF(box.left(), y - 3, box.width(), 3), name))
            x = box.right()
        self._frame(painter, QRectF(_MARGIN, y, self._room, _BAR), "faint")
        return y + _BAR + _GAP

    def _paint_groups(self, painter: QPainter, picture: PoolPicture, y: float) -> float:
        """One block of every group, all of one size, and how full its blocks are."""
        if not picture.shares:
            colours = group_colours(self.colours, len(UNPAGED))
            for name, size, colour in zip(UNPAGED, picture.unpaged, colours, strict=True):
                y = self._swatch(painter, y, colour, f"{tr(name)}: {format_bytes(size)}")
            return y
        y = self._text(painter, y, tr("In a block of each group, and how full its blocks are"), bold=True)
        for share, colour in zip(picture.shares, group_colours(self.colours, len(picture.shares)), strict=True):
            y = self._swatch(painter, y + 2, colour, share_name(share))
            width = self._room * _BLOCK_SHARE
            box = QRectF(_MARGIN, y, width, _BAR)
            self._paint_parts(painter, box, share.block, colour)
            self._frame(painter, box)
            self._paint_filled(painter, QRectF(box.right() + 14, y, self._room - width - 14, _BAR), share, colour)
            y = self._text(painter, y + _BAR + 1, share_figures(share), "faint") + _GAP - 4
        return y

    def _swatch(self, painter: QPainter, y: float, colour: int, text: str) -> float:
        """A line of text behind a square of its colour."""
        metrics = QFontMetricsF(self.font())
        side = metrics.ascent() - 2
        self._fill(painter, QRectF(_MARGIN, y + 2, side, side), colour)
        painter.setFont(self.font())
        painter.setPen(QColor(self.colours.css("text")))
        room = self._room - side - 6
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, room)
        painter.drawText(QPointF(_MARGIN + side + 6, y + metrics.ascent()), shown)
        return y + self._line

    def _paint_filled(self, painter: QPainter, box: QRectF, share: BlockShare, colour: int) -> None:
        """How full the last block is, or the blocks of a window."""
        full = QRectF(box.left(), box.top(), box.width() * share.filled, box.height())
        self._fill(painter, full, colour)
        self._fill(
            painter, QRectF(full.right(), box.top(), box.width() - full.width(), box.height()), colour, "unfilled"
        )
        self._frame(painter, box)
        text = filled_text(share)
        metrics = QFontMetricsF(self.font())
        if share.last is not None and metrics.horizontalAdvance(text) > box.width() - 14:
            text = say(
                Sentence(
                    "{} / {} [token|tokens]",
                    (
                        f"{share.last:,}",
                        f"{share.tokens:,}",
                    ),
                )
            )
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, box.width() - 14)
        width = metrics.horizontalAdvance(shown)
        plate = QRectF(box.left() + 4, box.center().y() - metrics.height() / 2, width + 6, metrics.height())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self.colours.css("ground")))
        painter.drawRect(plate)
        painter.setPen(QColor(self.colours.css("text")))
        painter.drawText(QPointF(plate.left() + 3, plate.top() + metrics.ascent()), shown)
        self.spots.insert(0, Spot(box, filled_text(share)))

    def _paint_legend(self, painter: QPainter, y: float) -> None:
        """What the hatching means."""
        metrics = QFontMetricsF(self.font())
        painter.setFont(self.font())
        for row, x, part, text in self._legend():
            top = y + row * self._line
            box = QRectF(x, top + 2, 20, metrics.ascent() - 2)
            self._fill(painter, box, self.colours.role("faint"), part)
            self._frame(painter, box)
            painter.setPen(QColor(self.colours.css("text")))
            painter.drawText(QPointF(x + 26, top + metrics.ascent()), text)

    def _legend(self) -> list[tuple[int, float, str, str]]:
        """Line, place in it, part and name of every kind of hatching, wrapped where the width ends."""
        metrics = QFontMetricsF(self.font())
        found: list[tuple[int, float, str, str]] = []
        row, x = 0, _MARGIN
        for part, name in PART_NAMES.items():
            width = 26 + metrics.horizontalAdvance(tr(name))
            if x + width > self.width() - 2 and x > _MARGIN:
                row, x = row + 1, _MARGIN
            found.append((row, x, part, tr(name)))
            x += width + 16
        return found


def _amount(picture: PoolPicture, size: int) -> str:
    """Blocks, or bytes where there are no pages."""
    return say(Sentence("{} [block|blocks]", (f"{size:,}",))) if picture.shares else format_bytes(size)


def share_name(share: BlockShare) -> str:
    """What a share is, with how many groups and caches it has."""
    kind, parts = tr(KIND_NAMES[share.kind.value]), ", ".join(share.parts)
    if share.groups > 1:
        caches = say(
            Sentence(
                "{} [group|groups] of {} [cache|caches]",
                (
                    f"{share.groups:,}",
                    f"{share.caches:,}",
                ),
            )
        )
    else:
        caches = say(Sentence("{} [cache|caches]", (f"{share.caches:,}",)))
    return f"{kind} ({parts}) · {caches}"


def share_figures(share: BlockShare) -> str:
    """Pages and blocks of a share."""
    pages = " + ".join(f"{page:,}" for page in share.pages)
    figures = [tr("page {} B").format(pages)]
    if share.kind.value != "state":
        figures.insert(0, say(Sentence("{} [token|tokens] a block", (f"{share.tokens:,}",))))
    figures.append(tr("{} a sequence").format(f"{share.blocks * share.groups:,}"))
    block = share.block
    for part in ("padding", "absent"):
        size = getattr(block, part)
        if size:
            figures.append(f"{format_share(size / block.total)} {tr(PART_NAMES[part])}")
    return " · ".join(figures)


def filled_text(share: BlockShare) -> str:
    """How full the blocks of a sequence are."""
    if share.last is not None:
        return say(
            Sentence(
                "last block: {} of {} [token|tokens]",
                (
                    f"{share.last:,}",
                    f"{share.tokens:,}",
                ),
            )
        )
    return tr("{} of its blocks filled").format(format_share(share.filled, 0))
