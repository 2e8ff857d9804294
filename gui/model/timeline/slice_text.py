"""What is said of a slice under the mouse or picked: plain lines and label-value pairs."""

from __future__ import annotations

from memplan.gui.model.memory.memory_map import occupant
from memplan.core.units import format_duration
from memplan.gui.model.document.session import OpPick, Session, SlicePick, TensorPick
from memplan.schema import Bound
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes


def slice_lines(session: Session, pick: SlicePick) -> list[Text]:
    """A slice in a few lines: name, category and length, and for planned ops what bounds them."""
    row = session.rows.row(pick.row)
    lanes = session.rows.lanes(row)
    if lanes is None:
        return []
    slices, index = lanes.slices, pick.index
    start = float(slices.start_ns[index] - session.origin_ns)
    category = slices.categories[slices.category[index]]
    when = f"{format_duration(slices.duration_ns[index])} @ {format_duration(start)}"
    lines: list[Text] = [slices.names[slices.name[index]], f"{category} · {when}" if category else when]
    if row.planned is not None and row.planned.ops:
        op = row.planned.ops[index]
        if op.bound is not Bound.UNKNOWN:
            values = (Sentence(op.bound.value), f"{op.flops:,}", format_bytes(op.gm_bytes))
            lines.append(Sentence("limited by {} · {} FLOP · {}", values))
        if op.source:
            lines.append(op.source)
    if row.planned is not None and row.planned.transfers:
        move = row.planned.transfers[index]
        lines.append(Sentence("{} over {}", (format_bytes(move.size), move.link)))
    return lines


def picked_line(session: Session) -> str:
    """What is picked, in one line: its name, and how long or how large it is; empty where nothing is."""
    picked = session.picked
    if isinstance(picked, SlicePick):
        lanes = session.rows.lanes(session.rows.row(picked.row))
        if lanes is None:
            return ""
        slices, index = lanes.slices, picked.index
        return f"{short_name(slices.names[slices.name[index]])} · {format_duration(slices.duration_ns[index])}"
    if isinstance(picked, TensorPick) and session.map is not None:
        item = occupant(session.map, picked.rectangle)
        return f"{short_name(item.tensor.name)} · {format_bytes(item.size)}"
    if isinstance(picked, OpPick) and session.document.plan is not None:
        op = session.document.plan.ops[picked.op]
        return f"{short_name(op.name)} · {format_duration(op.duration_ns)}"
    return ""


def short_name(name: str) -> str:
    """The last part of a scope name, which is what tells ops apart."""
    return name.rsplit("/", 1)[-1] or name
