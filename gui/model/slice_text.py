"""What is said of a slice under the mouse or picked: plain lines and label-value pairs."""

from __future__ import annotations

from memplan.gui.model.ruler import span_text
from memplan.gui.model.session import Session, SlicePick
from memplan.units import format_bytes


def slice_lines(session: Session, pick: SlicePick) -> list[str]:
    """A slice in a few lines: name, category and length, and for planned ops what bounds them."""
    row = session.rows.row(pick.row)
    lanes = session.rows.lanes(row)
    if lanes is None:
        return []
    slices, index = lanes.slices, pick.index
    start = float(slices.start_ns[index] - session.origin_ns)
    lines = [
        slices.names[slices.name[index]],
        f"{slices.categories[slices.category[index]]} · {span_text(float(slices.duration_ns[index]))} "
        f"@ {span_text(start)}",
    ]
    if row.planned is not None and row.planned.ops:
        op = row.planned.ops[index]
        lines.append(f"bound: {op.bound} · {op.flops:,} FLOP · {format_bytes(op.gm_bytes)}")
        if op.source:
            lines.append(op.source)
    if row.planned is not None and row.planned.transfers:
        move = row.planned.transfers[index]
        lines.append(f"{format_bytes(move.size)} over {move.link}")
    return lines
