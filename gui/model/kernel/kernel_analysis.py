"""The selected op as a kernel: its pipes predicted and measured, its tiling, and its buffers on chip slot by slot."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from memplan.core.errors import MemplanError
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_change, format_duration
from memplan.cost.buffers import BufferNeed
from memplan.cost.deviations import UNKNOWN_L2, L2State
from memplan.cost.kernel_report import kernel_report
from memplan.cost.kernels.kernel import Kernel
from memplan.cost.machine import Machine, machine
from memplan.gui.model.kernel.kernel_facts import HINT, LANES, PIPES, BufferLane, KernelFacts, PipeTime
from memplan.gui.model.kernel.kernel_roofline import roofline_sentences
from memplan.gui.model.kernel.kernel_subject import (
    Subject,
    costliest,
    kernel_of,
    operands_text,
    storages_text,
    subject_of,
)
from memplan.gui.model.kernel.pipe_counters import measured_pipes
from memplan.gui.model.session.plan_notes import note_in_words
from memplan.gui.model.session.session import ItemRef, Session
from memplan.gui.model.timeline.timeline_tracks import NO_TRACKS
from memplan.hardware import Chip
from memplan.hardware import chip as find_chip
from memplan.placement.onchip import usable_bytes
from memplan.schema import OnChipPlan, Plan, PlannedTiling
from memplan.schema.planned_tiling import PlannedSentence, Stage
from memplan.tilings import onchip_plan, tiling_of

NO_KERNEL = Sentence(HINT)
_NO_KERNEL = Sentence("It launches no kernel: nothing of it runs on an AI core")
_NOT_ON_CORE = Sentence("This is no kernel: nothing of it runs on an AI core")
_NOT_KEPT = Sentence("The plan's file does not hold what its ops launch: plan the graph again to see its kernel")
_TOO_LARGE = Sentence("Its operands are larger than any chip's memory: nothing is predicted for such a kernel")
_MOST_ELEMENTS = 1 << 44
_NO_CHIP = Sentence("The profile does not name its chip: choose one to see a prediction and the layout")


def kernel_facts(session: Session, chip_name: str | None = None, *, item: ItemRef | None = None) -> KernelFacts:
    """
    What is known of the kernel that `item`, else the selected one, stands for, on the chip of the plan, else of the
    profile; of the costliest one where nothing is selected.

    `chip_name` stands in where neither names one. Never raises for what can't be worked out: `problem` says so.
    """
    item = session.selected if item is None else item
    if item is None:
        subject = costliest(session)
        if subject is None:
            nothing = session.document.rank is not None and not session.tracks.all
            return KernelFacts(problem=NO_TRACKS) if nothing else KernelFacts()
        return replace(_facts_of(session, subject, chip_name), unasked=True)
    subject = subject_of(session, item)
    return KernelFacts(problem=NO_KERNEL) if subject is None else _facts_of(session, subject, chip_name)


def _facts_of(session: Session, subject: Subject, chip_name: str | None) -> KernelFacts:
    if subject.op is None and subject.measured is None:
        return KernelFacts(name=subject.name, problem=_NOT_ON_CORE)
    plan, rank = session.document.plan, session.document.rank
    kernel, from_profile = kernel_of(plan, subject)
    names = (plan.chip if plan and subject.op else None, rank.chip if rank else None, chip_name)
    target, wrong = _known_chip(tuple(name for name in names if name))
    wants_chip = kernel is not None and _known_chip(tuple(name for name in names[:2] if name))[0] is None
    facts = replace(_stated(plan, subject, kernel, from_profile), wants_chip=wants_chip)
    if kernel is None:
        free = subject.op is not None and not subject.op.launches
        return replace(facts, problem=_NO_KERNEL if free else _NOT_KEPT)
    if max((operand.count for operand in kernel.operands), default=0) > _MOST_ELEMENTS:
        return replace(facts, problem=_TOO_LARGE)
    if target is None:
        return replace(facts, problem=wrong or _NO_CHIP)
    try:
        tiling, layout = _planned(plan, subject) or _derived(kernel, subject, target)
    except MemplanError as error:
        return replace(facts, chip=target.name, problem=error.sentence)
    return _worked_out(facts, kernel, tiling, layout, target)


_Cut = tuple[PlannedTiling, OnChipPlan | None]


def _planned(plan: Plan | None, subject: Subject) -> _Cut | None:
    """How the plan itself says that the op's kernel is cut, `None` where it says nothing."""
    if plan is None or subject.op is None or subject.op.tiling is None:
        return None
    tiling = plan.tilings[subject.op.tiling]
    return tiling, None if tiling.onchip is None else plan.onchip[tiling.onchip]


def _derived(kernel: Kernel, subject: Subject, target: Chip) -> _Cut:
    """The same worked out: of kernels that only a profile has, and for plans whose file doesn't say."""
    l2 = L2State(subject.op.hot_share) if subject.op else UNKNOWN_L2
    report = kernel_report(kernel, _machine(target.name), l2)
    return tiling_of(report, 0, l2, None), _layout(report.needs, report.stages, target.name) if report.needs else None


@lru_cache(maxsize=16)
def _machine(name: str) -> Machine:
    return machine(find_chip(name))


@lru_cache(maxsize=512)
def _layout(needs: tuple[BufferNeed, ...], stages: tuple[Stage, ...], name: str) -> OnChipPlan:
    return onchip_plan(needs, stages, find_chip(name))


def _known_chip(names: tuple[str, ...]) -> tuple[Chip | None, Text | None]:
    """The first chip of `names` that can be computed with, else what is wrong with the first of them."""
    found = [_usable(name) for name in names]
    good = next((item for item in found if isinstance(item, Chip)), None)
    return good, next((item for item in found if not isinstance(item, Chip)), None)


@lru_cache(maxsize=64)
def _usable(name: str) -> Chip | Text:
    """The chip called `name`, or what is wrong with it."""
    try:
        target = find_chip(name)
        _machine(target.name)
    except MemplanError as error:
        return error.sentence
    return target


def _stated(plan: Plan | None, subject: Subject, kernel: Kernel | None, from_profile: bool) -> KernelFacts:
    """What plan and profile themselves say."""
    op, measured = subject.op, subject.measured
    kind = op.type if op is not None else kernel.type if kernel is not None else ""
    operands = operands_text(kernel) if kernel is not None else ""
    notes = []
    if kernel is None and plan is not None and op is not None:
        operands = storages_text(plan, op.index)
    if from_profile:
        notes.append(Sentence("operands are the profile's: transposes told from shapes"))
    if measured is not None and measured.count > 1:
        notes.append(
            Sentence("measured: {} [kernel|kernels] together, counters of the longest", (str(measured.count),))
        )
    pipes: tuple[PipeTime, ...] = ()
    if measured is not None and measured.table is not None:
        seen = measured_pipes(measured.table.pmu, measured.row)
        pipes = _pipes({}, seen)
        cores = int(measured.table.block_count[measured.row])
        if cores > 0:
            notes.append(Sentence("it ran on {} [core|cores]", (str(cores),)))
    timed = op is not None and plan is not None and plan.timed
    return KernelFacts(
        name=subject.name,
        type=kind,
        operands=operands,
        predicted_ns=op.duration_ns if op is not None and timed else None,
        bound=op.bound if op is not None and timed and op.launches else "",
        measured_ns=measured.duration_ns if measured is not None else None,
        pipes=pipes,
        traffic=_arithmetic(op.flops, op.gm_bytes) if op is not None and timed and (op.flops or op.gm_bytes) else (),
        notes=tuple(notes),
    )


def _arithmetic(flops: int, gm_bytes: int) -> tuple[Sentence, ...]:
    return (Sentence("{} FLOP, {} of GM traffic", (f"{flops:,}", format_bytes(gm_bytes))),)


def _worked_out(
    facts: KernelFacts, kernel: Kernel, tiling: PlannedTiling, layout: OnChipPlan | None, target: Chip
) -> KernelFacts:
    """`facts` with what the model says."""
    notes: list[Text] = [*facts.notes, *map(_said, tiling.notes)]
    if facts.predicted_ns is not None and facts.predicted_ns != tiling.duration_ns:
        model = format_duration(tiling.duration_ns)
        notes.append(Sentence("time as the plan has it; the model by itself says {}", (model,)))
    if layout is not None and not layout.fits:
        notes.append(Sentence("{} too much for the chip's memories", (format_bytes(layout.shortfall),)))
    if layout is not None and layout.reuse_cost:
        notes.append(Sentence(
            "{} [pair|pairs] of buffers [shares|share] addresses and [needs|need] a synchronisation between pipes",
            (str(layout.reuse_cost),),
        ))  # fmt: skip
    seen = {(pipe.unit, pipe.pipe): pipe.measured_ns for pipe in facts.pipes if pipe.measured_ns is not None}
    predicted = facts.predicted_ns if facts.predicted_ns is not None else tiling.duration_ns
    return replace(
        facts,
        chip=target.name,
        predicted_ns=predicted,
        bound=facts.bound or tiling.bound,
        pipes=_pipes(_predicted(tiling), seen),
        lanes=_lanes(layout, target) if layout is not None else (),
        stages=layout.stages if layout is not None else (),
        slots=layout.slots if layout is not None else 0,
        tiling=tuple(words.sentence for words in tiling.words),
        traffic=_traffic(tiling),
        roofline=roofline_sentences(kernel, tiling, _machine(target.name), predicted, facts.measured_ns),
        notes=tuple(notes),
        problem=None if tiling.missing is None else tiling.missing.sentence,
    )


def _said(note: PlannedSentence) -> Text:
    """A note of a tiling; what a collective assumes is one text there, names and figures and all."""
    found = note_in_words(note.text) if not note.values else note.sentence
    return note.sentence if isinstance(found, str) else found


def _predicted(tiling: PlannedTiling) -> dict[tuple[str, str], float]:
    """The model's pipes, each with the unit that it belongs to: vector kernels have one unit, products both."""
    both = any(pipe.name == "cube" for pipe in tiling.pipes)
    return {
        ("vector" if pipe.name in ("vector", "mte3") or not both else "cube", pipe.name): pipe.busy_ns
        for pipe in tiling.pipes
    }


def _pipes(predicted: dict[tuple[str, str], float], measured: dict[tuple[str, str], float]) -> tuple[PipeTime, ...]:
    """Pipes in the order of units and `PIPES`; those that were idle and are predicted by nobody are left out."""
    return tuple(
        PipeTime(pipe, unit, predicted.get((unit, pipe)), measured.get((unit, pipe)))
        for unit in ("cube", "vector")
        for pipe in PIPES
        if (unit, pipe) in predicted or measured.get((unit, pipe), 0.0) > 0
    )


def _lanes(layout: OnChipPlan, target: Chip) -> tuple[BufferLane, ...]:
    uses = {use.tier: use for use in layout.uses}
    return tuple(
        BufferLane(
            tier,
            usable_bytes(target, tier),
            uses[tier].peak if tier in uses else 0,
            tuple(buffer for buffer in layout.buffers if buffer.tier is tier),
        )
        for tier in LANES
    )


def _traffic(tiling: PlannedTiling) -> tuple[Sentence, ...]:
    if not tiling.gm_bytes:
        return ()
    lines = [
        Sentence("GM traffic {}: HBM {}, L2 {}",
                 (format_bytes(tiling.gm_bytes), format_bytes(tiling.hbm_bytes), format_bytes(tiling.l2_bytes))),
    ]  # fmt: skip
    if tiling.gm_bound:
        gap = format_change(tiling.gm_bytes / tiling.gm_bound - 1, 0)
        lines.append(Sentence("at least {} whatever the tiling ({})", (format_bytes(tiling.gm_bound), gap)))
    if tiling.flops:
        lines.append(Sentence("{} FLOP", (f"{tiling.flops:,}",)))
    return tuple(lines)
