"""
What was measured on one rank, as columns: the parts of a profile.

Times are `int64` nanoseconds on the profiler's own clock, sizes `int64` bytes, whatever the unit of the file they
came from. A column that the profile does not hold is `None`, never zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Floats, Int64s
from memplan.core.sentence import Sentence


class TrackKind(str, Enum):
    """What a track shows; decides its group and colour."""

    HOST = "host"
    SCOPE = "scope"
    CANN = "cann"
    STREAM = "stream"
    COMMUNICATION = "communication"
    OVERLAP = "overlap"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Track:
    """
    One row of the timeline; `id` indexes `memplan.traces.rank.RankProfile.tracks`. `count` is its slices or counter
    samples.
    """

    id: int
    kind: TrackKind
    process: str
    thread: str
    count: int

    @property
    def label(self) -> str:
        """Process and thread as one name."""
        return f"{self.process} / {self.thread}" if self.thread else self.process


@dataclass(frozen=True, slots=True)
class Slices:
    """
    Slices of one track ordered by start: row `i` covers `[start_ns[i], start_ns[i] + duration_ns[i])`.

    `name[i]` indexes `names`; `depth` is the nesting level on the track, 0 outermost; `category` indexes
    `categories` (the trace's `cat`, or the op type for device tracks).
    """

    start_ns: Int64s
    duration_ns: Int64s
    name: NDArray[np.int32]
    depth: NDArray[np.int16]
    category: NDArray[np.int32]
    names: Sequence[str]
    categories: Sequence[str]

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True, slots=True)
class CounterSeries:
    """Samples of one counter track in `unit`, as the file gives them."""

    name: str
    unit: str
    time_ns: Int64s
    values: Floats


@dataclass(frozen=True, slots=True)
class Flow:
    """An arrow from one slice to another: tracks and times of its two ends, and the trace's category."""

    category: str
    source_track: int
    source_ns: int
    target_track: int
    target_ns: int


@dataclass(frozen=True, slots=True)
class Kernels:
    """
    Kernels of a rank ordered by start (`kernel_details.csv`, `op_summary` or the trace), one row each.

    `step` is -1 where the file has no step. `pmu` holds every numeric hardware column under its own header, with
    NaN where the file has N/A. `stream`, `wait_ns` and `block_count` (cores used) are -1 where unknown. `state` says
    whether a kernel is made for one shape (`static`) or for any (`dynamic`), `input_formats` and `output_formats` how
    operands lie in memory (`ND;FRACTAL_NZ`); these are empty where the file doesn't tell.
    """

    start_ns: Int64s
    duration_ns: Int64s
    wait_ns: Int64s
    step: Int64s
    stream: Int64s
    block_count: Int64s
    name: Sequence[str]
    type: Sequence[str]
    core: Sequence[str]
    input_shapes: Sequence[str]
    input_dtypes: Sequence[str]
    output_shapes: Sequence[str]
    output_dtypes: Sequence[str]
    pmu: Mapping[str, Floats]
    state: Sequence[str] = ()
    input_formats: Sequence[str] = ()
    output_formats: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True, slots=True)
class MemoryCurve:
    """
    Memory of one component over time (`PTA`, `GE`, `APP`, `MindSpore`, ...); bytes, step function.

    A value is -1 at moments for which the file leaves it out.
    """

    component: str
    device: str
    time_ns: Int64s
    allocated: Int64s | None
    reserved: Int64s | None
    active: Int64s | None


@dataclass(frozen=True, slots=True)
class Allocations:
    """
    Allocations by op (`operator_memory.csv`): bytes, and when each was made and released.

    `release_ns` is -1 where the block outlives the profile, `allocation_ns` -1 where it predates it. `component` is the
    memory curve that counts each block, empty where all are of the framework's allocator. `address` is where each lies,
    `None` where the profile doesn't tell.
    """

    name: Sequence[str]
    size: Int64s
    allocation_ns: Int64s
    release_ns: Int64s
    component: Sequence[str] = ()
    address: Int64s | None = None

    def __len__(self) -> int:
        return len(self.size)


@dataclass(frozen=True, slots=True)
class FailedAllocation:
    """
    An allocation of device memory that failed: bytes asked for, and how much was free, allocated, reserved and there in
    all at that moment; `None` for what isn't told. `time_ns` is -1 where only the fact is known. `name` is the op, or
    the place in the code, that asked; `source` the file and line that tells of it.
    """

    time_ns: int
    device: str
    size: int | None
    free: int | None
    allocated: int | None
    reserved: int | None
    capacity: int | None
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class MemorySegments:
    """
    Segments of an allocator at one moment, one row each: bytes in all, allocated, and in the largest free piece.

    `holder` is where the largest block in it was asked for, empty where it is not known.
    """

    device: Int64s
    address: Int64s
    size: Int64s
    allocated: Int64s
    largest_free: Int64s
    expandable: NDArray[np.bool_]
    holder: Sequence[str]

    def __len__(self) -> int:
        return len(self.size)


@dataclass(frozen=True, slots=True)
class StepTimes:
    """
    One step as the vendor's `step_trace_time.csv` sums it up, or an iteration of msprof's `step_trace`, of which only
    start and length are told; `None` for what the file lacks.
    """

    step: int | None
    computing_ns: int | None = None
    communication_not_overlapped_ns: int | None = None
    overlapped_ns: int | None = None
    communication_ns: int | None = None
    free_ns: int | None = None
    stage_ns: int | None = None
    bubble_ns: int | None = None
    preparing_ns: int | None = None
    start_ns: int | None = None
    iteration_ns: int | None = None

    @property
    def length_ns(self) -> int | None:
        """How long it took: as told, else computing, communication that nothing hid, and waiting."""
        parts = (self.computing_ns, self.communication_not_overlapped_ns, self.free_ns)
        known = [part for part in parts if part is not None]
        return sum(known) if self.iteration_ns is None and len(known) == len(parts) else self.iteration_ns


@dataclass(frozen=True, slots=True)
class Overlap:
    """How device time divides: sums of the trace's own overlap-analysis tracks."""

    computing_ns: int
    communication_ns: int
    communication_not_overlapped_ns: int
    free_ns: int


@dataclass(frozen=True, slots=True)
class OpTotal:
    """All kernels of one type: how many, and their total time."""

    type: str
    count: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class LinkTraffic:
    """
    What one collective or transfer moved over one link: bytes, ns, and the profiler's own bytes per second.

    `source` and `target` are places in the group that `op` names after its `@`; a rank's copy to itself has transport
    `LOCAL`. `step` is `None` where unknown. `op` tells which of the profiler's choices it is (`-top1`, `-middle`, ...,
    or `-total`, the sum over all); `single` is the communication that was chosen, empty where none is named.
    """

    step: int | None
    op: str
    source: int
    target: int
    transport: str
    size: int
    duration_ns: int
    bytes_per_second: float | None
    single: str = ""


@dataclass(frozen=True, slots=True)
class PacketTraffic:
    """
    What a communication moved in packets of one size: all their bytes, the time they took on their links, summed over
    these, and how many there were (`None` where the file gives no sizes of packets).
    """

    transport: str
    size: int
    duration_ns: int
    count: int | None


@dataclass(frozen=True, slots=True)
class CommunicationTime:
    """
    One communication of a rank as the profiler takes it apart; `group` is the id of its communicator.

    `transit_ns` is the time in which bytes were moved, `wait_ns` that of waiting for others, of which
    `synchronisation_ns` before the first byte. Some versions leave these 0 though `packets` took time.
    """

    step: int | None
    op: str
    group: str
    peer_to_peer: bool
    start_ns: int
    elapsed_ns: int
    transit_ns: int
    wait_ns: int
    synchronisation_ns: int
    packets: Sequence[PacketTraffic]

    @property
    def end_ns(self) -> int:
        """When it was done."""
        return self.start_ns + self.elapsed_ns

    @property
    def size(self) -> int:
        """Bytes over links to other ranks."""
        return sum(packet.size for packet in self.packets)


class NoteSeverity(str, Enum):
    """How much a note matters: how the files were read, with nothing lost by it, or what is missing or inexact."""

    INFO = "info"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Note:
    """Something the reader chose, skipped, repaired or missed, and where; `told` is `text` with its values apart."""

    file: str
    text: str
    severity: NoteSeverity = NoteSeverity.WARNING
    told: Sentence | None = None

    @property
    def sentence(self) -> Sentence:
        """What is noted, to be said in any language."""
        return self.told or Sentence(self.text)

    @property
    def plain(self) -> dict[str, str]:
        """The note as JSON has it."""
        return {"file": self.file, "text": self.text, "severity": self.severity.value}
