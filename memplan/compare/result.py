"""What a comparison of a plan with a profile finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from memplan.compare.op_matches import Matches
from memplan.compare.timemap import TimeMap
from memplan.core.arrays import Int64s
from memplan.core.sentence import Sentence, Text
from memplan.core.text_enum import TextEnum

if TYPE_CHECKING:
    from memplan.align import ScopeTimes
    from memplan.compare.aligned_ops import AlignedStep
    from memplan.compare.kernel_places import KernelPlaces
    from memplan.compare.rank_blocks import RankBlocks
    from memplan.compare.step_causes import StepCauses
    from memplan.holders import PeakHolders
    from memplan.traces.process_memory import ProcessMemory


class DeviationKind(str, Enum):
    """What differs: nanoseconds or bytes."""

    TIME = "time"
    MEMORY = "memory"


class DeviationWhat(TextEnum):
    """What of an op, or of the memory curve, differs."""

    DURATION = "duration"
    WAIT = "wait"
    """Idle time before an op."""
    WAITS = "waits"
    """The short waits together."""
    NOT_IN_PLAN = "not in the plan"
    NOT_IN_PROFILE = "not in the profile"
    NOT_TOLD_APART = "not told apart"
    """Kernels of which it is not known what they run, and the ops that these may be."""
    SIZE = "size"
    """Bytes of what an op allocates."""
    HELD_TOO_LONG = "held too long"
    FREED_EARLY = "freed early"
    LEVEL = "level"
    """Memory throughout the step."""
    EXCESS = "excess"
    """The measured curve is above the planned one where no allocation explains it."""
    SHORTFALL = "shortfall"


@dataclass(frozen=True, slots=True)
class Deviation:
    """
    One signed difference between plan and profile.

    `planned`, `measured` and `delta`
    (measured minus planned) are nanoseconds or bytes; `planned` or `measured` is `None` where that side has nothing
    of the kind. `op` is the index of the planned op, `[start_ns, end_ns)` the span concerned on the plan's time axis.

    `cost` ranks time and memory together: of time, |delta| over the planned makespan; of memory, what it adds to the
    measured peak over the planned peak, or its area over planned peak x makespan, whichever is larger.
    """

    kind: DeviationKind
    what: DeviationWhat
    where: Text
    op: int | None
    start_ns: int
    end_ns: int
    planned: int | None
    measured: int | None
    delta: int
    cost: float


@dataclass(frozen=True, slots=True)
class UnmatchedKernels:
    """
    Measured kernels of one name that no planned op accounts for: how many, and their total time.

    Of kernels that are not told apart the name is that of the parts of the model that they are likeliest of.
    """

    name: str
    type: str
    count: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class ComparedMemory:
    """
    Planned and measured bytes on one axis: `planned[i]` and `measured[i]` hold from `axis_ns[i]` to `axis_ns[i + 1]`.

    `axis_ns` is planned time; `map` turns it into the time at which the allocator did it, which is ahead of the
    device's where the host runs ahead. `component` is the measured one and `reason` why it was chosen; `quantity` is
    `allocated` or `reserved`. Both curves are absolute: they include what was allocated before the step.
    """

    axis_ns: Int64s
    planned: Int64s
    measured: Int64s
    map: TimeMap
    component: str
    quantity: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a profile may be off before it deviates: shares of planned peak and makespan, and of ops found."""

    memory: float = 0.03
    time: float = 0.10
    coverage: float = 0.90


@dataclass(frozen=True, slots=True)
class Summary:
    """
    The figures a verdict rests on.

    Peaks in bytes and the ops during which they are reached (`None` without a measured curve, and where it can't be
    told). Makespans are nanoseconds from the first op's (kernel's) start to the last one's end, busy times those of
    them in which some op or kernel runs; transfers count in neither. `planned_step_ns` is the planned makespan with
    what the step has beyond the plan's ops between its first kernel and its last, as far as the run can have it: gaps,
    waiting for other stages.
    Planned times are `None` for a plan that has none. `planned_ops` counts ops that launch a kernel, `matched_ops`
    those found; `measured_coverage` is the share of the measured kernel time that they account for,
    `compute_coverage` that without communication, which waits for other ranks. `whole` is false
    for a plan that leaves out what is allocated elsewhere (weights): its peak can't be set against the measured one.

    `untold_ops` may have run in kernels that are not told apart, whose share of the compute time is `untold_share`:
    neither counts for or against the plan.
    """

    planned_peak: int
    planned_peak_op: int | None
    measured_peak: int | None
    measured_peak_op: int | None
    planned_makespan_ns: int | None
    planned_step_ns: int | None
    measured_makespan_ns: int
    planned_busy_ns: int | None
    measured_busy_ns: int
    planned_ops: int
    matched_ops: int
    matched_by_name: int
    measured_kernels: int
    measured_coverage: float
    compute_coverage: float
    whole: bool = True
    untold_ops: int = 0
    untold_share: float = 0.0

    @property
    def coverage(self) -> float:
        """Share of the planned ops that were found, of those of which it is known."""
        known = self.planned_ops - self.untold_ops
        return self.matched_ops / known if known else 0.0

    @property
    def told_coverage(self) -> float:
        """The share of the compute time that planned ops account for, of that of which it is known."""
        return self.compute_coverage / (1.0 - self.untold_share) if self.untold_share < 1.0 else 0.0

    @property
    def peak_change(self) -> float | None:
        """Measured over planned peak, less one."""
        if self.measured_peak is None or not self.planned_peak or not self.whole:
            return None
        return self.measured_peak / self.planned_peak - 1.0

    @property
    def makespan_change(self) -> float | None:
        """Measured makespan over that of the planned step, less one."""
        if not self.planned_step_ns:
            return None
        return self.measured_makespan_ns / self.planned_step_ns - 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    A plan beside one step of one rank of a profile.

    `deviations` are the costliest of `deviations_total`, the costliest first; `unmatched_ops` are indices of planned
    ops that were not found,
    `unmatched_kernels` measured ones without a plan, the longest first; `untold_ops` and `untold_kernels` are in
    neither, for these may run those. `reasons` say why it `deviates`, `notes` what
    was assumed or is missing.

    `causes` are what makes the step longer or shorter; `aligned` is how ops and kernels were matched where names don't
    tell, `times` roll planned and measured times up by part and layer of the model. `holders` say who holds the
    measured peak, `process` what the process holds beside the allocator; `places` are all kernels in the model's words.
    `blocks` are the rank's blocks joined to planned tensors. `steps` are the numbers of the rank's steps, from 0 where
    the profile has none, and `place` which of them was compared.
    """

    graph: str
    chip: str
    rank: int
    step: int | None
    simulated: bool
    time_map: TimeMap
    matches: Matches
    memory: ComparedMemory | None
    deviations: tuple[Deviation, ...]
    deviations_total: int
    unmatched_ops: tuple[int, ...]
    unmatched_kernels: tuple[UnmatchedKernels, ...]
    untold_ops: tuple[int, ...]
    untold_kernels: tuple[UnmatchedKernels, ...]
    summary: Summary
    tolerance: Tolerance
    deviates: bool
    reasons: tuple[Sentence, ...]
    notes: tuple[str, ...]
    causes: StepCauses | None = None
    aligned: AlignedStep | None = None
    holders: PeakHolders | None = None
    process: ProcessMemory | None = None
    times: ScopeTimes | None = None
    places: KernelPlaces | None = None
    blocks: RankBlocks | None = None
    steps: tuple[int, ...] = ()
    place: int = 0
