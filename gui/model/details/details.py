"""What the details panel says: sections of label-value pairs, and a value's jump where it has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_change, format_duration, format_share
from memplan.gui.model.amount_names import kind_text
from memplan.gui.model.details.block_details import block_peak_sections, block_sections
from memplan.gui.model.details.facts import Fact, Section, fact
from memplan.gui.model.details.finding_details import finding_sections
from memplan.gui.model.memory.memory_map import MemoryMap, Peak, occupant
from memplan.gui.model.session.session import (
    BlockRef,
    FindingRef,
    ItemRef,
    OpRef,
    Session,
    SliceRef,
    SpansRef,
    TensorRef,
)
from memplan.gui.model.slices.flows import arrows
from memplan.gui.model.slices.slice_text import argument_text
from memplan.traces.profile import Slices

if TYPE_CHECKING:
    from memplan.schema import Plan, PlannedOp, TierUse


def overview(session: Session) -> list[Section]:
    """What is open, in short, and why memory peaks where it does."""
    document = session.document
    sections = []
    if document.plan is not None:
        sections.append(_plan_section(document.plan, session))
    if document.profile is not None:
        producer = document.profile.producer
        facts = [
            fact("file" if document.profile.path.is_file() else "directory", document.profile.path.name),
            fact("written by", Sentence("{} (simulated)", (producer,)) if document.simulated else producer),
        ]
        if document.rank is not None:
            start, end = document.rank.span_ns
            count = sum(track.count for track in document.rank.tracks)
            facts += [
                fact("rank", Sentence("{}; {} in all", (str(document.rank.rank), str(len(document.profile.ranks))))),
                fact("device", document.rank.device or Sentence("not named")),
                # Of what was never recorded there is no length.
                *([fact("length", session.length_text(end - start))] if end > start else []),
                fact("slices and samples", f"{count:,}"),
            ]
        sections.append(Section(Sentence("Profile"), tuple(facts)))
    if session.peak is not None:
        sections.extend(peak_sections(session, session.peak))
    sections.extend(block_peak_sections(session))
    return sections


def _plan_section(plan: Plan, session: Session) -> Section:
    facts = [
        fact("graph", plan.origin.graph),
        fact("chip", plan.chip),
        fact("answer", _answer(plan)),
    ]
    if plan.timed:
        step, alone = session.document.planned_step, session.document.profile is None
        span = plan.makespan_ns if step is None else step.span_ns
        # A run is held against what is between its first kernel and its last; a plan alone has a launch and a host.
        facts.append(fact("step time", format_duration(plan.step_ns if alone else span)))
        if alone and span != plan.step_ns:
            facts.append(fact("from first kernel to last", format_duration(span)))
        if step is not None and step.span_ns != step.ops_ns:
            facts.append(fact("of it its ops alone", format_duration(step.ops_ns)))
        after = max((move.end_ns for move in plan.transfers), default=0) - max(
            (op.start_ns + op.duration_ns for op in plan.ops), default=0
        )
        if after > 0:
            facts.append(fact("moves end after it by", format_duration(after)))
    for use in plan.tiers:
        if use.tier is session.tier:
            facts += [
                fact("peak", format_bytes(use.peak)),
                fact("lower bound", _bound(use)),
                fact("capacity", format_bytes(use.capacity) if use.capacity is not None else Sentence("unknown")),
                fact("kept throughout", format_bytes(use.persistent)),
            ]
    if plan.transfers:
        facts.append(fact("moves", f"{len(plan.transfers)}, {format_bytes(sum(move.size for move in plan.transfers))}"))
    basis = Sentence("its own clock") if session.document.own_clock else session.document.basis
    facts.append(fact("time axis", Sentence("steps of the plan: it has no times") if session.counted else basis))
    return Section(Sentence("Plan"), tuple(facts))


def _answer(plan: Plan) -> Sentence:
    if plan.fits:
        return Sentence("fits")
    return Sentence("does not fit: {} missing", (format_bytes(plan.missing_bytes),))


def _bound(use: TierUse) -> Sentence:
    values = (format_bytes(use.lower_bound), format_share(use.gap), Sentence(use.lower_bound_method))
    return Sentence("{} (gap {}; {})", values)


def peak_sections(session: Session, peak: Peak) -> list[Section]:
    """Who holds memory at the peak: kinds by size, then the largest tensors, each a jump."""
    head = [
        fact("alive", format_bytes(peak.alive)),
        fact("at step", f"{peak.step} {peak.op.name if peak.op else ''}", OpRef(peak.step)),
        fact("highest address", format_bytes(peak.address_peak)),
        fact("unused below it then", format_bytes(peak.holes)),
    ]
    sections = [Section(Sentence("Why {} peaks", (session.tier.value,)), tuple(head))]
    mapped = session.map
    for part in peak.parts:
        share = part.nbytes / peak.alive if peak.alive else 0.0
        values = (kind_text(part.kind), format_bytes(part.nbytes), str(part.count), format_share(share, 0))
        facts = []
        for rectangle, nbytes in part.largest:
            name = occupant(mapped, rectangle).tensor.name if mapped is not None else ""
            facts.append(Fact(format_bytes(nbytes), name, TensorRef(rectangle)))
        sections.append(Section(Sentence("{}: {} in {} ({})", values), tuple(facts)))
    return sections


def _op_facts(op: PlannedOp, session: Session) -> list[Fact]:
    facts = [
        fact("op", op.name, OpRef(op.index)),
        fact("type", op.type),
        fact("step", Sentence("{} on stream {}", (str(op.index), str(op.stream)))),
    ]
    plan = session.document.plan
    timed = plan is not None and plan.timed
    if timed:
        facts.append(fact("predicted", format_duration(op.duration_ns)))
    facts += _measured(op, session)
    if timed:
        work = (f"{op.flops:,}", format_bytes(op.gm_bytes))
        facts.append(fact("limited by", Sentence(op.bound.value)))
        facts.append(fact("work", Sentence("{} FLOP, {} of GM traffic", work)))
    if op.stalled_ns:
        facts.append(fact("waits for a move", format_duration(op.stalled_ns)))
    if op.source:
        facts.append(fact("source line", op.source))
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
    change = f" ({format_change(measured / op.duration_ns - 1, 0)})" if op.duration_ns else ""
    return [fact("measured", f"{format_duration(measured)}{change}")]


def _op_section(session: Session, plan: Plan, step: int) -> list[Section]:
    op = plan.ops[step]
    tensors = [tensor for tensor in plan.tensors if step in tensor.uses]
    tensors.sort(key=lambda tensor: -tensor.nbytes)
    shown = [
        Fact(
            format_bytes(t.nbytes),
            Sentence("{} (writes)" if t.producer == step else "{} (uses)", (t.name,)),
            _rectangle(session, t.index, step),
        )
        for t in tensors[:20]
    ]
    return [
        Section(Sentence("Op"), tuple(_op_facts(op, session))),
        Section(Sentence("Tensors it touches: {}", (str(len(tensors)),)), tuple(shown)),
    ]


def _rectangle(session: Session, tensor: int, step: int) -> TensorRef | None:
    mapped = session.map
    if mapped is None:
        return None
    for rectangle, row in enumerate(mapped.placement):
        placement = mapped.plan.placements[int(row)]
        if placement.tensor == tensor and placement.start <= step < placement.end:
            return TensorRef(rectangle)
    return None


def item_sections(session: Session, item: ItemRef | None) -> list[Section]:
    """Everything known of the selected item; the overview when nothing is selected."""
    plan = session.document.plan
    if isinstance(item, TensorRef) and session.map is not None:
        return _tensor_sections(session, session.map, item)
    if isinstance(item, OpRef) and plan is not None:
        return _op_section(session, plan, item.op)
    if isinstance(item, SliceRef):
        step = session.planned_op_of(item)
        if step is not None and plan is not None:
            return _op_section(session, plan, step)
        return _slice_sections(session, item)
    if isinstance(item, SpansRef):
        lengths = [end - start for start, end in item.spans]
        facts = (
            fact("places", f"{len(lengths):,}"),
            fact("together", format_duration(sum(lengths))),
            fact("longest", format_duration(max(lengths, default=0))),
        )
        return [Section(item.title, facts)]
    if isinstance(item, BlockRef):
        return block_sections(session, item)
    if isinstance(item, FindingRef):
        about_peak = block_peak_sections(session) if item == session.peak_finding else []
        return [*finding_sections(session, item), *about_peak]
    return overview(session)


def _tensor_sections(session: Session, mapped: MemoryMap, ref: TensorRef) -> list[Section]:
    item = occupant(mapped, ref.rectangle)
    tensor = item.tensor
    shape = "×".join(str(dim) for dim in tensor.shape)
    stored = f"{tensor.dtype} {tensor.layout}"
    placed = (format_bytes(tensor.nbytes), f"{tensor.nbytes:,}", f"{item.size:,}")
    life = (str(tensor.start), str(tensor.end), session.length_text(item.end_ns - item.start_ns))
    facts = [
        fact("name", tensor.name),
        fact("kind", kind_text(tensor.kind)),
        fact("shape", f"{shape} {stored}" if shape else Sentence("scalar {}", (stored,))),
        fact("bytes", Sentence("{} ({} B); {} B placed", placed)),
        fact("tier", item.tier.value),
        fact("address", f"{item.offset:#x} – {item.offset + item.size:#x}"),
        fact("alive", Sentence("steps {} – {}, {}", life)),
    ]
    sections = [Section(Sentence("Tensor"), tuple(facts))]
    if item.producer is not None:
        sections.append(Section(Sentence("Made by"), tuple(_op_facts(item.producer, session))))
    if item.last_use is not None and item.last_use is not item.producer:
        sections.append(Section(Sentence("Last used by"), tuple(_op_facts(item.last_use, session))))
    moves = [move for move in mapped.plan.transfers if move.tensor == tensor.index]
    if moves:
        facts = [
            Fact(
                f"{move.source.value} → {move.target.value}",
                Sentence(
                    "{} over {}, {}",
                    (format_bytes(move.size), move.link, format_duration(move.end_ns - move.start_ns)),
                ),
            )
            for move in moves
        ]
        sections.append(Section(Sentence("Moves"), tuple(facts)))
    return sections


def _slice_name(session: Session, item: SliceRef) -> Text:
    track = session.tracks.track(item.track)
    lanes = session.tracks.lanes(track)
    name = lanes.slices.names[lanes.slices.name[item.index]] if lanes is not None else ""
    return Sentence("{} ({})", (name, track.title))


def _place_sections(session: Session, kind: str, slices: Slices, index: int) -> list[Section]:
    """Where in the model a measured kernel is, and the planned op that it runs; nothing for other slices."""
    places, plan = session.document.places, session.document.plan
    row = places.row(kind, slices, index) if places is not None else -1
    if places is None or plan is None or row < 0 or not places.texts[row]:
        return []
    facts = [fact("place", places.texts[row])]
    sure = places.probability(row)
    if sure is not None:
        facts.append(fact("surely", format_share(sure, 0)))
    sections = [Section(Sentence("In the model"), tuple(facts))]
    op = int(places.places.op[row])
    if op >= 0:
        sections.append(Section(Sentence("Planned op"), tuple(_op_facts(plan.ops[op], session))))
    return sections


def _slice_sections(session: Session, item: SliceRef) -> list[Section]:
    track = session.tracks.track(item.track)
    lanes = session.tracks.lanes(track)
    if lanes is None:
        return []
    slices, index = lanes.slices, item.index
    start, category = int(slices.start_ns[index]), slices.categories[slices.category[index]]
    facts = [
        fact("name", slices.names[slices.name[index]]),
        *([fact("category", category)] if category else []),
        fact("track", track.title),
        fact(
            "start",
            session.moment_text(start)
            if session.counted
            else Sentence("{} ({} ns on the profile's clock)", (session.moment_text(start - session.origin_ns), start)),
        ),
        fact("length", session.length_text(int(slices.duration_ns[index]))),
    ]
    sections = [Section(Sentence("Slice"), tuple(facts)), *_place_sections(session, track.kind, slices, index)]
    rank = session.document.rank
    if rank is not None and track.track_id is not None:
        arguments = rank.arguments(track.track_id, start)
        if arguments:
            facts = [Fact(str(name), argument_text(value)) for name, value in arguments.items()]
            sections.append(Section(Sentence("Arguments"), tuple(facts)))
    linked = []
    for arrow in arrows(session, item):
        for label, end in (("from ({})", arrow.source), ("to ({})", arrow.target)):
            if end.item is not None and end.item != item:
                linked.append(Fact(Sentence(label, (arrow.category,)), _slice_name(session, end.item), end.item))
    if linked:
        sections.append(Section(Sentence("Arrows"), tuple(linked)))
    return sections
