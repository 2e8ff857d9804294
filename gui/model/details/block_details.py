"""What is known of a block of the run's allocator, and of those that make its peak."""

from __future__ import annotations

import numpy as np

from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes, format_duration, format_share
from memplan.gui.model.amount_names import holder_text, kind_text, memory_text
from memplan.gui.model.details.facts import Fact, Section, fact
from memplan.gui.model.memory.block_map import BlockMap
from memplan.gui.model.session.session import BlockRef, Session, TensorRef

_LARGEST = 5
_KINDS = 8


def block_sections(session: Session, item: BlockRef) -> list[Section]:
    """Who asked for a block, when it was there, and what of the plan it is."""
    blocks = session.blocks
    if blocks is None or item.rectangle >= len(blocks):
        return []
    index, row = item.rectangle, int(blocks.row[item.rectangle])
    start, end = int(blocks.start_ns[index]), int(blocks.end_ns[index])
    facts = [
        fact("asked for by", holder_text(blocks.name(index))),
        fact("bytes", format_bytes(int(blocks.high[index] - blocks.low[index]))),
        fact("counted by", blocks.component),
    ]
    if (address := blocks.address(index)) is not None:
        facts.append(fact("address", f"{address:#x}"))
    if row >= 0:
        kept = blocks.allocations.release_ns[row] < 0
        released = Sentence("never in the profile") if kept else session.moment_text(end - session.origin_ns)
        facts += [
            fact("allocated at", session.moment_text(start - session.origin_ns)),
            fact("released at", released),
            fact("held for", session.length_text(end - start)),
        ]
    sections = [Section(Sentence("Block"), tuple(facts))]
    if int(blocks.tensor[index]) >= 0:
        sections.append(_planned(session, blocks, index))
    return sections


def _planned(session: Session, blocks: BlockMap, index: int) -> Section:
    plan, wanted = session.document.plan, int(blocks.tensor[index])
    tensor = next((one for one in plan.tensors if one.index == wanted), None) if plan is not None else None
    facts = []
    if tensor is not None:
        facts += [fact("tensor", tensor.name, _rectangle(session, tensor.index)), fact("kind", kind_text(tensor.kind))]
    if blocks.planned_end_ns[index] >= 0:
        life = int(blocks.planned_end_ns[index] - blocks.planned_start_ns[index])
        facts.append(fact("planned for", format_duration(life)))
        if (longer := blocks.held_longer_ns(index)) > 0:
            facts.append(fact("held longer by", format_duration(longer)))
    return Section(Sentence("In the plan"), tuple(facts))


def _rectangle(session: Session, tensor: int) -> TensorRef | None:
    mapped = session.map
    if mapped is None:
        return None
    for rectangle, row in enumerate(mapped.placement):
        if mapped.plan.placements[int(row)].tensor == tensor:
            return TensorRef(rectangle)
    return None


def block_peak_sections(session: Session) -> list[Section]:
    """Who holds what the run's allocator gave out when that is most: by kind, with the largest blocks, each a jump."""
    blocks = session.blocks
    if blocks is None or not len(blocks):
        return []
    rows = blocks.alive(blocks.peak_ns)
    sizes = (blocks.high - blocks.low)[rows]
    total = int(sizes.sum())
    head = (
        fact("held", format_bytes(total)),
        fact("blocks", f"{len(rows):,}"),
        fact("at", session.moment_text(blocks.peak_ns - session.origin_ns)),
    )
    sections = [Section(Sentence("Why {} peaks", (memory_text(blocks.component),)), head)]
    by_kind = np.bincount(blocks.kind[rows], weights=sizes, minlength=len(blocks.kinds))
    for kind in np.argsort(-by_kind, kind="stable")[:_KINDS].tolist():
        mine = rows[blocks.kind[rows] == kind].tolist()
        if not mine:
            break
        held = int(sizes[blocks.kind[rows] == kind].sum())
        values = (blocks.kind_title(kind), format_bytes(held), f"{len(mine):,}", format_share(held / total, 0))
        facts = [
            Fact(format_bytes(int(blocks.high[row] - blocks.low[row])), holder_text(blocks.name(row)), BlockRef(row))
            for row in mine[:_LARGEST]
        ]
        sections.append(Section(Sentence("{}: {} in {} ({})", values), tuple(facts)))
    return sections
