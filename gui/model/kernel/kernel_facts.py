"""What the kernel view shows. Imports nothing of the model behind it, so that the view is made at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memplan.core.sentence import Sentence, Text
from memplan.gui.model.sheet import Sheet, SheetCell
from memplan.schema import Tier

if TYPE_CHECKING:
    from memplan.schema.planned_tiling import OnChipBuffer, Stage

LANES = (Tier.L0A, Tier.L0B, Tier.L0C, Tier.L1, Tier.UB)
PIPES = {
    "cube": "cube", "mte1": "MTE1", "mte2": "MTE2", "fixpipe": "FixPipe", "vector": "vector", "mte3": "MTE3",
    "scalar": "scalar",
}  # fmt: skip
"""Pipes in the order of the data's way, as documents write them."""
UNASKED = "Nothing is selected: this kernel takes longest"
HINT = "Select an op in the timeline or the memory map to see how it uses the AI core"


@dataclass(frozen=True, slots=True)
class PipeTime:
    """Busy nanoseconds of one pipe of the `cube` or `vector` cores, means over the cores; `None`: not known."""

    pipe: str
    unit: str
    predicted_ns: float | None
    measured_ns: float | None


@dataclass(frozen=True, slots=True)
class BufferLane:
    """One memory of a core: usable bytes (`None` if unknown), highest address used, and the buffers in it."""

    tier: Tier
    capacity: int | None
    peak: int
    buffers: tuple[OnChipBuffer, ...]


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """
    What the kernel view shows. `problem` is the one line that says why there is no layout, or nothing at all.

    Times are nanoseconds, `None` where unknown. `slots` is the length of the unrolled pipeline over
    `stages`; stage `s` of iteration `i` runs in slot `i + s`. `wants_chip`: neither plan nor profile name a chip that
    can be computed with, so that the user has to. `unasked`: nothing is selected, and the costliest kernel is shown.
    """

    name: str = ""
    type: str = ""
    operands: str = ""
    chip: str | None = None
    predicted_ns: int | None = None
    bound: str = ""
    measured_ns: int | None = None
    pipes: tuple[PipeTime, ...] = ()
    lanes: tuple[BufferLane, ...] = ()
    stages: tuple[Stage, ...] = ()
    slots: int = 0
    tiling: tuple[Sentence, ...] = ()
    traffic: tuple[Sentence, ...] = ()
    roofline: tuple[Sentence, ...] = ()
    notes: tuple[Text, ...] = ()
    problem: Text | None = None
    wants_chip: bool = False
    unasked: bool = False

    @property
    def difference(self) -> float | None:
        """How much longer than predicted it took, as a share of the prediction."""
        if self.measured_ns is None or not self.predicted_ns:
            return None
        return self.measured_ns / self.predicted_ns - 1


_HEADER = (
    "part", "name", "memory", "offset_bytes", "size_bytes", "alive_slots", "filled_by", "read_by", "predicted_ns",
    "measured_ns",
)  # fmt: skip


def kernel_sheet(facts: KernelFacts) -> Sheet:
    """The kernel, its pipes and its buffers as one table."""
    rows: list[tuple[SheetCell, ...]] = []
    blank: tuple[SheetCell, ...] = (None,) * 6
    if facts.name:
        rows.append(("kernel", facts.name, *blank, facts.predicted_ns, facts.measured_ns))
    for pipe in facts.pipes:
        name = f"{PIPES[pipe.pipe]} ({pipe.unit} cores)"
        rows.append(("pipe", name, *blank, _rounded(pipe.predicted_ns), _rounded(pipe.measured_ns)))
    for lane in facts.lanes:
        for buffer in lane.buffers:
            slots = " ".join(f"{start}-{end}" for start, end in buffer.intervals)
            place = (lane.tier.value, buffer.offset, buffer.size, slots, buffer.filled_by, buffer.read_by)
            rows.append(("buffer", buffer.name, *place, None, None))
    return Sheet(_HEADER, rows)


def _rounded(time: float | None) -> int | None:
    return None if time is None else round(time)
