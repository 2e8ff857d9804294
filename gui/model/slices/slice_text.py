"""What is said of a slice under the mouse or selected: plain lines and label-value pairs."""

from __future__ import annotations

import numpy as np

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_change, format_duration
from memplan.gui.model.memory.memory_map import occupant
from memplan.gui.model.session.session import OpRef, Session, SliceRef, TensorRef

_NO_NUMBER = frozenset({"4294967295", "18446744073709551615", "N/A"})
"""What CANN writes for a number that a slice has none of: all bits set in 32 and in 64 of them, or words."""


def argument_text(value: object) -> Text:
    """What a trace says of a slice under one key."""
    return Sentence("none") if str(value) in _NO_NUMBER else str(value)


def slice_lines(session: Session, item: SliceRef) -> list[Text]:
    """A slice in a few lines: name, category and length, and for planned ops what bounds them."""
    track = session.tracks.track(item.track)
    lanes = session.tracks.lanes(track)
    if lanes is None:
        return []
    slices, index = lanes.slices, item.index
    start = float(slices.start_ns[index] - session.origin_ns)
    category = slices.categories[slices.category[index]]
    when = Sentence("{} @ {}", (session.length_text(int(slices.duration_ns[index])), session.moment_text(start)))
    lines: list[Text] = [slices.names[slices.name[index]], Sentence("{} · {}", (category, when)) if category else when]
    places = session.document.places
    if places is not None and track.planned is None:
        place = places.labels(track.kind, slices, np.array([index], dtype=np.int64))[0]
        lines[:0] = [place] if place else []
    if track.planned is not None and track.planned.measured_ns is not None:
        lines.append(_beside_measured(int(slices.duration_ns[index]), int(track.planned.measured_ns[index])))
    if track.planned is not None and track.planned.ops:
        from memplan.schema import Bound  # a window starts without the plan's classes

        op = track.planned.ops[index]
        if op.bound is not Bound.UNKNOWN:
            values = (Sentence(op.bound.value), f"{op.flops:,}", format_bytes(op.gm_bytes))
            lines.append(Sentence("limited by {} · {} FLOP · {} of GM traffic", values))
        if op.source:
            lines.append(op.source)
    if track.planned is not None and track.planned.transfers:
        move = track.planned.transfers[index]
        lines.append(Sentence("{} over {}", (format_bytes(move.size), move.link)))
    return lines


def _beside_measured(planned: int, measured: int) -> Sentence:
    """What was planned for an op, and what it took."""
    if measured < 0:
        return Sentence("planned {}, not found in the run", (format_duration(planned),))
    change = f" ({format_change(measured / planned - 1, 0)})" if planned else ""
    return Sentence("planned {}, measured {}{}", (format_duration(planned), format_duration(measured), change))


def selected_line(session: Session) -> Text:
    """What is selected, in one line: its name, and how long or how large it is; empty where nothing is."""
    selected = session.selected
    if isinstance(selected, SliceRef):
        lanes = session.tracks.lanes(session.tracks.track(selected.track))
        if lanes is None:
            return ""
        slices, index = lanes.slices, selected.index
        length = session.length_text(int(slices.duration_ns[index]))
        return Sentence("{} · {}", (short_name(slices.names[slices.name[index]]), length))
    if isinstance(selected, TensorRef) and session.map is not None:
        item = occupant(session.map, selected.rectangle)
        return f"{short_name(item.tensor.name)} · {format_bytes(item.size)}"
    if isinstance(selected, OpRef) and session.document.plan is not None:
        op = session.document.plan.ops[selected.op]
        return Sentence("{} · {}", (short_name(op.name), session.length_text(op.duration_ns)))
    return ""


def short_name(name: str) -> str:
    """The last part of a scope name, which is what tells ops apart."""
    return name.rsplit("/", 1)[-1] or name
