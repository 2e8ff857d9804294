"""How kernels are cut and what they keep on chip, as a plan holds it: the cost model's tiling with addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.cost.buffers import BufferNeed
from memplan.cost.deviations import L2State
from memplan.cost.kernel_report import KernelReport, kernel_report
from memplan.cost.kernels.kernel import Kernel
from memplan.cost.machine import Machine
from memplan.hardware import Chip
from memplan.placement.onchip import plan_onchip
from memplan.schema import OnChipPlan, PlannedTiling
from memplan.schema.planned_tiling import PipeBusy, PlannedSentence, Stage

Launch = tuple[Kernel, L2State]
"""A kernel and what it meets in L2."""


@dataclass(frozen=True, slots=True)
class Tilings:
    """Tilings of distinct launches and the buffers that they share; `number` is the place of each launch."""

    tilings: tuple[PlannedTiling, ...]
    onchip: tuple[OnChipPlan, ...]
    number: Mapping[Launch, int]


def planned_tilings(
    launches: Iterable[Launch],
    numbers: Mapping[Kernel, int],
    core: Machine,
    chip: Chip,
    *,
    progress: Progress = silent,
) -> Tilings:
    """
    Tilings of `launches` on `chip`, equal ones once, in order; `numbers` are the kernels' places in the plan.

    Kernels with the same buffers share one layout of them.
    """
    layouts: dict[tuple[tuple[BufferNeed, ...], tuple[Stage, ...]], int] = {}
    onchip: list[OnChipPlan] = []
    tilings: list[PlannedTiling] = []
    distinct = dict.fromkeys(launches)
    for done, (kernel, l2) in enumerate(distinct):
        progress(done, len(distinct), "kernels on chip")
        report = kernel_report(kernel, core, l2)
        place = None
        if report.needs:
            key = report.needs, report.stages
            if key not in layouts:
                layouts[key] = len(onchip)
                onchip.append(onchip_plan(report.needs, report.stages, chip))
            place = layouts[key]
        tilings.append(tiling_of(report, numbers[kernel], l2, place))
    return Tilings(tuple(tilings), tuple(onchip), {launch: place for place, launch in enumerate(distinct)})


def tiling_of(report: KernelReport, kernel: int, l2: L2State, onchip: int | None) -> PlannedTiling:
    """`report` as a plan records it: of kernel number `kernel`, which meets `l2`, with its buffers' layout `onchip`."""
    cost = report.cost
    return PlannedTiling(
        kernel=kernel,
        hot_share=l2.hot,
        onchip=onchip,
        tile=report.tile,
        words=tuple(map(_planned, report.tiling)),
        missing=None if report.missing is None else _planned(report.missing),
        notes=tuple(map(_planned, report.notes)),
        duration_ns=cost.duration_ns,
        bound=cost.bound,
        flops=cost.flops,
        gm_bytes=cost.gm_bytes,
        hbm_bytes=cost.hbm_bytes,
        gm_bound=report.gm_bound,
        pipes=tuple(PipeBusy(name, float(busy)) for name, busy in cost.pipes.items()),
    )


def _planned(sentence: Sentence) -> PlannedSentence:
    return PlannedSentence(sentence.text, tuple(map(str, sentence.values)))


def onchip_plan(needs: Sequence[BufferNeed], stages: tuple[Stage, ...], chip: Chip) -> OnChipPlan:
    """Addresses of what a kernel `needs` in the memories of `chip`, over its `stages`."""
    return replace(plan_onchip(needs, chip), stages=stages)
