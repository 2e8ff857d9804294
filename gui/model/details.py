"""What the details panel says: sections of label-value pairs, and a value's jump where it has one."""

from __future__ import annotations

import numpy as np

from memplan.gui.model.facts import Fact, Section
from memplan.gui.model.flows import arrows
from memplan.gui.model.memory_map import MemoryMap, Peak, occupant
from memplan.gui.model.ruler import span_text
from memplan.gui.model.session import OpPick, Pick, Session, SlicePick, TensorPick
from memplan.schema import Plan, PlannedOp
from memplan.units import format_bytes


def overview(session: Session) -> list[Section]:
    """What is open, in short, and why memory peaks where it does."""
    document = session.document
    sections = []
    if document.plan is not None:
        sections.append(_plan_section(document.plan, session))
    if document.profile is not None:
        facts = [
            Fact("directory", document.profile.path.name),
            Fact("written by", document.profile.producer + (" (simulated)" if document.simulated else "")),
        ]
        if document.rank is not None:
            start, end = document.rank.span_ns
            facts += [
                Fact("rank", f"{document.rank.rank} of {len(document.profile.ranks)}"),
                Fact("device", document.rank.device or "not named"),
                Fact("length", span_text(float(end - start))),
                Fact("slices and samples", f"{sum(track.count for track in document.rank.tracks):,}"),
            ]
        sections.append(Section("Profile", tuple(facts)))
    if session.peak is not None:
        sections.extend(peak_sections(session, session.peak))
    return sections


def _plan_section(plan: Plan, session: Session) -> Section:
    facts = [
        Fact("graph", plan.origin.graph),
        Fact("chip", plan.chip),
        Fact("answer", "fits" if plan.fits else f"does not fit: {format_bytes(plan.missing_bytes)} missing"),
        Fact("predicted time", span_text(float(plan.makespan_ns))),
    ]
    for use in plan.tiers:
        if use.tier is session.tier:
            facts += [
                Fact("peak", format_bytes(use.peak)),
                Fact("lower bound", f"{format_bytes(use.lower_bound)} (gap {use.gap:.1%}; {use.lower_bound_method})"),
                Fact("capacity", format_bytes(use.capacity) if use.capacity is not None else "unknown"),
                Fact("kept throughout", format_bytes(use.persistent)),
            ]
    if plan.transfers:
        facts.append(Fact("moves", f"{len(plan.transfers)}, {format_bytes(sum(move.size for move in plan.transfers))}"))
    facts.append(Fact("time axis", session.document.basis))
    return Section("Plan", tuple(facts))


def peak_sections(session: Session, peak: Peak) -> list[Section]:
    """Who holds memory at the peak: kinds by size, then the largest tensors, each a jump."""
    head = [
        Fact("alive", format_bytes(peak.alive)),
        Fact("at step", f"{peak.step} {peak.op.name if peak.op else ''}", OpPick(peak.step)),
        Fact("highest address", format_bytes(peak.address_peak)),
        Fact("unused below it then", format_bytes(peak.holes)),
    ]
    sections = [Section(f"Why {session.tier.value} peaks", tuple(head))]
    mapped = session.map
    for part in peak.parts:
        share = part.nbytes / peak.alive if peak.alive else 0.0
        title = f"{part.kind.replace('_', ' ')}: {format_bytes(part.nbytes)} in {part.count} ({share:.0%})"
        facts = []
        for rectangle, nbytes in part.largest:
            name = occupant(mapped, rectangle).tensor.name if mapped is not None else ""
            facts.append(Fact(format_bytes(nbytes), name, TensorPick(rectangle)))
        sections.append(Section(title, tuple(facts)))
    return sections


def _op_facts(op: PlannedOp, session: Session) -> list[Fact]:
    facts = [
        Fact("op", op.name, OpPick(op.index)),
        Fact("type", op.type),
        Fact("step", f"{op.index} on stream {op.stream}"),
        Fact("predicted", span_text(float(op.duration_ns))),
        *_measured(op, session),
        Fact("limited by", op.bound),
        Fact("work", f"{op.flops:,} FLOP, {format_bytes(op.gm_bytes)} of global memory traffic"),
    ]
    if op.stalled_ns:
        facts.append(Fact("waits for a move", span_text(float(op.stalled_ns))))
    if op.source:
        facts.append(Fact("source line", op.source))
    return facts


def _measured(op: PlannedOp, session: Session) -> list[Fact]:
    """The measured time of a planned op beside the prediction; nothing where it wasn't found in the profile."""
    found = session.document.comparison
    if found is None:
        return []
    position = int(np.searchsorted(found.matches.op, op.index))
    if position == len(found.matches) or int(found.matches.op[position]) != op.index:
        return []
    measured = int(found.matches.duration_ns[position])
    change = f" ({measured / op.duration_ns - 1:+.0%})" if op.duration_ns else ""
    return [Fact("measured", f"{span_text(float(measured))}{change}")]


def _op_section(session: Session, plan: Plan, step: int) -> list[Section]:
    op = plan.ops[step]
    tensors = [tensor for tensor in plan.tensors if step in tensor.uses]
    tensors.sort(key=lambda tensor: -tensor.nbytes)
    shown = [
        Fact(
            format_bytes(t.nbytes),
            f"{t.name} ({'writes' if t.producer == step else 'uses'})",
            _rectangle(session, t.index, step),
        )
        for t in tensors[:20]
    ]
    return [Section("Op", tuple(_op_facts(op, session))), Section(f"Tensors it touches: {len(tensors)}", tuple(shown))]


def _rectangle(session: Session, tensor: int, step: int) -> TensorPick | None:
    mapped = session.map
    if mapped is None:
        return None
    for rectangle, row in enumerate(mapped.placement):
        placement = mapped.plan.placements[int(row)]
        if placement.tensor == tensor and placement.start <= step < placement.end:
            return TensorPick(rectangle)
    return None


def of_pick(session: Session, pick: Pick | None) -> list[Section]:
    """Everything known of the picked thing; the overview when nothing is picked."""
    plan = session.document.plan
    if isinstance(pick, TensorPick) and session.map is not None:
        return _tensor_sections(session, session.map, pick) if session.map is not None else []
    if isinstance(pick, OpPick) and plan is not None:
        return _op_section(session, plan, pick.op)
    if isinstance(pick, SlicePick):
        step = session.planned_op_of(pick)
        if step is not None and plan is not None:
            return _op_section(session, plan, step)
        return _slice_sections(session, pick)
    return overview(session)


def _tensor_sections(session: Session, mapped: MemoryMap, pick: TensorPick) -> list[Section]:
    item = occupant(mapped, pick.rectangle)
    tensor = item.tensor
    shape = "×".join(str(dim) for dim in tensor.shape) or "scalar"
    facts = [
        Fact("name", tensor.name),
        Fact("kind", tensor.kind.replace("_", " ")),
        Fact("shape", f"{shape} {tensor.dtype} {tensor.layout}"),
        Fact("bytes", f"{format_bytes(tensor.nbytes)} ({tensor.nbytes:,} B); {item.size:,} B placed"),
        Fact("tier", item.tier.value),
        Fact("address", f"{item.offset:#x} – {item.offset + item.size:#x}"),
        Fact("alive", f"steps {tensor.start} – {tensor.end}, {span_text(float(item.end_ns - item.start_ns))}"),
    ]
    sections = [Section("Tensor", tuple(facts))]
    if item.producer is not None:
        sections.append(Section("Made by", tuple(_op_facts(item.producer, session))))
    if item.last_use is not None and item.last_use is not item.producer:
        sections.append(Section("Last used by", tuple(_op_facts(item.last_use, session))))
    moves = [move for move in mapped.plan.transfers if move.tensor == tensor.index]
    if moves:
        facts = [
            Fact(f"{move.source.value} → {move.target.value}", f"{format_bytes(move.size)} over {move.link}, "
                 f"{span_text(float(move.end_ns - move.start_ns))}")
            for move in moves
        ]  # fmt: skip
        sections.append(Section("Moves", tuple(facts)))
    return sections


def _slice_name(session: Session, pick: SlicePick) -> str:
    row = session.rows.row(pick.row)
    lanes = session.rows.lanes(row)
    name = lanes.slices.names[lanes.slices.name[pick.index]] if lanes is not None else ""
    return f"{name} ({row.group} / {row.label})"


def _slice_sections(session: Session, pick: SlicePick) -> list[Section]:
    row = session.rows.row(pick.row)
    lanes = session.rows.lanes(row)
    if lanes is None:
        return []
    slices, index = lanes.slices, pick.index
    start = int(slices.start_ns[index])
    facts = [
        Fact("name", slices.names[slices.name[index]]),
        Fact("category", slices.categories[slices.category[index]]),
        Fact("track", f"{row.group} / {row.label}"),
        Fact("start", f"{span_text(float(start - session.origin_ns))} ({start} ns on the profile's clock)"),
        Fact("length", span_text(float(slices.duration_ns[index]))),
    ]
    sections = [Section("Slice", tuple(facts))]
    rank = session.document.rank
    if rank is not None and row.track is not None:
        arguments = rank.arguments(row.track, start)
        if arguments:
            sections.append(Section("Arguments", tuple(Fact(str(k), str(v)) for k, v in arguments.items())))
    linked = []
    for arrow in arrows(session, pick):
        for label, end in (("from", arrow.source), ("to", arrow.target)):
            if end.pick is not None and end.pick != pick:
                linked.append(Fact(f"{label} ({arrow.category})", _slice_name(session, end.pick), end.pick))
    if linked:
        sections.append(Section("Arrows", tuple(linked)))
    return sections
