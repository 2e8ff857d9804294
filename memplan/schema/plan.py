"""
The Plan: everything decided for one graph on one chip, with the bounds it is measured against.

A Plan is self-contained: it names ops and tensors itself and needs neither the graph nor the chip database to be
shown, compared or exported. All byte counts are `int` bytes, all times `int` nanoseconds from the plan's start.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from memplan.core.lazy_names import from_above
from memplan.core.text_enum import TextEnum
from memplan.schema.applied import AppliedPlan
from memplan.schema.encode import encoded, save_json
from memplan.schema.planned_tiling import OnChipPlan, PlannedTiling
from memplan.schema.source import Source
from memplan.schema.tier import Tier

PLAN_FORMAT = "memplan-plan"
SCHEMA_VERSION = 3
"""
Version 1 lacks `PlannedOp.launches`, `Plan.timed` and `Plan.violations`, version 2 what kernels keep on chip; both can
still be read.
"""


class Bound(TextEnum):
    """What limits the time of an op; `NONE`: it launches nothing, `UNKNOWN`: nobody predicted its time."""

    CUBE = "cube"
    VECTOR = "vector"
    HBM = "hbm"
    LAUNCH = "launch"
    LINK = "link"
    NONE = "none"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PlannedOperand:
    """One operand as the op sees it (a view of a storage has its own shape): `nbytes` as stored."""

    shape: tuple[int, ...]
    dtype: str
    layout: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class PlannedAttribute:
    """One plain attribute of an op, such as `transpose_b`."""

    name: str
    value: str | int | float | bool


@dataclass(frozen=True, slots=True)
class PlannedKernel:
    """What an op launches: operands in the order of its definition (`None`: one left out) and its attributes."""

    type: str
    inputs: tuple[PlannedOperand | None, ...]
    outputs: tuple[PlannedOperand, ...]
    attributes: tuple[PlannedAttribute, ...]


@dataclass(frozen=True, slots=True)
class PlannedOp:
    """
    One op of the schedule with its predicted time.

    `bound` is what limits it, `launches` whether it launches a kernel (views and tuple plumbing
    don't; `None`: the plan's file does not say what runs at this step).
    `gm_bytes` is its traffic to global memory (GM), every operand read and written once, of which L2 serves a part.
    `stalled_ns` is how long it waits for a transfer before `start_ns`.
    `kernel` is the index in `Plan.kernels` of what it launches and `hot_share` the share of its reads that L2 holds
    beforehand; `None` for ops that launch nothing and where the plan's file doesn't say. `phase`, `micro_batch`,
    `layer` and `part` are the op's scope in its model (`memplan.graph.OpScope`), `None` where none is known.
    `reads` and `writes` are the tensors whose bytes it needs as they are and those whose bytes it changes; `None`: the
    plan's file doesn't say. `repeats` is the earlier op that this one runs once more, to make anew what was given up.
    `tiling` is the index in `Plan.tilings` of how its kernel is cut; `None` like `kernel`.
    """

    index: int
    name: str
    type: str
    stream: int
    start_ns: int
    duration_ns: int
    stalled_ns: int
    bound: Bound
    flops: int
    gm_bytes: int
    source: str | None = None
    kernel: int | None = None
    hot_share: float | None = None
    phase: str | None = None
    micro_batch: int | None = None
    layer: int | None = None
    part: str | None = None
    launches: bool | None = True
    reads: tuple[int, ...] | None = None
    writes: tuple[int, ...] | None = None
    repeats: int | None = None
    tiling: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """
    One storage of the graph: `nbytes` as stored, alive over the half-open steps `[start, end)`.

    `producer` is the op that first writes it (`None`: exists before the graph starts), `uses` the steps touching it.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    nbytes: int
    kind: str
    persistent: bool
    start: int
    end: int
    producer: int | None
    uses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """
    `size` bytes (allocator rounding included) of tensor `tensor` in `tier` over the steps `[start, end)`.

    `offset` is the address within the tier where software chooses it, `None` where it doesn't (L2, host).
    """

    tensor: int
    tier: Tier
    offset: int | None
    size: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """
    `size` bytes of tensor `tensor` moved between two tiers over `link` during `[start_ns, end_ns)`.

    `after_step` is the last step that may still use the source copy (a move out) or precede the copy (a move in),
    `before_step` the first step that needs the result; `None` where nothing waits for it.
    """

    tensor: int
    source: Tier
    target: Tier
    size: int
    link: str
    start_ns: int
    end_ns: int
    after_step: int | None
    before_step: int | None


@dataclass(frozen=True, slots=True)
class TierUse:
    """
    How full one tier gets.

    `capacity` is what the plan may use (`None` if unknown), `reserved` what the driver keeps of the physical size.
    `persistent` bytes stay for the whole graph; `peak` is the highest address used, `peak_step` the step at which
    most bytes are alive; `lower_bound` is a proven bound on any placement's peak and `lower_bound_method` says how.
    """

    tier: Tier
    capacity: int | None
    reserved: int
    persistent: int
    peak: int
    peak_step: int | None
    lower_bound: int
    lower_bound_method: str

    @property
    def gap(self) -> float:
        """Relative distance of the peak from its lower bound; 0.0 when it is proven optimal."""
        return (self.peak - self.lower_bound) / self.lower_bound if self.lower_bound else 0.0


@dataclass(frozen=True, slots=True)
class LinkUse:
    """
    A link the plan moves bytes over, one way: rate in bytes per second and latency in nanoseconds, with their source.

    It leads from one tier to another; both are `None` in plans that do not say so.
    """

    name: str
    bytes_per_second: float
    latency_ns: int
    source: Source
    from_tier: Tier | None = None
    to_tier: Tier | None = None


@dataclass(frozen=True, slots=True)
class PlanOrigin:
    """What was planned: the graph, the file it came from with its SHA-256, and who wrote that file."""

    graph: str
    file: str
    sha256: str | None
    producer: str


class Certainty(TextEnum):
    """
    How sure a setting of a plan is: `given` by who asked for it, `told` by a file in so many words, it `follows` from
    what was measured and fits nothing else, it is `likely`, or `assumed` for want of anything that tells it.
    """

    GIVEN = "given"
    TOLD = "told"
    FOLLOWS = "follows"
    LIKELY = "likely"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class PlanSetting:
    """What a plan of a model was made for: an option by its name, its value, and what that rests on."""

    name: str
    value: str
    evidence: str
    certainty: Certainty


@dataclass(frozen=True, slots=True)
class StepPart:
    """One part of the time of a step, nanoseconds (less than zero: saved), and what it is."""

    name: str
    duration_ns: int
    note: str


@dataclass(frozen=True, slots=True)
class PlannedProgram:
    """
    The running program that was planned: a module of `framework` (`mindspore`, `torch`) in its `version`.

    `mode` is how it runs (`graph`, `pynative`, `jit`, `eager`), `device` whose kernels were planned. `recomputed` are
    the modules, by dotted name, whose activations the plan makes anew in the backward pass.
    """

    framework: str
    version: str
    mode: str
    device: str
    module: str
    recomputed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """
    Everything decided. `fits` is the answer to the first question; `missing_bytes` is 0 when it does.

    `ops` are in schedule order and `ops[i].index == i`; `tensors` are storages, ordered by `index` but not dense.
    `rests_on` says what the times rest on, `notes` what was assumed, skipped or unknown. `kernels` are what ops
    launch, equal ones once; empty where the plan's file doesn't say. `tilings` is how these are cut and what L2 serves
    of them, equal ones once, and `onchip` the buffers with their addresses, which several of them share; both are empty
    where the plan's file doesn't say.

    `settings` says what a plan of a model's step was made for; empty for graphs. `step_parts` add up to the time of the
    whole step, of which the ops of this plan are the first: gaps, the host, other pipeline stages; empty where the
    step is the ops alone.

    `makespan_bound_ns`: no choice of moves in this HBM makes the makespan shorter; `None` where nothing moves or nobody
    computed it.

    `program` is the running program that was planned; `None` for graphs from files.

    Where not `timed`, the plan says nothing of time: each step counts one nanosecond, so that the time axis is the
    order. `violations` is what makes the plan impossible, found when it was read; empty for a valid plan.
    """

    origin: PlanOrigin
    chip: str
    memplan_version: str
    ops: tuple[PlannedOp, ...]
    tensors: tuple[PlannedTensor, ...]
    placements: tuple[Placement, ...]
    transfers: tuple[Transfer, ...]
    tiers: tuple[TierUse, ...]
    links: tuple[LinkUse, ...]
    fits: bool
    missing_bytes: int
    makespan_ns: int
    allocator: str
    rests_on: tuple[Source, ...]
    notes: tuple[str, ...] = ()
    kernels: tuple[PlannedKernel, ...] = ()
    tilings: tuple[PlannedTiling, ...] = ()
    onchip: tuple[OnChipPlan, ...] = ()
    timed: bool = True
    settings: tuple[PlanSetting, ...] = ()
    step_parts: tuple[StepPart, ...] = ()
    makespan_bound_ns: int | None = None
    program: PlannedProgram | None = None
    violations: tuple[str, ...] = field(default=(), compare=False)

    def tier(self, tier: Tier) -> TierUse | None:
        """How full `tier` gets, or `None` if the plan says nothing of it."""
        return next((use for use in self.tiers if use.tier is tier), None)

    @property
    def step_ns(self) -> int:
        """The time of the step that the plan is a part of, in nanoseconds; its own where nothing else is known."""
        return sum(part.duration_ns for part in self.step_parts) if self.step_parts else self.makespan_ns

    def save(self, path: str | Path) -> None:
        """
        Write the plan as JSON to `path`, replacing it in one step; a plan that was read is written as it stood there.

        `violations` are left out: they are found anew whenever the plan is read.
        """
        save_json(plan_to_json(replace(self, violations=())), path)

    def apply(self, program: Any, *, chip: str | None = None) -> AppliedPlan:
        """Set the plan to work in a training script's `program` (`memplan.runtime.apply.apply_plan`)."""
        return cast("AppliedPlan", from_above("memplan.runtime.apply:apply_plan")(self, program, chip=chip))

    def applied(self, program: Any, *, chip: str | None = None) -> AbstractContextManager[AppliedPlan]:
        """The same as a context: what can be taken back is, when it ends."""
        applied = from_above("memplan.runtime.apply:applied_plan")(self, program, chip=chip)
        return cast("AbstractContextManager[AppliedPlan]", applied)

    def __str__(self) -> str:
        """The plan on a page (`memplan.reports.plan_page`)."""
        return str(from_above("memplan.reports.plan_page:plan_page")(self))

    def __repr__(self) -> str:
        return f"<Plan of {self.origin.graph} on {self.chip}: {len(self.ops)} ops, {len(self.tensors)} tensors>"

    def _repr_html_(self) -> str:
        return str(from_above("memplan.reports.plan_page:plan_page_html")(self))


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values; `plan_from_json` reads them back equal."""
    return {"format": PLAN_FORMAT, "schema_version": SCHEMA_VERSION, **encoded(plan)}
