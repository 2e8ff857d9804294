"""What the memory map can show: the plan's rectangles, or the blocks of the run's allocator beside what was planned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from memplan.core.sentence import Text
from memplan.core.units import format_bytes, format_duration
from memplan.gui.i18n import say, tr
from memplan.gui.model.amount_names import holder_text, kind_text, memory_text
from memplan.gui.model.memory.block_map import BlockMap
from memplan.gui.model.memory.memory_map import MemoryMap, occupant
from memplan.gui.model.memory.rectangles import MapRectangles
from memplan.gui.model.session.session import BlockRef, ItemRef, Session, TensorRef
from memplan.schema import Tier


@dataclass(frozen=True, slots=True)
class Level:
    """A line at an address, with its text and the role of its colour."""

    address: int
    text: str
    role: str


class MapLayer(ABC):
    """MapRectangles of a session with all that is said of them."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    @abstractmethod
    def rectangles(self) -> MapRectangles | None:
        """What is drawn; `None` where there is nothing, or it is not read yet."""

    @abstractmethod
    def empty(self) -> str:
        """What to say where there is nothing to draw."""

    @abstractmethod
    def subtitle(self) -> str:
        """What is shown, after the view's name."""

    @abstractmethod
    def kind_title(self, number: int) -> Text:
        """What kind `number` is called."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What rectangle `index` is called."""

    @abstractmethod
    def lines(self, index: int) -> list[str]:
        """Rectangle `index` in a few lines."""

    @abstractmethod
    def item(self, index: int) -> ItemRef:
        """What a click on rectangle `index` selects."""

    @abstractmethod
    def chosen(self, item: ItemRef | None) -> int | None:
        """The rectangle that is selected where `item` is."""

    @property
    @abstractmethod
    def peak_ns(self) -> int | None:
        """When most is held."""

    def levels(self) -> Sequence[Level]:
        """Lines across the map."""
        mapped = self.rectangles
        return [Level(mapped.top, f"{self.top_words()} {format_bytes(mapped.top)}", "text")] if mapped else []

    def top_words(self) -> str:
        """What the top of the map is."""
        return tr("highest address")


class PlannedLayer(MapLayer):
    """The map of the session's tier."""

    @property
    def rectangles(self) -> MemoryMap | None:
        """The plan's map."""
        return self.session.map

    def empty(self) -> str:
        """No plan, or a plan without addresses."""
        if self.session.document.plan is None:
            return tr("No plan is open: the memory map needs one")
        return tr("The plan gives no addresses in this tier")

    def subtitle(self) -> str:
        """The tier."""
        return self.session.tier.value

    def kind_title(self, number: int) -> Text:
        """A kind of tensor."""
        mapped = self.rectangles
        return kind_text(mapped.kinds[number]) if mapped is not None else ""

    def name(self, index: int) -> str:
        """The tensor's name."""
        mapped = self.rectangles
        return mapped.tensors[mapped.plan.placements[int(mapped.placement[index])].tensor].name if mapped else ""

    def lines(self, index: int) -> list[str]:
        """Tensor, bytes and addresses, life, ops and source line."""
        mapped = self.rectangles
        if mapped is None:
            return []
        item = occupant(mapped, index)
        shape = "×".join(str(dim) for dim in item.tensor.shape) or tr("scalar")
        lines = [
            item.tensor.name,
            f"{tr(item.tensor.kind.replace('_', ' '))} · {shape} {item.tensor.dtype} {item.tensor.layout} · "
            f"{format_bytes(item.size)}",
            f"{item.tier.value} {item.offset:#x} – {item.offset + item.size:#x} · "
            f"{say(self.session.length_text(item.end_ns - item.start_ns))}",
        ]
        if item.producer is not None:
            lines.append(f"{tr('made by')} {item.producer.name} ({item.producer.type})")
        if item.last_use is not None:
            lines.append(f"{tr('last used by')} {item.last_use.name} ({item.last_use.type})")
        source = next((op.source for op in (item.producer, item.last_use) if op is not None and op.source), None)
        if source is not None:
            lines.append(f"{tr('source line')} {source}")
        return lines

    def item(self, index: int) -> ItemRef:
        """The tensor."""
        return TensorRef(index)

    def chosen(self, item: ItemRef | None) -> int | None:
        """The selected tensor's."""
        return item.rectangle if isinstance(item, TensorRef) else None

    @property
    def peak_ns(self) -> int | None:
        """The plan's peak."""
        return self.session.peak.time_ns if self.session.peak is not None else None

    def levels(self) -> Sequence[Level]:
        """The highest address, and the capacity."""
        mapped = self.rectangles
        use = mapped.plan.tier(mapped.tier) if mapped is not None else None
        if use is None or use.capacity is None:
            return super().levels()
        return [*super().levels(), Level(use.capacity, f"{tr('capacity')} {format_bytes(use.capacity)}", "warning")]


class MeasuredLayer(MapLayer):
    """The blocks of the run's allocator, which `read` asks for."""

    @property
    def rectangles(self) -> BlockMap | None:
        """The blocks, where HBM is shown and they are read."""
        return self.session.blocks if self.session.tier is Tier.HBM else None

    def empty(self) -> str:
        """No run, no blocks in it, or not read yet."""
        if self.session.document.rank is None:
            return tr("No profile is open: blocks are measured")
        if not self.session.blocks_read:
            return tr("reading blocks …")
        return tr("The profile lists no blocks: torch_npu does with profile_memory=True, msMemScope and snapshots do")

    def top_words(self) -> str:
        """The highest address, or of blocks without addresses the top of their stack."""
        blocks = self.rectangles
        return tr("highest address") if blocks is None or blocks.addressed else tr("top of the stack")

    def subtitle(self) -> str:
        """Whose blocks, and how they lie."""
        blocks = self.rectangles
        return str(say(memory_text(blocks.component))) if blocks is not None else Tier.HBM.value

    def kind_title(self, number: int) -> Text:
        """A kind of tensor, or who asked."""
        blocks = self.rectangles
        return blocks.kind_title(number) if blocks is not None else ""

    def name(self, index: int) -> str:
        """Who asked."""
        blocks = self.rectangles
        return say(holder_text(blocks.name(index))) if blocks is not None else ""

    def lines(self, index: int) -> list[str]:
        """Who asked, bytes, life, and what the plan has of it."""
        blocks = self.rectangles
        if blocks is None:
            return []
        size = format_bytes(int(blocks.high[index] - blocks.low[index]))
        length = say(self.session.length_text(int(blocks.end_ns[index] - blocks.start_ns[index])))
        address = blocks.address(index)
        lines = [
            self.name(index),
            f"{say(blocks.kind_title(int(blocks.kind[index])))} · {size} · {length}"
            + (f" · {address:#x}" if address is not None else ""),
        ]
        longer = blocks.held_longer_ns(index)
        if longer:
            lines.append(tr("held {} longer than planned").format(format_duration(longer)))
        return lines

    def item(self, index: int) -> ItemRef:
        """The block."""
        return BlockRef(index)

    def chosen(self, item: ItemRef | None) -> int | None:
        """The selected block's, or the block that the selected tensor is."""
        blocks, mapped = self.rectangles, self.session.map
        if isinstance(item, BlockRef):
            return item.rectangle
        if not isinstance(item, TensorRef) or blocks is None or mapped is None or item.rectangle >= len(mapped):
            return None
        tensor = mapped.plan.placements[int(mapped.placement[item.rectangle])].tensor
        found = ((blocks.tensor == tensor) & (blocks.planned_end_ns >= 0)).nonzero()[0]
        return int(found[0]) if len(found) else None

    @property
    def peak_ns(self) -> int | None:
        """When the blocks are most."""
        return self.rectangles.peak_ns if self.rectangles is not None else None
